//! From a parsed package to a saved plan: the one way that parse, preview and execution share.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::TryStreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::app::App;
use crate::db::record_items::{CHUNK, NewChunk};
use crate::db::records::{Change, Record};
use crate::db::{self, DbError, PgConnection};
use crate::domain::definition::{self, Reference};
use crate::domain::failure::{Failure, Warning};
use crate::domain::id_map::{IdMap, Unwritable};
use crate::domain::import_plan::{self, Entry, Facts, Fresh, Options, Plan, Planned, Resolution};
use crate::domain::json;
use crate::domain::manifest::Manifest;
use crate::domain::outcome::{Counts, Method, Status, status_of};
use crate::domain::resource::{Hash, MAX_PATH_BYTES, ResourceId, parse_directory, parse_name};
use crate::domain::resource_type::ResourceType;
use crate::package::PackageError;
use crate::package::reader::Package;
use crate::secrets;
use crate::wire::record::{Item, PlanRequest, RecordError};

pub mod carried;

/// Bodies that are read together.
pub const PORTION: usize = 1_000;

/// Why a plan could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The secrets that the package carries.
    #[error(transparent)]
    Carried(#[from] carried::CarriedError),
    /// A key.
    #[error(transparent)]
    Secret(#[from] secrets::SecretError),
    /// The record does not hold what it must.
    #[error("the record has no {0}")]
    Missing(&'static str),
    /// A task of ours was stopped.
    #[error("a task was stopped")]
    Stopped,
}

/// New IDs and paths of one import, from its record's ID: the same at every plan and every try.
pub struct FreshFrom(pub Uuid);

impl Fresh for FreshFrom {
    fn id(&self, source: &ResourceId) -> ResourceId {
        let id = Uuid::new_v5(&self.0, source.as_str().as_bytes()).to_string();
        ResourceId::parse(&id).unwrap_or_else(|_| source.clone())
    }

    fn path(&self, source: &str) -> String {
        let (folder, file) = source.rsplit_once('/').unwrap_or(("", source));
        let extension = file.rsplit_once('.').map_or(String::new(), |(_, extension)| format!(".{extension}"));
        let stem = Uuid::new_v5(&self.0, format!("attachment {source}").as_bytes()).simple();
        let path = format!("{folder}/{stem}{extension}");
        if path.len() <= MAX_PATH_BYTES {
            return path;
        }
        // The stem alone keeps paths apart: what is too long beside it goes.
        let short = format!("/{stem}{extension}");
        if short.len() <= MAX_PATH_BYTES { short } else { format!("/{stem}") }
    }
}

/// What is wrong with the options of a plan: (field, message).
pub type OptionError = (String, String);

/// Reads the options of a plan.
///
/// # Errors
/// The field and what it may be.
pub fn options(request: &PlanRequest) -> Result<Options, OptionError> {
    let choice = |field: &str, value: &Option<String>, default: &str, other: &str| match value.as_deref() {
        None => Ok(false),
        Some(word) if word == default => Ok(false),
        Some(word) if word == other => Ok(true),
        Some(_) => Err((field.to_owned(), format!("must be {default} or {other}"))),
    };
    let directory_prefix = request
        .directory_prefix
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(parse_directory)
        .transpose()
        .map_err(|refused| ("directory_prefix".to_owned(), refused.reason.to_owned()))?;
    let mut resolutions = HashMap::new();
    for (id, line) in &request.resolutions {
        let field = format!("resolutions.{id}");
        let wrong = |message: String| (field.clone(), message);
        let key = ResourceId::parse(id).map_err(|refused| wrong(refused.reason.to_owned()))?;
        let resolution = match line.action.as_str() {
            "skip" => Resolution::Skip,
            "restore" => Resolution::Restore,
            "overwrite" => Resolution::Overwrite,
            "map" => {
                let target = line.target_id.as_deref().ok_or_else(|| wrong("map needs a target_id".to_owned()))?;
                Resolution::Map(
                    ResourceId::parse(target).map_err(|refused| wrong(format!("target_id {}", refused.reason)))?,
                )
            }
            "rename" => {
                let name = line.name.as_deref().ok_or_else(|| wrong("rename needs a name".to_owned()))?;
                Resolution::Rename(parse_name(name).map_err(|refused| wrong(format!("name {}", refused.reason)))?)
            }
            _ => return Err(wrong("action must be skip, map, rename, restore or overwrite".to_owned())),
        };
        resolutions.insert(key, resolution);
    }
    Ok(Options {
        change_ids: request.change_ids,
        abort_on_failure: choice("on_failure", &request.on_failure, "skip_failed", "abort")?,
        block_drift: choice("on_drift", &request.on_drift, "overwrite", "block")?,
        rename_on_clash: choice("on_name_clash", &request.on_name_clash, "block", "rename")?,
        directory_prefix,
        resolutions,
    })
}

/// A plan with what it was made of.
pub struct Planning {
    /// What the user chose.
    pub options: Options,
    /// What the target has.
    pub facts: Facts,
    /// What the import would do.
    pub plan: Plan,
    /// Hashes of definitions as the plan's mapping rewrites them.
    rewritten: HashMap<ResourceId, Result<Hash, Unwritable>>,
    /// Items of an earlier try that are done: they stay as they are.
    settled: HashMap<ResourceId, Item>,
}

impl Planning {
    /// Makes the plan of a parsed import as the target stands now. `before`, a plan of the same import and
    /// options, spares reading the package again where its mapping still holds.
    ///
    /// # Errors
    /// The database or the package fails.
    pub async fn make(
        app: &App,
        connection: &mut PgConnection,
        record: &Record,
        manifest: &Manifest,
        request: &PlanRequest,
        entries: &[Entry],
        before: Option<&Planning>,
    ) -> Result<Self, PlanningError> {
        let mut options = options(request).map_err(|_| DbError::Corrupt("records.options"))?;
        let source = &manifest.environment.id;
        let mut settled = settled(connection, record, &mut options).await?;
        let mut facts = db::facts::load(connection, &app.types, record.domain_id, source, entries, &options).await?;
        if !still_there(&mut settled, &mut options, &facts) {
            facts = db::facts::load(connection, &app.types, record.domain_id, source, entries, &options).await?;
        }
        let fresh = FreshFrom(record.id);
        let mut id_map = import_plan::id_map(entries, &options, &facts, &fresh);
        let mut rewritten = match before {
            Some(before) if before.plan.id_map == id_map => before.rewritten.clone(),
            _ => rewritten_hashes(app, connection, entries, &options, &facts, &id_map).await?,
        };
        let parts = &manifest.shared_parts;
        let mut plan = import_plan::plan(entries, &app.types, &facts, &options, &fresh, &rewritten, parts);
        // A clash may choose names that the options alone did not, and so rewrite more definitions.
        for _ in 0..3 {
            if plan.id_map == id_map {
                break;
            }
            id_map = plan.id_map;
            rewritten = rewritten_hashes(app, connection, entries, &options, &facts, &id_map).await?;
            plan = import_plan::plan(entries, &app.types, &facts, &options, &fresh, &rewritten, parts);
        }
        plan.warnings.extend(differences(app, manifest));
        Ok(Self { options, facts, plan, rewritten, settled })
    }

    /// The items of this plan once it was executed; `applied`: its changes were written.
    pub fn executed(&self, entries: &[Entry], applied: bool) -> Vec<Item> {
        self.items(entries, &|method| status_of(method, applied))
    }

    fn items(&self, entries: &[Entry], status: &dyn Fn(Method) -> Status) -> Vec<Item> {
        entries
            .iter()
            .zip(&self.plan.items)
            .map(|(entry, planned)| match self.settled.get(&entry.id) {
                Some(done) => done.clone(),
                None => self.item(entry, planned, status(planned.method)),
            })
            .collect()
    }

    fn item(&self, entry: &Entry, planned: &Planned, status: Status) -> Item {
        let arrives = !matches!(planned.method, Method::Skip | Method::Blocked);
        let selected = !matches!(planned.method, Method::Skip | Method::Map);
        let existing = self.facts.resources.get(&planned.new_id).map(|found| found.content_hash);
        let as_sent = planned.method == Method::Unchanged && existing == Some(entry.hash_below(&planned.new_directory));
        Item {
            resource_id: entry.id.to_string(),
            kind: entry.type_key.clone(),
            name: entry.name.clone(),
            directory: entry.directory.clone(),
            selected,
            reason: entry.reason,
            method: Some(planned.method),
            status,
            new_id: arrives.then(|| planned.new_id.to_string()),
            new_directory: (arrives && selected).then(|| planned.new_directory.clone()),
            new_name: (planned.new_name != entry.name).then(|| planned.new_name.clone()),
            errors: planned.errors.clone(),
            warnings: planned.warnings.clone(),
            drifted: planned.drifted,
            target_content_hash: existing.map(|hash| hash.to_string()),
            as_sent,
            arrives: None,
        }
    }

    /// The record's change and its items for this plan, not executed yet.
    ///
    /// # Errors
    /// Never for items of ours.
    pub fn preview(&self, entries: &[Entry]) -> Result<(Change, Vec<NewChunk>), DbError> {
        let items = self.items(entries, &|_| Status::Pending);
        let chunks = chunks(&items)?;
        let change = Change {
            counts: Some(counts(&items)),
            error: Some(self.plan.error.clone().map(|failure| serde_json::json!(RecordError::from(failure)))),
            warnings: Some(self.plan.warnings.clone()),
            plan_digest: Some(digest(&chunks, self.plan.error.as_ref())),
            ..Change::default()
        };
        Ok((change, chunks))
    }
}

/// What an earlier try of a record has done already: it is used as it stands in the target, and not written
/// again.
async fn settled(
    connection: &mut PgConnection,
    record: &Record,
    options: &mut Options,
) -> Result<HashMap<ResourceId, Item>, PlanningError> {
    let mut settled = HashMap::new();
    if !record.transfer()?.again {
        return Ok(settled);
    }
    for item in all_items(connection, record.id).await? {
        let done = matches!(item.status, Status::Succeeded | Status::Unchanged);
        let new_id = item.new_id.as_deref().filter(|_| done).and_then(|id| ResourceId::parse(id).ok());
        if let (Some(new_id), Ok(id)) = (new_id, ResourceId::parse(&item.resource_id)) {
            options.resolutions.insert(id.clone(), Resolution::Map(new_id));
            settled.insert(id, item);
        }
    }
    Ok(settled)
}

/// Whether all that an earlier try has done is in the target still; what is not will be done again.
fn still_there(settled: &mut HashMap<ResourceId, Item>, options: &mut Options, facts: &Facts) -> bool {
    let before = settled.len();
    settled.retain(|id, item| {
        let there = matches!(options.resolutions.get(id), Some(Resolution::Map(target))
            if facts.resources.get(target).is_some_and(|found| found.here && found.type_key == item.kind));
        if !there {
            options.resolutions.remove(id);
        }
        there
    });
    settled.len() == before
}

/// All items of a record.
///
/// # Errors
/// The database fails.
pub async fn all_items(connection: &mut PgConnection, record_id: Uuid) -> Result<Vec<Item>, DbError> {
    let kept = db::record_items::chunks(connection, record_id, 0, (None, None, None), i64::MAX).await?;
    let mut items: Vec<Item> = Vec::new();
    for chunk in kept {
        items.extend(
            serde_json::from_str::<Vec<Item>>(&chunk.items).map_err(|_| DbError::Corrupt("record_items.items"))?,
        );
    }
    Ok(items)
}

/// A digest of a plan and of what it rests on: it changes when the target moves.
fn digest(chunks: &[NewChunk], error: Option<&Failure>) -> String {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(&chunk.items);
    }
    hasher.update(error.map_or("", |error| &error.message));
    Hash(hasher.finalize().into()).to_string()
}

/// The manifest of a parsed import.
///
/// # Errors
/// The record has none.
pub async fn manifest(connection: &mut PgConnection, record_id: Uuid) -> Result<Manifest, DbError> {
    let corrupt = DbError::Corrupt("records.manifest");
    let Some(found) = db::records::manifest(connection, record_id).await? else { return Err(corrupt) };
    serde_json::from_value(found).map_err(|_| corrupt)
}

/// Opens a record's package.
///
/// # Errors
/// It is not in the store, or is refused.
pub fn open_package(app: &App, record: &Record) -> Result<Package, PlanningError> {
    let key = record.package_key.as_deref().ok_or(PlanningError::Missing("package"))?;
    Ok(Package::open(app.store.open_local(key)?, app.limits(), secrets::verify)?)
}

/// Where two environments differ, so that hashes or features may not mean the same.
fn differences(app: &App, manifest: &Manifest) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if manifest.version != env!("CARGO_PKG_VERSION") {
        let message = format!(
            "The package was exported by version {}, this environment runs {}. Using the same version is recommended.",
            manifest.version,
            env!("CARGO_PKG_VERSION")
        );
        warnings.push(Warning::new("version_differs", message));
    }
    for (key, digest) in &manifest.types {
        if app.types.get(key).is_some_and(|kind| kind.digest != *digest) {
            let message = format!(
                "The two environments describe the resource type {key} differently; its hashes were computed anew here."
            );
            warnings.push(Warning::new("type_differs", message));
        }
    }
    warnings
}

