//! Writing a package: the same catalogue and options give the same entries.

use std::io::{Cursor, Read, Seek, Write};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::domain::manifest::{EntryInfo, Manifest};
use crate::domain::resource::Hash;

use super::signature::{self, Keys};
use super::{INDEX, MANIFEST, PackageError, SECRETS, SIGNATURE, attachment_name, shard_name};

/// About how much JSON goes into one shard, in bytes.
pub const SHARD_BYTES: usize = 8 * 1024 * 1024;
/// An entry that would shrink by more is stored, so that no honest package meets a reader's limit.
const MAX_RATIO: u64 = 100;

fn options(method: CompressionMethod) -> SimpleFileOptions {
    let level = (method == CompressionMethod::Deflated).then_some(1);
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

/// A shard compressed by itself, so that several can be at once.
pub struct Shard {
    archive: Vec<u8>,
    sha256: Hash,
    size: u64,
}

impl Shard {
    /// Compresses the lines of a shard. CPU-bound.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn compress(lines: &[u8]) -> Result<Self, PackageError> {
        let packed = |method| -> Result<Vec<u8>, PackageError> {
            let mut writer = ZipWriter::new(Cursor::new(Vec::with_capacity(lines.len() / 4)));
            writer.start_file("shard", options(method)).map_err(zip_error)?;
            writer.write_all(lines)?;
            Ok(writer.finish().map_err(zip_error)?.into_inner())
        };
        let mut archive = packed(CompressionMethod::Deflated)?;
        if lines.len() as u64 > archive.len() as u64 * MAX_RATIO {
            archive = packed(CompressionMethod::Stored)?;
        }
        Ok(Self { archive, sha256: Hash::of(lines), size: lines.len() as u64 })
    }
}

/// A package in the making, over a file that can seek.
pub struct Writer<W: Write + Seek> {
    zip: ZipWriter<W>,
    entries: Vec<EntryInfo>,
    shards: usize,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins with the index, line by line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin<E: From<PackageError>>(file: W, index: impl Iterator<Item = Result<Vec<u8>, E>>) -> Result<Self, E> {
        let mut writer = Self { zip: ZipWriter::new(file), entries: Vec::new(), shards: 0 };
        writer.zip.start_file(INDEX, options(CompressionMethod::Deflated)).map_err(zip_error)?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        for line in index {
            let mut line = line?;
            line.push(b'\n');
            hasher.update(&line);
            size += line.len() as u64;
            writer.zip.write_all(&line).map_err(PackageError::Io)?;
        }
        writer.entries.push(EntryInfo { path: INDEX.to_owned(), size, sha256: Hash(hasher.finalize().into()) });
        Ok(writer)
    }

    /// Adds the next shard.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn shard(&mut self, shard: &Shard) -> Result<(), PackageError> {
        self.shards += 1;
        let path = shard_name(self.shards);
        let mut archive = ZipArchive::new(Cursor::new(&shard.archive)).map_err(zip_error)?;
        let entry = archive.by_index_raw(0).map_err(zip_error)?;
        self.zip.raw_copy_file_rename(entry, path.as_str()).map_err(zip_error)?;
        self.entries.push(EntryInfo { path, size: shard.size, sha256: shard.sha256 });
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
        self.entries.push(EntryInfo { path, size, sha256: *hash });
        Ok(())
    }

    /// Adds sealed secrets; what is sealed does not shrink.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn secrets(&mut self, sealed: &[u8]) -> Result<(), PackageError> {
        self.zip.start_file(SECRETS, options(CompressionMethod::Stored)).map_err(zip_error)?;
        self.zip.write_all(sealed)?;
        let (size, sha256) = (sealed.len() as u64, Hash::of(sealed));
        self.entries.push(EntryInfo { path: SECRETS.to_owned(), size, sha256 });
        Ok(())
    }

    /// Ends with the manifest and its signature; returns the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self, mut manifest: Manifest, keys: &Keys<'_>) -> Result<W, PackageError> {
        manifest.entries = std::mem::take(&mut self.entries);
        let bytes = serde_json::to_vec(&manifest).map_err(std::io::Error::other)?;
        self.zip.start_file(MANIFEST, options(CompressionMethod::Deflated)).map_err(zip_error)?;
        self.zip.write_all(&bytes)?;
        self.zip.start_file(SIGNATURE, options(CompressionMethod::Deflated)).map_err(zip_error)?;
        self.zip.write_all(&signature::sign(&bytes, keys))?;
        self.zip.finish().map_err(zip_error)
    }
}
