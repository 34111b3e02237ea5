//! Trusted sources, and those whose key an import has pinned.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// An environment whose packages are trusted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TrustedSource {
    /// Its ID.
    pub id: Uuid,
    /// What this environment calls it.
    pub name: String,
    /// The key that it signs with: ed25519, base64.
    pub public_key: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A trusted source to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewTrustedSource {
    /// What to call it.
    pub name: String,
    /// `public_key` of its `GET /api/v1/environment`: ed25519, 32 bytes in base64.
    pub public_key: String,
}

/// An environment whose key an executed import has pinned in the caller's domain.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PinnedSource {
    /// The pin's own ID.
    pub id: Uuid,
    /// The environment's ID.
    pub environment_id: String,
    /// The name that it gives itself.
    pub name: String,
    /// test, production, other.
    pub kind: String,
    /// The key that it signs with: ed25519, base64.
    pub public_key: String,
    /// The import that pinned it; null when it is not kept any more.
    pub record_id: Option<Uuid>,
    /// When.
    pub pinned_at: DateTime<Utc>,
}