/// Definition hashes of resources that the mapping rewrites: of those that the target has already, as only these are
/// to be compared as rewritten, and of those that it may not be able to rewrite.
async fn rewritten_hashes(
    app: &App,
    connection: &mut PgConnection,
    entries: &[Entry],
    options: &Options,
    facts: &Facts,
    id_map: &IdMap,
) -> Result<HashMap<ResourceId, Result<Hash, Unwritable>>, PlanningError> {
    if id_map.is_empty() {
        return Ok(HashMap::new());
    }
    let mut hashes = HashMap::new();
    // New IDs look alike: a text of each rule is tried, and all of a type only where one cannot take them.
    let mut tried = HashSet::new();
    let wanted = entries.iter().filter(|entry| {
        let Some(kind) = app.types.get(&entry.type_key) else { return false };
        let here = facts.resources.get(&entry.id).is_some_and(|existing| existing.here) && !options.change_ids;
        let paths: Vec<String> = entry.attachments.iter().filter(|_| here).map(|(path, _)| path.clone()).collect();
        let mut doubted = |rule: u16| !options.change_ids || tried.insert((entry.type_key.as_str(), rule));
        here && id_map.touches(kind, &entry.references, &paths)
            || id_map.may_fail(kind, &entry.references, &mut doubted)
    });
    rewrite_some(app, connection, wanted.collect(), id_map, &mut hashes).await?;
    if options.change_ids && hashes.values().any(Result::is_err) {
        let refused = entries.iter().filter(|entry| matches!(hashes.get(&entry.id), Some(Err(_))));
        let unable: HashSet<&str> = refused.map(|entry| entry.type_key.as_str()).collect();
        let others = entries.iter().filter(|entry| {
            let kind = app.types.get(&entry.type_key).filter(|_| unable.contains(entry.type_key.as_str()));
            let in_doubt = kind.is_some_and(|kind| id_map.may_fail(kind, &entry.references, &mut |_| true));
            in_doubt && !hashes.contains_key(&entry.id)
        });
        let others: Vec<&Entry> = others.collect();
        rewrite_some(app, connection, others, id_map, &mut hashes).await?;
    }
    Ok(hashes)
}

