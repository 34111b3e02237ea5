//! The audit.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Something that somebody did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditLine {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// In which domain; null: in the environment as a whole.
    pub domain: Option<String>,
    /// Who; null where nobody is known by name.
    pub user: Option<String>,
    /// With what: the name of a token, `session`, or who acted in the user's name: `worker`, `server`.
    pub token: Option<String>,
    /// What, as `noun.verb`; `record.status` is a change of a record's state.
    pub action: String,
    /// To what kind of thing.
    pub object_kind: String,
    /// To which.
    pub object_id: String,
    /// What else should be known; never a secret.
    pub details: Value,
    /// From where.
    pub address: Option<String>,
}
