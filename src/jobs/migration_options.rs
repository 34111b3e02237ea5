//! What the user chose for an online migration, besides its export.

use serde::{Deserialize, Serialize};

use crate::db::records::Record;
use crate::wire::record::PlanRequest;

use super::JobError;

/// What an online migration keeps in its record's options, besides those of its export.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MigrationOptions {
    /// How to import at the target.
    pub(super) plan: PlanRequest,
    /// The target's plan is shown first.
    #[serde(default)]
    pub(super) confirm: bool,
}

impl MigrationOptions {
    pub(super) fn of(record: &Record) -> Result<Self, JobError> {
        serde_json::from_value(record.options.clone()).map_err(|_| JobError::Corrupt("records.options"))
    }
}
