//! Online migrations: the export's own function here, its package brought to the target's ordinary import,
//! executed there, and the outcome mirrored here. Each step looks first at how far an earlier run came.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::record_notes::{self, Notes};
use crate::db::records::{Change, Record};
use crate::domain::failure::Warning;
use crate::domain::outcome::{Counts, Status};
use crate::domain::record::{Phase, RecordStatus, Transfer};
use crate::planning;
use crate::remote::RemoteError;
use crate::wire;
use crate::wire::record::{Item, PlanRequest, RecordError};

use super::courier::Courier;
use super::{Context, JobError, deliver, export, mirrored, notes};

/// What an online migration keeps in its record's options, besides those of its export.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MigrationOptions {
    /// How to import at the target.
    pub(super) plan: PlanRequest,
    /// The target's plan is shown first.
    #[serde(default)]
    confirm: bool,
}

impl MigrationOptions {
    pub(super) fn of(record: &Record) -> Result<Self, JobError> {
        serde_json::from_value(record.options.clone()).map_err(|_| JobError::Corrupt("records.options"))
    }
}

/// How often contents that the target turns out to lack are sent after all.
const SENDINGS: usize = 3;

/// Does an online migration, from where an earlier run left it.
///
/// # Errors
/// Why not.
pub async fn run(context: Context) -> Result<(), JobError> {
    let mut record = context.record().await?;
    let courier = Courier::of(&context, &record).await?;
    if record.package_key.is_none() {
        pack(&courier, &record, record.transfer()?).await?;
        record = context.record().await?;
    }
    let mut there = match record.remote_record_id {
        Some(there) => there,
        None => {
            let there = send(&courier, &record).await?;
            // A package in pieces has noted its upload.
            if !deliver::at_once(&record)? {
                record = context.record().await?;
            }
            there
        }
    };
    if record.transfer()?.again {
        again(&courier, there, record.transfer()?).await?;
        record = context.record().await?;
    }
    let mut sendings = 0;
    loop {
        let found = follow(&courier, there).await?;
        if found.status == "failed" && lacks(found.error.as_ref()) && sendings < SENDINGS {
            // It names what the target has forgotten since: another import, of all.
            sendings += 1;
            there = send_anew(&courier).await?;
            record = context.record().await?;
            continue;
        }
        if found.status != "awaiting_confirmation" {
            return mirror(&courier, &record, &found).await;
        }
        match confirmed_or_shown(&courier, &record, there).await? {
            Next::Follow => {}
            Next::Shown => return Ok(()),
            Next::Send if sendings < SENDINGS => {
                sendings += 1;
                send_whole(&courier, there).await?;
                record = context.record().await?;
            }
            Next::Send => {
                return Err(JobError::fail(
                    "package_incomplete",
                    "The target says again and again that the package is incomplete.",
                    "Look at the import's record at the target.",
                ));
            }
        }
    }
}

/// What is to be done about an import that awaits confirmation at the target.
enum Next {
    /// It goes on.
    Follow,
    /// Its plan is shown here, and this job has ended.
    Shown,
    /// It lacks contents.
    Send,
}

fn lacks(error: Option<&RecordError>) -> bool {
    error.is_some_and(|error| error.code == "package_incomplete")
}

/// Exports as an export would, without what the target has unless all is wanted, and keeps package and items in
/// this record.
async fn pack(courier: &Courier, record: &Record, transfer: Transfer) -> Result<(), JobError> {
    let exported = export::make(&courier.context, record, Some(courier), transfer.whole).await?;
    let prefix = planning::options(&MigrationOptions::of(record)?.plan).ok().and_then(|plan| plan.directory_prefix);
    let item = |node| Item {
        arrives: Some(mirrored::arrives(node, &exported.named, prefix.as_deref())),
        ..export::item(node, Status::Pending)
    };
    let items: Vec<Item> = exported.nodes().map(item).collect();
    let size = exported.change.package.as_ref().and_then(|package| package["size"].as_u64()).unwrap_or_default();
    let change = Change {
        phase: Some(Phase::Uploading),
        progress: Some((0, size, "bytes")),
        transfer: Some(Transfer { upload_id: None, ..transfer }),
        ..exported.change
    };
    courier.context.keep(Some(&items), change).await?;
    match &record.package_key {
        Some(replaced) => Ok(courier.context.app.store.delete(replaced).await?),
        None => Ok(()),
    }
}

