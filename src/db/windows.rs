//! Imports that wait for the hours in which they may be applied.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::record::JobKind;

use super::DbError;
use super::jobs::{Job, fenced};

/// Queues that an import, which is queued, is executed: now, or when the next window begins.
pub async fn queue_import(
    connection: &mut PgConnection,
    record_id: Uuid,
    domain_id: i32,
    until: Option<DateTime<Utc>>,
) -> Result<(), DbError> {
    sqlx::query!("update records set waits_until = $2 where id = $1", record_id, until)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "insert into jobs (kind, record_id, domain_id, run_at) values ($1, $2, $3, coalesce($4, clock_timestamp()))",
        JobKind::Execute.as_str(),
        record_id,
        domain_id,
        until
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts an import back whose window was over before it began. Its run does not count.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn postpone(connection: &mut PgConnection, job: &Job, until: DateTime<Utc>) -> Result<(), DbError> {
    sqlx::query!("update records set status = 'queued', waits_until = $2 where id = $1", job.record_id, until)
        .execute(&mut *connection)
        .await?;
    let done = sqlx::query!(
        "update jobs set state = 'queued', lease_until = null, backend_pid = null, backend_start = null, run_at = $3,
            max_runs = max_runs + 1
         where id = $1 and run_no = $2 and state = 'running'",
        job.id,
        job.run_no,
        until
    );
    fenced(done.execute(connection).await?.rows_affected())
}

/// Has all imports that wait for a window wait until another time, or (none) begin now.
pub async fn reconsider(connection: &mut PgConnection, until: Option<DateTime<Utc>>) -> Result<(), DbError> {
    sqlx::query!(
        "with waiting as (
            update records set waits_until = $1 where waits_until is not null and status = 'queued' and kind = 'import'
            returning id
         ), due as (
            update jobs j set run_at = coalesce($1, clock_timestamp()) from waiting w
            where j.record_id = w.id and j.kind = $2 and j.state = 'queued' returning j.id
         )
         select pg_notify('ferry_jobs', $2) from (select id from due limit 1) as one",
        until,
        JobKind::Execute.as_str()
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}