async fn rewrite_some(
    app: &App,
    connection: &mut PgConnection,
    entries: Vec<&Entry>,
    id_map: &IdMap,
    hashes: &mut HashMap<ResourceId, Result<Hash, Unwritable>>,
) -> Result<(), PlanningError> {
    let wanted = entries.into_iter().filter_map(|entry| Some((entry, entry.definition_id?)));
    let wanted: Vec<(&Entry, i64)> = wanted.collect();
    for portion in wanted.chunks(PORTION) {
        let bodies = load_bodies(connection, portion.iter().map(|(_, id)| *id).collect()).await?;
        let work = portion.iter().filter_map(|(entry, id)| {
            let kind = app.types.get(&entry.type_key)?.clone();
            // Several may have the same body.
            let body = bodies.get(id)?.clone();
            Some((entry.id.clone(), kind, entry.references.clone(), body))
        });
        let work: Vec<_> = work.collect();
        let id_map = id_map.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let hashed = work.into_iter().map(|(id, kind, references, body)| {
                let mut value: Value = serde_json::from_str(&body).map_err(|_| DbError::Corrupt("definitions.body"))?;
                Ok((id, rewritten_hash(&id_map, &kind, &references, &mut value)))
            });
            hashed.collect::<Result<Vec<_>, DbError>>()
        });
        hashes.extend(hashed.await.map_err(|_| PlanningError::Stopped)??);
    }
    Ok(())
}

