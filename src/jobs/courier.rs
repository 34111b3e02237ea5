//! Talks to the target of one online migration: repeats what failed in passing, until the deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::db;
use crate::db::records::Record;
use crate::db::targets::Target;
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
    target: Uuid,
    /// It has answered this run, and nothing says otherwise in the job's row.
    answers: AtomicBool,
}

impl Courier {
    /// For the target of a record, as it is set now.
    ///
    /// # Errors
    /// It was removed, or its settings cannot be used.
    pub(super) async fn of(context: &Context, record: &Record) -> Result<Self, JobError> {
        let id = record.target_id.ok_or_else(gone)?;
        let target = target(context, id).await?.ok_or_else(gone)?;
        // Only an earlier run can have left word that it does not.
        let answers = AtomicBool::new(context.job.run_no == 1);
        Ok(Self { context: context.clone(), target: id, remote: context.app.remote(&target)?, answers })
    }

    /// Looks where the target is and with which token, as that may have been changed since the last call.
    async fn look(&self) -> Result<Result<(), RemoteError>, JobError> {
        let Some(target) = target(&self.context, self.target).await? else { return Ok(Err(gone())) };
        Ok(self.context.app.place(&target).map(|place| self.remote.move_to(place)))
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

    /// The same without a deadline: where others decide at the target, its silence stops nothing here.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, RemoteError>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Result<Result<T, RemoteError>, JobError> {
        loop {
            if let Err(error) = self.look().await? {
                return Ok(Err(error));
            }
            match self.context.waiting(call()).await {
                Err(error) if error.transient => {}
                answer => return Ok(answer),
            }
            self.context.waiting(tokio::time::sleep(LONGEST_PAUSE)).await;
        }
    }

    /// Waits for one call, as it is; no slot is held meanwhile.
    pub(super) async fn once<T>(&self, call: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        self.context.waiting(call).await
    }

    /// The same for a call that is work of its own: only between two tries no slot is held.
    pub(super) async fn repeated<T, F: Future<Output = Result<T, RemoteError>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Result<Result<T, RemoteError>, JobError> {
        let deadline = Duration::from_secs(u64::from(self.context.app.config.jobs.target_deadline_seconds));
        let mut pause = FIRST_PAUSE;
        // Until when its silence is noted. Only what somebody waited here counts.
        let mut noted = Instant::now();
        loop {
            if let Err(error) = self.look().await? {
                return Ok(Err(error));
            }
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
            if error.is("conflict") {
                // It is at it, and says so.
                noted = Instant::now();
            }
            let now = Instant::now();
            if self.context.failing(Some(now - std::mem::replace(&mut noted, now))).await? >= deadline {
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

async fn target(context: &Context, id: Uuid) -> Result<Option<Target>, JobError> {
    let mut connection = context.app.pool.acquire().await?;
    Ok(db::targets::by_id(&mut connection, context.job.domain_id, id).await?)
}

fn gone() -> RemoteError {
    RemoteError::settings("The target was removed from the settings.", "Choose another target.")
}

/// From 0 to 1.
fn fraction() -> f64 {
    secrets::random::<4>().map_or(0.5, |bytes| f64::from(u32::from_le_bytes(*bytes)) / f64::from(u32::MAX))
}
