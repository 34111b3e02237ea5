//! What happened to each resource, and what that makes of the record.

use serde::{Deserialize, Serialize};

use super::words::words;

/// What an import does with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// New in the target.
    Create,
    /// Changed in place.
    Update,
    /// Nothing to do.
    Unchanged,
    /// Left out by the user.
    Skip,
    /// A resource of the target is used instead.
    Map,
    /// Removed from the target.
    Delete,
    /// Would fail; the errors say why.
    Blocked,
}

impl Method {
    /// Each of them.
    pub const ALL: [Self; 7] =
        [Self::Create, Self::Update, Self::Unchanged, Self::Skip, Self::Map, Self::Delete, Self::Blocked];
}

words!(Method {
    Create = "create",
    Update = "update",
    Unchanged = "unchanged",
    Skip = "skip",
    Map = "map",
    Delete = "delete",
    Blocked = "blocked",
});

/// Where a resource stands in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not decided yet.
    Pending,
    /// Done.
    Succeeded,
    /// Not done; the errors say why.
    Failed,
    /// Left out: by the user, by `abort`, by cancel, by a cause of the whole package.
    Skipped,
    /// The target had it already.
    Unchanged,
}

words!(Status {
    Pending = "pending",
    Succeeded = "succeeded",
    Failed = "failed",
    Skipped = "skipped",
    Unchanged = "unchanged",
});

/// Who changed a resource since it was last imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// The environment that it comes from alone: an ordinary update.
    Source,
    /// The target alone.
    Target,
    /// Both of them.
    Both,
}

impl Drift {
    /// From what is known of either side.
    pub fn of(source_changed: bool, target_changed: bool) -> Option<Self> {
        match (source_changed, target_changed) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Source),
            (false, true) => Some(Self::Target),
            (false, false) => None,
        }
    }
}

/// How many items of a record have each method and status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Method `create`.
    pub create: u64,
    /// Method `update`.
    pub update: u64,
    /// Method `unchanged`.
    pub unchanged: u64,
    /// Method `skip`.
    pub skip: u64,
    /// Method `map`.
    pub map: u64,
    /// Method `blocked`.
    pub blocked: u64,
    /// Status `succeeded`.
    pub succeeded: u64,
    /// Status `failed`.
    pub failed: u64,
}

impl Counts {
    /// Counts one item.
    pub fn add(&mut self, method: Option<Method>, status: Status) {
        match method {
            Some(Method::Create) => self.create += 1,
            Some(Method::Update) => self.update += 1,
            Some(Method::Unchanged) => self.unchanged += 1,
            Some(Method::Skip) => self.skip += 1,
            Some(Method::Map) => self.map += 1,
            Some(Method::Blocked) => self.blocked += 1,
            Some(Method::Delete) | None => {}
        }
        match status {
            Status::Succeeded => self.succeeded += 1,
            Status::Failed => self.failed += 1,
            Status::Pending | Status::Skipped | Status::Unchanged => {}
        }
    }
}

/// What becomes of an item when its import was applied, or when nothing was.
pub fn status_of(method: Method, applied: bool) -> Status {
    match method {
        Method::Blocked => Status::Failed,
        Method::Skip | Method::Map => Status::Skipped,
        Method::Create | Method::Update | Method::Delete if applied => Status::Succeeded,
        Method::Unchanged if applied => Status::Unchanged,
        _ => Status::Skipped,
    }
}
