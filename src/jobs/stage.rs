//! Staging an import: definitions stream from the package, are rewritten and fitted to the target, and
//! go by COPY into the staging tables. No lock is held.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::app::App;
use crate::db::copy::Rows;
use crate::db::records::{Change, Record};
use crate::db::staging::{self, Staged, StagedResource};
use crate::db::{self, DbError, PgConnection};
use crate::domain::carried;
use crate::domain::definition;
use crate::domain::import_plan::{Entry, Planned};
use crate::domain::manifest::ShardLine;
use crate::domain::outcome::Method;
use crate::domain::resource::{Hash, content_hash};
use crate::domain::resource_type::ResourceType;
use crate::package::reader::Lines;
use crate::package::{PackageError, attachment_name};
use crate::planning::Planning;
use crate::planning::carried::Carried;
use crate::store::attachment_key;
use crate::wire::record::{ChecklistEntry, SECRET_MISSING};

use super::fill;
use super::parse::{AT_ONCE, TELL, lines_of, open, stream};
use super::{Context, JobError, blocking};

/// Rows are sent when this many bytes are gathered.
const SEND_BYTES: usize = 1024 * 1024;

/// What staging needs to know, shared by its workers.
pub(super) struct Shared {
    context: Context,
    pub(super) app: Arc<App>,
    pub(super) record: Record,
    pub(super) entries: Arc<Vec<Entry>>,
    pub(super) planning: Arc<Planning>,
    /// The secrets that came along.
    pub(super) carried: Arc<Carried>,
    /// The place of each resource whose contents are in the package, in their order.
    sent: Vec<usize>,
    /// The owner of each resource that is new.
    owners: Owners,
}

/// The fixed owner, else the user of the same name, else who imports.
struct Owners {
    fixed: Option<String>,
    known: HashSet<String>,
    importer: String,
}

impl Owners {
    fn of<'a>(&'a self, entry: &'a Entry) -> &'a str {
        match (&self.fixed, &entry.owner) {
            (Some(fixed), _) => fixed,
            (None, Some(owner)) if self.known.contains(owner) => owner,
            _ => &self.importer,
        }
    }
}

/// What staging found out on the way.
#[derive(Default)]
pub(super) struct Outcome {
    /// The content hash of each written resource, by its place.
    pub(super) written: HashMap<usize, Hash>,
    /// What is left to do by hand.
    pub(super) checklist: Vec<ChecklistEntry>,
    /// Resources that get secrets, and nothing else.
    pub(super) filled: u64,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.written.extend(other.written);
        self.checklist.extend(other.checklist);
        self.filled += other.filled;
    }
}

/// A definition on its way: rewritten, not yet fitted to the target.
struct Rewritten {
    at: usize,
    definition: Value,
    /// It replaces a resource whose secrets and environment-specific values stay.
    wants_old: bool,
}

impl Shared {
    pub(super) async fn new(
        context: Context,
        connection: &mut PgConnection,
        record: Record,
        (entries, carried): (Arc<Vec<Entry>>, Arc<Carried>),
        planning: Arc<Planning>,
        owner: Option<String>,
    ) -> Result<Self, JobError> {
        let named: HashSet<&String> = entries.iter().filter_map(|entry| entry.owner.as_ref()).collect();
        let named: Vec<String> = named.into_iter().cloned().collect();
        let known = db::users::existing_names(connection, record.domain_id, &named).await?.into_iter().collect();
        let owners = Owners { fixed: owner, known, importer: record.requested_by.clone() };
        let sent = (0..entries.len()).filter(|at| entries[*at].contents.are_in_package()).collect();
        Ok(Self { app: context.app.clone(), context, record, entries, planning, carried, sent, owners })
    }

    /// Tells the record's progress.
    async fn tell(&self, done: usize) -> Result<(), JobError> {
        let progress = Some((done as u64, self.entries.len() as u64, "resources"));
        self.context.note(Change { progress, ..Change::default() }).await
    }

    pub(super) fn planned(&self, at: usize) -> &Planned {
        &self.planning.plan.items[at]
    }

    fn is_written(&self, at: usize) -> bool {
        matches!(self.planned(at).method, Method::Create | Method::Update)
    }

    pub(super) fn kind(&self, at: usize) -> Option<&Arc<ResourceType>> {
        self.app.types.get(&self.entries[at].type_key)
    }
}

/// Stages everything that the plan writes.
pub(super) async fn stage(shared: &Arc<Shared>, connection: &mut PgConnection) -> Result<Outcome, JobError> {
    let mut outcome = Outcome::default();
    if (0..shared.entries.len()).any(|at| shared.is_written(at)) {
        resources(shared, connection, &mut outcome).await?;
        attachments(shared, connection).await?;
    }
    outcome.filled = fill::unchanged(shared, connection).await?;
    bases(shared, connection, &outcome).await?;
    staging::analyze(connection).await?;
    Ok(outcome)
}

