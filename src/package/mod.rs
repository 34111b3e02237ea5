//! Package ⇄ zip, over files: writer, reader (`archive`: the zip itself, `manifest`: what comes first), signature. Every package is hostile until proven otherwise.

mod archive;
mod limits;
mod manifest;
pub mod reader;
pub mod signature;
pub mod writer;

use crate::domain::json::{Refused, Unread};

pub use limits::Limits;

/// Lists every resource.
pub const INDEX: &str = "index.ndjson";
/// What belongs to the environment that it comes from.
pub const VALUES: &str = "values.ndjson";
/// The table of contents.
pub const MANIFEST: &str = "manifest.json";
/// Secrets, for who can open them.
pub const SECRETS: &str = "secrets.sealed";
/// The most that it may hold, in bytes.
pub const MAX_SECRETS: usize = 64 * 1024 * 1024;
/// Over the manifest.
pub const SIGNATURE: &str = "signature.json";

/// The name of the n-th shard, from 1.
pub fn shard_name(number: usize) -> String {
    format!("resources/{number:05}.ndjson")
}

/// The name of attachment bytes.
pub fn attachment_name(hash: &crate::domain::resource::Hash) -> String {
    format!("attachments/{}", hash.hex())
}

/// Why a package is refused. Each has a code of the contract.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Not an archive that can be trusted to say the same to everyone.
    #[error("The file is not a readable package: {0}")]
    Unreadable(String),
    /// A ZIP, but not one that the system exported.
    #[error("Only .zip packages exported by the system are accepted: {0}")]
    Foreign(String),
    /// Its contents are not what its manifest or its signature says.
    #[error("The package was changed after it was exported: {0}")]
    Tampered(String),
    /// Something that the manifest names is not there.
    #[error("The package is incomplete: {0}")]
    Incomplete(String),
    /// Written by a newer version.
    #[error("The package has format {0}, this version reads up to format {newest}", newest = crate::domain::manifest::FORMAT)]
    FormatNewer(u64),
    /// Over a limit.
    #[error("The package is over a limit of this environment: {0}")]
    Limit(String),
    /// The file could not be read or written here.
    #[error("the package file could not be read or written: {0}")]
    Io(#[from] std::io::Error),
}

impl PackageError {
    /// JSON of a package that is not read.
    pub fn unread(what: &str, error: &Unread) -> Self {
        match error {
            Unread::Refused(Refused::Many) => Self::Limit(format!("{what}: {error}")),
            _ => Self::Tampered(format!("{what} cannot be read: {error}")),
        }
    }

    /// The code of the contract; `None`: it is our own fault.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreadable(_) => "package_unreadable",
            Self::Foreign(_) => "package_foreign",
            Self::Tampered(_) => "package_tampered",
            Self::Incomplete(_) => "package_incomplete",
            Self::FormatNewer(_) => "package_format_newer",
            Self::Limit(_) => "package_limit_exceeded",
            Self::Io(_) => return None,
        })
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => {
                "Download the package from the environment that exported it once more, and upload it unchanged."
            }
            Self::Foreign(_) => {
                "Export a package on the Resource Migration page of the other environment and upload that file."
            }
            Self::Tampered(_) | Self::Incomplete(_) => {
                "Export the package again and upload the file exactly as it was downloaded."
            }
            Self::FormatNewer(_) => "Upgrade this environment to the version of the one that exported the package.",
            Self::Limit(_) => {
                "Export fewer resources at once, or ask the administrator to raise the limit in [limits]."
            }
            Self::Io(_) => "Try again; if it happens again, ask the administrator to look at the log.",
        }
    }
}

/// The hash of what is left to read.
fn hash_of(mut bytes: impl std::io::Read) -> std::io::Result<crate::domain::resource::Hash> {
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = bytes.read(&mut piece)?;
        if read == 0 {
            return Ok(crate::domain::resource::Hash(hasher.finalize().into()));
        }
        hasher.update(&piece[..read]);
    }
}
