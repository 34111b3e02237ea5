//! Who uses what an import changes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::outcome::Method;

/// A resource of the target outside the package that uses what the import changes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Affected {
    /// Its ID.
    pub resource_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// What it uses of what changes.
    pub uses: Vec<Used>,
}

/// Something that an import changes and another resource uses.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Used {
    /// Its ID in the target.
    pub resource_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name, as it arrives.
    pub name: String,
    /// As what it is used: `Dataset`.
    pub role: String,
    /// What the import does with it: update, delete.
    pub method: Method,
    /// Its children that are used there, and that disappear: fields of a dataset.
    pub disappearing: Vec<Disappearing>,
}

/// A child that disappears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disappearing {
    /// The key of the type file: `ds_fd`.
    pub key: String,
    /// Its ID.
    pub id: String,
}