async fn resources(shared: &Arc<Shared>, connection: &mut PgConnection, outcome: &mut Outcome) -> Result<(), JobError> {
    let mut package = open(&shared.app, &shared.record).await?;
    let (sender, receiver) = mpsc::channel::<Lines>(AT_ONCE * 2);
    let reader = tokio::task::spawn_blocking(move || {
        package.resources::<PackageError>(&mut |lines| {
            sender.blocking_send(lines).map_err(|_| PackageError::Io(std::io::ErrorKind::BrokenPipe.into()))
        })
    });
    let rewritten = stream(receiver).map(|lines| {
        let shared = shared.clone();
        blocking(move || {
            let (waiting, ready): (Vec<_>, Vec<_>) =
                rewrite(&shared, &lines)?.into_iter().partition(|one| one.wants_old);
            Ok((waiting, settle(&shared, ready, &HashMap::new())?))
        })
    });
    let mut rewritten = Box::pin(rewritten.buffered(AT_ONCE));
    let mut gathered = Staged::default();
    let mut told = 0;
    while let Some(batch) = rewritten.next().await {
        let (waiting, mut settled) = batch?;
        if !waiting.is_empty() {
            let old = old_definitions(shared, connection, &waiting).await?;
            let work = shared.clone();
            let (staged, part) = blocking(move || settle(&work, waiting, &old)).await?;
            settled.0.append(staged);
            settled.1.merge(part);
        }
        gathered.append(settled.0);
        outcome.merge(settled.1);
        if outcome.written.len() >= told + TELL {
            told = outcome.written.len();
            shared.tell(told).await?;
        }
        gathered.send(connection, SEND_BYTES).await?;
    }
    gathered.send(connection, 1).await?;
    reader.await.map_err(|error| JobError::Retry(format!("a task was stopped: {error}")))??;
    Ok(())
}

/// Parses and rewrites the definitions of a batch that the plan writes.
fn rewrite(shared: &Shared, lines: &Lines) -> Result<Vec<Rewritten>, JobError> {
    let mut batch = Vec::new();
    for (offset, line) in lines_of(&lines.text).enumerate() {
        let Some(at) = shared.sent.get(lines.first + offset).copied().filter(|at| shared.is_written(*at)) else {
            continue;
        };
        let Some(kind) = shared.kind(at) else { continue };
        let wrong = |error: String| PackageError::Tampered(format!("the resource {}: {error}", shared.entries[at].id));
        let found: ShardLine<Value> = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        let mut definition = found.definition;
        crate::domain::json::normalise(&mut definition).map_err(|error| wrong(error.to_string()))?;
        carried::strip(kind, &mut definition);
        fill::fill(shared, at, kind, &mut definition)?;
        shared.planning.plan.id_map.rewrite(kind, &mut definition);
        let wants_old = shared.planned(at).method == Method::Update && kind.has_slots();
        batch.push(Rewritten { at, definition, wants_old });
    }
    Ok(batch)
}

