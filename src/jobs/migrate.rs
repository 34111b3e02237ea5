//! Online migrations: the export's own function here, its package posted to the target's ordinary import,
//! executed there, and the outcome mirrored here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::records::{Change, Record};
use crate::db::{self, Acquire};
use crate::domain::outcome::Status;
use crate::domain::record::{Phase, RecordStatus};
use crate::planning;
use crate::remote::{Allowed, Remote, RemoteError};
use crate::wire;
use crate::wire::record::{Item, PlanRequest};

use super::export;
use super::{Context, JobError};

/// What an online migration keeps in its record's options, besides those of its export.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct MigrationOptions {
    /// How to import at the target.
    plan: PlanRequest,
}

/// An unreachable target is tried again for so long.
const DEADLINE: Duration = Duration::from_secs(600);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Does an online migration, from where an earlier run left it.
///
/// # Errors
/// Why not.
pub async fn run(context: Context) -> Result<(), JobError> {
    let mut record = context.record().await?;
    let options: MigrationOptions = serde_json::from_value(record.options.clone()).map_err(|_| {
        JobError::fail("invalid_field", "The migration's options cannot be read.", "Start the migration again.")
    })?;
    if record.package_key.is_none() {
        pack(&context, &mut record).await?;
    }
    let remote = connect(&context, &record).await?;
    let there = match record.remote_record_id {
        Some(there) => there,
        None => upload(&context, &remote, &record).await?,
    };
    context.phase(Phase::Planning).await?;
    let parsed = wait(&remote, there, |status| status != "queued" && status != "running").await?;
    if parsed.status == "awaiting_confirmation" {
        context.phase(Phase::Applying).await?;
        retry(|| execute(&remote, there, &options.plan)).await?;
    }
    let ended =
        wait(&remote, there, |status| !matches!(status, "queued" | "running" | "awaiting_confirmation")).await?;
    mirror(&context, &remote, &ended).await
}

/// Exports as an export would, and keeps package and items in this record.
async fn pack(context: &Context, record: &mut Record) -> Result<(), JobError> {
    let exported = export::make(context, record).await?;
    record.package_key = exported.change.package_key.clone();
    let items: Vec<Item> = exported.resolved.nodes.iter().map(|node| export::item(node, Status::Pending)).collect();
    let mut connection = context.app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    db::record_items::replace(&mut transaction, record.id, &planning::chunks(&items)?).await?;
    db::records::update(&mut transaction, record.id, exported.change).await?;
    db::jobs::fence(&mut transaction, &context.job).await?;
    transaction.commit().await?;
    Ok(())
}

async fn connect(context: &Context, record: &Record) -> Result<Remote, JobError> {
    let gone = || {
        JobError::fail(
            "target_refused",
            "The target was removed from the settings.",
            "Choose another target and migrate again.",
        )
    };
    let mut connection = context.app.pool.acquire().await?;
    let id = record.target_id.ok_or_else(gone)?;
    let target = db::targets::by_id(&mut connection, record.domain_id, id).await?.ok_or_else(gone)?;
    let allowed = Allowed(context.app.config.security.allowed_targets.clone());
    let url = allowed.check(&target.url).map_err(|reason| {
        JobError::fail(
            "target_refused",
            format!("The target's address {reason}."),
            "Correct the target's address in the settings.",
        )
    })?;
    let token = context.app.sealer.open(&format!("target/{id}"), &target.token);
    let token = token.map_err(|error| JobError::Retry(error.to_string()))?;
    let token = std::str::from_utf8(&token).map_err(|_| JobError::Retry("the token cannot be read".to_owned()))?;
    Ok(Remote::new(url, token)?)
}

/// Posts the package and keeps the ID of the import record there.
async fn upload(context: &Context, remote: &Remote, record: &Record) -> Result<Uuid, JobError> {
    context.phase(Phase::Uploading).await?;
    let key = record.package_key.clone().unwrap_or_default();
    let path = context.app.store.local_path(&key);
    let there = retry(|| remote.import(&path, record.id)).await?;
    context.note(Change { remote_record_id: Some(there.id), ..Change::default() }).await?;
    Ok(there.id)
}

/// Executes there; where the answer is lost or the record has moved on, its state says whether that was done.
async fn execute(remote: &Remote, there: Uuid, plan: &PlanRequest) -> Result<(), RemoteError> {
    let Err(error) = remote.execute(there, plan).await else { return Ok(()) };
    match remote.record(there).await {
        Ok(record) if record.status != "awaiting_confirmation" => Ok(()),
        _ => Err(error),
    }
}

/// Asks for the record there until it is in a wanted state, ever less often.
async fn wait(remote: &Remote, id: Uuid, wanted: impl Fn(&str) -> bool) -> Result<wire::record::Record, JobError> {
    let mut pause = Duration::from_millis(10);
    loop {
        let record = retry(|| remote.record(id)).await?;
        if wanted(&record.status) {
            return Ok(record);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}

/// Repeats what failed in passing, until the deadline.
async fn retry<T, F: Future<Output = Result<T, RemoteError>>>(mut call: impl FnMut() -> F) -> Result<T, JobError> {
    let begun = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        match call().await {
            Ok(done) => return Ok(done),
            Err(error) if error.transient && begun.elapsed() < DEADLINE => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends this record as the one there ended, with its items.
async fn mirror(context: &Context, remote: &Remote, ended: &wire::record::Record) -> Result<(), JobError> {
    context.phase(Phase::Finishing).await?;
    let record = context.record().await?;
    let sent = record.package.as_ref().and_then(|package| package["resources"].as_u64()).unwrap_or_default();
    let mut items: Vec<Item> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = retry(|| remote.items(ended.id, cursor.as_deref())).await?;
        items.extend(page.items);
        if items.len() as u64 > sent {
            return Err(JobError::fail(
                "target_refused",
                "The target reports more resources than were sent.",
                "Check that the target's address is that of a Ferry server.",
            ));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let mut warnings = record.warnings;
    if let (Some(own), Some(theirs)) = (warnings.as_array_mut(), serde_json::json!(ended.warnings).as_array()) {
        own.extend(theirs.iter().cloned());
    }
    let status = RecordStatus::parse(&ended.status).filter(|status| status.is_final()).unwrap_or(RecordStatus::Failed);
    let total = items.len() as u64;
    let mut connection = context.app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    if !items.is_empty() {
        db::record_items::replace(&mut transaction, context.record_id(), &planning::chunks(&items)?).await?;
    }
    let change = Change {
        status: Some(status),
        progress: Some((total, total, "resources")),
        counts: Some(ended.counts),
        error: Some(ended.error.as_ref().map(|error| serde_json::json!(error))),
        warnings: serde_json::from_value(warnings).ok(),
        checklist: Some(serde_json::json!(ended.checklist)),
        ..Change::default()
    };
    db::records::update(&mut transaction, context.record_id(), change).await?;
    db::jobs::end(&mut transaction, &context.job).await?;
    transaction.commit().await?;
    Ok(())
}
