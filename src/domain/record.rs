//! Records: kinds, states, and the transitions that may be refused.

use serde::{Deserialize, Serialize};

use super::outcome::Counts;
use super::words::words;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// Makes a package.
    Export,
    /// Takes one in.
    Import,
    /// Sends one to a target and has it imported there.
    Online,
}

/// A piece of background work for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Makes a package.
    Export,
    /// Reads an uploaded package and plans its import.
    Parse,
    /// Plans an import anew, and has it executed if that was asked for.
    Plan,
    /// Writes an import; one at a time in a domain.
    Execute,
    /// Takes a package to a target.
    Migrate,
    /// Has a target cancel what was sent to it.
    Recall,
    /// Undoes an import, here or at its target.
    RollBack,
}

impl JobKind {
    /// Each of them.
    pub const ALL: [Self; 7] =
        [Self::Export, Self::Parse, Self::Plan, Self::Execute, Self::Migrate, Self::Recall, Self::RollBack];

    /// The record goes on with it, and ends with it; or it is done beside a record, whatever becomes of that one.
    pub fn carries_record(self) -> bool {
        self != Self::Recall
    }

    /// What its record does from the moment at which a worker has it; none: that depends on an earlier run.
    pub fn first_phase(self) -> Option<Phase> {
        match self {
            Self::Export => Some(Phase::Resolving),
            Self::Parse => Some(Phase::Parsing),
            Self::Plan => Some(Phase::Planning),
            Self::Execute | Self::RollBack => Some(Phase::Applying),
            Self::Migrate | Self::Recall => None,
        }
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Its plan waits for the user.
    AwaitingConfirmation,
    /// Its import waits for a second person.
    AwaitingApproval,
    /// Ended: every selected resource succeeded or was unchanged.
    Succeeded,
    /// Ended: some did, some did not.
    PartiallySucceeded,
    /// Ended: none did.
    Failed,
    /// Ended by the user.
    Cancelled,
    /// Ended, and undone since.
    RolledBack,
}

/// How far a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Done so far.
    pub done: u64,
    /// To be done.
    pub total: u64,
    /// Of what.
    pub unit: Unit,
}

/// What progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Resources.
    Resources,
    /// Bytes on their way.
    Bytes,
}

impl Progress {
    /// So many of some resources.
    pub fn resources(done: u64, total: u64) -> Self {
        Self { done, total, unit: Unit::Resources }
    }

    /// So many of some bytes.
    pub fn bytes(done: u64, total: u64) -> Self {
        Self { done, total, unit: Unit::Bytes }
    }
}

/// What a running record is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Following references.
    Resolving,
    /// Writing the package.
    Packing,
    /// Asking the target what it lacks.
    Negotiating,
    /// Sending the package.
    Uploading,
    /// Reading and checking the package.
    Parsing,
    /// Deciding what the import would do.
    Planning,
    /// Writing into the catalogue.
    Applying,
    /// Writing the outcome down.
    Finishing,
}

/// A transition that the record's state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is {}, so it cannot be {attempt}", .status.as_str())]
pub struct WrongState {
    /// Where it stands.
    pub status: RecordStatus,
    /// What was asked, as a participle: `executed`.
    pub attempt: &'static str,
}

words!(RecordKind { Export = "export", Import = "import", Online = "online" });
words!(JobKind {
    Export = "export",
    Parse = "parse",
    Plan = "plan",
    Execute = "execute",
    Migrate = "migrate",
    Recall = "recall",
    RollBack = "roll_back",
});
words!(RecordStatus {
    Queued = "queued",
    Running = "running",
    AwaitingConfirmation = "awaiting_confirmation",
    AwaitingApproval = "awaiting_approval",
    Succeeded = "succeeded",
    PartiallySucceeded = "partially_succeeded",
    Failed = "failed",
    Cancelled = "cancelled",
    RolledBack = "rolled_back",
});
words!(Unit { Resources = "resources", Bytes = "bytes" });
words!(Phase {
    Resolving = "resolving",
    Packing = "packing",
    Negotiating = "negotiating",
    Uploading = "uploading",
    Parsing = "parsing",
    Planning = "planning",
    Applying = "applying",
    Finishing = "finishing",
});

