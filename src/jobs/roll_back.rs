//! Rolling an import back, in one transaction: it is refused while something was touched since. A migration has its
//! target do it.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::db::attachments::Cause;
use crate::db::merge::{self, Writer};
use crate::db::records::{Record, Rest};
use crate::db::resources::overlay;
use crate::db::roll_back::{self, Before, How, Touched};
use crate::db::staging::{self, Replaced, Staged, StagedResource};
use crate::db::{self, Acquire, DbError, PgConnection};
use crate::domain::content::Content;
use crate::domain::failure::Warning;
use crate::domain::record::{Final, RecordKind, RecordStatus, Undo};
use crate::domain::resource::{Hash, ResourceId, content_hash};
use crate::domain::transfer::Transfer;
use crate::planning::{self, PORTION, load_bodies};
use crate::store::attachment_key;
use crate::wire::record::RecordError;

use super::courier::Courier;
use super::{Context, Items, JobError, blocking};

/// How often it is begun again because something moved meanwhile.
const TRIES: usize = 3;
/// So many of what stands in the way are named in a record's error.
const NAMED: usize = 5;

/// Undoes an import, or has the target of a migration undo it.
pub(super) async fn run(context: Context) -> Result<(), JobError> {
    let record = context.record().await?;
    if record.kind == RecordKind::Online {
        return there(&context, &record).await;
    }
    let mut connection = context.connection().await?;
    for _ in 0..TRIES {
        if here(&context, &record, &mut connection).await? {
            return Ok(());
        }
    }
    Err(JobError::Moved)
}

/// Undoes it here; false: something moved while it was prepared.
async fn here(context: &Context, record: &Record, connection: &mut PgConnection) -> Result<bool, JobError> {
    let manifest = planning::manifest(connection, record.id).await?;
    let writer = Writer {
        domain_id: record.domain_id,
        username: record.rolled_back_by.as_deref().unwrap_or(&record.requested_by),
        record_id: None,
        source_environment: None,
    };
    let mut transaction = connection.begin().await?;
    let pictures = roll_back::pictures(&mut transaction, record.id).await?;
    let places = stage(context, record, &mut transaction, &pictures).await?;
    db::locks::hold_catalogue(&mut transaction, record.domain_id).await?;
    db::locks::check_types(&mut transaction, &context.app.types_digest).await?;
    let mut touched = planning::touched::touched(&mut transaction, record).await?;
    touched.extend(roll_back::took_names(&mut transaction, record.domain_id, record.id).await?);
    if !touched.is_empty() {
        transaction.rollback().await?;
        return refuse(context, record, &touched).await;
    }
    let lost = lost(record, &mut transaction).await?;
    let merged = merge::resources(&mut transaction, &writer).await;
    if matches!(merged, Err(DbError::Busy)) {
        transaction.rollback().await?;
        return Ok(false);
    }
    merged?;
    roll_back::sign(&mut transaction, record.domain_id, record.id).await?;
    roll_back::take_away(&mut transaction, record.domain_id, record.id).await?;
    merge::attachments(&mut transaction, record.domain_id).await?;
    let paths: Vec<String> = pictures.into_iter().map(|(path, _)| path).collect();
    if !paths.is_empty() {
        db::attachments::refresh_hashes(&mut transaction, record.domain_id, &paths, Cause::Import).await?;
    }
    let source = Writer { record_id: Some(record.id), source_environment: Some(&manifest.environment.id), ..writer };
    roll_back::bases(&mut transaction, &source).await?;
    let circles = circles(record, &mut transaction, &places).await?;
    if !circles.is_empty() {
        transaction.rollback().await?;
        return refuse(context, record, &circles).await;
    }
    match merge::check_constraints(&mut transaction).await {
        Err(DbError::Constraint(_)) => {
            transaction.rollback().await?;
            return Ok(false);
        }
        other => other?,
    }
    db::records::rest(&mut transaction, record.id, Rest::RolledBack(lost, settled(record))).await?;
    db::jobs::end(&mut transaction, &context.job).await?;
    transaction.commit().await?;
    Ok(true)
}

