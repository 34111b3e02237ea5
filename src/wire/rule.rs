//! Rules that change values on their way from another environment.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::difference::Change;
use crate::domain::value_rule::Action;

/// A rule: `set`, `replace` or `map` values of a type's definitions.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NewRule {
    /// The ID of the environment that the resources come from.
    pub source_environment: String,
    /// For people.
    pub name: String,
    /// Of resources of this type.
    #[serde(rename = "type")]
    pub kind: String,
    /// JSONPath (RFC 9535) of the values. It must not meet a secret, a value that belongs to each environment, a
    /// reference, the ID of a child or the path of an attachment.
    pub path: String,
    /// What becomes of them.
    #[serde(flatten)]
    pub action: Action,
    /// Lower comes first; those of one position in the order in which they were made.
    #[serde(default)]
    pub position: i32,
}

/// A rule as it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Rule {
    /// Its ID.
    pub id: Uuid,
    /// What it says.
    #[serde(flatten)]
    pub rule: NewRule,
    /// Counts up with each change.
    pub revision: i32,
    /// Who changed it last.
    pub changed_by: String,
    /// When.
    pub changed_at: DateTime<Utc>,
}

/// Try a rule on a resource of this environment.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct TryRule {
    /// Which resource; of the rule's type.
    pub resource_id: String,
    /// JSONPath of the values.
    pub path: String,
    /// What becomes of them.
    #[serde(flatten)]
    pub action: Action,
}

/// What a rule would do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Tried {
    /// So many values are at its path.
    pub found: u64,
    /// So many of them become others.
    pub changed: u64,
    /// The definition as it is.
    pub before: Value,
    /// As it would be.
    pub after: Value,
    /// What differs: the first 1,000 changes.
    pub changes: Vec<Change>,
}
