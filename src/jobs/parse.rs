//! Parsing an uploaded package: every content is read once, checked, and brought down to what a plan needs.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::app::App;
use crate::db::jobs::EXECUTE;
use crate::db::records::{Change, Record};
use crate::db::{self, Acquire, DbError};
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::manifest::{Manifest, ShardLine};
use crate::domain::record::{Phase, RecordStatus};
use crate::domain::resource::{Hash, ResourceId, content_hash, parse_name};
use crate::domain::trust::{Signature, Untrusted};
use crate::domain::type_file::Types;
use crate::domain::{definition, json};
use crate::package::reader::{Lines, Package};
use crate::package::{PackageError, attachment_name};
use crate::planning::{self, Planning};
use crate::trust::{self, TrustError};
use crate::wire::record::PlanRequest;

use super::index::{self, Index, Listed};
use super::{Context, JobError, blocking};

/// Batches of lines worked on at once.
pub(super) const AT_ONCE: usize = 2;
/// The record's progress is told each time so many resources are done.
pub(super) const TELL: usize = 5_000;

/// Parses a package and plans its import with the record's options; a package that is refused is not kept.
pub(super) async fn run(context: Context) -> Result<(), JobError> {
    let record = context.record().await?;
    let parsed = parse_and_plan(&context, &record).await;
    if let (Err(JobError::Fail(_)), Some(key)) = (&parsed, &record.package_key) {
        context.app.store.delete(key).await?;
    }
    parsed
}

