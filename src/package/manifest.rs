//! The manifest of a package and its signature, before anything else is read.

use std::fs::File;
use std::io::{BufReader, Read};

use serde::Deserialize;
use zip::ZipArchive;

use crate::domain::json;
use crate::domain::manifest::{FORMAT, Manifest, PRODUCT};

use super::limits::{Limits, RATIO_FROM};
use super::signature::{self, Verify};
use super::{MANIFEST, PackageError, SIGNATURE};

/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 256 * 1024 * 1024;

/// What is needed to decide whether the rest can be read at all.
#[derive(Deserialize)]
struct Head {
    format: u64,
    product: String,
}

pub(super) fn read_manifest(
    archive: &mut ZipArchive<BufReader<File>>,
    limits: Limits,
    verify: Verify,
) -> Result<Manifest, PackageError> {
    let foreign = |reason: &str| PackageError::Foreign(reason.to_owned());
    if archive.index_for_name(MANIFEST).is_none() {
        return Err(foreign("it has no manifest.json"));
    }
    let bytes = small_entry(archive, MANIFEST, limits)?;
    let head: Head = json::outside(&bytes).map_err(|_| foreign("its manifest.json is not one of ours"))?;
    if head.product != PRODUCT {
        return Err(foreign("its manifest.json names another product"));
    }
    if head.format > FORMAT {
        return Err(PackageError::FormatNewer(head.format));
    }
    if archive.index_for_name(SIGNATURE).is_none() {
        return Err(PackageError::Tampered("its signature is missing".to_owned()));
    }
    let envelope = small_entry(archive, SIGNATURE, limits)?;
    let manifest: Manifest = json::outside(&bytes).map_err(|error| PackageError::unread(MANIFEST, &error))?;
    signature::check(&envelope, &bytes, &manifest.environment.public_key, verify)?;
    Ok(manifest)
}

/// Texts that the database will be given are short and hold nothing that it refuses.
pub(super) fn check_texts(manifest: &Manifest) -> Result<(), PackageError> {
    let origin = &manifest.environment;
    let texts =
        [&manifest.name, &manifest.domain, &manifest.version, &manifest.exported_by, &origin.name, &origin.kind];
    let long = texts.iter().any(|text| text.len() > 1024) || origin.id.len() > 64 || origin.public_key.len() > 64;
    let kept = serde_json::to_value(manifest).map_err(std::io::Error::other)?;
    if long || json::normalise(&mut { kept }).is_err() {
        return Err(PackageError::Tampered("its manifest holds texts that no environment writes".to_owned()));
    }
    Ok(())
}

pub(super) fn small_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    limits: Limits,
) -> Result<Vec<u8>, PackageError> {
    let damaged = |error: &dyn std::fmt::Display| PackageError::Tampered(format!("{name} is damaged: {error}"));
    let entry = archive.by_name(name).map_err(|error| damaged(&error))?;
    let (packed, declared) = (entry.compressed_size().max(1), entry.size());
    let most = MAX_MANIFEST.min(packed.saturating_mul(limits.max_compression_ratio).max(RATIO_FROM));
    let mut bytes = Vec::new();
    entry.take(most + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() as u64 > most {
        return Err(PackageError::Limit(format!("{name} is too large")));
    }
    if bytes.len() as u64 != declared {
        return Err(damaged(&"its length is not the declared one"));
    }
    Ok(bytes)
}
