//! The work behind the requests. Each kind is a function of the app and a claimed job; the runner
//! knows none of them.

mod carry;
pub mod clean;
mod courier;
mod decode;
mod deliver;
mod error;
pub mod execute;
pub mod export;
mod index;
mod left;
mod lines;
pub mod migrate;
mod migration_options;
mod mirrored;
mod negotiate;
mod notes;
mod pack;
mod parse;
mod plan;
mod recall;
pub mod rederive;
mod rewrite;
mod roll_back;
pub mod runner;
mod stage;
mod staging;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::app::App;
use crate::db::definitions::Bodies;
use crate::db::jobs::Job;
use crate::db::records::{Note, Others, Record, Rest};
use crate::db::{self, Acquire, PgConnection, PoolConnection, Postgres, Transaction};
use crate::domain::record::{JobKind, Phase};
use crate::planning;
use crate::wire::record::{Item, RecordError};

pub use error::JobError;

/// The work of a kind of job.
pub fn work(kind: JobKind) -> runner::Work {
    match kind {
        JobKind::Export => |context| Box::pin(export::run(context)),
        JobKind::Parse => |context| Box::pin(parse::run(context)),
        JobKind::Plan => |context| Box::pin(plan::run(context)),
        JobKind::Execute => |context| Box::pin(execute::run(context)),
        JobKind::Migrate => |context| Box::pin(migrate::run(context)),
        JobKind::Recall => |context| Box::pin(recall::run(context)),
        JobKind::RollBack => |context| Box::pin(roll_back::run(context)),
    }
}

/// What a job works with.
#[derive(Clone)]
pub struct Context {
    /// Everything at hand.
    pub app: Arc<App>,
    /// The claimed job.
    pub job: Job,
    /// Its place among the jobs of its kind that run at once.
    slot: Slot,
}

/// What becomes of the items of a record.
pub(crate) enum Items<'a> {
    /// They stay as they are.
    Kept,
    /// These take their place.
    Replaced(&'a [Item]),
    /// The target has all of them as they were sent, below a directory.
    AsSent {
        /// Or none.
        below: &'a str,
    },
}

/// A place among the jobs of a kind that run at once. One that waits for another environment gives it back
/// meanwhile.
#[derive(Clone)]
struct Slot {
    slots: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Slot {
    /// Takes a free slot, when there is one.
    async fn take(slots: &Arc<Semaphore>) -> Self {
        let permit = slots.clone().acquire_owned().await.ok();
        Self { slots: slots.clone(), held: Arc::new(Mutex::new(permit)) }
    }
}

impl Context {
    /// The record of the job.
    pub(crate) async fn record(&self) -> Result<Record, JobError> {
        let mut connection = self.app.pool.acquire().await?;
        let found = db::records::by_id(&mut connection, self.job.domain_id, self.job.record_id).await?;
        found.ok_or_else(|| JobError::Retry("the record is gone".to_owned()))
    }

    /// A connection for all of the job's work, noted so that whoever takes the job over can end it.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, JobError> {
        let mut connection = self.app.workers.acquire().await?;
        db::jobs::keep_backend(&mut connection, &self.job).await?;
        Ok(connection)
    }

    /// Writes bodies where nobody sees them yet. They may be lost: the commit of what points at them is not.
    pub(crate) async fn send_bodies(&self, connection: &mut PgConnection, bodies: &mut Bodies) -> Result<(), JobError> {
        let mut transaction = connection.begin().await?;
        db::commit_lazily(&mut transaction).await?;
        db::locks::share_types(&mut transaction, &self.app.types_digest).await?;
        db::definitions::note_run(&mut transaction, bodies.block(), self.job.record_id).await?;
        bodies.send(&mut transaction).await?;
        db::jobs::fence(&mut transaction, &self.job).await?;
        Ok(transaction.commit().await?)
    }

    /// Writes to the record while the job goes on.
    pub(crate) async fn note(&self, note: Note) -> Result<(), JobError> {
        self.keep(Items::Kept, note).await
    }

