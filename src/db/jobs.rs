//! Durable background work: one row per piece of work, a lease, and a run number that fences every
//! write of a worker. Database time only.

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::DbError;

/// Makes a package.
pub const EXPORT: &str = "export";
/// Reads an uploaded package and plans its import.
pub const PARSE: &str = "parse";
/// Writes an import; one at a time in a domain.
pub const EXECUTE: &str = "execute";
/// Takes a package to a target.
pub const MIGRATE: &str = "migrate";

/// A job that a worker has claimed.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its row.
    pub id: i64,
    /// What to do.
    pub kind: String,
    /// For which record.
    pub record_id: Uuid,
    /// In which domain.
    pub domain_id: i32,
    /// Fences this run's writes.
    pub run_no: i32,
}

/// Queues a job for a record, in the transaction that makes it necessary.
///
/// # Errors
/// The database fails.
pub async fn queue(connection: &mut PgConnection, kind: &str, record_id: Uuid, domain_id: i32) -> Result<(), DbError> {
    sqlx::query!("insert into jobs (kind, record_id, domain_id) values ($1, $2, $3)", kind, record_id, domain_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the oldest job of a kind that is due, or whose worker has lost its lease, and ends the
/// backend that a lost worker left behind. `None`: there is none now.
///
/// # Errors
/// The database fails.
pub async fn claim(connection: &mut PgConnection, kind: &str, lease_seconds: i32) -> Result<Option<Job>, DbError> {
    // A stopped worker may still hold the row of its job: its connection is ended first.
    sqlx::query!(
        "select pg_terminate_backend(a.pid, 5000) from jobs j
         join pg_stat_activity a on a.pid = j.backend_pid and a.backend_start = j.backend_start
         where j.kind = $1 and j.state = 'running' and j.lease_until < clock_timestamp()",
        kind
    )
    .fetch_all(&mut *connection)
    .await?;
    let claimed = sqlx::query!(
        r#"with next as (
            select id from jobs j
            where kind = $1 and ((state = 'queued' and run_at <= clock_timestamp())
                or (state = 'running' and lease_until < clock_timestamp()))
              and (kind <> 'execute' or not exists (
                select from jobs o where o.domain_id = j.domain_id and o.kind = 'execute' and o.state = 'running' and o.id <> j.id))
            order by id limit 1 for update skip locked
         )
         update jobs j set state = 'running', run_no = j.run_no + 1, backend_pid = null, backend_start = null,
            lease_until = clock_timestamp() + make_interval(secs => $2)
         from next where j.id = next.id
         returning j.id, j.kind, j.record_id, j.domain_id, j.run_no"#,
        kind,
        f64::from(lease_seconds)
    )
    .fetch_optional(&mut *connection)
    .await;
    let claimed = match claimed.map_err(DbError::from) {
        // Another import of the domain was claimed at the same instant: its turn comes later.
        Err(DbError::Constraint(_)) => return Ok(None),
        other => other?,
    };
    Ok(claimed.map(|row| Job {
        id: row.id,
        kind: row.kind,
        record_id: row.record_id,
        domain_id: row.domain_id,
        run_no: row.run_no,
    }))
}

/// Renews the lease.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn heartbeat(connection: &mut PgConnection, job: &Job, lease_seconds: i32) -> Result<(), DbError> {
    let done = sqlx::query!(
        "update jobs set lease_until = clock_timestamp() + make_interval(secs => $3)
         where id = $1 and run_no = $2 and state = 'running'",
        job.id,
        job.run_no,
        f64::from(lease_seconds)
    );
    fenced(done.execute(connection).await?.rows_affected())
}

/// Notes the connection that does the work, so that whoever takes the job over can end it.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn keep_backend(connection: &mut PgConnection, job: &Job) -> Result<(), DbError> {
    let done = sqlx::query!(
        "update jobs set backend_pid = pg_backend_pid(),
            backend_start = (select backend_start from pg_stat_activity where pid = pg_backend_pid())
         where id = $1 and run_no = $2 and state = 'running'",
        job.id,
        job.run_no
    );
    fenced(done.execute(connection).await?.rows_affected())
}

/// Checks, and holds until the transaction ends, that this run still has its job. The first statement
/// of a worker's write to its record, and the last of an applying transaction.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn fence(connection: &mut PgConnection, job: &Job) -> Result<(), DbError> {
    let held = sqlx::query!(
        "select id from jobs where id = $1 and run_no = $2 and state = 'running' for update",
        job.id,
        job.run_no
    )
    .fetch_optional(connection)
    .await?;
    fenced(held.map_or(0, |_| 1))
}

/// Ends a job, in the transaction that writes its result.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn end(connection: &mut PgConnection, job: &Job) -> Result<(), DbError> {
    let done = sqlx::query!(
        "update jobs set state = 'done', lease_until = null where id = $1 and run_no = $2 and state = 'running'",
        job.id,
        job.run_no
    );
    fenced(done.execute(connection).await?.rows_affected())
}

/// Puts a job back: at once on a graceful stop, later for another try.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn release(connection: &mut PgConnection, job: &Job, after_seconds: f64) -> Result<(), DbError> {
    let done = sqlx::query!(
        "update jobs set state = 'queued', lease_until = null, backend_pid = null, backend_start = null,
            run_at = clock_timestamp() + make_interval(secs => $3)
         where id = $1 and run_no = $2 and state = 'running'",
        job.id,
        job.run_no,
        after_seconds
    );
    fenced(done.execute(connection).await?.rows_affected())
}

/// The run is at the cap of starts: it must fail rather than repeat for ever.
///
/// # Errors
/// The database fails.
pub async fn is_last_run(connection: &mut PgConnection, job: &Job) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(r#"select run_no > max_runs as "last!" from jobs where id = $1"#, job.id);
    Ok(found.fetch_one(connection).await?)
}

/// Jobs that are not done, in the whole environment.
///
/// # Errors
/// The database fails.
pub async fn open_count(connection: &mut PgConnection) -> Result<i64, DbError> {
    let found = sqlx::query_scalar!(r#"select count(*) as "open!" from jobs where state in ('queued', 'running')"#);
    Ok(found.fetch_one(connection).await?)
}

fn fenced(rows: u64) -> Result<(), DbError> {
    if rows == 1 { Ok(()) } else { Err(DbError::Fenced) }
}

/// Hears, on a connection of its own, when jobs were queued or ended.
pub struct Wake(PgListener);

impl Wake {
    /// # Errors
    /// No connection.
    pub async fn listen(pool: &PgPool) -> Result<Self, DbError> {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
        let own = options.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen("ferry_jobs").await?;
        Ok(Self(listener))
    }

    /// Waits for the next notice.
    ///
    /// # Errors
    /// The connection is lost for good.
    pub async fn heard(&mut self) -> Result<(), DbError> {
        self.0.recv().await?;
        Ok(())
    }
}
