//! What is to be exported or migrated.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::manifest::{Missing, SharedPart};

use super::record::{PlanRequest, RecordError};
use super::resource::PreviewItem;

/// A selection that names no IDs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Selection {
    /// Everything.
    #[serde(default)]
    pub all: bool,
    /// Of these types.
    #[serde(default)]
    pub types: Vec<String>,
    /// In these directories or below.
    #[serde(default)]
    pub directories: Vec<String>,
    /// Changed at or after.
    #[serde(default)]
    pub changed_since: Option<DateTime<Utc>>,
}

/// What to export: IDs or a selection.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ExportRequest {
    /// 1 to 20 characters; not needed for a preview.
    #[serde(default)]
    pub name: Option<String>,
    /// For people.
    #[serde(default)]
    pub note: Option<String>,
    /// These resources.
    #[serde(default)]
    pub resource_ids: Option<Vec<String>>,
    /// Or those.
    #[serde(default)]
    pub selection: Option<Selection>,
    /// Or those of a saved selection.
    #[serde(default)]
    pub selection_id: Option<Uuid>,
    /// Export Upstream Resources.
    #[serde(default)]
    pub export_upstream: bool,
    /// Only what was changed since the last success with the saved selection (of a preview with a target: since the last
    /// migration of the same there), and what it needs.
    #[serde(default)]
    pub changed_since_last: bool,
    /// Of a preview: what would stop all of it at this target is told too.
    #[serde(default)]
    pub target_id: Option<Uuid>,
    /// The secrets of what is exported travel too, sealed with it: 8 to 1024 characters. Absent: they stay here.
    #[serde(default, deserialize_with = "super::passphrase::optional", skip_serializing)]
    #[schema(value_type = Option<String>, min_length = 8, max_length = 1024)]
    pub passphrase: Option<SecretString>,
}

/// What an export would take along.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Resources, with the reason of each.
    pub items: Vec<PreviewItem>,
    /// References whose target is not there.
    pub missing: Vec<Missing>,
    /// Resources that the caller may not read: `{resource_id}`, or `{count}` for those that he may not know of.
    pub forbidden: Vec<Forbidden>,
    /// Parts that something outside uses too.
    pub shared_parts: Vec<SharedPart>,
    /// References by name that more than one resource answers to; the lowest ID is meant.
    #[serde(default)]
    pub ambiguous: Vec<Ambiguous>,
    /// Resources of a saved selection that are not there any more.
    #[serde(default)]
    pub gone: Vec<String>,
    /// With a target: types that it does not take.
    #[serde(default)]
    pub refused_types: Vec<RefusedType>,
    /// With a target: why it could not be asked.
    #[serde(default)]
    pub target_error: Option<RecordError>,
}

/// A reference by name that more than one resource answers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ambiguous {
    /// Their type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Their name.
    pub name: String,
    /// As shown: `Global Parameter`.
    pub role: String,
    /// Who refers to it.
    pub referenced_by: String,
    /// Those that the caller may read, lowest first.
    pub resource_ids: Vec<String>,
    /// How many there are.
    pub count: u64,
}

/// A type that a target does not take, so that all of an import would fail there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedType {
    /// `feature_disabled`, `type_unknown`.
    pub code: String,
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// As its import would say it.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// How many resources are of it.
    pub count: u64,
}

/// A selection with a name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SavedSelection {
    /// Its ID.
    pub id: Uuid,
    /// Unique in the domain.
    pub name: String,
    /// User name of who made it, and may change it.
    pub owner: String,
    /// These resources: those that the caller may read.
    pub resource_ids: Option<Vec<String>>,
    /// How many more there are.
    pub hidden: u64,
    /// Or those.
    pub selection: Option<Selection>,
    /// Export Upstream Resources.
    pub export_upstream: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
}

/// A selection to be saved.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewSelection {
    /// 1 to 255 characters.
    pub name: String,
    /// These resources.
    #[serde(default)]
    pub resource_ids: Option<Vec<String>>,
    /// Or those.
    #[serde(default)]
    pub selection: Option<Selection>,
    /// Export Upstream Resources.
    #[serde(default)]
    pub export_upstream: bool,
}

/// What is to be changed of a saved selection; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct SelectionChange {
    /// 1 to 255 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// These resources, in the place of what was selected.
    #[serde(default)]
    pub resource_ids: Option<Vec<String>>,
    /// Or those.
    #[serde(default)]
    pub selection: Option<Selection>,
    /// Export Upstream Resources.
    #[serde(default)]
    pub export_upstream: Option<bool>,
}

/// Resources that stop an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forbidden {
    /// Named where the caller gave its ID or may read a definition that holds it.
    pub resource_id: Option<String>,
    /// How many it stands for.
    pub count: u64,
}

/// An online migration.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MigrationRequest {
    /// Where to.
    pub target_id: Uuid,
    /// 1 to 20 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// These resources.
    #[serde(default)]
    pub resource_ids: Option<Vec<String>>,
    /// Or those.
    #[serde(default)]
    pub selection: Option<Selection>,
    /// Or those of a saved selection.
    #[serde(default)]
    pub selection_id: Option<Uuid>,
    /// Export Upstream Resources.
    #[serde(default)]
    pub export_upstream: bool,
    /// Only what was changed since the last migration of the same to the target that succeeded, and what it needs.
    #[serde(default)]
    pub changed_since_last: bool,
    /// Every imported resource gets a new ID.
    #[serde(default)]
    pub change_ids: bool,
    /// `skip_failed` or `abort`.
    #[serde(default)]
    pub on_failure: Option<String>,
    /// `overwrite` or `block`.
    #[serde(default)]
    pub on_drift: Option<String>,
    /// `block` or `rename`.
    #[serde(default)]
    pub on_name_clash: Option<String>,
    /// Everything arrives below it.
    #[serde(default)]
    pub directory_prefix: Option<String>,
    /// User name of the owner of new resources at the target.
    #[serde(default)]
    pub owner: Option<String>,
    /// The target's plan is shown first, and waits to be confirmed.
    #[serde(default)]
    pub confirm: bool,
    /// Secrets travel too, sealed for the target alone.
    #[serde(default)]
    pub carry_secrets: bool,
    /// Per resource.
    #[serde(default)]
    pub resolutions: std::collections::BTreeMap<String, super::record::ResolutionLine>,
}

/// The word to go on with a migration whose plan was shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ConfirmRequest {
    /// Per resource, besides those that it was begun with.
    #[serde(default)]
    pub resolutions: std::collections::BTreeMap<String, super::record::ResolutionLine>,
    /// Only if the plan is still this one.
    #[serde(default)]
    pub plan_digest: Option<String>,
}

impl MigrationRequest {
    /// What to export.
    pub fn export(&self) -> ExportRequest {
        ExportRequest {
            name: self.name.clone(),
            note: None,
            resource_ids: self.resource_ids.clone(),
            selection: self.selection.clone(),
            selection_id: self.selection_id,
            export_upstream: self.export_upstream,
            changed_since_last: self.changed_since_last,
            target_id: Some(self.target_id),
            passphrase: None,
        }
    }

    /// How to import it.
    pub fn plan(&self) -> PlanRequest {
        PlanRequest {
            change_ids: self.change_ids,
            on_failure: self.on_failure.clone(),
            on_drift: self.on_drift.clone(),
            on_name_clash: self.on_name_clash.clone(),
            directory_prefix: self.directory_prefix.clone(),
            owner: self.owner.clone(),
            resolutions: self.resolutions.clone(),
            plan_digest: None,
        }
    }
}
