//! From a parsed package to a saved plan: the one way that parse, preview and execution share.

use std::collections::HashMap;

use uuid::Uuid;

use crate::app::App;
use crate::db::record_items::{CHUNK, NewChunk};
use crate::db::records::{Plan as SavedPlan, Record};
use crate::db::{self, DbError, PgConnection};
use crate::domain::failure::{Failure, Warning};
use crate::domain::id_map::Unwritable;
use crate::domain::import_plan::{self, Entry, Facts, Options, Plan, Planned};
use crate::domain::manifest::Manifest;
use crate::domain::outcome::{Counts, Drift, Method, Status, status_of};
use crate::domain::resource::{Hash, ResourceId};
use crate::package::PackageError;
use crate::package::reader::Package;
use crate::secrets;
use crate::wire::record::{Item, PlanRequest, RecordError, ResolutionLine, TargetChange};

pub mod carried;
pub mod difference;
mod done_before;
mod fresh;
pub mod impact;
pub mod items;
mod options;
pub mod remembered;
mod rewritten;
pub mod standing;
pub mod touched;

use done_before::{done_before, still_there};
pub use fresh::FreshFrom;
use items::{PlanDigest, chunk};
pub use options::{OptionError, options};
use remembered::Remembered;
use rewritten::rewritten_hashes;
pub use rewritten::{PORTION, load_bodies};
pub use standing::entries;

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

/// An import that is planned, as it was parsed and chosen.
#[derive(Clone, Copy)]
pub struct Import<'a> {
    /// Everything at hand.
    pub app: &'a App,
    /// Its record.
    pub record: &'a Record,
    /// Of its package.
    pub manifest: &'a Manifest,
    /// What the user chose.
    pub request: &'a PlanRequest,
    /// The resources of its package.
    pub entries: &'a [Entry],
}

impl Import<'_> {
    async fn facts(&self, connection: &mut PgConnection, options: &Options) -> Result<Facts, DbError> {
        let (domain_id, source) = (self.record.domain_id, &self.manifest.environment.id);
        db::facts::load(connection, &self.app.types, domain_id, source, self.entries, options).await
    }
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
    /// Resources for which a choice of an earlier import is made.
    remembered: Remembered,
    /// Who changed what has drifted.
    changed: HashMap<ResourceId, TargetChange>,
    /// Items of an earlier try that are done: they stay as they are.
    done: HashMap<ResourceId, Item>,
}

impl Planning {
    /// Makes the plan of an import as the target stands now.
    pub async fn make(import: Import<'_>, connection: &mut PgConnection) -> Result<Self, PlanningError> {
        Self::make_after(import, connection, None).await
    }

