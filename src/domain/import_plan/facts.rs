//! What a plan needs to know of the target.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::resource::{Hash, ResourceId};

/// A live resource of the target environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// It is in the importing domain.
    pub here: bool,
    /// Its type.
    pub type_key: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// What it holds now.
    pub content_hash: Hash,
    /// Counts up with each change.
    pub revision: i64,
    /// Of its references, children and attachment paths.
    pub parts_hash: Hash,
    /// Of its body.
    pub definition_hash: Hash,
    /// Its body.
    pub definition_id: i64,
}

/// What the last import of a resource left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The content that came.
    pub source_hash: Hash,
    /// The content as it was written.
    pub result_hash: Hash,
    /// [`Planned::remapping`] of that import.
    pub remapping: String,
}

/// Resources of the target that are not in the package and name an attachment of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharers {
    /// All of them.
    pub count: u64,
    /// The names of the first few.
    pub names: Vec<String>,
}

/// Where a name is unique: type, scope (directory, or empty for the domain), name.
pub type NameKey = (String, String, String);

/// What a plan needs to know of the target.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Live resources: those with an ID of the package, those mapped to, those referred to.
    pub resources: HashMap<ResourceId, Existing>,
    /// IDs of the package that were deleted in this domain.
    pub tombstones: HashSet<ResourceId>,
    /// (resource, key, child) deleted in this domain.
    pub child_tombstones: HashSet<(ResourceId, String, String)>,
    /// Holders of the names that the package wants, and of those that begin alike.
    pub names: HashMap<NameKey, ResourceId>,
    /// (type, name) in this domain, of those referred to by name, and who has it.
    pub named: HashMap<(String, String), Vec<ResourceId>>,
    /// By (source ID, target ID), for this source environment.
    pub bases: HashMap<(ResourceId, ResourceId), Base>,
    /// Attachments of this domain, of those that the package names.
    pub attachments: HashMap<String, Hash>,
    /// The bytes of those that the last import from this source environment brought.
    pub attachment_bases: HashMap<String, Hash>,
    /// Who else in this domain names those that would get other bytes.
    pub sharers: HashMap<String, Sharers>,
    /// Types whose feature switch is off.
    pub disabled: HashSet<String>,
    /// Type → (limit, used), over the whole environment.
    pub license: BTreeMap<String, (u64, u64)>,
    /// Acyclic references of this domain that the package's resources can reach.
    pub acyclic: Vec<(ResourceId, ResourceId)>,
}
