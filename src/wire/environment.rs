//! The environment and its resource types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::resource_type::Label;
use crate::domain::window::Windows;

/// Who this environment is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Environment {
    /// Made once.
    pub id: String,
    /// Shown to people.
    pub name: String,
    /// test, production, other.
    pub kind: String,
    /// Of the program.
    pub version: String,
    /// The newest format that it reads.
    pub package_format: u64,
    /// Feature switches.
    pub features: BTreeMap<String, bool>,
    /// Licence limits and what is used of them.
    pub license: BTreeMap<String, License>,
    /// Whether an import waits for a second person before it is applied.
    #[serde(default)]
    pub approval: ApprovalRule,
    /// The hours in which imports may be applied; null: always.
    #[serde(default)]
    pub windows: Option<Windows>,
    /// ed25519, base64: signs packages.
    pub public_key: String,
    /// X25519, base64: secrets may be sealed for it.
    pub sealing_key: String,
    /// The digest of each type file.
    #[serde(default)]
    pub types: BTreeMap<String, String>,
}

/// Whether an import waits for a second person, with `migration.approve`, before it is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRule {
    /// It does.
    pub required: bool,
}

/// One type's licence.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct License {
    /// Null: no limit.
    pub limit: Option<u64>,
    /// Live resources of the type, over all domains.
    pub used: u64,
}

/// Changes to the environment.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct EnvironmentChange {
    /// Type → on or off.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
    /// Type → limit, or null for none.
    #[serde(default)]
    pub license: BTreeMap<String, Option<u64>>,
    /// Whether imports wait for a second person. Those that wait, or go on, already stay as they are.
    #[serde(default)]
    pub approval: Option<ApprovalRule>,
    /// The hours in which imports may be applied, or null for always. Imports that wait for others wait for these.
    #[serde(default, deserialize_with = "super::target::given")]
    #[schema(value_type = Option<Windows>)]
    pub windows: Option<Option<Windows>>,
}

/// A resource type.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TypeLine {
    /// In the API and in packages.
    pub key: String,
    /// For people.
    pub label: Label,
    /// Lower comes first.
    pub order: i64,
    /// directory, domain, none.
    pub unique_name: String,
    /// One that was changed needs a refresh.
    #[serde(default)]
    pub refresh: bool,
    /// What it may refer to.
    pub references: Vec<TypeReference>,
    /// JSON Schema of the definition.
    pub schema: serde_json::Value,
    /// Of the type file.
    pub digest: String,
}

/// What a type may refer to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TypeReference {
    /// As shown.
    pub role: String,
    /// part, use, output.
    pub kind: String,
    /// Types.
    pub to: Vec<String>,
}

/// A domain.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: chrono::DateTime<chrono::Utc>,
}

/// A domain to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewDomain {
    /// Its name.
    pub name: String,
}
