//! Talks to the target of one online migration: repeats what failed in passing, until the deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::db;
use crate::db::records::Record;
use crate::remote::{Remote, RemoteError};
use crate::secrets;

use super::{Context, JobError};

/// The first pause between two tries is at most this long; each next one may be twice as long,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// but no longer than this, unless the target asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The target of a migration, as one job talks to it.
pub(super) struct Courier {
    pub(super) context: Context,
    pub(super) remote: Remote,
    /// It has answered this run, and nothing says otherwise in the job's row.
    answers: AtomicBool,
}

impl Courier {
    /// For the target of a record, as it is set now.
    ///
    /// # Errors
    /// It was removed, or its settings cannot be used.
    pub(super) async fn of(context: &Context, record: &Record) -> Result<Self, JobError> {
        let gone = || RemoteError::settings("The target was removed from the settings.", "Choose another target.");
        let mut connection = context.app.pool.acquire().await?;
        let id = record.target_id.ok_or_else(gone)?;
        let target = db::targets::by_id(&mut connection, record.domain_id, id).await?.ok_or_else(gone)?;
        // Only an earlier run can have left word that it does not.
        let answers = AtomicBool::new(context.job.run_no == 1);
        Ok(Self { context: context.clone(), remote: context.app.remote(&target)?, answers })
    }

    /// Calls the target, again and again while it fails in passing; no slot is held meanwhile. The inner error is
    /// what the target said for good, or that the deadline is over.
    ///
    /// # Errors
    /// The job was taken over.
    pub(super) async fn tried<T, F: Future<Output = Result<T, RemoteError>>>(
        &self,
        call: impl FnMut() -> F,
    ) -> Result<Result<T, RemoteError>, JobError> {
        self.context.waiting(self.repeated(call)).await
    }

    /// The same for a call that is work of its own: only between two tries no slot is held.
    pub(super) async fn repeated<T, F: Future<Output = Result<T, RemoteError>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Result<Result<T, RemoteError>, JobError> {
        let deadline = Duration::from_secs(u64::from(self.context.app.config.jobs.target_deadline_seconds));
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let error = match call().await {
                Err(error) if error.transient => error,
                answer => {
                    // An earlier run may have left word that it did not.
                    if !self.answers.swap(true, Ordering::Relaxed) {
                        self.context.failing(None).await?;
                    }
                    return Ok(answer);
                }
            };
            self.answers.store(false, Ordering::Relaxed);
            if self.context.failing(Some(began.elapsed())).await? >= deadline {
                return Ok(Err(error));
            }
            tracing::debug!(record = %self.context.record_id(), error = error.message, "the target is tried again");
            // Full jitter: many migrations that fail at once must not come back at once.
            let jittered = pause.mul_f64(fraction());
            let wait = error.retry_after.map_or(jittered, |wish| wish + jittered);
            self.context.waiting(tokio::time::sleep(wait)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// From 0 to 1.
fn fraction() -> f64 {
    secrets::random::<4>().map_or(0.5, |bytes| f64::from(u32::from_le_bytes(*bytes)) / f64::from(u32::MAX))
}