fn rewritten_hash(
    id_map: &IdMap,
    kind: &ResourceType,
    references: &[Reference],
    value: &mut Value,
) -> Result<Hash, Unwritable> {
    id_map.rewrite(kind, value)?;
    let parts = definition::find(kind, value).map_err(|invalid| Unwritable::Invalid(invalid.to_string()))?;
    id_map.check(kind, references, &parts.references)?;
    Ok(json::hash(value))
}

/// Some bodies by their IDs.
///
/// # Errors
/// The database fails.
pub async fn load_bodies(connection: &mut PgConnection, ids: Vec<i64>) -> Result<HashMap<i64, String>, DbError> {
    db::definitions::bodies(connection, &ids).try_collect().await
}

/// Counts over items.
pub fn counts(items: &[Item]) -> Counts {
    let mut counts = Counts::default();
    for item in items {
        counts.add(item.method, item.status);
    }
    counts
}

/// Makes the pending items of a record that ends without doing its work final; returns the counts. A chunk that
/// cannot be read stays as it is, for a record can always end.
///
/// # Errors
/// The database fails.
pub async fn settle_items(connection: &mut PgConnection, record_id: Uuid) -> Result<Counts, DbError> {
    let mut counts = Counts::default();
    let kept = db::record_items::chunks(connection, record_id, 0, (None, None, None), i64::MAX).await?;
    for chunk in kept {
        let Ok(mut items) = serde_json::from_str::<Vec<Item>>(&chunk.items) else {
            tracing::error!(record = %record_id, first = chunk.first, "what is stored in record_items.items cannot be read");
            continue;
        };
        for item in items.iter_mut().filter(|item| item.status == Status::Pending) {
            item.status = item.method.map_or(Status::Skipped, |method| status_of(method, false));
        }
        items.iter().for_each(|item| counts.add(item.method, item.status));
        db::record_items::rewrite(connection, record_id, &self::chunk(chunk.first, &items)?).await?;
    }
    Ok(counts)
}

