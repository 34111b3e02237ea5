//! What staging an import needs to know, and what it finds out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::app::App;
use crate::db::records::Record;
use crate::db::{self, PgConnection};
use crate::domain::checklist::ChecklistEntry;
use crate::domain::definition::Parts;
use crate::domain::import_plan::{Entry, Planned};
use crate::domain::outcome::Method;
use crate::domain::overlay::Location;
use crate::domain::resource::Hash;
use crate::domain::resource_type::ResourceType;
use crate::planning::Planning;

use super::{Context, JobError};

/// What became of a body.
pub(super) struct Rewritten {
    pub(super) definition_id: i64,
    pub(super) hash: Hash,
    pub(super) parts: Parts,
    pub(super) openings: Vec<Location>,
}

/// What staging needs to know.
pub(super) struct Staging {
    pub(super) context: Context,
    pub(super) app: Arc<App>,
    pub(super) record: Record,
    pub(super) entries: Arc<Vec<Entry>>,
    pub(super) planning: Arc<Planning>,
    /// The owner of each resource that is new.
    pub(super) owners: Owners,
}

/// The fixed owner, else the user of the same name, else who imports.
pub(super) struct Owners {
    fixed: Option<String>,
    known: HashSet<String>,
    importer: String,
}

impl Owners {
    pub(super) fn of<'a>(&'a self, entry: &'a Entry) -> &'a str {
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
    /// The bodies that are used.
    pub(super) bodies: HashSet<i64>,
    /// What is left to do by hand.
    pub(super) checklist: Vec<ChecklistEntry>,
    /// Resources that get secrets, and nothing else.
    pub(super) filled: u64,
}

impl Staging {
    pub(super) async fn new(
        context: Context,
        connection: &mut PgConnection,
        record: Record,
        entries: Arc<Vec<Entry>>,
        planning: Arc<Planning>,
        owner: Option<String>,
    ) -> Result<Self, JobError> {
        let named: HashSet<&String> = entries.iter().filter_map(|entry| entry.owner.as_ref()).collect();
        let named: Vec<String> = named.into_iter().cloned().collect();
        let known = db::users::existing_names(connection, record.domain_id, &named).await?.into_iter().collect();
        let owners = Owners { fixed: owner, known, importer: record.requested_by.clone() };
        Ok(Self { app: context.app.clone(), context, record, entries, planning, owners })
    }

    pub(super) fn planned(&self, at: usize) -> &Planned {
        &self.planning.plan.items[at]
    }

    pub(super) fn is_written(&self, at: usize) -> bool {
        matches!(self.planned(at).method, Method::Create | Method::Update)
    }

    pub(super) fn kind(&self, at: usize) -> Option<&Arc<ResourceType>> {
        self.app.types.get(&self.entries[at].type_key)
    }

    /// An unchanged resource that may lack secrets which came along.
    pub(super) fn may_be_filled(&self, at: usize) -> bool {
        self.planned(at).method == Method::Unchanged && self.entries[at].own.sealed().next().is_some()
    }
}
