//! One record: at once, or when its work has ended, for who would otherwise ask again and again.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::domain::record::RecordStatus;
use crate::wire::record::Record;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::records::{find, ticked};

/// How long an answer is held back.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ShowQuery {
    /// Answer only once the record is neither `queued` nor `running`, at the latest after so many seconds.
    #[param(minimum = 0, maximum = 30, default = 0)]
    wait_seconds: Option<u64>,
}

/// One record, at once or when its work has ended.
#[utoipa::path(get, path = "/api/v1/records/{id}", params(ShowQuery), responses((status = 200, body = Record)))]
pub async fn show(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ShowQuery>,
) -> Result<Json<Record>, ApiError> {
    if let Some(seconds) = query.wait_seconds.filter(|seconds| *seconds > 0) {
        if seconds > 30 {
            return Err(ApiError::field("wait_seconds", "must be at most 30"));
        }
        return Ok(Json(ended(&app, &caller, id, Duration::from_secs(seconds)).await?));
    }
    let mut connection = app.pool.acquire().await?;
    let row = find(&mut connection, &caller, id).await?;
    Ok(Json(ticked(&mut connection, row).await?))
}

/// The record as soon as it is neither queued nor running, or as it is after so long. No connection is held
/// meanwhile.
async fn ended(app: &AppState, caller: &Caller, id: Uuid, most: Duration) -> Result<Record, ApiError> {
    let until = Instant::now() + most;
    // First the ear, then the look: nothing falls between.
    let mut changes = app.changes.subscribe();
    let mut stopping = app.stopping.subscribe();
    loop {
        let mut connection = app.pool.acquire().await?;
        let row = find(&mut connection, caller, id).await?;
        let working = matches!(row.status, RecordStatus::Queued | RecordStatus::Running);
        if !working || *stopping.borrow() || Instant::now() >= until {
            return Ok(ticked(&mut connection, row).await?);
        }
        drop(connection);
        tokio::select! {
            _ = timeout_at(until, changed(&mut changes, id)) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
}

/// Waits until the record may have changed.
async fn changed(changes: &mut Receiver<Uuid>, id: Uuid) {
    // Of too many changes some were missed, perhaps one of this record.
    while changes.recv().await.is_ok_and(|other| other != id) {}
}