    /// Says what others decide of the record where it was brought to. How often the job was begun before does not count
    /// any more: they may take long.
    pub(crate) async fn others(&self, others: Others) -> Result<(), JobError> {
        let mut transaction = self.write(Items::Kept).await?;
        db::records::note(&mut transaction, self.job.record_id, Note::Others(others)).await?;
        db::jobs::begin_anew(&mut transaction, &self.job).await?;
        Ok(transaction.commit().await?)
    }

    /// The same, and its items.
    pub(crate) async fn keep(&self, items: Items<'_>, note: Note) -> Result<(), JobError> {
        let mut transaction = self.write(items).await?;
        db::records::note(&mut transaction, self.job.record_id, note).await?;
        db::jobs::fence(&mut transaction, &self.job).await?;
        Ok(transaction.commit().await?)
    }

    /// The record comes to rest, and so do its items, and the job has ended.
    pub(crate) async fn end(&self, items: Items<'_>, rest: Rest) -> Result<(), JobError> {
        let mut transaction = self.write(items).await?;
        db::records::rest(&mut transaction, self.job.record_id, rest).await?;
        db::jobs::end(&mut transaction, &self.job).await?;
        Ok(transaction.commit().await?)
    }

    async fn write(&self, items: Items<'_>) -> Result<Transaction<'static, Postgres>, JobError> {
        let mut transaction = self.app.pool.begin().await?;
        let id = self.job.record_id;
        match items {
            Items::Kept => {}
            Items::Replaced(items) => {
                db::record_items::replace(&mut transaction, id, &planning::items::chunks(items)?).await?;
            }
            Items::AsSent { below } => db::record_items::settle_as_sent(&mut transaction, id, below).await?,
        }
        Ok(transaction)
    }

    /// Says what the record is doing.
    pub(crate) async fn phase(&self, phase: Phase) -> Result<(), JobError> {
        self.note(Note::Doing(phase)).await
    }

    /// The job is done, and the record stays as it is.
    pub(crate) async fn done(&self) -> Result<(), JobError> {
        let mut connection = self.app.pool.acquire().await?;
        Ok(db::jobs::end(&mut connection, &self.job).await?)
    }

    /// Ends the record as failed, and the job with it.
    pub(crate) async fn fail(&self, error: RecordError) -> Result<(), JobError> {
        if !self.job.kind.carries_record() {
            return self.done().await;
        }
        if self.job.kind == JobKind::RollBack {
            return roll_back::stands(self, &self.record().await?, error).await;
        }
        let mut transaction = self.app.pool.begin().await?;
        let ended = planning::items::finalise_items(&mut transaction, self.job.record_id).await?;
        let failed = Rest::Failed(ended.failure, serde_json::json!(error), ended.counts);
        db::records::rest(&mut transaction, self.job.record_id, failed).await?;
        db::jobs::end(&mut transaction, &self.job).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Does something that only waits, without a slot.
    pub(crate) async fn waiting<T>(&self, wait: impl Future<Output = T>) -> T {
        // One wait inside another gives nothing back twice.
        let held = self.slot.held.lock().await.take();
        let had = held.is_some();
        drop(held);
        let done = wait.await;
        if had {
            let again = self.slot.slots.clone().acquire_owned().await.ok();
            *self.slot.held.lock().await = again;
        }
        done
    }

    /// Notes that the target has not answered for so much longer, or (none) that it does; for how long it has not.
    pub(crate) async fn failing(&self, more: Option<Duration>) -> Result<Duration, JobError> {
        let mut connection = self.app.pool.acquire().await?;
        if more.is_some() {
            // What has no phase yet is on its way to the target.
            db::records::note_negotiating(&mut connection, self.job.record_id).await?;
        }
        let seconds = db::jobs::failing(&mut connection, &self.job, more.map(|more| more.as_secs_f64())).await?;
        Ok(Duration::from_secs_f64(seconds.max(0.0)))
    }

    /// The record's ID.
    pub(crate) fn record_id(&self) -> Uuid {
        self.job.record_id
    }
}

/// Runs CPU-bound or blocking work away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JobError> + Send + 'static,
) -> Result<T, JobError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| JobError::Retry(format!("a task was stopped: {error}")))?
}
