//! Claims jobs, keeps their leases, ends them. Knows no kind of job.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::app::App;
use crate::db::jobs::{self, Claimed, Job, Notice};
use crate::db::{self, DbError, PgConnection};
use crate::domain::record::JobKind;
use crate::wire::record::RecordError;

use super::{Context, JobError, Slot};

/// The work of one kind of job.
pub type Work = fn(Context) -> Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>>;

/// What wakes the workers of each kind.
type Wakes = Arc<[(JobKind, watch::Sender<()>)]>;

/// Longest time between two looks at the queue; a notice wakes earlier.
const LOOK: Duration = Duration::from_millis(500);

/// Runs jobs of every kind with the work for it until `stop` says so; then takes no more and hands back what runs.
pub async fn run(app: Arc<App>, work: fn(JobKind) -> Work, mut stop: watch::Receiver<bool>) {
    let wakes: Wakes = JobKind::ALL.map(|kind| (kind, watch::Sender::new(()))).into();
    let mut tasks = JoinSet::new();
    tasks.spawn(listen(app.clone(), wakes.clone(), stop.clone()));
    let heart = Arc::new(Mutex::new(None));
    for (kind, wake) in wakes.iter() {
        let kind = *kind;
        let slots = Arc::new(Semaphore::new(app.config.jobs.concurrency));
        let worker = Worker { app: app.clone(), kind, work: work(kind), slots, heart: heart.clone() };
        tasks.spawn(worker.run(wake.subscribe(), stop.clone()));
    }
    let _ = stop.wait_for(|stopped| *stopped).await;
    while tasks.join_next().await.is_some() {}
}

/// Wakes the workers whenever jobs are queued or end, and whoever follows a record when it changes; connects
/// again when the connection is lost.
async fn listen(app: Arc<App>, wakes: Wakes, mut stop: watch::Receiver<bool>) {
    let wake = |wanted: Option<JobKind>| {
        let meant = wakes.iter().filter(|(kind, _)| wanted.is_none_or(|wanted| wanted == *kind));
        meant.for_each(|(_, wake)| wake.send_replace(()));
    };
    loop {
        let hear = async {
            let mut notices = jobs::Wake::listen(&app.pool).await?;
            wake(None);
            loop {
                match notices.heard().await? {
                    Notice::Jobs(kind) => wake(Some(kind)),
                    // Nobody may be listening.
                    Notice::Record(id) => _ = app.changes.send(id),
                }
            }
        };
        let heard: Result<(), DbError> = tokio::select! {
            heard = hear => heard,
            _ = stop.wait_for(|stopped| *stopped) => return,
        };
        if let Err(error) = heard {
            warn!(%error, "lost the connection that hears of jobs");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Does the jobs of one kind, as many at once as there are slots.
#[derive(Clone)]
struct Worker {
    app: Arc<App>,
    kind: JobKind,
    work: Work,
    slots: Arc<Semaphore>,
    /// One connection outside the pool renews all leases, so that a busy pool cannot lose them.
    heart: Arc<Mutex<Option<PgConnection>>>,
}

impl Worker {
    async fn run(self, mut wake: watch::Receiver<()>, mut stop: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        while !*stop.borrow() {
            let slot = tokio::select! {
                slot = Slot::take(&self.slots) => slot,
                _ = stop.wait_for(|stopped| *stopped) => break,
            };
            match self.claim().await {
                Ok(Some(claimed)) => {
                    running.spawn(self.clone().work(claimed, slot, stop.clone()));
                }
                Ok(None) => {
                    drop(slot);
                    let woken = tokio::select! {
                        _ = wake.changed() => true,
                        () = tokio::time::sleep(LOOK) => false,
                        _ = stop.wait_for(|stopped| *stopped) => true,
                    };
                    if !woken {
                        self.put_back_lost().await;
                    }
                }
                Err(error) => {
                    warn!(kind = self.kind.as_str(), %error, "could not look for jobs");
                    tokio::time::sleep(LOOK).await;
                }
            }
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
    }

    async fn claim(&self) -> Result<Option<Claimed>, DbError> {
        let mut connection = self.app.pool.acquire().await?;
        let lease = self.app.config.jobs.lease_seconds as i32;
        jobs::claim(&mut connection, self.kind, lease, &self.app.types_digest).await
    }

    async fn put_back_lost(&self) {
        let put_back = async {
            let mut connection = self.app.pool.acquire().await?;
            jobs::put_back_lost(&mut connection, self.kind).await
        };
        if let Err(error) = put_back.await {
            warn!(kind = self.kind.as_str(), %error, "could not look for jobs whose workers are gone");
        }
    }

    async fn work(self, claimed: Claimed, slot: Slot, mut stop: watch::Receiver<bool>) {
        let job = claimed.job;
        let context = Context { app: self.app.clone(), job: job.clone(), slot };
        if claimed.worn_out {
            return self.give_up(&context).await;
        }
        let lost = tokio::select! {
            ended = (self.work)(context.clone()) => ended,
            fenced = self.keep(&job) => Err(fenced),
            _ = stop.wait_for(|stopped| *stopped) => Err(JobError::Retry("the server is stopping".to_owned())),
        };
        let Err(error) = lost else { return };
        let ended = match error.cause() {
            Ok(error) => {
                info!(record = %job.record_id, kind = self.kind.as_str(), code = error.code, message = error.message, "the record failed");
                context.fail(error).await
            }
            Err(JobError::Fenced) => {
                info!(record = %job.record_id, kind = self.kind.as_str(), "the job was cancelled, or taken over by another worker");
                return;
            }
            Err(reason) => {
                warn!(record = %job.record_id, kind = self.kind.as_str(), run = job.run_no, %reason, "the job is put back");
                let after = if *stop.borrow() {
                    0.0
                } else {
                    (0.1 * f64::from(2i32.pow(job.run_no.clamp(1, 7) as u32))).min(10.0)
                };
                self.release(&job, after).await
            }
        };
        match ended {
            Ok(()) | Err(JobError::Fenced) => {}
            Err(error) => {
                error!(record = %job.record_id, kind = self.kind.as_str(), %error, "the job's end could not be written; its lease will run out");
            }
        }
    }

    async fn release(&self, job: &Job, after: f64) -> Result<(), JobError> {
        let mut connection = self.app.pool.acquire().await?;
        Ok(jobs::release(&mut connection, job, after).await?)
    }

    async fn give_up(&self, context: &Context) {
        let error = RecordError {
            code: "worker_lost".to_owned(),
            message: "The work was begun several times and never came to an end.".to_owned(),
            hint: "Ask the administrator to look at the server's log, then try again.".to_owned(),
        };
        if let Err(error) = context.fail(error).await {
            error!(record = %context.job.record_id, %error, "the record's end could not be written");
        }
    }

    /// Renews the lease each third of it; returns when it is lost.
    async fn keep(&self, job: &Job) -> JobError {
        let lease = self.app.config.jobs.lease_seconds;
        let pause = Duration::from_millis(u64::from(lease) * 1000 / 3);
        loop {
            tokio::time::sleep(pause).await;
            let mut heart = self.heart.lock().await;
            if heart.is_none() {
                *heart = db::dedicated(&self.app.pool).await.ok();
            }
            let Some(connection) = heart.as_mut() else { continue };
            match jobs::heartbeat(connection, job, lease as i32).await {
                Ok(()) => {}
                Err(DbError::Fenced) => return JobError::Fenced,
                Err(error) => {
                    warn!(job = job.id, %error, "could not renew the lease");
                    *heart = None;
                }
            }
        }
    }
}