fn settled(record: &Record) -> Transfer {
    Transfer { undo: Undo::No, ..record.transfer.clone() }
}

/// Stages what the updated resources were before the import; the names of all, by ID.
async fn stage(
    context: &Context,
    record: &Record,
    connection: &mut PgConnection,
    pictures: &[(String, Option<(Hash, u64)>)],
) -> Result<HashMap<String, String>, JobError> {
    let old: HashMap<&str, Option<Hash>> =
        pictures.iter().map(|(path, was)| (path.as_str(), was.map(|(hash, _)| hash))).collect();
    let mut names = HashMap::new();
    let mut after = String::new();
    loop {
        let portion = roll_back::before(connection, record.domain_id, record.id, &after, PORTION as i64).await?;
        let Some(last) = portion.last() else { break };
        after = last.id.clone();
        let bodies = load_bodies(connection, portion.iter().map(|one| one.definition_id).collect()).await?;
        let types = context.app.types.clone();
        let read = blocking(move || {
            let one = |one: Before| {
                let kind = types.get(&one.kind).cloned().ok_or(DbError::Corrupt("resources.type"))?;
                let body = bodies.get(&one.definition_id).ok_or(DbError::Corrupt("resource_versions.definition_id"))?;
                let body: Value = serde_json::from_str(body).map_err(|_| DbError::Corrupt("definitions.body"))?;
                Ok((Content::of(&kind, body).0, kind, one))
            };
            portion.into_iter().map(one).collect::<Result<Vec<_>, JobError>>()
        })
        .await?;
        let paths: Vec<String> = read.iter().flat_map(|(content, ..)| &content.parts.attachments).cloned().collect();
        let current = db::attachments::by_paths(connection, record.domain_id, &paths).await?;
        let mut staged = Staged::default();
        for (ordinal, (content, kind, one)) in read.iter().enumerate() {
            let hash = |path: &String| match old.get(path.as_str()) {
                Some(was) => *was,
                None => current.get(path).map(|found| found.sha256),
            };
            let attachments: Vec<_> = content.parts.attachments.iter().map(|path| (path.clone(), hash(path))).collect();
            let own = overlay(one.now.as_deref())?
                .undone(&overlay(one.written.as_deref())?, &overlay(one.before.as_deref())?);
            let corrupt = || DbError::Corrupt("resource_versions.definition_hash");
            let definition_hash = Hash::from_slice(&one.definition_hash).ok_or_else(corrupt)?;
            staged.add(&StagedResource {
                ordinal: (names.len() + ordinal) as i32,
                id: &ResourceId::parse(&one.id).map_err(|_| DbError::Corrupt("resources.id"))?,
                kind,
                name: &one.name,
                directory: &one.directory,
                owner: "",
                definition_id: one.definition_id,
                definition_hash,
                content_hash: content_hash(&kind.key, &one.name, &one.directory, &definition_hash, &attachments),
                overlay: &own,
                parts: &content.parts,
                attachments: &attachments,
                base: Some(Replaced {
                    revision: one.revision,
                    parts_hash: Hash::from_slice(&one.parts_hash).ok_or(DbError::Corrupt("resources.parts_hash"))?,
                }),
            });
        }
        staged.send(connection, 1).await?;
        names.extend(read.into_iter().map(|(.., one)| (one.id, one.name)));
    }
    let back: Vec<(String, Hash, u64)> =
        pictures.iter().filter_map(|(path, was)| was.map(|(hash, size)| (path.clone(), hash, size))).collect();
    db::locks::share_bytes(connection, back.iter().map(|(_, hash, _)| hash)).await?;
    for (_, hash, _) in &back {
        if !context.app.store.has(&attachment_key(hash)).await? {
            return Err(JobError::bytes_gone());
        }
    }
    db::attachments::stage(connection, &back).await?;
    staging::analyze(connection).await?;
    Ok(names)
}

