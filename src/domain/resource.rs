//! A resource's identity: ID, name, directory, attachment path, content hash.
//!
//! Values are parsed at the door and trusted inside.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 255;
/// Longest directory or attachment path, in bytes of UTF-8.
pub const MAX_PATH_BYTES: usize = 1024;

/// Why an ID, a name, a directory or a path is refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct Refused {
    /// Which value: `id`, `name`, `directory`, `path`.
    pub field: &'static str,
    /// What is wrong with it and what is allowed.
    pub reason: &'static str,
}

/// 1–64 of `A–Z a–z 0–9 _ -`, case-sensitive, unique in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceId(Arc<str>);

impl ResourceId {
    /// # Errors
    /// Refuses anything but 1–64 of the allowed characters.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.into()));
        }
        Err(Refused { field: "id", reason: "must be 1 to 64 characters of A-Z a-z 0-9 _ -" })
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ResourceId {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        Self::parse(&text)
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> String {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ResourceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Normalises a name: NFC, trimmed, 1–255 characters, no control characters.
///
/// # Errors
/// Says which rule the text breaks.
pub fn parse_name(text: &str) -> Result<String, Refused> {
    let name: String = text.nfc().collect::<String>().trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        return Err(Refused { field: "name", reason: "must have 1 to 255 characters" });
    }
    if name.chars().any(char::is_control) {
        return Err(Refused { field: "name", reason: "must not contain control characters" });
    }
    Ok(name)
}

/// Normalises a directory: absolute, NFC, every segment as a name would be; `/` is the root.
///
/// # Errors
/// Says which rule the text breaks.
pub fn parse_directory(text: &str) -> Result<String, Refused> {
    let text = text.trim();
    if text == "/" {
        return Ok("/".to_owned());
    }
    parse_segments("directory", text)
}

/// Normalises an attachment path as a definition names it: `/images/a.png`.
///
/// # Errors
/// Says which rule the text breaks.
pub fn parse_attachment_path(text: &str) -> Result<String, Refused> {
    parse_segments("path", text)
}

fn parse_segments(field: &'static str, text: &str) -> Result<String, Refused> {
    let refuse = |reason| Err(Refused { field, reason });
    let Some(rest) = text.strip_prefix('/') else {
        return refuse("must be absolute, like /Sales/Daily");
    };
    let mut path = String::with_capacity(text.len());
    for segment in rest.split('/') {
        let segment: String = segment.nfc().collect();
        let segment = segment.trim();
        match segment {
            "" | "." | ".." => return refuse("must not have empty, `.` or `..` segments"),
            _ if segment.chars().any(char::is_control) => {
                return refuse("must not contain control characters");
            }
            _ => {}
        }
        path.push('/');
        path.push_str(segment);
    }
    if path.len() > MAX_PATH_BYTES {
        return refuse("must not be longer than 1024 bytes");
    }
    Ok(path)
}

/// Puts a directory below a prefix: (`/Imported`, `/Sales`) gives `/Imported/Sales`.
pub fn below(prefix: Option<&str>, directory: &str) -> String {
    match prefix {
        None | Some("/") => directory.to_owned(),
        Some(prefix) if directory == "/" => prefix.to_owned(),
        Some(prefix) => format!("{prefix}{directory}"),
    }
}

/// A SHA-256, shown as `sha256:…` where people meet it and as plain hex inside a package.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From the 32 bytes that the database keeps.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From 64 hex digits, with or without `sha256:` before them.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        Self::from_slice(&hex::decode(digits).ok()?)
    }

    /// 64 hex digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256"))
    }
}

/// The content hash: type, name, directory, definition without secrets and environment-specific
/// values, and the hashes of its attachments' bytes (`None`: the bytes are not there).
/// Same hash = same content, in any environment.
pub fn content_hash(
    type_key: &str,
    name: &str,
    directory: &str,
    definition: &Hash,
    attachments: &[(String, Option<Hash>)],
) -> Hash {
    let mut attachments: Vec<_> = attachments.iter().collect();
    attachments.sort();
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    field(type_key.as_bytes());
    field(name.as_bytes());
    field(directory.as_bytes());
    field(&definition.0);
    for (path, bytes) in attachments {
        field(path.as_bytes());
        field(bytes.as_ref().map_or(&[][..], |hash| &hash.0));
    }
    Hash(hasher.finalize().into())
}
