//! Records, their items, the options of a plan.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::approval::Approval;
use crate::domain::checklist::ChecklistEntry;
use crate::domain::closure::Reason;
use crate::domain::failure::{Failure, Warning};
use crate::domain::outcome::{Counts, Drift, Method, Status};
use crate::domain::record::{Phase, RecordKind, RecordStatus};
use crate::domain::resource::ResourceId;
use crate::domain::trust::Signature;

/// A record: one export, import or online migration.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// UUIDv7.
    pub id: Uuid,
    /// export, import, online.
    #[schema(value_type = RecordKind)]
    pub kind: String,
    /// queued, running, awaiting_confirmation, awaiting_approval, succeeded, partially_succeeded, failed, cancelled, rolled_back.
    #[schema(value_type = RecordStatus)]
    pub status: String,
    /// What it is or was doing.
    #[schema(value_type = Option<Phase>)]
    pub phase: Option<String>,
    /// The package name.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// User name.
    pub requested_by: String,
    /// Who asked for it at its source: user name there. Of an import that a migration brought.
    #[serde(default)]
    pub source_requested_by: Option<String>,
    /// The second person that it waits for, or waited for; of a migration, what the target says.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// When the next window begins in which it may be applied, while it waits for that.
    #[serde(default)]
    pub waits_until: Option<DateTime<Utc>>,
    /// What the user chose.
    pub options: Value,
    /// How far it is.
    pub progress: Progress,
    /// Over its items.
    pub counts: Counts,
    /// A cause of the whole record.
    pub error: Option<RecordError>,
    /// Its package.
    pub package: Option<PackageInfo>,
    /// Of an online migration.
    pub target: Option<TargetRef>,
    /// The name of the environment that an import comes from.
    pub source_environment: Option<String>,
    /// Who signed the package of an import.
    #[serde(default)]
    pub signature: Option<Signature>,
    /// The import record at the target.
    pub remote_record_id: Option<Uuid>,
    /// What should be known: the first 100 of it.
    pub warnings: Vec<Warning>,
    /// How many warnings there are.
    #[serde(default)]
    pub warnings_total: u64,
    /// What is left to do by hand: the first 100 of it.
    pub checklist: Vec<ChecklistEntry>,
    /// How many entries the checklist has.
    #[serde(default)]
    pub checklist_total: u64,
    /// Of the plan that is shown.
    pub plan_digest: Option<String>,
    /// Who had it rolled back; `finished_at` says when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_by: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When a worker first took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// How far a record is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Done so far.
    pub done: u64,
    /// To be done.
    pub total: u64,
    /// `resources` or `bytes`.
    pub unit: String,
}

/// A cause of a whole record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordError {
    /// A code of the contract.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl From<Failure> for RecordError {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, message: failure.message, hint: failure.hint }
    }
}

/// A record's package.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PackageInfo {
    /// In bytes.
    pub size: u64,
    /// Of the file, hex.
    pub sha256: String,
    /// As it is downloaded.
    pub file_name: String,
    /// How many it holds.
    pub resources: u64,
}

/// The target of an online migration.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TargetRef {
    /// Its ID here.
    pub id: Uuid,
    /// Its name here.
    pub name: String,
}

/// An item of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// Its ID in the package.
    pub resource_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name in the package.
    pub name: String,
    /// Its directory in the package.
    pub directory: String,
    /// Chosen, and neither skipped nor mapped.
    pub selected: bool,
    /// Why it is in the package.
    pub reason: Reason,
    /// What the import does with it; null in an export.
    pub method: Option<Method>,
    /// Where it stands.
    pub status: Status,
    /// Its ID in the target.
    pub new_id: Option<String>,
    /// Its directory in the target.
    pub new_directory: Option<String>,
    /// Its name in the target, where it has another.
    #[serde(default)]
    pub new_name: Option<String>,
    /// Why it fails.
    pub errors: Vec<Failure>,
    /// What should be known.
    pub warnings: Vec<Warning>,
    /// The target's copy was changed since the last import.
    pub drifted: bool,
    /// Who changed it since the last import: source, target, both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// A choice of an earlier import from the same environment (`map`, `rename`), made again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remembered: bool,
    /// The rules for its type, in their order, and what they do to its definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleEffect>,
    /// What would cure it: `map` to the resource of the same type and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<ResolutionLine>,
    /// Who changed the target's copy last, where it was changed since the last import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_changed: Option<TargetChange>,
    /// The content hash of what the target had under the ID when this was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_content_hash: Option<String>,
    /// Unchanged, and what the target has is what the package brings, below the directory that was chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_sent: bool,
    /// Of a migration that has not ended: the content hash that the target has if it needs no change. Not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub arrives: Option<String>,
}

impl Item {
    /// It says nothing that whoever sent the package does not know.
    pub fn is_as_sent(&self, status: Status) -> bool {
        let plain = self.errors.is_empty() && self.warnings.is_empty() && !self.drifted && self.new_name.is_none();
        self.as_sent && plain && self.status == status && self.new_id.as_ref() == Some(&self.resource_id)
    }
}

/// What a rule does to a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleEffect {
    /// The rule.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Counts up with each change of the rule.
    pub revision: i32,
    /// So many values are at its path; none: it has nothing to change here.
    pub found: u64,
    /// So many of them become others.
    pub changed: u64,
}

/// A change in the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetChange {
    /// User name.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// The options of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanRequest {
    /// Every imported resource gets a new ID.
    #[serde(default)]
    pub change_ids: bool,
    /// `skip_failed` (the default) or `abort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// `overwrite` (the default) or `block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_drift: Option<String>,
    /// `block` (the default) or `rename`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_name_clash: Option<String>,
    /// Everything arrives below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_prefix: Option<String>,
    /// User name of the owner of new resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Per resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resolutions: BTreeMap<String, ResolutionLine>,
    /// For `execute`: only if the plan is still this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<String>,
}

impl PlanRequest {
    /// From a record's options.
    pub fn of(options: &Value) -> Option<Self> {
        serde_json::from_value(options.clone()).ok()
    }

    /// Every resource arrives as itself: what stands as it comes, stays.
    pub fn is_plain(&self) -> bool {
        let prefix = self.directory_prefix.as_deref().unwrap_or_default();
        !self.change_ids && prefix.is_empty() && self.resolutions.is_empty()
    }
}

/// How to try a record again.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct RetryRequest {
    /// The passphrase that the record was begun with: it is not kept once that has ended.
    #[serde(default, deserialize_with = "super::passphrase::optional")]
    #[schema(value_type = Option<String>)]
    pub passphrase: Option<SecretString>,
}

/// Whether an entry of a checklist is done.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
pub struct TickRequest {
    /// It is.
    pub done: bool,
}

/// An entry of the checklist of an import.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChecklistLine {
    /// The import.
    pub record_id: Uuid,
    /// Its package name.
    pub record_name: String,
    /// The entry.
    #[serde(flatten)]
    pub entry: ChecklistEntry,
}

/// What a second person says of an import.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct DecisionRequest {
    /// Why, for people: up to 1000 characters.
    #[serde(default)]
    pub comment: Option<String>,
    /// Only if the plan is still this one.
    #[serde(default)]
    pub plan_digest: Option<String>,
}

/// What the user chose for one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolutionLine {
    /// skip, map, rename, restore, overwrite; import: none of these, though an earlier choice is remembered.
    pub action: String,
    /// For `map`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<String>,
    /// For `rename`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ResolutionLine {
    /// Maps to a resource of the target.
    pub fn map(target: &ResourceId) -> Self {
        Self { action: "map".to_owned(), target_id: Some(target.to_string()), name: None }
    }
}
