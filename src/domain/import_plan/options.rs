//! What the user chose for an import.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::domain::resource::ResourceId;

/// What the user chose for the import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether resources arrive as themselves.
    pub ids: IdMode,
    /// Where something is blocked.
    pub on_failure: OnFailure,
    /// Where the target's copy was changed since the last import.
    pub on_drift: OnDrift,
    /// Where a name is taken.
    pub on_name_clash: OnNameClash,
    /// Everything arrives below it.
    pub directory_prefix: Option<String>,
    /// Per resource.
    pub resolutions: HashMap<ResourceId, Resolution>,
}

/// What the user chose for one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// Leave it out.
    Skip,
    /// Use a resource of the target instead.
    Map(ResourceId),
    /// Import it under another name.
    Rename(String),
    /// Bring back what was deleted.
    Restore,
    /// Write over what was changed in the target.
    Overwrite,
}

impl Resolution {
    /// It keeps the name that the resource has.
    pub fn is_name(&self, name: &str) -> bool {
        matches!(self, Self::Rename(new) if new == name)
    }
}

/// Which IDs the resources have in the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdMode {
    /// Their own: what has them there is updated.
    #[default]
    Keep,
    /// New ones: everything is created.
    Change,
}

/// What becomes of the others where something is blocked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// They are written.
    #[default]
    SkipFailed,
    /// Nothing is written.
    Abort,
}

/// What becomes of a copy that was changed in the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDrift {
    /// The package's takes its place.
    #[default]
    Overwrite,
    /// It stays, and the resource is blocked.
    Block,
}

/// What becomes of a resource whose name is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnNameClash {
    /// It is blocked.
    #[default]
    Block,
    /// ` (2)` is appended to its name.
    Rename,
}
