//! Approval: an import that waits for a second person, and what he decided.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An import that was asked for, and what a second person says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Who wants it applied; user name.
    pub requested_by: String,
    /// When he asked.
    pub requested_at: DateTime<Utc>,
    /// Of the plan that it is about, and of no other; null until that is made.
    pub plan_digest: Option<String>,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
}

/// What a second person decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Decision {
    /// Nothing yet.
    Waiting,
    /// It may be applied.
    Approved {
        /// User name.
        approved_by: String,
        /// When.
        approved_at: DateTime<Utc>,
        /// Why.
        comment: Option<String>,
    },
    /// It may not.
    Rejected {
        /// User name.
        rejected_by: String,
        /// When.
        rejected_at: DateTime<Utc>,
        /// Why.
        comment: Option<String>,
    },
}

impl Approval {
    /// Somebody wants an import applied.
    pub fn asked(requested_by: &str, requested_at: DateTime<Utc>, plan_digest: Option<String>) -> Self {
        Self { requested_by: requested_by.to_owned(), requested_at, plan_digest, decision: Decision::Waiting }
    }

    /// Nothing was decided yet.
    pub fn is_waiting(&self) -> bool {
        self.decision == Decision::Waiting
    }

    /// The plan that alone may be applied, where one was approved.
    pub fn bound_to(&self) -> Option<&str> {
        match self.decision {
            Decision::Approved { .. } => self.plan_digest.as_deref(),
            _ => None,
        }
    }

    /// Who decided.
    pub fn decided_by(&self) -> Option<&str> {
        match &self.decision {
            Decision::Waiting => None,
            Decision::Approved { approved_by: by, .. } | Decision::Rejected { rejected_by: by, .. } => Some(by),
        }
    }

    /// It may be applied.
    pub fn approved(self, by: &str, at: DateTime<Utc>, comment: Option<String>) -> Self {
        Self { decision: Decision::Approved { approved_by: by.to_owned(), approved_at: at, comment }, ..self }
    }

    /// It may not.
    pub fn rejected(self, by: &str, at: DateTime<Utc>, comment: Option<String>) -> Self {
        Self { decision: Decision::Rejected { rejected_by: by.to_owned(), rejected_at: at, comment }, ..self }
    }
}