/// Items as the database keeps them.
///
/// # Errors
/// Never for items of ours.
pub fn chunks(items: &[Item]) -> Result<Vec<NewChunk>, DbError> {
    items.chunks(CHUNK).enumerate().map(|(index, items)| chunk((index * CHUNK) as i32, items)).collect()
}

fn chunk(first: i32, items: &[Item]) -> Result<NewChunk, DbError> {
    let word = |value: Value| value.as_str().map(str::to_owned);
    let words = |of: &dyn Fn(&Item) -> Option<String>| {
        items.iter().filter_map(of).collect::<BTreeSet<_>>().into_iter().collect()
    };
    Ok(NewChunk {
        first,
        methods: words(&|item| item.method.and_then(|method| word(serde_json::json!(method)))),
        statuses: words(&|item| word(serde_json::json!(item.status))),
        types: words(&|item| Some(item.kind.clone())),
        items: serde_json::to_string(items).map_err(|_| DbError::Corrupt("record_items.items"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::resource::parse_attachment_path;

    #[test]
    fn a_fresh_path_of_a_path_as_long_as_allowed_is_legal_and_its_own() {
        let fresh = FreshFrom(Uuid::nil());
        let deep = format!("/{}", "d".repeat(MAX_PATH_BYTES - 7));
        let paths =
            [format!("{deep}/a.png"), format!("{deep}/b.png"), format!("/a.{}", "x".repeat(MAX_PATH_BYTES - 3))];
        let new: Vec<String> = paths.iter().map(|path| fresh.path(path)).collect();
        for (old, new) in paths.iter().zip(&new) {
            assert_eq!(parse_attachment_path(old).as_ref(), Ok(old));
            assert_eq!(parse_attachment_path(new).as_ref(), Ok(new));
        }
        assert!(new[0].ends_with(".png") && new[0] != new[1]);
        assert!(fresh.path("/p/a.png").starts_with("/p/"));
    }
}
