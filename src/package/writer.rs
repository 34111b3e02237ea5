//! Writing a package: the same catalogue and options give the same entries.

use std::io::{self, Cursor, Read, Seek, Write};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::domain::manifest::{EntryInfo, Manifest};
use crate::domain::resource::Hash;

use super::limits::MANIFEST_RATIO;
use super::signature::{self, Keys};
use super::{MANIFEST, PackageError, SECRETS, SIGNATURE, attachment_name};

/// About how much JSON goes into one shard, in bytes.
pub const SHARD_BYTES: usize = 8 * 1024 * 1024;
/// An entry that would shrink by more is stored, so that no honest package meets a reader's limit.
const MAX_RATIO: u64 = 100;

fn options(method: CompressionMethod) -> SimpleFileOptions {
    let level = (method == CompressionMethod::Deflated).then_some(2);
    SimpleFileOptions::default()
        .compression_method(method)
        .compression_level(level)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o644)
        .large_file(false)
}

fn zip_error(error: zip::result::ZipError) -> PackageError {
    PackageError::Io(match error {
        zip::result::ZipError::Io(error) => error,
        other => std::io::Error::other(other.to_string()),
    })
}

/// Lines compressed by themselves, so that several shards can be at once.
pub struct Shard {
    archive: Vec<u8>,
    sha256: Hash,
    stored_sha256: Hash,
    size: u64,
    lines: u64,
}

impl Shard {
    /// Compresses what is written, which may be asked for twice. CPU-bound.
    pub fn compress(write: impl Fn(&mut dyn Write) -> io::Result<()>) -> Result<Self, PackageError> {
        Self::up_to(MAX_RATIO, write)
    }

    /// Stored where it would shrink by more than a ratio.
    fn up_to(most: u64, write: impl Fn(&mut dyn Write) -> io::Result<()>) -> Result<Self, PackageError> {
        let mut archive = Vec::new();
        let (mut sha256, mut size, mut lines) = (Hash::of(&[]), 0, 0);
        for method in [CompressionMethod::Deflated, CompressionMethod::Stored] {
            let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
            writer.start_file("shard", options(method)).map_err(zip_error)?;
            let mut hashed = Hashed { inner: &mut writer, hasher: Sha256::new(), size: 0, lines: 0 };
            write(&mut hashed)?;
            (size, lines) = (hashed.size, hashed.lines);
            sha256 = Hash(hashed.hasher.finalize().into());
            archive = writer.finish().map_err(zip_error)?.into_inner();
            if size <= archive.len() as u64 * most {
                break;
            }
        }
        let mut whole = ZipArchive::new(Cursor::new(&archive)).map_err(zip_error)?;
        let stored_sha256 = super::hash_of(whole.by_index_raw(0).map_err(zip_error)?)?;
        drop(whole);
        Ok(Self { archive, sha256, stored_sha256, size, lines })
    }
}

/// Hashes what passes.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
    lines: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        self.lines += bytes[..written].iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A package in the making, over a file that can seek.
pub struct Writer<W: Write + Seek> {
    zip: ZipWriter<W>,
    entries: Vec<EntryInfo>,
}

impl<W: Write + Seek> Writer<W> {
    /// An empty package.
    pub fn new(file: W) -> Self {
        Self { zip: ZipWriter::new(file), entries: Vec::new() }
    }

    /// Adds the index, or the next shard.
    pub fn shard(&mut self, path: String, shard: &Shard) -> Result<(), PackageError> {
        let mut archive = ZipArchive::new(Cursor::new(&shard.archive)).map_err(zip_error)?;
        let entry = archive.by_index_raw(0).map_err(zip_error)?;
        self.zip.raw_copy_file_rename(entry, path.as_str()).map_err(zip_error)?;
        let (stored_sha256, lines) = (Some(shard.stored_sha256), Some(shard.lines));
        self.entries.push(EntryInfo { path, size: shard.size, sha256: shard.sha256, stored_sha256, lines });
        Ok(())
    }

    /// Adds attachment bytes, stored: pictures do not shrink.
    ///
    /// # Errors
    /// The bytes are not those of the hash, or a file cannot be read or written.
    pub fn attachment(&mut self, hash: &Hash, size: u64, mut bytes: impl Read) -> Result<(), PackageError> {
        let path = attachment_name(hash);
        let large = options(CompressionMethod::Stored).large_file(size >= u64::from(u32::MAX));
        self.zip.start_file(path.as_str(), large).map_err(zip_error)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = bytes.read(&mut piece)?;
            if read == 0 {
                break;
            }
            hasher.update(&piece[..read]);
            self.zip.write_all(&piece[..read])?;
        }
        if Hash(hasher.finalize().into()) != *hash {
            return Err(std::io::Error::other("stored attachment bytes do not have their hash").into());
        }
        self.entries.push(EntryInfo { path, size, sha256: *hash, stored_sha256: None, lines: None });
        Ok(())
    }

    /// Adds sealed secrets; what is sealed does not shrink.
    pub fn secrets(&mut self, sealed: &[u8]) -> Result<(), PackageError> {
        self.zip.start_file(SECRETS, options(CompressionMethod::Stored)).map_err(zip_error)?;
        self.zip.write_all(sealed)?;
        let (size, sha256) = (sealed.len() as u64, Hash::of(sealed));
        self.entries.push(EntryInfo { path: SECRETS.to_owned(), size, sha256, stored_sha256: None, lines: None });
        Ok(())
    }

    /// Ends with the manifest and its signature; returns the file.
    pub fn finish(mut self, mut manifest: Manifest, keys: &Keys<'_>) -> Result<W, PackageError> {
        manifest.entries = std::mem::take(&mut self.entries);
        let bytes = serde_json::to_vec(&manifest).map_err(std::io::Error::other)?;
        let packed = Shard::up_to(MANIFEST_RATIO, |to| to.write_all(&bytes))?;
        let mut archive = ZipArchive::new(Cursor::new(&packed.archive)).map_err(zip_error)?;
        let entry = archive.by_index_raw(0).map_err(zip_error)?;
        self.zip.raw_copy_file_rename(entry, MANIFEST).map_err(zip_error)?;
        self.zip.start_file(SIGNATURE, options(CompressionMethod::Deflated)).map_err(zip_error)?;
        self.zip.write_all(&signature::sign(&bytes, keys))?;
        self.zip.finish().map_err(zip_error)
    }
}