    /// The same; `before`, an earlier plan of the same import and options, spares rewriting bodies again where its
    /// mapping still holds.
    async fn make_after(
        import: Import<'_>,
        connection: &mut PgConnection,
        before: Option<&Planning>,
    ) -> Result<Self, PlanningError> {
        let Import { app, record, manifest, request, entries } = import;
        let mut options = options(request).map_err(|_| DbError::Corrupt("records.options"))?;
        let place = (record.domain_id, manifest.environment.id.as_str());
        let mut remembered = remembered::choose(connection, place, entries, request, &mut options).await?;
        let mut done = done_before(connection, record, &mut options).await?;
        let mut facts = import.facts(connection, &options).await?;
        let gone = remembered::let_go(&mut remembered, entries, &mut options, &facts);
        if !still_there(&mut done, &mut options, &facts) || !gone.is_empty() {
            facts = import.facts(connection, &options).await?;
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
        plan.warnings.extend(gone.into_values());
        let drifted = plan.items.iter().filter(|item| item.drifted).map(|item| item.new_id.to_string());
        let changed = db::resources::last_changes(connection, record.domain_id, &drifted.collect::<Vec<_>>()).await?;
        let changed = changed
            .into_iter()
            .filter_map(|(id, by, at)| ResourceId::parse(&id).ok().map(|id| (id, TargetChange { by, at })));
        Ok(Self { options, facts, plan, rewritten, changed: changed.collect(), remembered, done })
    }

    /// Whether the plan is what it was, as the target stands now, and so are the revisions and the bytes that it
    /// replaces.
    pub async fn still_holds(&self, import: Import<'_>, connection: &mut PgConnection) -> Result<bool, PlanningError> {
        // A plan is a function of what is known of the target.
        let facts = import.facts(connection, &self.options).await?;
        if facts == self.facts {
            return Ok(true);
        }
        let now = Self::make_after(import, connection, Some(self)).await?;
        let revision = |facts: &Facts, id| facts.resources.get(id).map(|existing| existing.revision);
        let mut updated = self.plan.items.iter().filter(|item| item.method == Method::Update);
        let replaced = updated.all(|item| revision(&self.facts, &item.new_id) == revision(&now.facts, &item.new_id));
        Ok(now.plan == self.plan && replaced && now.facts.attachments == self.facts.attachments)
    }

    /// The items of this plan once it was executed, in chunks; `applied`: its changes were written.
    pub fn executed(&self, entries: &[Entry], applied: bool) -> impl Iterator<Item = Vec<Item>> {
        self.items(entries, move |method| status_of(method, applied))
    }

    fn items(&self, entries: &[Entry], status: impl Fn(Method) -> Status) -> impl Iterator<Item = Vec<Item>> {
        let chunks = entries.chunks(CHUNK).zip(self.plan.items.chunks(CHUNK));
        chunks.map(move |(entries, planned)| {
            let item = |(entry, planned): (&Entry, &Planned)| match self.done.get(&entry.id) {
                Some(item) => item.clone(),
                None => self.item(entry, planned, status(planned.method)),
            };
            entries.iter().zip(planned).map(item).collect()
        })
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
            drift: Drift::of(planned.source_changed, planned.drifted),
            remembered: self.remembered.contains(&entry.id),
            suggestion: planned.clash.as_ref().filter(|_| planned.method == Method::Blocked).map(ResolutionLine::map),
            target_changed: self.changed.get(&planned.new_id).filter(|_| planned.drifted).cloned(),
            target_content_hash: existing.map(|hash| hash.to_string()),
            as_sent,
            arrives: None,
        }
    }

    /// The digest that this plan has where it is previewed.
    ///
    /// # Errors
    /// Never for items of ours.
    pub fn digest(&self, entries: &[Entry]) -> Result<String, DbError> {
        let mut digest = PlanDigest::default();
        for items in self.items(entries, |_| Status::Pending) {
            digest.add(&chunk(0, &items)?);
        }
        Ok(digest.end(self.plan.error.as_ref()))
    }

    /// This plan as its record has it, and its items, not executed yet.
    ///
    /// # Errors
    /// Never for items of ours.
    pub fn preview(&self, entries: &[Entry]) -> Result<(SavedPlan, Vec<NewChunk>), DbError> {
        saved(self.items(entries, |_| Status::Pending), self.plan.error.as_ref(), self.plan.warnings.clone())
    }
}

/// A plan as its record has it, with its items.
fn saved(
    items: impl Iterator<Item = Vec<Item>>,
    error: Option<&Failure>,
    warnings: Vec<Warning>,
) -> Result<(SavedPlan, Vec<NewChunk>), DbError> {
    let (mut counts, mut chunks, mut digest) = (Counts::default(), Vec::new(), PlanDigest::default());
    for items in items {
        items.iter().for_each(|item| counts.add(item.method, item.status));
        let chunk = chunk(chunks.len() * CHUNK, &items)?;
        digest.add(&chunk);
        chunks.push(chunk);
    }
    let plan = SavedPlan {
        counts,
        error: error.cloned().map(|failure| serde_json::json!(RecordError::from(failure))),
        warnings,
        digest: digest.end(error),
    };
    Ok((plan, chunks))
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
