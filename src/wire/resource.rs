//! Resources.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::closure::Reason;

/// A resource.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Resource {
    /// Unique in the environment.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Secrets read as `{"$secret": "set"}` or `{"$secret": "missing"}`.
    pub definition: Value,
    /// What it refers to.
    pub references: Vec<ReferenceLine>,
    /// User name.
    pub owner: String,
    /// Counts up with each change.
    pub revision: i64,
    /// `sha256:…`.
    pub content_hash: String,
    /// When it was made here.
    pub created_at: DateTime<Utc>,
    /// When it was changed here.
    pub updated_at: DateTime<Utc>,
    /// By whom.
    pub updated_by: String,
    /// The import that last wrote it.
    pub imported: Option<Imported>,
}

/// What a resource refers to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReferenceLine {
    /// As shown.
    pub role: String,
    /// part, use, output.
    pub kind: String,
    /// The ID, where it is known.
    pub resource_id: Option<String>,
    /// Its type, or the first that it may have.
    #[serde(rename = "type")]
    pub type_key: String,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// It is there.
    pub found: bool,
}

/// Where a resource came from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// The import record.
    pub record_id: Uuid,
    /// The environment's ID.
    pub source_environment: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A resource to be written.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PutResource {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Its definition; secrets as plain strings, or `{"$secret": "set"}` to keep them.
    pub definition: Value,
}

/// A line of a batch.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BatchLine {
    /// Its ID.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Its definition.
    pub definition: Value,
}

/// What a batch did.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BatchResult {
    /// New resources.
    pub created: u64,
    /// Changed ones.
    pub updated: u64,
    /// Left as they were.
    pub unchanged: u64,
}

/// A version of a resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revision {
    /// Counts up with each change.
    pub revision: i64,
    /// By whom.
    pub updated_by: String,
    /// When.
    pub updated_at: DateTime<Utc>,
    /// By which import.
    pub record_id: Option<Uuid>,
    /// `sha256:…`.
    pub content_hash: String,
}

/// A resource of another environment, as far as one has to know it to choose it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TargetResource {
    /// Its ID.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
}

/// A resource as it was in a revision.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeRevision {
    /// Counts up with each change.
    pub revision: i64,
    /// Its name then.
    pub name: String,
    /// Its directory then.
    pub directory: String,
    /// Its definition then; secrets as markers.
    pub definition: Value,
    /// By whom.
    pub updated_by: String,
    /// When.
    pub updated_at: DateTime<Utc>,
    /// By which import.
    pub record_id: Option<Uuid>,
    /// `sha256:…`.
    pub content_hash: String,
}

/// What a resource needs, or what needs it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lineage {
    /// Resources, the asked one first.
    pub nodes: Vec<LineageNode>,
    /// References between them.
    pub edges: Vec<LineageEdge>,
    /// Cut at 10,000 nodes.
    pub truncated: bool,
}

/// A resource of a lineage.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineageNode {
    /// Its ID.
    pub resource_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Steps from the asked one.
    pub depth: u32,
}

/// A reference of a lineage.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineageEdge {
    /// Who refers.
    pub from: String,
    /// To what.
    pub to: String,
    /// As shown.
    pub role: String,
    /// part, use, output.
    pub kind: String,
}

/// A resource of a preview.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PreviewItem {
    /// Its ID.
    pub resource_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Why it would go.
    pub reason: Reason,
}