impl RecordStatus {
    /// Nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        self.ended().is_some()
    }

    /// The same as a status that a record can end with.
    pub fn ended(self) -> Option<Final> {
        let goes_on =
            matches!(self, Self::Queued | Self::Running | Self::AwaitingConfirmation | Self::AwaitingApproval);
        (!goes_on).then_some(Final(self))
    }

    /// A plan may be made, changed or executed.
    ///
    /// # Errors
    /// Unless it awaits confirmation.
    pub fn confirmable(self, attempt: &'static str) -> Result<(), WrongState> {
        if self == Self::AwaitingConfirmation { Ok(()) } else { Err(WrongState { status: self, attempt }) }
    }

    /// Another plan may be made: it awaits confirmation, or an approval that falls with the plan.
    ///
    /// # Errors
    /// Otherwise.
    pub fn plannable(self, attempt: &'static str) -> Result<(), WrongState> {
        if self == Self::AwaitingApproval { Ok(()) } else { self.confirmable(attempt) }
    }

    /// It may be approved or rejected.
    ///
    /// # Errors
    /// Unless it awaits that.
    pub fn approvable(self, attempt: &'static str) -> Result<(), WrongState> {
        if self == Self::AwaitingApproval { Ok(()) } else { Err(WrongState { status: self, attempt }) }
    }

    /// It may be cancelled.
    ///
    /// # Errors
    /// It has ended.
    pub fn cancellable(self) -> Result<(), WrongState> {
        if self.is_final() { Err(WrongState { status: self, attempt: "cancelled" }) } else { Ok(()) }
    }

    /// It may be rolled back.
    ///
    /// # Errors
    /// It has not ended, or nothing of it was written.
    pub fn undoable(self) -> Result<Undo, WrongState> {
        match self {
            Self::Succeeded | Self::PartiallySucceeded => Ok(Undo::Of(self)),
            _ => Err(WrongState { status: self, attempt: "rolled back" }),
        }
    }

    /// It may be tried again.
    ///
    /// # Errors
    /// It has not ended, or there is nothing left to do.
    pub fn retryable(self) -> Result<(), WrongState> {
        match self {
            Self::Failed | Self::PartiallySucceeded | Self::Cancelled => Ok(()),
            _ => Err(WrongState { status: self, attempt: "tried again" }),
        }
    }
}

/// Whether what a record did is being undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// It is not.
    #[default]
    No,
    /// It is; it had ended so, and does again if the roll back is refused.
    Of(RecordStatus),
}

/// A status that a record ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Final(RecordStatus);

impl Final {
    /// [`RecordStatus::Succeeded`].
    pub const SUCCEEDED: Self = Self(RecordStatus::Succeeded);
    /// [`RecordStatus::Failed`].
    pub const FAILED: Self = Self(RecordStatus::Failed);
    /// [`RecordStatus::RolledBack`].
    pub const ROLLED_BACK: Self = Self(RecordStatus::RolledBack);
    /// [`RecordStatus::Cancelled`].
    pub const CANCELLED: Self = Self(RecordStatus::Cancelled);

    /// How an executed import ends: `skip`ped and mapped items have no say.
    pub fn of_import(counts: &Counts) -> Self {
        let done = counts.succeeded + counts.unchanged;
        match (done, counts.failed) {
            (_, 0) => Self::SUCCEEDED,
            (0, _) => Self::FAILED,
            _ => Self::PARTIALLY_SUCCEEDED,
        }
    }

    /// How a record ends whose work could not be done, though some of it was before.
    pub const PARTIALLY_SUCCEEDED: Self = Self(RecordStatus::PartiallySucceeded);

    /// As any status.
    pub fn status(self) -> RecordStatus {
        self.0
    }
}
