//! What passes between two environments before a package does.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::record::PlanRequest;

/// The header that says who asked for an import where its package comes from: a user name, percent-encoded UTF-8.
pub const REQUESTED_BY: &str = "ferry-requested-by";

/// The first line of `POST /imports/lacking`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LackingHead {
    /// The ID of the environment that the package will come from.
    pub source_environment: String,
    /// The digest of each type file used.
    pub types: BTreeMap<String, String>,
    /// How the package will be imported: what was changed on its way in last time is known by that.
    #[serde(default)]
    pub options: PlanRequest,
    /// Pages of the index of the package that the target may know, each by the SHA-256 of its lines: they count as
    /// lines of this request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<String>,
}

/// A further line of it: a resource with its content hash, or the hash of an attachment's bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct LackingLine {
    /// A resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its content hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// The SHA-256 of an attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<String>,
}

/// What this domain lacks of what was asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Lacking {
    /// Resources whose contents are to be sent.
    pub ids: Vec<String>,
    /// Attachments whose bytes are to be sent, as they were asked for.
    pub attachments: Vec<String>,
    /// Pages that are not known here: ask for their resources line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_pages: Vec<String>,
}

/// An upload in the place of a package.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FromUpload {
    /// A complete upload of the same user.
    pub upload_id: Uuid,
    /// What opens the secrets of the package, where it carries some.
    #[serde(default, deserialize_with = "super::passphrase::optional", skip_serializing)]
    #[schema(value_type = Option<String>)]
    pub passphrase: Option<SecretString>,
}
