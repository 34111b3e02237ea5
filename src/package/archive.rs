//! The archive itself: its end, the names and kinds of its entries. Nothing that it declares is trusted.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use zip::CompressionMethod;

use super::{INDEX, MANIFEST, PackageError, SECRETS, SIGNATURE, VALUES};

/// Largest central directory, in bytes.
const MAX_DIRECTORY: u64 = 512 * 1024 * 1024;

pub(super) fn unreadable(error: zip::result::ZipError) -> PackageError {
    PackageError::Unreadable(error.to_string())
}

/// The end record is the last thing in the file, and the directory that it announces can be read into memory.
pub(super) fn check_end(file: &mut File) -> Result<(), PackageError> {
    const END: usize = 22;
    let wrong = |reason: &str| PackageError::Unreadable(reason.to_owned());
    let length = file.seek(SeekFrom::End(0))?;
    let tail = length.min(64 * 1024);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::with_capacity(tail as usize);
    file.read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(0))?;
    let at = (0..bytes.len().saturating_sub(END - 1)).rev().find(|at| bytes[*at..].starts_with(b"PK\x05\x06"));
    let at = at.ok_or_else(|| wrong("it is not a ZIP archive, or it was cut off"))?;
    let record = &bytes[at..];
    let comment = u16::from_le_bytes([record[20], record[21]]) as usize;
    if record.len() != END + comment {
        return Err(wrong("something stands after the archive's end"));
    }
    let size = u32::from_le_bytes([record[12], record[13], record[14], record[15]]);
    let directory = match at.checked_sub(20 + 56) {
        Some(zip64) if size == u32::MAX && bytes[zip64..].starts_with(b"PK\x06\x06") => {
            bytes[zip64 + 40..zip64 + 48].try_into().map_or(u64::MAX, u64::from_le_bytes)
        }
        _ => u64::from(size),
    };
    if directory > MAX_DIRECTORY || directory > length {
        return Err(PackageError::Limit("it has too many entries".to_owned()));
    }
    Ok(())
}

/// A name that only a package can have, on an entry that only holds bytes.
pub(super) fn checked_name<R: Read>(entry: &zip::read::ZipFile<'_, R>) -> Result<String, PackageError> {
    let refuse =
        |name: &str, reason: &str| Err(PackageError::Unreadable(format!("the entry {} {reason}", name.escape_debug())));
    let name = entry.name().map_err(unreadable)?.into_owned();
    if name.starts_with("__MACOSX/") || name.ends_with(".DS_Store") {
        return refuse(
            &name,
            "was added by macOS when the package was packed again; upload the file as it was downloaded",
        );
    }
    if entry.encrypted() {
        return refuse(&name, "is encrypted");
    }
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return refuse(&name, "is packed in a way that packages do not use");
    }
    let file_type = entry.unix_mode().unwrap_or(0) & 0o170_000;
    if entry.is_dir() {
        let known = matches!(name.as_str(), "resources/" | "attachments/") && entry.size() == 0;
        return if known { Ok(name) } else { refuse(&name, "is a folder that packages do not have") };
    }
    if entry.is_symlink() || !matches!(file_type, 0 | 0o100_000) {
        return refuse(&name, "is not a plain file");
    }
    let digits = |text: &str, radix: u32, length: usize| {
        text.len() == length && text.chars().all(|c| c.is_digit(radix) && !c.is_uppercase())
    };
    let known = matches!(name.as_str(), INDEX | VALUES | MANIFEST | SIGNATURE | SECRETS)
        || name
            .strip_prefix("resources/")
            .and_then(|rest| rest.strip_suffix(".ndjson"))
            .is_some_and(|number| number.len() >= 5 && number.chars().all(|c| c.is_ascii_digit()))
        || name.strip_prefix("attachments/").is_some_and(|hash| digits(hash, 16, 64));
    if known { Ok(name) } else { refuse(&name, "has a name that packages do not use") }
}
