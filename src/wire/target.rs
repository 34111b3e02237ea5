//! Targets: the environments that this one may migrate to.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::environment::Environment;
use super::record::RecordError;

/// A target; its token is never read back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Its ID.
    pub id: Uuid,
    /// Unique in the domain.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// The fixed owner of what is migrated there.
    pub owner: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
}

/// A target to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewTarget {
    /// Unique in the domain.
    pub name: String,
    /// `http://` or `https://`.
    pub url: String,
    /// Of a user there.
    pub token: String,
    /// The fixed owner of what is migrated there.
    #[serde(default)]
    pub owner: Option<String>,
}

/// Changes to a target; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TargetChange {
    /// Unique in the domain.
    #[serde(default)]
    pub name: Option<String>,
    /// `http://` or `https://`.
    #[serde(default)]
    pub url: Option<String>,
    /// Of a user there.
    #[serde(default)]
    pub token: Option<String>,
    /// The fixed owner; null for none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub owner: Option<Option<String>>,
}

/// Tells a field that is null from one that is left out.
pub(super) fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// What a check of a target found.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetCheck {
    /// It answered and accepted the token.
    pub reachable: bool,
    /// Of the answer.
    pub latency_ms: Option<u64>,
    /// Who it says it is.
    pub environment: Option<Environment>,
    /// What the token may do there.
    pub permissions: Vec<String>,
    /// What differs from here: version, features, types.
    pub differences: Vec<Difference>,
    /// Why not.
    pub error: Option<RecordError>,
}

/// Something that differs between the two environments.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// `version_differs`, `feature_differs`, `type_differs`.
    pub code: String,
    /// In words.
    pub message: String,
}