async fn old_definitions(
    shared: &Shared,
    connection: &mut PgConnection,
    batch: &[Rewritten],
) -> Result<HashMap<String, Value>, JobError> {
    let ids: Vec<String> =
        batch.iter().filter(|one| one.wants_old).map(|one| shared.planned(one.at).new_id.to_string()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let current = db::resources::current(connection, shared.record.domain_id, &ids).await?;
    Ok(current.into_iter().filter_map(|row| Some((row.id, serde_json::from_str(&row.definition).ok()?))).collect())
}

/// Fits definitions to the target and makes their rows.
fn settle(shared: &Shared, batch: Vec<Rewritten>, old: &HashMap<String, Value>) -> Result<(Staged, Outcome), JobError> {
    let mut staged = Staged::default();
    let mut outcome = Outcome::default();
    for Rewritten { at, mut definition, .. } in batch {
        let (entry, planned) = (&shared.entries[at], shared.planned(at));
        let Some(kind) = shared.kind(at) else { continue };
        let existing =
            shared.planning.facts.resources.get(&planned.new_id).filter(|_| planned.method == Method::Update);
        let before = definition.clone();
        let missing = definition::settle(
            kind,
            &mut definition,
            old.get(planned.new_id.as_str()).or(existing.map(|_| &Value::Null)),
        );
        outcome.checklist.extend(checklist(kind, planned, missing, existing.is_none() && before != definition));
        let bytes = crate::domain::json::canonical(&definition);
        let parts = definition::find(kind, &mut definition)
            .map_err(|error| JobError::Retry(format!("{} cannot be rewritten: {error}", entry.id)))?;
        let definition_hash = definition::hash(kind, definition);
        let attachments = arrived(shared, entry);
        let hash =
            content_hash(&entry.type_key, &planned.new_name, &planned.new_directory, &definition_hash, &attachments);
        outcome.written.insert(at, hash);
        staged.add(&StagedResource {
            ordinal: at as i32,
            id: &planned.new_id,
            kind,
            name: &planned.new_name,
            directory: &planned.new_directory,
            definition: &bytes,
            definition_hash,
            content_hash: hash,
            owner: shared.owners.of(entry),
            base_revision: existing.map(|existing| existing.revision),
            children: &parts.children,
            references: &parts.references,
            attachments: &parts.attachments,
        });
    }
    Ok((staged, outcome))
}

fn checklist(kind: &ResourceType, planned: &Planned, missing: bool, changed: bool) -> Vec<ChecklistEntry> {
    let entry = |code: &str, message: String| ChecklistEntry {
        code: code.to_owned(),
        message,
        resource_id: planned.new_id.to_string(),
        done: false,
    };
    let mut entries = Vec::new();
    if missing {
        let message =
            format!("{} {} needs its secrets: packages never carry them in clear.", kind.label.en, planned.new_name);
        entries.push(entry(SECRET_MISSING, message));
    } else if changed && !kind.on_create.is_empty() {
        let message = format!(
            "{} {} is new here and arrived paused; switch it on when all is ready.",
            kind.label.en, planned.new_name
        );
        entries.push(entry("arrived_paused", message));
    }
    entries
}

/// The attachments of an entry as they will be in the target.
fn arrived(shared: &Shared, entry: &Entry) -> Vec<(String, Option<Hash>)> {
    let map = &shared.planning.plan.id_map;
    let there = |path: &str| shared.planning.facts.attachments.get(path).copied();
    entry.attachments.iter().map(|(path, bytes)| (map.path(path).to_owned(), bytes.or_else(|| there(path)))).collect()
}

/// Puts attachment bytes into the store and stages their paths.
async fn attachments(shared: &Arc<Shared>, connection: &mut PgConnection) -> Result<(), JobError> {
    let map = &shared.planning.plan.id_map;
    let mut paths: BTreeMap<String, Hash> = BTreeMap::new();
    for at in (0..shared.entries.len()).filter(|at| shared.is_written(*at)) {
        for (path, bytes) in &shared.entries[at].attachments {
            paths.extend(bytes.map(|bytes| (map.path(path).to_owned(), bytes)));
        }
    }
    if paths.is_empty() {
        return Ok(());
    }
    let hashes: Vec<Vec<u8>> = paths.values().map(|hash| hash.0.to_vec()).collect();
    let stored: HashSet<Hash> = db::attachments::stored(connection, &hashes).await?.into_iter().collect();
    let lacking: HashSet<Hash> = paths.values().filter(|hash| !stored.contains(hash)).copied().collect();
    let mut package = open(&shared.app, &shared.record).await?;
    let mut sizes: HashMap<Hash, u64> = package.attachments().into_iter().collect();
    let wanted: HashSet<Hash> = paths.values().copied().collect();
    sizes.extend(db::contents::attachments(connection, shared.record.domain_id, &wanted).await?);
    if wanted.iter().any(|hash| !sizes.contains_key(hash)) {
        return Err(JobError::fail(
            "package_incomplete",
            "The package leaves out attachment bytes that this environment does not have any more.",
            "Try again: what is missing is sent then.",
        ));
    }
    for hash in lacking {
        let app = shared.app.clone();
        let (file, back) = blocking(move || {
            let file = app.store.scratch_file()?;
            let mut output = std::io::BufWriter::new(file.reopen().map_err(PackageError::Io)?);
            package.read::<PackageError>(&attachment_name(&hash), &mut |piece| {
                Ok(std::io::Write::write_all(&mut output, piece)?)
            })?;
            std::io::Write::flush(&mut output).map_err(PackageError::Io)?;
            Ok((file, package))
        })
        .await?;
        package = back;
        shared.app.store.put_file(&attachment_key(&hash), file.path()).await?;
    }
    let new: Vec<(String, Hash, u64)> =
        paths.into_iter().map(|(path, hash)| (path, hash, sizes.get(&hash).copied().unwrap_or_default())).collect();
    db::attachments::stage(connection, &new).await?;
    Ok(())
}

/// Stages what this import leaves behind for the next one.
async fn bases(shared: &Shared, connection: &mut PgConnection, outcome: &Outcome) -> Result<(), JobError> {
    let columns = ["source_id", "target_id", "source_hash", "result_hash", "remapping", "entry"];
    let mut rows = Rows::new("staged_bases", &columns);
    for (at, entry) in shared.entries.iter().enumerate() {
        let planned = shared.planned(at);
        let result = match planned.method {
            Method::Unchanged => {
                shared.planning.facts.resources.get(&planned.new_id).map(|existing| existing.content_hash)
            }
            _ => outcome.written.get(&at).copied(),
        };
        let Some(result) = result else { continue };
        let known = shared.planning.facts.bases.get(&(entry.id.clone(), planned.new_id.clone()));
        let same = known.is_some_and(|base| {
            base.source_hash == entry.content_hash && base.result_hash == result && base.remapping == planned.remapping
        });
        if !same {
            let row = rows.row().text(entry.id.as_str()).text(planned.new_id.as_str());
            let row = row.bytes(&entry.content_hash.0).bytes(&result.0).text(&planned.remapping);
            // What was changed on its way cannot be read back from the target as it came.
            let changed = !planned.remapping.is_empty() && !shared.planning.options.change_ids;
            let kept = changed.then(|| serde_json::to_string(entry)).transpose();
            row.maybe(kept.map_err(|_| DbError::Corrupt("entry"))?.as_deref());
        }
    }
    Ok(rows.send(connection).await?)
}