/// Brings the package to the target and makes the import of it there: one, however often this is tried.
async fn send(courier: &Courier, record: &Record) -> Result<Uuid, JobError> {
    let context = &courier.context;
    let there = deliver::import(courier, record).await?;
    let noted = context.note(Change { remote_record_id: Some(there.id), ..Change::default() }).await;
    if matches!(noted, Err(JobError::Fenced)) {
        // Cancelled meanwhile, or taken over by one who gets the same answer: where it was cancelled nobody
        // else knows of the import.
        let record = context.record().await?;
        if record.status()? == RecordStatus::Cancelled {
            let _ = courier.remote.cancel(there.id).await;
        }
    }
    noted.map(|()| there.id)
}

/// Packs all contents and makes another import of them.
async fn send_anew(courier: &Courier) -> Result<Uuid, JobError> {
    let record = courier.context.record().await?;
    let transfer = record.transfer()?;
    if !transfer.whole {
        pack(courier, &record, Transfer { whole: true, ..transfer }).await?;
    }
    send(courier, &courier.context.record().await?).await
}

/// Packs and sends all contents to an import that lacks some.
async fn send_whole(courier: &Courier, there: Uuid) -> Result<(), JobError> {
    let context = &courier.context;
    let record = context.record().await?;
    let transfer = record.transfer()?;
    if !transfer.whole {
        pack(courier, &record, Transfer { whole: true, ..transfer }).await?;
    }
    let upload = deliver::upload(courier, &context.record().await?).await?;
    match courier.tried(|| courier.remote.replace_package(there, &upload)).await? {
        Ok(_) => Ok(()),
        // An earlier try arrived after all.
        Err(error) if error.is("wrong_state") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Has the target try again what failed there, when this record is tried again.
async fn again(courier: &Courier, there: Uuid, transfer: Transfer) -> Result<(), JobError> {
    // It goes on by itself then: a cancel has to ask it.
    let told = Transfer { told: true, ..transfer };
    courier.context.note(Change { transfer: Some(told.clone()), ..Change::default() }).await?;
    match courier.tried(|| courier.remote.retry(there)).await? {
        Ok(_) => {}
        // It has not ended there, or it has succeeded.
        Err(error) if error.is("wrong_state") => {}
        Err(error) => return Err(error.into()),
    }
    let transfer = Transfer { again: false, ..told };
    courier.context.note(Change { transfer: Some(transfer), ..Change::default() }).await
}

/// How long the target is asked to hold its answer back while the record there goes on: each time it is told
/// here what that one is doing.
const HOLD: Duration = Duration::from_secs(1);

/// Asks for the record there until it waits or has ended; says here what it is doing.
async fn follow(courier: &Courier, there: Uuid) -> Result<wire::record::Record, JobError> {
    let context = &courier.context;
    let following = async {
        let mut pause = Duration::from_millis(10);
        let mut told = None;
        loop {
            let asked = Instant::now();
            let found = courier.tried(|| courier.remote.record_settled(there, HOLD)).await??;
            if found.status != "queued" && found.status != "running" {
                return Ok(found);
            }
            let unit = if found.progress.unit == "bytes" { "bytes" } else { "resources" };
            let progress = (found.progress.done, found.progress.total, unit);
            let phase = found.phase.as_deref().and_then(Phase::parse).unwrap_or(Phase::Planning);
            if told != Some((phase, progress)) {
                told = Some((phase, progress));
                let change = Change { phase: Some(phase), progress: Some(progress), ..Change::default() };
                context.note(change).await?;
            }
            // One that holds nothing back is asked ever less often.
            if asked.elapsed() < HOLD / 2 {
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(Duration::from_millis(500));
            }
        }
    };
    context.waiting(following).await
}

/// Executes the import there, or shows its plan here where that was asked for and is not confirmed yet.
async fn confirmed_or_shown(courier: &Courier, record: &Record, there: Uuid) -> Result<Next, JobError> {
    let context = &courier.context;
    let (options, transfer) = (MigrationOptions::of(record)?, record.transfer()?);
    if options.confirm && !transfer.confirmed {
        return show(courier, there, &options.plan, None).await;
    }
    // From here on the target may write: a cancel has to ask it.
    let told = Transfer { told: true, ..transfer.clone() };
    let applying = Change { phase: Some(Phase::Applying), transfer: Some(told), ..Change::default() };
    context.note(applying).await?;
    let plan = PlanRequest { plan_digest: transfer.plan_digest, ..options.plan };
    match courier.tried(|| courier.remote.execute(there, &plan)).await? {
        Ok(_) => Ok(Next::Follow),
        // An earlier try arrived after all.
        Err(error) if error.is("wrong_state") => Ok(Next::Follow),
        Err(error) if error.is("package_incomplete") => Ok(Next::Send),
        Err(error) if options.confirm && (error.is("plan_stale") || error.is("invalid_field")) => {
            show(courier, there, &PlanRequest { plan_digest: None, ..plan }, Some(reason(error))).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a plan is shown again.
fn reason(error: RemoteError) -> RecordError {
    let hint = "Look at the plan and confirm it again.".to_owned();
    RecordError { code: error.answered.unwrap_or(error.code), message: error.message, hint }
}

/// Shows the plan of the import there as this record's own, which then waits for the user.
async fn show(
    courier: &Courier,
    there: Uuid,
    plan: &PlanRequest,
    mut because: Option<RecordError>,
) -> Result<Next, JobError> {
    let context = &courier.context;
    let planned = match courier.tried(|| courier.remote.plan(there, plan)).await? {
        Ok(planned) => planned,
        Err(error) if error.is("wrong_state") => return Ok(Next::Follow),
        // What was chosen does not fit the package or the target: the plan is shown as it was.
        Err(error) if error.is("invalid_field") => {
            because.get_or_insert(reason(error));
            courier.tried(|| courier.remote.record(there)).await??
        }
        Err(error) => return Err(error.into()),
    };
    if lacks(planned.error.as_ref()) {
        return Ok(Next::Send);
    }
    let record = context.record().await?;
    let items = mirrored::items(courier, &record, &planned, Status::Pending).await?;
    let total = items.len() as u64;
    let change = Change {
        status: Some(RecordStatus::AwaitingConfirmation),
        phase: Some(Phase::Planning),
        progress: Some((total, total, "resources")),
        counts: Some(planned.counts),
        error: Some(because.as_ref().or(planned.error.as_ref()).map(|error| serde_json::json!(error))),
        plan_digest: planned.plan_digest.clone(),
        transfer: Some(Transfer { confirmed: false, told: false, plan_digest: None, ..record.transfer()? }),
        ..Change::default()
    };
    context.end(unless_none(&items), change).await?;
    Ok(Next::Shown)
}

/// Ends this record as the one there ended, with its items.
async fn mirror(courier: &Courier, record: &Record, ended: &wire::record::Record) -> Result<(), JobError> {
    let context = &courier.context;
    let items = mirrored::items(courier, record, ended, Status::Unchanged).await?;
    let items: Vec<Item> = items.into_iter().map(|item| Item { arrives: None, ..item }).collect();
    let (theirs, checklist) = notes::all(courier, record, ended).await?;
    let mut warnings: Vec<Warning> = {
        let mut connection = context.app.pool.acquire().await?;
        record_notes::all(&mut connection, record, Notes::Warnings).await?
    };
    let known: HashSet<Warning> = warnings.iter().cloned().collect();
    warnings.extend(theirs.into_iter().filter(|warning| !known.contains(warning)));
    let status = RecordStatus::parse(&ended.status).filter(|status| status.is_final()).unwrap_or(RecordStatus::Failed);
    let total = items.len() as u64;
    let counts: Counts = if items.is_empty() { ended.counts } else { planning::items::counts(&items) };
    let change = Change {
        status: Some(status),
        phase: Some(Phase::Finishing),
        progress: Some((total, total, "resources")),
        counts: Some(counts),
        error: Some(ended.error.as_ref().map(|error| serde_json::json!(error))),
        warnings: Some(warnings),
        checklist: Some(checklist),
        ..Change::default()
    };
    context.end(unless_none(&items), change).await
}

/// Where the target has none, as its import failed before it had any, those that were sent stay.
fn unless_none(items: &[Item]) -> Option<&[Item]> {
    (!items.is_empty()).then_some(items)
}
