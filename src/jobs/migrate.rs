//! Online migrations: the export's own function here, its package brought to the target's ordinary import,
//! executed there, and the outcome mirrored here. Each step looks first at how far an earlier run came.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::db::record_notes::{self, Notes};
use crate::db::records::{Executed, Note, Others, Record, Rest, Shown};
use crate::domain::approval::Approval;
use crate::domain::failure::Warning;
use crate::domain::outcome::Status;
use crate::domain::record::{Final, Phase, Progress, RecordStatus, Unit};
use crate::domain::transfer::{Consent, Extent, Run, Transfer};
use crate::planning;
use crate::remote::{PIECE, RemoteError};
use crate::wire;
use crate::wire::record::{Item, PlanRequest, RecordError};

use super::courier::Courier;
use super::migration_options::MigrationOptions;
use super::{Context, Items, JobError, deliver, export, mirrored, notes};

/// How often contents that the target turns out to lack are sent after all.
const SENDINGS: usize = 3;

/// Does an online migration, from where an earlier run left it.
pub async fn run(context: Context) -> Result<(), JobError> {
    let mut record = context.record().await?;
    let courier = Courier::of(&context, &record).await?;
    let mut there = match record.remote_record_id {
        Some(there) => there,
        None => packed_and_sent(&courier, &mut record).await?,
    };
    if record.transfer.run == Run::Again {
        let again = again(&courier, there, record.transfer.clone()).await?;
        record = context.record().await?;
        if again == Again::LetGo {
            there = packed_and_sent(&courier, &mut record).await?;
        }
    }
    let mut sendings = 0;
    let waited = record.approval.as_ref().is_some_and(Approval::is_waiting);
    let mut told = Told { said: !waited, others: Others { approval: record.approval.clone(), waits_until: None } };
    loop {
        let found = follow(&courier, there, &mut told).await?;
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
        match confirmed_or_shown(&courier, &record, there, &mut told).await? {
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

/// Has the package at the target, packed if it is not here (any more), and an import made of it.
async fn packed_and_sent(courier: &Courier, record: &mut Record) -> Result<Uuid, JobError> {
    let context = &courier.context;
    if record.package_key.is_none() {
        pack(courier, record, record.transfer.extent).await?;
        *record = context.record().await?;
    }
    let there = send(courier, record).await?;
    // A package in pieces has noted its upload.
    *record = context.record().await?;
    Ok(there)
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
async fn pack(courier: &Courier, record: &Record, extent: Extent) -> Result<(), JobError> {
    let exported = export::make(&courier.context, record, Some((courier, extent))).await?;
    let prefix = planning::options(&MigrationOptions::of(record)?.plan).ok().and_then(|plan| plan.directory_prefix);
    let item = |node| Item {
        arrives: Some(mirrored::arrives(node, &exported.named, prefix.as_deref())),
        ..export::item(node, Status::Pending)
    };
    let items: Vec<Item> = exported.nodes().map(item).collect();
    let sending = Note::Sending(exported.packed, record.transfer.clone().packed(extent));
    courier.context.keep(Items::Replaced(&items), sending).await?;
    match &record.package_key {
        Some(replaced) => Ok(courier.context.app.store.delete(replaced).await?),
        None => Ok(()),
    }
}

/// Brings the package to the target and makes the import of it there: one, however often this is tried.
async fn send(courier: &Courier, record: &Record) -> Result<Uuid, JobError> {
    let context = &courier.context;
    let there = deliver::import(courier, record).await?;
    // Where it was cancelled meanwhile, the target is asked by another job, which hears of the import itself.
    context.note(Note::Import(there.id)).await?;
    Ok(there.id)
}

/// Packs all contents and makes another import of them.
async fn send_anew(courier: &Courier) -> Result<Uuid, JobError> {
    pack_whole(courier).await?;
    send(courier, &courier.context.record().await?).await
}

/// Packs and sends all contents to an import that lacks some.
async fn send_whole(courier: &Courier, there: Uuid) -> Result<(), JobError> {
    pack_whole(courier).await?;
    let upload = deliver::upload(courier, &courier.context.record().await?, PIECE).await?;
    match courier.tried(|| courier.remote.replace_package(there, &upload)).await? {
        Ok(_) => Ok(()),
        // An earlier try arrived after all.
        Err(error) if error.is("wrong_state") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Packs all contents, unless that was done already.
async fn pack_whole(courier: &Courier) -> Result<(), JobError> {
    let record = courier.context.record().await?;
    match (record.transfer.extent, &record.package_key) {
        (Extent::Whole, Some(_)) => Ok(()),
        // Also where it is not kept any more.
        _ => pack(courier, &record, Extent::Whole).await,
    }
}

/// What the target says when it is to try again.
#[derive(PartialEq, Eq)]
enum Again {
    /// It goes on.
    Goes,
    /// It does not have the package any more.
    LetGo,
}

/// Has the target try again what failed there, when this record is tried again.
async fn again(courier: &Courier, there: Uuid, transfer: Transfer) -> Result<Again, JobError> {
    // It goes on by itself then: a cancel has to ask it.
    let transfer = transfer.handed_over();
    courier.context.note(Note::Transfer(transfer.clone())).await?;
    match courier.tried(|| courier.remote.retry(there)).await? {
        Ok(_) => {}
        // It has not ended there, or it has succeeded.
        Err(error) if error.is("wrong_state") => {}
        Err(error) if error.is("gone") || error.is("not_found") => {
            courier.context.note(Note::Transfer(transfer.let_go())).await?;
            return Ok(Again::LetGo);
        }
        Err(error) => return Err(error.into()),
    }
    courier.context.note(Note::Transfer(Transfer { run: Run::First, ..transfer })).await?;
    Ok(Again::Goes)
}

/// How long the target is asked to hold its answer back while the record there goes on: each time it is told
/// here what that one is doing.
const HOLD: Duration = Duration::from_secs(1);

/// What was said here of what others decide there.
struct Told {
    /// Since this run began, which says that the record runs.
    said: bool,
    others: Others,
}

/// Asked ever less often, up to this, while others decide there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for the record there until it waits to be confirmed or has ended; says here what it is doing, and what others
/// decide of it there.
async fn follow(courier: &Courier, there: Uuid, told: &mut Told) -> Result<wire::record::Record, JobError> {
    let context = &courier.context;
    let following = async {
        let mut pause = Duration::from_millis(10);
        let mut reported = None;
        loop {
            let asked = Instant::now();
            let found = match told.others.is_waiting() {
                true => courier.patiently(|| courier.remote.record(there)).await??,
                false => courier.tried(|| courier.remote.wait_for_record(there, HOLD)).await??,
            };
            let others = Others { approval: found.approval.clone(), waits_until: found.waits_until };
            if !told.said || told.others != others {
                *told = Told { said: true, others: others.clone() };
                context.others(others).await?;
                pause = Duration::from_millis(100);
            }
            if told.others.is_waiting() {
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(PATIENCE);
                continue;
            }
            if found.status != "queued" && found.status != "running" {
                return Ok(found);
            }
            let unit = Unit::parse(&found.progress.unit).unwrap_or(Unit::Resources);
            let progress = Progress { done: found.progress.done, total: found.progress.total, unit };
            let phase = found.phase.as_deref().and_then(Phase::parse).unwrap_or(Phase::Planning);
            if reported != Some((phase, progress)) {
                reported = Some((phase, progress));
                context.note(Note::Progress(phase, progress)).await?;
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
async fn confirmed_or_shown(
    courier: &Courier,
    record: &Record,
    there: Uuid,
    told: &mut Told,
) -> Result<Next, JobError> {
    let options = MigrationOptions::of(record)?;
    let plan_digest = match &record.transfer.consent {
        Consent::Given { plan_digest } => plan_digest.clone(),
        Consent::Open if options.confirm => return show(courier, (there, told), &options.plan, None).await,
        Consent::Open => None,
    };
    // From here on the target may write: a cancel has to ask it.
    courier.context.note(Note::HandingOver(record.transfer.clone().handed_over())).await?;
    let plan = PlanRequest { plan_digest, ..options.plan };
    match courier.tried(|| courier.remote.execute(there, &plan)).await? {
        Ok(_) => match refused(&follow(courier, there, told).await?) {
            None => Ok(Next::Follow),
            Some(error) if options.confirm => {
                show(courier, (there, told), &PlanRequest { plan_digest: None, ..plan }, Some(error)).await
            }
            // It was approved there, and the target moved before it was applied: it is asked for again.
            Some(error) if error.code == "plan_stale" => Ok(Next::Follow),
            Some(error) => Err(JobError::Fail(error)),
        },
        // An earlier try arrived after all.
        Err(error) if error.is("wrong_state") => Ok(Next::Follow),
        Err(error) if error.is("package_incomplete") => Ok(Next::Send),
        Err(error) if options.confirm && (error.is("plan_stale") || error.is("invalid_field")) => {
            show(courier, (there, told), &PlanRequest { plan_digest: None, ..plan }, Some(reason(error))).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a target that plans for long did not do what it was told: the import waits there as it did.
fn refused(found: &wire::record::Record) -> Option<RecordError> {
    let error = found.error.as_ref().filter(|_| found.status == "awaiting_confirmation")?;
    matches!(error.code.as_str(), "plan_stale" | "invalid_field").then(|| error.clone())
}

/// Why a plan is shown again.
fn reason(error: RemoteError) -> RecordError {
    let hint = "Look at the plan and confirm it again.".to_owned();
    RecordError { code: error.answered.unwrap_or(error.code), message: error.message, hint }
}

/// Shows the plan of the import there as this record's own, which then waits for the user.
async fn show(
    courier: &Courier,
    (there, told): (Uuid, &mut Told),
    plan: &PlanRequest,
    mut because: Option<RecordError>,
) -> Result<Next, JobError> {
    let context = &courier.context;
    let planned = match courier.tried(|| courier.remote.plan(there, plan)).await? {
        Ok(planned) if planned.status == "running" => {
            let planned = follow(courier, there, told).await?;
            if planned.status != "awaiting_confirmation" {
                return Ok(Next::Follow);
            }
            because = because.or_else(|| refused(&planned));
            planned
        }
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
    let shown = Shown {
        counts: planned.counts,
        resources: items.len() as u64,
        error: because.as_ref().or(planned.error.as_ref()).map(|error| serde_json::json!(error)),
        plan_digest: planned.plan_digest,
        transfer: record.transfer.shown(),
    };
    context.end(replaced(&items), Rest::Shown(shown)).await?;
    Ok(Next::Shown)
}

/// Ends this record as the one there ended, with its items.
async fn mirror(courier: &Courier, record: &Record, ended: &wire::record::Record) -> Result<(), JobError> {
    let context = &courier.context;
    let below = mirrored::all_as_sent(courier, record, ended).await?;
    let items: Vec<Item> = match &below {
        Some(_) => Vec::new(),
        None => {
            let items = mirrored::items(courier, record, ended, Status::Unchanged).await?;
            items.into_iter().map(|item| Item { arrives: None, ..item }).collect()
        }
    };
    let (theirs, checklist) = notes::all(courier, record, ended).await?;
    let mut warnings: Vec<Warning> = {
        let mut connection = context.app.pool.acquire().await?;
        record_notes::all(&mut connection, record, Notes::Warnings).await?
    };
    let known: HashSet<Warning> = warnings.iter().cloned().collect();
    warnings.extend(theirs.into_iter().filter(|warning| !known.contains(warning)));
    let executed = Executed {
        status: RecordStatus::parse(&ended.status).and_then(RecordStatus::ended).unwrap_or(Final::FAILED),
        counts: if items.is_empty() { ended.counts } else { planning::items::counts(&items) },
        resources: if below.is_some() { ended.counts.unchanged } else { items.len() as u64 },
        error: ended.error.as_ref().map(|error| serde_json::json!(error)),
        warnings,
        checklist,
    };
    let items = below.as_deref().map_or_else(|| replaced(&items), |below| Items::AsSent { below });
    context.end(items, Rest::Executed(executed)).await
}

/// Where the target has none, as its import failed before it had any, those that were sent stay.
fn replaced(items: &[Item]) -> Items<'_> {
    if items.is_empty() { Items::Kept } else { Items::Replaced(items) }
}
