//! A record as it changes: server-sent events, whichever replica does the work.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use crate::db::DbError;
use crate::wire::record::Record;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::Path;
use crate::api::records::{find, ticked};

/// The record is read anew this often even if nothing was heard: the connection that hears may be lost.
const LOOK: Duration = Duration::from_secs(5);

/// The record now and at each change, as JSON, until it has ended.
#[utoipa::path(
    get, path = "/api/v1/records/{id}/events",
    responses((status = 200, content_type = "text/event-stream", body = Record, description = "Each event's data is the record"))
)]
pub async fn events(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<impl IntoResponse, ApiError> {
    // First the ear, then the look: nothing falls between.
    let changes = app.changes.subscribe();
    let stopping = app.stopping.subscribe();
    {
        let mut connection = app.pool.acquire().await?;
        find(&mut connection, &caller, id).await?;
    }
    let follower = Follower { app, caller, id, changes, stopping, sent: None, ended: false };
    let stream = Sse::new(follower.follow()).keep_alive(KeepAlive::default());
    // A proxy that gathers answers would hold the events back.
    Ok(([("x-accel-buffering", "no")], stream))
}

struct Follower {
    app: AppState,
    caller: Caller,
    id: Uuid,
    changes: broadcast::Receiver<Uuid>,
    stopping: watch::Receiver<bool>,
    sent: Option<String>,
    ended: bool,
}

impl Follower {
    fn follow(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures_util::stream::unfold(self, |mut follower| async move {
            while !follower.ended {
                if follower.sent.is_some() && !follower.changed().await {
                    return None;
                }
                let text = match follower.look().await {
                    Ok(text) => text,
                    // The database is on its way back: the end of the record is told all the same.
                    Err(error) if error.is_ours() => {
                        if !follower.changed().await {
                            return None;
                        }
                        continue;
                    }
                    // A client connects again when the stream ends.
                    Err(_) => return None,
                };
                if follower.sent.as_ref() != Some(&text) {
                    follower.sent = Some(text.clone());
                    return Some((Ok(Event::default().data(text)), follower));
                }
            }
            None
        })
    }

    async fn look(&mut self) -> Result<String, ApiError> {
        // A token that was revoked meanwhile hears no more.
        // Credentials that are revoked, or changed, count at once here too.
        let mut connection = self.app.pool.acquire().await?;
        self.caller = Caller::by(&mut connection, self.caller.credentials, self.caller.address).await?;
        let record = find(&mut connection, &self.caller, self.id).await?;
        let ended = record.status.is_final();
        let record = ticked(&mut connection, record).await?;
        self.ended = ended;
        Ok(serde_json::to_string(&record).map_err(|_| DbError::Corrupt("record"))?)
    }

    /// Waits until the record may have changed; false: the server stops.
    async fn changed(&mut self) -> bool {
        let heard = async {
            loop {
                match self.changes.recv().await {
                    Ok(id) if id != self.id => {}
                    // Of too many changes some were missed, perhaps one of this record.
                    _ => return,
                }
            }
        };
        tokio::select! {
            () = heard => true,
            () = tokio::time::sleep(LOOK) => true,
            _ = self.stopping.wait_for(|stopping| *stopping) => false,
        }
    }
}
