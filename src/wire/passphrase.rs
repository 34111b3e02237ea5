//! Passphrases, as requests give them.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Characters that a passphrase has at least, and at most.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=1024;

/// Reads a passphrase, or none; what it is instead is never quoted.
///
/// # Errors
/// It is no text.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(SecretString::from(text))),
        Some(_) => Err(serde::de::Error::custom("must be a text")),
    }
}

/// What is wrong with a passphrase that is to be used from now on.
pub fn weakness(passphrase: &SecretString) -> Option<&'static str> {
    let fits = LENGTH.contains(&passphrase.expose_secret().chars().count());
    (!fits).then_some("must have 8 to 1024 characters")
}
