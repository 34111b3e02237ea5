//! Durable background work: one row per piece of work, a lease, and a run number that fences every
//! write of a worker. Database time only.

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::record::{JobKind, Phase};

use super::DbError;

/// A job that a worker has claimed.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its row.
    pub id: i64,
    /// What to do.
    pub kind: JobKind,
    /// For which record.
    pub record_id: Uuid,
    /// In which domain.
    pub domain_id: i32,
    /// Fences this run's writes.
    pub run_no: i32,
}

/// Queues a job for a record, in the transaction that makes it necessary.
pub async fn queue(
    connection: &mut PgConnection,
    kind: JobKind,
    record_id: Uuid,
    domain_id: i32,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into jobs (kind, record_id, domain_id) values ($1, $2, $3)",
        kind.as_str(),
        record_id,
        domain_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the oldest job of a kind that is due, of the domain whose last one began longest ago, and sets its record
/// running. `None`: there is none now, or not for who has other type files than the environment.
pub async fn claim(
    connection: &mut PgConnection,
    kind: JobKind,
    lease_seconds: i32,
    types_digest: &str,
) -> Result<Option<Claimed>, DbError> {
    let claimed = sqlx::query!(
        r#"with turns as materialized (
            select d.id, (select max(l.started_at) from jobs l where l.kind = $1 and l.domain_id = d.id) as last
            from domains d
            where exists (select from jobs w where w.kind = $1 and w.state = 'queued' and w.domain_id = d.id)
         ), next as (
            select j.id from jobs j join turns t on t.id = j.domain_id join records r on r.id = j.record_id
            join environment e on e.types_digest = $5
            where j.kind = $1 and j.state = 'queued' and j.run_at <= clock_timestamp()
              and (j.kind <> 'execute' or not exists (
                select from jobs o where o.domain_id = j.domain_id and o.kind = 'execute' and o.state = 'running' and o.id <> j.id))
            order by t.last nulls first, j.id limit 1 for update of j, r skip locked
         ), job as (
            update jobs j set state = 'running', run_no = j.run_no + 1, backend_pid = null, backend_start = null,
                started_at = clock_timestamp(),
                lease_until = clock_timestamp() + make_interval(secs => $2)
            from next where j.id = next.id
            returning j.id, j.record_id, j.domain_id, j.run_no, j.max_runs
         ), running as (
            update records r set status = 'running', phase = coalesce($3, r.phase),
                progress_done = case when $3 is null then r.progress_done else 0 end, finished_at = null, waits_until = null,
                started_at = coalesce(r.started_at, clock_timestamp())
            from job where r.id = job.record_id and $4
         )
         select id, record_id, domain_id, run_no, run_no > max_runs as "last!" from job"#,
        kind.as_str(),
        f64::from(lease_seconds),
        kind.first_phase().map(Phase::as_str),
        kind.carries_record(),
        types_digest
    )
    .fetch_optional(connection)
    .await;
    let claimed = match claimed.map_err(DbError::from) {
        // Another import of the domain was claimed at the same instant: its turn comes later.
        Err(DbError::Constraint(_)) => return Ok(None),
        other => other?,
    };
    Ok(claimed.map(|row| Claimed {
        job: Job { id: row.id, kind, record_id: row.record_id, domain_id: row.domain_id, run_no: row.run_no },
        worn_out: row.last,
    }))
}

/// A job that was just claimed.
#[derive(Debug)]
pub struct Claimed {
    /// The job.
    pub job: Job,
    /// It is at the cap of starts: it must fail rather than repeat for ever.
    pub worn_out: bool,
}

