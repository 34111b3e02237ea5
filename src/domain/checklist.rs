//! The checklist of an import: what is left to do by hand, and what of it ticks itself off.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::overlay::{Location, Overlay, Own};
use super::words::words;

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A resource came without a secret that it has at its source.
    SecretMissing,
    /// A schedule is new here and was paused.
    ArrivedPaused,
    /// Resources of a type came whose feature switch is off here.
    FeatureDiffers,
    /// A changed resource shows what it holds after a refresh only.
    RefreshNeeded,
    /// Resources are new in a directory: permissions never travel.
    PermissionsToGrant,
}

words!(Task {
    SecretMissing = "secret_missing",
    ArrivedPaused = "arrived_paused",
    FeatureDiffers = "feature_differs",
    RefreshNeeded = "refresh_needed",
    PermissionsToGrant = "permissions_to_grant",
});

impl Task {
    /// Whether it was done can be seen in the catalogue: nobody ticks it off.
    pub fn ticks_itself(self) -> bool {
        matches!(self, Self::SecretMissing | Self::ArrivedPaused | Self::FeatureDiffers)
    }
}

/// Something that is left to do by hand.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChecklistEntry {
    /// Its place on the checklist of its record.
    #[serde(default)]
    pub id: u32,
    /// A stable code.
    pub code: String,
    /// What to do.
    pub message: String,
    /// About which resource here.
    pub resource_id: String,
    /// It was done.
    pub done: bool,
    /// Who ticked it off, where somebody did; user name.
    #[serde(default)]
    pub done_by: Option<String>,
    /// When.
    #[serde(default)]
    pub done_at: Option<DateTime<Utc>>,
    /// By what it ticks itself off. Not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub by: Option<By>,
}

/// What is looked at, besides the resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Values that were set because the resource is new here.
    Paused(Vec<Paused>),
    /// The switch of a type.
    Feature(String),
}

/// A value that was set because its resource is new here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Where.
    pub at: Location,
    /// As it came, if it did.
    pub was: Option<Value>,
    /// As it was set.
    pub is: Value,
}

impl Paused {
    /// It stands as it was set.
    pub fn still(&self, own: &Overlay) -> bool {
        matches!(own.places().at(&self.at), Some(Own::Value(value)) if *value == self.is)
    }

    /// Puts it as it came.
    pub fn switch_on(&self, own: &mut Overlay) {
        match &self.was {
            Some(was) => own.set(&self.at, Own::Value(was.clone())),
            None => own.unset(&self.at),
        }
    }
}

impl ChecklistEntry {
    /// Something that is not done.
    pub fn open(task: Task, resource_id: impl Into<String>, message: String) -> Self {
        let (code, resource_id) = (task.as_str().to_owned(), resource_id.into());
        Self { id: 0, code, message, resource_id, done: false, done_by: None, done_at: None, by: None }
    }

    /// It ticks itself off by this.
    #[must_use]
    pub fn seen_by(self, by: By) -> Self {
        Self { by: Some(by), ..self }
    }

    /// What is to be done, where this version knows it.
    pub fn task(&self) -> Option<Task> {
        Task::parse(&self.code)
    }

    /// The values that were set because its resource is new here.
    pub fn paused(&self) -> &[Paused] {
        match &self.by {
            Some(By::Paused(paused)) => paused,
            _ => &[],
        }
    }
}

/// Entries in their places.
pub fn numbered(mut entries: Vec<ChecklistEntry>) -> Vec<ChecklistEntry> {
    entries.iter_mut().zip(0..).for_each(|(entry, place)| entry.id = place);
    entries
}
