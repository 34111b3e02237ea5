//! What a package may hold.

/// What a package may hold; sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All entries together, unpacked.
    pub max_unpacked_bytes: u64,
    /// Resources.
    pub max_resources: u64,
    /// One definition.
    pub max_definition_bytes: u64,
    /// One attachment.
    pub max_attachment_bytes: u64,
    /// Unpacked to packed, for one entry, past its first MiB.
    pub max_compression_ratio: u64,
}

/// Unpacked to packed, for the manifest: all of it is held at once. One that shrinks by more is written as it is.
pub(super) const MANIFEST_RATIO: u64 = 10;

/// The ratio is looked at once this much was unpacked.
pub(super) const RATIO_FROM: u64 = 1024 * 1024;