/// Puts back the jobs of a kind whose workers have lost their leases. A stopped worker may still hold the row of its
/// job: its connection is ended first.
pub async fn put_back_lost(connection: &mut PgConnection, kind: JobKind) -> Result<(), DbError> {
    let lost = sqlx::query_scalar!(
        r#"select pg_terminate_backend(a.pid, 5000) as "ended!" from jobs j
           join pg_stat_activity a on a.pid = j.backend_pid and a.backend_start = j.backend_start
           where j.kind = $1 and j.state = 'running' and j.lease_until < clock_timestamp()"#,
        kind.as_str()
    );
    lost.fetch_all(&mut *connection).await?;
    sqlx::query!(
        "update jobs set state = 'queued', lease_until = null, backend_pid = null, backend_start = null
         where id in (select id from jobs where kind = $1 and state = 'running' and lease_until < clock_timestamp()
            for update skip locked)",
        kind.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
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

/// Checks, and holds until the transaction ends, that this run still has its job: the last statement of a
/// worker's write.
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

/// Lets a job be begun as often as a new one.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn begin_anew(connection: &mut PgConnection, job: &Job) -> Result<(), DbError> {
    let done = sqlx::query!(
        "update jobs set max_runs = greatest(max_runs, run_no + 10) where id = $1 and run_no = $2 and state = 'running'",
        job.id,
        job.run_no
    );
    fenced(done.execute(connection).await?.rows_affected())
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
    // What is handed back at once was not this run's fault: it does not count.
    let done = sqlx::query!(
        "update jobs set state = 'queued', lease_until = null, backend_pid = null, backend_start = null,
            run_at = clock_timestamp() + make_interval(secs => $3), max_runs = max_runs + case when $3 = 0 then 1 else 0 end
         where id = $1 and run_no = $2 and state = 'running'",
        job.id,
        job.run_no,
        after_seconds
    );
    fenced(done.execute(connection).await?.rows_affected())
}

/// Notes that what the job waits for has not answered for so many seconds more, or (none) that it does; returns for
/// how many seconds it has not, as long as somebody asked.
///
/// # Errors
/// [`DbError::Fenced`] when another worker has the job.
pub async fn failing(connection: &mut PgConnection, job: &Job, more: Option<f64>) -> Result<f64, DbError> {
    let noted = sqlx::query_scalar!(
        "update jobs set failing_seconds = coalesce(failing_seconds + $3, 0)
         where id = $1 and run_no = $2 and state = 'running' returning failing_seconds",
        job.id,
        job.run_no,
        more
    );
    noted.fetch_optional(connection).await?.ok_or(DbError::Fenced)
}

/// Queues that the target of a record is asked to cancel what was sent to it, unless that is queued already; in a while,
/// so that whoever has it at hand may do it first.
pub async fn queue_recall(connection: &mut PgConnection, record_id: Uuid, domain_id: i32) -> Result<(), DbError> {
    sqlx::query!(
        "insert into jobs (kind, record_id, domain_id, run_at)
         select $1, $2, $3, clock_timestamp() + interval '6 seconds'
         where not exists (select from jobs where kind = $1 and record_id = $2 and state in ('queued', 'running'))",
        JobKind::Recall.as_str(),
        record_id,
        domain_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The target has cancelled it: nobody needs to ask any more.
pub async fn recalled(connection: &mut PgConnection, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query!(
        "update jobs set state = 'done' where kind = $1 and record_id = $2 and state = 'queued'",
        JobKind::Recall.as_str(),
        record_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The target is to be asked now, for whoever had it at hand did not come through.
pub async fn recall_now(connection: &mut PgConnection, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query!(
        "with due as (
            update jobs set run_at = clock_timestamp() where kind = $1 and record_id = $2 and state = 'queued' returning id
         )
         select pg_notify('ferry_jobs', $1) from due",
        JobKind::Recall.as_str(),
        record_id
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Ends what is being done for a record, whoever does it: his backend is ended, his writes are fenced off.
pub async fn stop(connection: &mut PgConnection, record_id: Uuid) -> Result<(), DbError> {
    let stopped = sqlx::query!(
        "update jobs set state = 'failed', lease_until = null where record_id = $1 and state in ('queued', 'running')
         returning backend_pid, backend_start",
        record_id
    );
    for worker in stopped.fetch_all(&mut *connection).await? {
        sqlx::query!(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2",
            worker.backend_pid,
            worker.backend_start
        )
        .fetch_all(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Jobs that are not done, in the whole environment.
pub async fn open_count(connection: &mut PgConnection) -> Result<i64, DbError> {
    let found = sqlx::query_scalar!(r#"select count(*) as "open!" from jobs where state in ('queued', 'running')"#);
    Ok(found.fetch_one(connection).await?)
}

/// Forgets jobs that ended more than so many days ago.
pub async fn forget(connection: &mut PgConnection, days: u32) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "delete from jobs where state in ('done', 'failed') and created_at < clock_timestamp() - make_interval(days => $1)",
        days as i32
    );
    Ok(done.execute(connection).await?.rows_affected())
}

pub(super) fn fenced(rows: u64) -> Result<(), DbError> {
    if rows == 1 { Ok(()) } else { Err(DbError::Fenced) }
}

/// What a server hears from its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Jobs of a kind were queued, or may begin now.
    Jobs(JobKind),
    /// A record was made or changed.
    Record(Uuid),
}

/// Hears, on a connection of its own, what happens to jobs and records, whichever replica does it.
pub struct Wake(PgListener);

impl Wake {
    /// Listens, on a connection of its own.
    pub async fn listen(pool: &PgPool) -> Result<Self, DbError> {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
        let own = options.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen_all(["ferry_jobs", "ferry_records"]).await?;
        Ok(Self(listener))
    }

    /// Waits for the next notice.
    ///
    /// # Errors
    /// The connection is lost for good.
    pub async fn heard(&mut self) -> Result<Notice, DbError> {
        loop {
            let notice = self.0.recv().await?;
            let kind = JobKind::parse(notice.payload()).map(Notice::Jobs);
            if let Some(notice) = kind.or_else(|| notice.payload().parse().ok().map(Notice::Record)) {
                return Ok(notice);
            }
        }
    }
}
