//! Reading a package. Nothing that the archive declares is trusted: not a size, not a name, not an order.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::domain::manifest::{EntryInfo, Manifest};
use crate::domain::resource::Hash;

use super::archive::{check_end, checked_name, unreadable};
use super::limits::{Limits, RATIO_FROM};
use super::manifest::{check_texts, read_manifest};
use super::signature::Verify;
use super::{INDEX, MANIFEST, MAX_SECRETS, PackageError, SECRETS, SIGNATURE, VALUES, shard_name};

/// A line may hold this much besides its definition.
const LINE_SLACK: u64 = 64 * 1024;
/// Lines are handed on in batches of about this size.
const BATCH_BYTES: usize = 512 * 1024;
/// An opened package: its archive is sound, its manifest signed, its entries those of the manifest.
/// The contents are checked while they are read.
pub struct Package {
    archive: ZipArchive<BufReader<File>>,
    /// The table of contents, its entries apart.
    pub manifest: Manifest,
    limits: Limits,
    entries: HashMap<String, EntryInfo>,
    unpacked: u64,
}

/// Whole lines of one kind of entry, in the order of the package.
pub struct Lines {
    /// The place of the first line in the package, from 0.
    pub first: usize,
    /// Lines, each ended by a newline.
    pub text: Vec<u8>,
}

impl Lines {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}

impl Package {
    /// Opens a package and checks everything but its contents.
    pub fn open(mut file: File, limits: Limits, verify: Verify) -> Result<Self, PackageError> {
        check_end(&mut file)?;
        let mut archive = ZipArchive::new(BufReader::with_capacity(64 * 1024, file)).map_err(unreadable)?;
        if archive.offset() != 0 {
            return Err(PackageError::Unreadable("something stands before the archive".to_owned()));
        }
        archive.validate_header_consistency().map_err(unreadable)?;
        let mut package = Self {
            manifest: read_manifest(&mut archive, limits, verify)?,
            archive,
            limits,
            entries: HashMap::new(),
            unpacked: 0,
        };
        package.check_entries()?;
        package.entries = package.manifest.entries.drain(..).map(|entry| (entry.path.clone(), entry)).collect();
        check_texts(&package.manifest)?;
        Ok(package)
    }

    /// The entries are exactly those of the manifest, with the sizes that it says, within the limits.
    fn check_entries(&mut self) -> Result<(), PackageError> {
        let named: HashMap<&str, &EntryInfo> =
            self.manifest.entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
        if named.len() != self.manifest.entries.len() {
            return Err(PackageError::Tampered("the manifest names an entry twice".to_owned()));
        }
        let mut seen = HashSet::new();
        for at in 0..self.archive.len() {
            let entry = self.archive.by_index_raw(at).map_err(unreadable)?;
            let name = checked_name(&entry)?;
            if name == MANIFEST || name == SIGNATURE || entry.is_dir() {
                continue;
            }
            let Some(info) = named.get(name.as_str()) else {
                return Err(PackageError::Tampered(format!("{name} is not in its manifest")));
            };
            if info.size != entry.size() {
                return Err(PackageError::Tampered(format!("{name} does not have the size that the manifest says")));
            }
            if name.strip_prefix("attachments/").is_some_and(|hash| info.sha256.hex() != hash) {
                return Err(PackageError::Tampered(format!("{name} does not have the hash of its name")));
            }
            if name.starts_with("attachments/") && info.size > self.limits.max_attachment_bytes {
                return Err(PackageError::Limit(format!(
                    "{name} has more than {} bytes",
                    self.limits.max_attachment_bytes
                )));
            }
            seen.insert(name);
        }
        if let Some(entry) = self.manifest.entries.iter().find(|entry| !seen.contains(&entry.path)) {
            return Err(PackageError::Incomplete(format!("{} is missing", entry.path)));
        }
        let shards = seen.iter().filter(|name| name.starts_with("resources/")).count();
        if (1..=shards).any(|number| !seen.contains(&shard_name(number))) {
            return Err(PackageError::Tampered("its shards are not numbered one after the other".to_owned()));
        }
        let total = self.manifest.entries.iter().try_fold(0u64, |sum, entry| sum.checked_add(entry.size));
        if total.is_none_or(|total| total > self.limits.max_unpacked_bytes) {
            return Err(PackageError::Limit(format!(
                "it unpacks to more than {} bytes",
                self.limits.max_unpacked_bytes
            )));
        }
        let resources = self.manifest.counts.values().try_fold(0u64, |sum, count| sum.checked_add(*count));
        if resources.is_none_or(|count| count > self.limits.max_resources) {
            return Err(PackageError::Limit(format!("it has more than {} resources", self.limits.max_resources)));
        }
        Ok(())
    }

    /// The attachments that the package has, by hash, with their sizes.
    pub fn attachments(&self) -> Vec<(Hash, u64)> {
        let hash = |entry: &EntryInfo| Some((Hash::parse(entry.path.strip_prefix("attachments/")?)?, entry.size));
        self.entries.values().filter_map(hash).collect()
    }

    /// It holds secrets, sealed.
    pub fn has_secrets(&self) -> bool {
        self.entries.contains_key(SECRETS)
    }

