//! What differs between two versions of a resource.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::difference::Change;
use crate::domain::outcome::Method;

/// Two values, the first of them before a change; null where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sides {
    /// What was there.
    pub before: Option<String>,
    /// What is there then.
    pub after: Option<String>,
}

/// The bytes of an attachment that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentSides {
    /// Its path, as it is then.
    pub path: String,
    /// SHA-256 of the bytes, hex.
    #[serde(flatten)]
    pub sha256: Sides,
}

/// What differs. Secrets are only told as set or missing.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// Its name.
    pub name: Sides,
    /// Its directory.
    pub directory: Sides,
    /// Attachments whose bytes differ, or that only one side names.
    pub attachments: Vec<AttachmentSides>,
    /// JSON Patch (RFC 6902) from the first definition to the second.
    #[schema(value_type = Vec<Value>)]
    pub patch: Value,
    /// The same for people: elements of arrays are matched by their `id`. The first 1,000.
    pub changes: Vec<Change>,
    /// How many there are.
    pub changes_total: u64,
}

/// What an import does to a resource.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ItemDifference {
    /// Its ID in the package.
    pub resource_id: String,
    /// Its ID in the target.
    pub new_id: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the import does with it.
    pub method: Option<Method>,
    /// The definition that the target has; null: it has no such resource.
    pub target: Option<Value>,
    /// The definition as it arrives: with new IDs, and what belongs to the target kept.
    pub incoming: Value,
    /// What differs.
    #[serde(flatten)]
    pub changes: Changes,
}

/// A resource that an import changes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChangedItem {
    /// Its ID in the package.
    pub resource_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name in the target before and after.
    pub name: Sides,
    /// Its directory before and after.
    pub directory: Sides,
    /// How many attachments have other bytes, or are named by one side only.
    pub attachments: u64,
    /// The first 10 changes of its definition.
    pub changes: Vec<Change>,
    /// How many there are.
    pub changes_total: u64,
}

/// What differs between two revisions of a resource.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RevisionDifference {
    /// The earlier one.
    pub from: i64,
    /// The later one.
    pub to: i64,
    /// Its definition then.
    pub before: Value,
    /// Its definition later.
    pub after: Value,
    /// What differs.
    #[serde(flatten)]
    pub changes: Changes,
}
