//! What a plan needs of each resource of a package.

use serde::{Deserialize, Serialize};

use crate::domain::closure::Reason;
use crate::domain::definition::Reference;
use crate::domain::overlay::{Location, Overlay};
use crate::domain::resource::{Hash, ResourceId, content_hash};

/// One resource of a package, as far as a plan needs it; computed from the definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its ID in the package.
    pub id: ResourceId,
    /// Its type; the target may not know it.
    pub type_key: String,
    /// Its name.
    pub name: String,
    /// Its directory in the environment that exported it.
    pub directory: String,
    /// The user name of its owner there.
    pub owner: Option<String>,
    /// Why it is in the package.
    pub reason: Reason,
    /// Its content hash there.
    pub content_hash: Hash,
    /// Of the definition alone.
    pub definition_hash: Hash,
    /// In the order of the definition.
    pub references: Vec<Reference>,
    /// (which of the type's `[[child]]`, ID).
    pub children: Vec<(u16, String)>,
    /// (path, hash of the bytes that the package has).
    pub attachments: Vec<(String, Option<Hash>)>,
    /// Why the definition does not fit the type, as the target describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// Where its contents are.
    #[serde(default, skip_serializing_if = "Contents::are_sent")]
    pub contents: Contents,
    /// Its body in this database: staged, or that of a resource of the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition_id: Option<i64>,
    /// What belongs to the environment that it comes from. Secrets that came along are sealed for its source ID.
    #[serde(default, skip_serializing_if = "Overlay::is_empty")]
    pub own: Overlay,
    /// Where values of `[on_create]` can be set; none: its body has to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openings: Option<Vec<Location>>,
}

impl Entry {
    /// The content hash that it has in another directory.
    pub fn hash_below(&self, directory: &str) -> Hash {
        content_hash(&self.type_key, &self.name, directory, &self.definition_hash, &self.attachments)
    }
}

/// Where the contents of an entry are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// Here: its body is among the definitions, its attachments' bytes in the store.
    #[default]
    Sent,
    /// Here, but for attachment bytes that were left out and are not here any more.
    Partial,
    /// Left out, as what an earlier import made of them stands: the entry is that import's, its body is not here.
    Left,
    /// Left out, and the target does not have them; the entry holds what the index says.
    Lacking,
}

impl Contents {
    /// All of them are here.
    pub fn are_sent(&self) -> bool {
        *self == Self::Sent
    }
}
