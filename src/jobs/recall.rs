//! Taking back what was sent: the import of a migration that was cancelled is cancelled at its target, however long that
//! is down.

use std::time::Duration;

use crate::db::records::Record;
use crate::remote::RemoteError;

use super::courier::Courier;
use super::{Context, JobError, deliver};

/// The first pause between two tries; each next one is twice as long,
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// but no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Asks the target until it has cancelled the import, or has none that could be.
pub(super) async fn run(context: Context) -> Result<(), JobError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let record = context.record().await?;
        let courier = match Courier::of(&context, &record).await {
            Ok(courier) => courier,
            // The target was removed from the settings, or cannot be used with them.
            Err(JobError::Fail(_)) => return context.done().await,
            Err(error) => return Err(error),
        };
        match context.waiting(recall(&courier, &record)).await {
            Ok(()) => return context.done().await,
            Err(Refused::Fenced(error)) => return Err(error),
            Err(Refused::Remote(error)) => {
                let code = error.code;
                tracing::info!(record = %record.id, code, message = error.message, "the target could not be asked to cancel; it is asked again");
            }
        }
        context.waiting(tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why the import is not cancelled yet.
enum Refused {
    /// The job must end.
    Fenced(JobError),
    /// The target does not do it now.
    Remote(RemoteError),
}

impl From<RemoteError> for Refused {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl From<JobError> for Refused {
    fn from(error: JobError) -> Self {
        Self::Fenced(error)
    }
}

async fn recall(courier: &Courier, record: &Record) -> Result<(), Refused> {
    let there = match record.remote_record_id {
        Some(there) => Some(there),
        None => deliver::made(courier, record).await??,
    };
    let Some(there) = there else { return Ok(()) };
    match courier.remote.cancel(there).await {
        Ok(_) => Ok(()),
        // It has ended, or is not there any more.
        Err(error) if error.is("wrong_state") || error.is("not_found") => Ok(()),
        Err(error) => Err(error.into()),
    }
}