    /// What the package holds of secrets, sealed; none: it has no such entry.
    pub fn secrets(&mut self) -> Result<Option<Vec<u8>>, PackageError> {
        let Some(info) = self.entries.get(SECRETS) else { return Ok(None) };
        if info.size > MAX_SECRETS as u64 {
            return Err(PackageError::Limit(format!("{SECRETS} has more than {MAX_SECRETS} bytes")));
        }
        let mut bytes = Vec::with_capacity(info.size as usize);
        self.read::<PackageError>(SECRETS, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    /// Hands on the lines of the index, in batches.
    ///
    /// # Errors
    /// Why the package is refused, or what `each` says.
    pub fn index<E: From<PackageError>>(&mut self, each: &mut dyn FnMut(Lines) -> Result<(), E>) -> Result<usize, E> {
        let mut first = 0;
        self.lines(INDEX, &mut first, each)?;
        Ok(first)
    }

    /// Hands on the lines of what belongs to the environment that it comes from, in batches.
    ///
    /// # Errors
    /// Why the package is refused, or what `each` says.
    pub fn values<E: From<PackageError>>(&mut self, each: &mut dyn FnMut(Lines) -> Result<(), E>) -> Result<(), E> {
        if self.entries.contains_key(VALUES) { self.lines(VALUES, &mut 0, each) } else { Ok(()) }
    }

    /// Hands on the lines of all shards in their order, in batches. A shard of which no place is `wanted` is only
    /// verified.
    ///
    /// # Errors
    /// Why the package is refused, or what `each` says.
    pub fn resources<E: From<PackageError>>(
        &mut self,
        wanted: &dyn Fn(std::ops::Range<usize>) -> bool,
        each: &mut dyn FnMut(Lines) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut first = 0;
        for number in 1.. {
            let name = shard_name(number);
            let Some(at) = self.archive.index_for_name(&name) else { break };
            let info = self.entries.get(&name);
            let known = info.and_then(|info| Some((usize::try_from(info.lines?).ok()?, info.stored_sha256?)));
            match known {
                Some((lines, hash)) if !wanted(first..first.saturating_add(lines)) => {
                    self.verify_stored(&name, at, hash)?;
                    first = first.saturating_add(lines);
                }
                _ => self.lines(&name, &mut first, each)?,
            }
        }
        Ok(first)
    }

    /// Checks the bytes of an entry as they stand in the archive.
    fn verify_stored(&mut self, name: &str, at: usize, hash: Hash) -> Result<(), PackageError> {
        let changed = |error: &dyn std::fmt::Display| PackageError::Tampered(format!("{name} is damaged: {error}"));
        let entry = self.archive.by_index_raw(at).map_err(|error| changed(&error))?;
        if super::hash_of(entry).map_err(|error| changed(&error))? != hash {
            return Err(PackageError::Tampered(format!("{name} does not have the hash that its manifest says")));
        }
        Ok(())
    }

    fn lines<E: From<PackageError>>(
        &mut self,
        name: &str,
        first: &mut usize,
        each: &mut dyn FnMut(Lines) -> Result<(), E>,
    ) -> Result<(), E> {
        let longest = self.limits.max_definition_bytes + LINE_SLACK;
        let mut batch: Vec<u8> = Vec::with_capacity(BATCH_BYTES + 64 * 1024);
        self.read(name, &mut |piece| {
            let before = batch.len();
            batch.extend_from_slice(piece);
            if batch.len() < BATCH_BYTES {
                return Ok(());
            }
            // A batch that was full before this piece had no end of a line: one long line is searched once.
            let searched = if before < BATCH_BYTES { 0 } else { before };
            let end = batch[searched..].iter().rposition(|byte| *byte == b'\n').map(|at| searched + at);
            let Some(end) = end else {
                if batch.len() as u64 > longest {
                    return Err(PackageError::Limit(format!("{name} has a line of more than {longest} bytes")).into());
                }
                return Ok(());
            };
            let rest = batch.split_off(end + 1);
            let text = std::mem::replace(&mut batch, rest);
            let count = text.iter().filter(|byte| **byte == b'\n').count();
            let lines = Lines { first: *first, text };
            *first += count;
            each(lines)
        })?;
        if !batch.is_empty() {
            if batch.last() != Some(&b'\n') {
                return Err(PackageError::Tampered(format!("{name} ends in the middle of a line")).into());
            }
            let count = batch.iter().filter(|byte| **byte == b'\n').count();
            each(Lines { first: *first, text: batch })?;
            *first += count;
        }
        Ok(())
    }

    /// Reads an entry piece by piece; at its end its length and hash have been checked.
    ///
    /// # Errors
    /// Why the package is refused, or what `each` says.
    pub fn read<E: From<PackageError>>(
        &mut self,
        name: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let info = self.entries.get(name).cloned();
        let info = info.ok_or_else(|| PackageError::Incomplete(format!("{name} is missing")))?;
        let changed = |error: &dyn std::fmt::Display| PackageError::Tampered(format!("{name} is damaged: {error}"));
        let mut entry = self.archive.by_name(name).map_err(|error| changed(&error))?;
        let packed = entry.compressed_size().max(1);
        let (mut hasher, mut size) = (Sha256::new(), 0u64);
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = entry.read(&mut piece).map_err(|error| changed(&error))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            self.unpacked += read as u64;
            if size > info.size {
                return Err(PackageError::Tampered(format!("{name} is longer than its manifest says")).into());
            }
            if self.unpacked > self.limits.max_unpacked_bytes.saturating_mul(2) {
                return Err(PackageError::Limit("it unpacks to more than the limit".to_owned()).into());
            }
            if size > RATIO_FROM && size / packed > self.limits.max_compression_ratio {
                return Err(PackageError::Limit(format!("{name} is compressed suspiciously well")).into());
            }
            hasher.update(&piece[..read]);
            each(&piece[..read])?;
        }
        if size != info.size || Hash(hasher.finalize().into()) != info.sha256 {
            return Err(PackageError::Tampered(format!("{name} does not have the hash that its manifest says")).into());
        }
        Ok(())
    }
}
