//! Remembered choices.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// What was chosen for a resource of a source environment, and is chosen again at the next import of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Mapping {
    /// Its own ID.
    pub id: Uuid,
    /// The environment that the resource comes from: its ID.
    pub source_environment: String,
    /// Its name.
    pub source_name: String,
    /// The resource's ID there.
    pub source_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name there.
    pub name: String,
    /// `map` or `rename`.
    pub action: String,
    /// Of `map`: what is used instead.
    pub target_id: Option<String>,
    /// Of `rename`: its name here.
    pub new_name: Option<String>,
    /// The import in which it was chosen.
    pub record_id: Uuid,
    /// By whom.
    pub chosen_by: String,
    /// When.
    pub chosen_at: DateTime<Utc>,
}
