//! A record once its work has ended, for who would otherwise ask again and again.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::domain::record::RecordStatus;
use crate::wire::record::Record;

use super::Shared;
use super::auth::Caller;
use super::error::ApiError;
use super::records::{find, ticked};

/// The record as soon as it is neither queued nor running, or as it is after so long. No connection is held
/// meanwhile.
pub(super) async fn record(app: &Shared, caller: &Caller, id: Uuid, most: Duration) -> Result<Record, ApiError> {
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