async fn parse_and_plan(context: &Context, record: &Record) -> Result<(), JobError> {
    let app = &context.app;
    context.phase(Phase::Parsing).await?;
    let package = open(app, record).await?;
    let manifest = package.manifest.clone();
    let entries = entries(context, &manifest, package).await?;
    let mut connection = app.pool.acquire().await?;
    let ids: HashSet<ResourceId> = entries.iter().map(|entry| entry.id.clone()).collect();
    planning::carried::of_record(app, &mut connection, record, move |id| ids.contains(id)).await?;

    context.phase(Phase::Planning).await?;
    let signature = pin(app, &mut connection, record, &manifest).await?;
    let options = PlanRequest::of(&record.options).ok_or(DbError::Corrupt("options"))?;
    let planning = Planning::make(app, &mut connection, record, &manifest, &options, &entries, None).await?;
    let (change, items) = planning.preview(&entries)?;
    let total = entries.len() as u64;
    // One that was executed and is tried again goes on by itself.
    let executed = record.transfer()?.again && planning.plan.lacking.is_empty();
    let status = if executed { RecordStatus::Queued } else { RecordStatus::AwaitingConfirmation };
    let change = Change {
        status: Some(status),
        progress: Some((total, total, "resources")),
        manifest: Some(serde_json::json!(manifest)),
        signature: Some(serde_json::json!(signature)),
        options: Some(serde_json::json!(options)),
        ..change
    };
    let mut transaction = connection.begin().await?;
    db::import_entries::replace(&mut transaction, record.id, &entries).await?;
    db::record_items::replace(&mut transaction, record.id, &items).await?;
    db::records::update(&mut transaction, record.id, change).await?;
    db::jobs::end(&mut transaction, &context.job).await?;
    if executed {
        db::jobs::queue(&mut transaction, EXECUTE, record.id, record.domain_id).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Opens the package of a record.
pub(super) async fn open(app: &Arc<App>, record: &Record) -> Result<Package, JobError> {
    let (app, record) = (app.clone(), record.clone());
    blocking(move || Ok(planning::open_package(&app, &record)?)).await
}

/// Checks the signer; its first package pins its key.
async fn pin(
    app: &App,
    connection: &mut db::PgConnection,
    record: &Record,
    manifest: &Manifest,
) -> Result<Signature, JobError> {
    let origin = &manifest.environment;
    let mut transaction = connection.begin().await?;
    let signature = trust::check(app, &mut transaction, origin).await?;
    let (pinned, new) =
        db::environment::pin_source(&mut transaction, &origin.id, &origin.name, &origin.kind, &origin.public_key)
            .await?;
    // Another package of the same environment was parsed at the same time.
    if pinned != origin.public_key {
        return Err(TrustError::from(Untrusted::OtherKey).into());
    }
    if new {
        let entry = db::audit::Entry {
            domain_id: None,
            username: Some(&record.requested_by),
            token: Some("worker"),
            action: "key.pin",
            object: ("source_environment", &origin.id),
            details: serde_json::json!({"name": origin.name, "public_key": pinned, "domain": record.domain, "record": record.id}),
            address: None,
        };
        db::audit::insert(&mut transaction, &entry).await?;
    }
    transaction.commit().await?;
    Ok(signature)
}

/// Reads the whole package: index, shards, attachment bytes.
async fn entries(context: &Context, manifest: &Manifest, mut package: Package) -> Result<Vec<Entry>, JobError> {
    let app = &context.app;
    let most = app.config.limits.max_resources;
    let (index, mut package) = blocking(move || {
        let index = Index::read(&mut package, most)?;
        Ok((index, package))
    })
    .await?;
    let index = Arc::new(index);
    let count = index.len();
    let (sender, receiver) = mpsc::channel::<Lines>(AT_ONCE * 2);
    let reader = tokio::task::spawn_blocking(move || {
        package.resources::<PackageError>(&mut |lines| {
            sender.blocking_send(lines).map_err(|_| PackageError::Io(std::io::ErrorKind::BrokenPipe.into()))
        })?;
        drop(sender);
        let hashes: Vec<Hash> = package.attachments().into_iter().map(|(hash, _)| hash).collect();
        for hash in hashes {
            package.read::<PackageError>(&attachment_name(&hash), &mut |_| Ok(()))?;
        }
        Ok::<_, PackageError>(())
    });
    let limit = app.config.limits.max_definition_bytes;
    let types = app.types.clone();
    let parsed = stream(receiver).map(|lines| {
        let (types, index) = (types.clone(), index.clone());
        blocking(move || Ok(parse(&types, &index, &lines, limit)?))
    });
    let mut parsed = Box::pin(parsed.buffered(AT_ONCE));
    let mut entries: Vec<(usize, Entry)> = Vec::with_capacity(count);
    let mut failed = None;
    let mut told = 0;
    while let Some(batch) = parsed.next().await {
        match batch {
            Ok(batch) => entries.extend(batch),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        if entries.len() >= told + TELL {
            told = entries.len();
            context
                .note(Change { progress: Some((told as u64, count as u64, "resources")), ..Change::default() })
                .await?;
        }
    }
    drop(parsed);
    let read = reader.await.map_err(|error| JobError::Retry(format!("a task was stopped: {error}")))?;
    if let Some(error) = failed {
        return Err(error);
    }
    read?;
    index::complete(app, context.job.domain_id, manifest, &index, entries).await
}

/// A channel as a stream.
pub(super) fn stream<T>(receiver: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

/// The lines of a batch.
pub(super) fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn parse(types: &Types, index: &Index, lines: &Lines, limit: u64) -> Result<Vec<(usize, Entry)>, PackageError> {
    let tampered = |reason: String| PackageError::Tampered(reason);
    lines_of(&lines.text)
        .enumerate()
        .map(|(at, line)| {
            if line.len() as u64 > limit + 64 * 1024 {
                return Err(PackageError::Limit(format!("a definition has more than {limit} bytes")));
            }
            let found: ShardLine<Value> = serde_json::from_slice(line)
                .map_err(|error| tampered(format!("a resource cannot be read: {error}")))?;
            let place = index.place(lines.first + at, &found.id);
            let place = place.ok_or_else(|| tampered(format!("the index does not list {} at its place", found.id)))?;
            let id = found.id.clone();
            let entry = entry(types, &index.lines[place], found);
            entry.map(|entry| (place, entry)).map_err(|reason| tampered(format!("the resource {id}: {reason}")))
        })
        .collect()
}

/// Brings a resource down to what a plan needs; a definition that does not fit its type is noted, not refused.
fn entry(types: &Types, listed: &Listed, found: ShardLine<Value>) -> Result<Entry, String> {
    index::check_words(&found.type_key, &found.name, &found.directory)?;
    let (name, directory) = (found.name, found.directory);
    let mut definition = found.definition;
    let kind = types.get(&found.type_key);
    let mut invalid = match kind {
        Some(kind) => definition::check(kind, &mut definition).err().map(|error| error.to_string()),
        None => json::normalise(&mut definition).err().map(|error| error.to_string()),
    };
    let parts = kind.map_or(Ok(definition::Found::default()), |kind| definition::find(kind, &mut definition));
    let parts = parts.unwrap_or_else(|error| {
        invalid.get_or_insert(error.to_string());
        definition::Found::default()
    });
    let bytes = |path: &String| listed.attachments.iter().find(|(known, _)| known == path).and_then(|(_, hash)| *hash);
    let attachments: Vec<(String, Option<Hash>)> =
        parts.attachments.iter().map(|path| (path.clone(), bytes(path))).collect();
    let definition_hash = match kind {
        Some(kind) => definition::hash(kind, definition),
        None => json::hash(&definition),
    };
    Ok(Entry {
        content_hash: content_hash(&found.type_key, &name, &directory, &definition_hash, &attachments),
        id: found.id,
        type_key: found.type_key,
        name,
        directory,
        owner: found.owner.and_then(|owner| parse_name(&owner).ok()),
        reason: listed.reason,
        definition_hash,
        references: parts.references,
        children: parts.children,
        attachments,
        invalid,
        contents: Contents::Sent,
    })
}
