//! The manifest of a package and its signature, before anything else is read.

use std::fs::File;
use std::io::{BufReader, Read};

use serde::Deserialize;
use zip::ZipArchive;

use crate::domain::json::{self, Refused, Unread};
use crate::domain::manifest::{FORMAT, Manifest, PRODUCT};

use super::limits::{Limits, MANIFEST_RATIO, RATIO_FROM};
use super::signature::{self, Verify};
use super::{MANIFEST, PackageError, SIGNATURE};

/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 256 * 1024 * 1024;
/// What a signature holds besides the manifest in base64.
const SIGNATURE_SLACK: u64 = 64 * 1024;

/// What is needed to decide whether the rest can be read at all.
#[derive(Deserialize)]
struct Head {
    format: u64,
    product: String,
}

/// Who says that he signed it. Nothing else of a manifest is built before its signature has been checked.
#[derive(Deserialize)]
struct Signed {
    environment: Signer,
}

#[derive(Deserialize)]
struct Signer {
    id: String,
    public_key: String,
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
    let ratio = limits.max_compression_ratio.min(MANIFEST_RATIO);
    let bytes = small_entry(archive, MANIFEST, (MAX_MANIFEST, ratio))?;
    let head: Head = json::outside(&bytes).map_err(|error| match error {
        Unread::Refused(Refused::Many) => PackageError::unread(MANIFEST, &error),
        _ => foreign("its manifest.json is not one of ours"),
    })?;
    if head.product != PRODUCT {
        return Err(foreign("its manifest.json names another product"));
    }
    if head.format > FORMAT {
        return Err(PackageError::FormatNewer(head.format));
    }
    if archive.index_for_name(SIGNATURE).is_none() {
        return Err(PackageError::Tampered("its signature is missing".to_owned()));
    }
    let signed: Signed = json::outside(&bytes).map_err(|error| PackageError::unread(MANIFEST, &error))?;
    let most = bytes.len() as u64 / 3 * 4 + SIGNATURE_SLACK;
    let envelope = small_entry(archive, SIGNATURE, (most, limits.max_compression_ratio))?;
    signature::check(&envelope, &bytes, (&signed.environment.id, &signed.environment.public_key), verify)?;
    drop(envelope);
    json::outside(&bytes).map_err(|error| PackageError::unread(MANIFEST, &error))
}

/// Texts that the database will be given are short and hold nothing that it refuses.
pub(super) fn check_texts(manifest: &Manifest) -> Result<(), PackageError> {
    let origin = &manifest.environment;
    let named =
        [&manifest.name, &manifest.domain, &manifest.version, &manifest.exported_by, &origin.name, &origin.kind];
    let long = named.iter().any(|text| text.len() > 1024) || origin.id.len() > 64 || origin.public_key.len() > 64;
    let missing = manifest.missing.iter().flat_map(|one| {
        let optional = one.resource_id.iter().chain(&one.name);
        optional.chain([&one.type_key, &one.role, &one.referenced_by])
    });
    let shared = manifest.shared_parts.iter().flat_map(|one| [&one.resource_id, &one.used_by, &one.used_by_name]);
    let rest = [&origin.id, &origin.public_key, &manifest.product, &manifest.exported_at, &manifest.record_id];
    let mut texts = named
        .into_iter()
        .chain(rest)
        .chain(manifest.types.keys())
        .chain(manifest.counts.keys())
        .chain(&manifest.features)
        .chain(manifest.thin.iter().map(|thin| &thin.base))
        .chain(missing)
        .chain(shared);
    if long || texts.any(|text| text.contains('\0')) {
        return Err(PackageError::Tampered("its manifest holds texts that no environment writes".to_owned()));
    }
    Ok(())
}

/// An entry that is held whole: up to so many bytes, and so many times what is packed.
fn small_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    (most, ratio): (u64, u64),
) -> Result<Vec<u8>, PackageError> {
    let damaged = |error: &dyn std::fmt::Display| PackageError::Tampered(format!("{name} is damaged: {error}"));
    let entry = archive.by_name(name).map_err(|error| damaged(&error))?;
    let (packed, declared) = (entry.compressed_size().max(1), entry.size());
    let most = most.min(packed.saturating_mul(ratio).max(RATIO_FROM));
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
