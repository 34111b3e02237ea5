//! What is to be exported or migrated.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::manifest::{Missing, SharedPart};

use super::record::PlanRequest;
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
    /// Export Upstream Resources.
    #[serde(default)]
    pub export_upstream: bool,
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
    /// Resources that the caller may not read: each by its ID, or one line without it for all that he may not know of.
    pub forbidden: Vec<Forbidden>,
    /// Parts that something outside uses too.
    pub shared_parts: Vec<SharedPart>,
}

/// Resources that stop an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forbidden {
    /// Named where the caller gave its ID or may read a definition that holds it.
    pub resource_id: Option<String>,
    /// 1; absent where there are others, of which nobody says how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
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
    /// Export Upstream Resources.
    #[serde(default)]
    pub export_upstream: bool,
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
            export_upstream: self.export_upstream,
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