/// Secrets that were filled in since in what the import made: they go with it.
async fn lost(record: &Record, connection: &mut PgConnection) -> Result<Vec<Warning>, JobError> {
    let mut lost = Vec::new();
    for (id, name, written, now) in roll_back::made(connection, record.domain_id, record.id).await? {
        let (written, now) = (overlay(written.as_deref())?, overlay(Some(&now))?);
        if now.sealed_since(&written).next().is_some() {
            let message = format!("The secrets that were filled in for {name} since the import are gone with it.");
            lost.push(Warning::new("secrets_lost", message).about(&id));
        }
    }
    Ok(lost)
}

/// What would be its own subprocess.
async fn circles(
    record: &Record,
    connection: &mut PgConnection,
    names: &HashMap<String, String>,
) -> Result<Vec<Touched>, JobError> {
    let circles = db::graph::staged_circles(connection, record.domain_id).await?;
    let mut found: Vec<String> = circles.staged.into_iter().map(|(id, _)| id).collect();
    found.sort();
    let one = |id: String| Touched {
        name: names.get(&id).unwrap_or(&id).clone(),
        id,
        directory: "/".to_owned(),
        owner: String::new(),
        how: How::Cycle,
    };
    Ok(found.into_iter().map(one).collect())
}

/// The import stands: what was touched since is named.
async fn refuse(context: &Context, record: &Record, touched: &[Touched]) -> Result<bool, JobError> {
    // Whoever sees the record knows what the import wrote, and no more.
    let told = |found: &Touched| match found.how {
        How::Refers => "Something that was changed since refers to what the import made.".to_owned(),
        _ => planning::touched::problem(found).message,
    };
    let named: Vec<String> = touched.iter().take(NAMED).map(told).collect();
    let more = if touched.len() > NAMED { format!(" And {} more.", touched.len() - NAMED) } else { String::new() };
    let error = RecordError {
        code: "touched_since".to_owned(),
        message: format!("The import was not rolled back. {}{more}", named.join(" ")),
        hint: "Undo these changes first, or keep the import.".to_owned(),
    };
    stands(context, record, error).await?;
    Ok(true)
}

/// The record stands as it had ended, for this cause.
pub(super) async fn stands(context: &Context, record: &Record, error: RecordError) -> Result<(), JobError> {
    let ended = match record.transfer.undo {
        Undo::Of(status) => status.ended().unwrap_or(Final::SUCCEEDED),
        Undo::No => Final::SUCCEEDED,
    };
    context.end(Items::Kept, Rest::Stands(ended, json!(error), settled(record))).await
}

/// How long the target is asked to hold its answer back.
const HOLD: Duration = Duration::from_secs(1);

/// Waits until the target has rolled its import back, or has not.
async fn there(context: &Context, record: &Record) -> Result<(), JobError> {
    let courier = Courier::of(context, record).await?;
    let there = record.remote_record_id.ok_or(DbError::Corrupt("records.remote_record_id"))?;
    loop {
        let found = courier.tried(|| courier.remote.wait_for_record(there, HOLD)).await??;
        match RecordStatus::parse(&found.status) {
            Some(RecordStatus::RolledBack) => {
                return context.end(Items::Kept, Rest::RolledBack(found.warnings, settled(record))).await;
            }
            Some(RecordStatus::Queued | RecordStatus::Running) => {}
            _ => {
                let unsaid = || RecordError {
                    code: "target_refused".to_owned(),
                    message: "The target did not roll the import back.".to_owned(),
                    hint: "Look at the import's record at the target.".to_owned(),
                };
                return stands(context, record, found.error.unwrap_or_else(unsaid)).await;
            }
        }
        // A target that holds nothing back is asked again after a moment.
        context.waiting(tokio::time::sleep(Duration::from_millis(100))).await;
    }
}
