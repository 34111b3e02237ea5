//! Why a job did not do its work, and whether trying again may help.

use crate::db::{self, DbError};
use crate::package::PackageError;
use crate::planning::PlanningError;
use crate::planning::carried::CarriedError;
use crate::remote::RemoteError;
use crate::store::{StoreError, is_full};
use crate::trust::TrustError;
use crate::wire::record::RecordError;

/// Why a job did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The record fails; trying again would not help.
    #[error("{}", .0.message)]
    Fail(RecordError),
    /// Something passing: the job is put back.
    #[error("{0}")]
    Retry(String),
    /// What the work was planned for is not so any more: the job is put back.
    #[error("the target keeps moving")]
    Moved,
    /// What is stored (`table.column`) cannot be read: the record fails, and keeps its package.
    #[error("what is stored in {0} cannot be read")]
    Corrupt(&'static str),
    /// Another worker has the job; nothing more is to be written.
    #[error("the job was taken over")]
    Fenced,
}

impl JobError {
    /// Bodies were cleaned away between looking and reading: the next run looks again.
    pub(crate) fn bodies_gone() -> Self {
        Self::Retry("bodies are gone".to_owned())
    }

    /// Attachment bytes that are neither in the package any more nor here.
    pub(crate) fn bytes_gone() -> Self {
        let message = "The package leaves out attachment bytes that this environment does not have any more.";
        Self::fail("package_incomplete", message, "Try again: what is missing is sent then.")
    }

    /// Why the record fails, unless trying again may help.
    pub(super) fn cause(self) -> Result<RecordError, Self> {
        match self {
            Self::Fail(error) => Ok(error),
            Self::Corrupt(column) => Ok(RecordError {
                code: "storage_corrupt".to_owned(),
                message: format!("What the database holds in {column} cannot be read."),
                hint: "Ask the administrator to restore the environment's database from a backup, then try again."
                    .to_owned(),
            }),
            other => Err(other),
        }
    }

    pub(crate) fn fail(code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self::Fail(RecordError { code: code.to_owned(), message: message.into(), hint: hint.to_owned() })
    }
}

impl From<DbError> for JobError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Fenced => Self::Fenced,
            DbError::Full => StoreError::Full.into(),
            DbError::Corrupt(column) => Self::Corrupt(column),
            other => Self::Retry(other.to_string()),
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::fail(
                "storage_full",
                "No space is left in the environment's store.",
                "Ask the administrator to free space or to enlarge the store, then try again.",
            ),
            StoreError::Missing => Self::fail(
                "gone",
                "Bytes that the record needs are no longer in the environment's store.",
                "Begin again, with the package or the attachments uploaded once more.",
            ),
            other => Self::Retry(other.to_string()),
        }
    }
}

impl From<PackageError> for JobError {
    fn from(error: PackageError) -> Self {
        match (error.code(), &error) {
            (Some(code), _) => Self::fail(code, error.to_string(), error.hint()),
            (None, PackageError::Io(io)) if is_full(io) => StoreError::Full.into(),
            (None, PackageError::Io(io)) => match io.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(DbError::Corrupt(column)) => Self::Corrupt(column),
                _ => Self::Retry(error.to_string()),
            },
            (None, _) => Self::Retry(error.to_string()),
        }
    }
}

impl From<PlanningError> for JobError {
    fn from(error: PlanningError) -> Self {
        match error {
            PlanningError::Db(error) => error.into(),
            PlanningError::Package(error) => error.into(),
            PlanningError::Store(error) => error.into(),
            PlanningError::Carried(error) => error.into(),
            other => Self::Retry(other.to_string()),
        }
    }
}

impl From<CarriedError> for JobError {
    fn from(error: CarriedError) -> Self {
        match error {
            CarriedError::Required => Self::fail("passphrase_required", error.to_string(), error.hint()),
            CarriedError::Wrong => Self::fail("passphrase_wrong", error.to_string(), error.hint()),
            CarriedError::Package(error) => error.into(),
            CarriedError::Secret(error) => Self::Retry(error.to_string()),
        }
    }
}

impl From<TrustError> for JobError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Db(error) => error.into(),
            TrustError::Untrusted(reason) => Self::fail("package_untrusted", reason.to_string(), reason.hint()),
        }
    }
}

impl From<RemoteError> for JobError {
    fn from(error: RemoteError) -> Self {
        Self::Fail(error.into())
    }
}

impl From<db::Error> for JobError {
    fn from(error: db::Error) -> Self {
        DbError::from(error).into()
    }
}
