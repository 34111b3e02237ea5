//! The table of contents of a package, format 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::overlay::Overlay;
use super::resource::{Hash, ResourceId};
use super::resource_type::Kind;

/// The newest package format that this version writes and reads.
pub const FORMAT: u64 = 1;
/// What `product` says in a package of ours.
pub const PRODUCT: &str = "ferry";

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The package format.
    pub format: u64,
    /// [`PRODUCT`].
    pub product: String,
    /// The version of Ferry that wrote it.
    pub version: String,
    /// Where it comes from.
    pub environment: Origin,
    /// The digest of each type file used.
    pub types: BTreeMap<String, Hash>,
    /// The domain that it was exported from.
    pub domain: String,
    /// The package name.
    pub name: String,
    /// RFC 3339, UTC.
    pub exported_at: String,
    /// User name.
    pub exported_by: String,
    /// The record of the export.
    pub record_id: String,
    /// The selected resources.
    pub roots: Vec<ResourceId>,
    /// Export Upstream Resources.
    pub export_upstream: bool,
    /// Resources per type.
    pub counts: BTreeMap<String, u64>,
    /// Feature switches that the target needs.
    pub features: Vec<String>,
    /// References whose target was not there.
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// Parts that something outside the package uses too.
    #[serde(default)]
    pub shared_parts: Vec<SharedPart>,
    /// Set when unchanged contents were left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thin: Option<Thin>,
    /// Every entry but this one and the signature.
    pub entries: Vec<EntryInfo>,
}

/// The environment that a package comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its ID, made once.
    pub id: String,
    /// Its name.
    pub name: String,
    /// test, production, other.
    pub kind: String,
    /// ed25519, base64.
    pub public_key: String,
}

/// A reference whose target was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Missing {
    /// The ID that is not there; none where it is named by name.
    pub resource_id: Option<String>,
    /// The first type that it could have had.
    #[serde(rename = "type")]
    pub type_key: String,
    /// The name, where it is named by name.
    pub name: Option<String>,
    /// As shown: `Input Dataset`.
    pub role: String,
    /// How the reference binds.
    pub kind: Kind,
    /// Who refers to it.
    pub referenced_by: String,
}

/// A part inside a package that something outside uses too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SharedPart {
    /// The part.
    pub resource_id: String,
    /// Who uses it, outside.
    pub used_by: String,
    /// His name.
    pub used_by_name: String,
}

/// What a thin package leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thin {
    /// What the target is known to have.
    pub base: String,
    /// Pages of the index that the target has: their lines are not in the package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<Hash>,
}

/// One entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryInfo {
    /// Its name in the archive.
    pub path: String,
    /// Unpacked, in bytes.
    pub size: u64,
    /// Of the unpacked bytes.
    pub sha256: Hash,
    /// Of the bytes as they stand in the archive, so that what is known need not be unpacked to be verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_sha256: Option<Hash>,
    /// Lines of a shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
}

/// A line of `values.ndjson`: what of a resource belongs to the environment that it comes from. Of secrets only
/// whether they are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuesLine {
    /// The resource.
    pub id: ResourceId,
    /// Values with their places.
    pub values: Overlay,
}

/// A line of `resources/*.ndjson`; the definition is handed on as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShardLine<D> {
    /// The resource.
    pub id: ResourceId,
    /// Its type.
    #[serde(rename = "type")]
    pub type_key: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Its body: the definition without secrets and environment-specific values.
    pub definition: D,
    /// Its owner's user name.
    #[serde(default)]
    pub owner: Option<String>,
}
