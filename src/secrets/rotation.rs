//! From one secret key to another.

use serde_json::Value;

use crate::domain::definition::SEALED;

use super::{Sealer, SecretError};

/// What the environment's own check holds, sealed at `key_check`.
pub const KEY_CHECK: &[u8] = b"ferry";

/// The key that everything is sealed with, and the one that it is to be sealed with.
pub struct Rotation {
    /// The present one.
    pub old: Sealer,
    /// The next one.
    pub new: Sealer,
}

/// What was done to a definition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Values that are sealed with the new key now.
    pub sealed: u64,
    /// Values that the old key does not open; they stay as they are.
    pub closed: u64,
}

impl Rotation {
    /// Seals again what is sealed at a place.
    ///
    /// # Errors
    /// The old key does not open it.
    pub fn again(&self, place: &str, sealed: &str) -> Result<String, SecretError> {
        self.new.seal(place, &self.old.open(place, sealed)?)
    }

    /// Seals again whatever rests sealed in the definition of a resource, also where its type no longer says
    /// that it is a secret; value IDs stay.
    ///
    /// # Errors
    /// No random bytes.
    pub fn definition(&self, resource_id: &str, definition: &mut Value) -> Result<Done, SecretError> {
        let mut done = Done::default();
        self.walk(resource_id, definition, &mut done)?;
        Ok(done)
    }

    fn walk(&self, resource_id: &str, value: &mut Value, done: &mut Done) -> Result<(), SecretError> {
        match value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.walk(resource_id, item, done)),
            Value::Object(map) => {
                if let (1, Some(Value::String(sealed))) = (map.len(), map.get_mut(SEALED)) {
                    return self.value(resource_id, sealed, done);
                }
                map.values_mut().try_for_each(|item| self.walk(resource_id, item, done))
            }
            _ => Ok(()),
        }
    }

    fn value(&self, resource_id: &str, sealed: &mut String, done: &mut Done) -> Result<(), SecretError> {
        let opened = sealed.split_once(':').and_then(|(value_id, bytes)| {
            let place = format!("{resource_id}/{value_id}");
            Some((value_id, self.old.open(&place, bytes).ok()?, place))
        });
        match opened {
            Some((value_id, secret, place)) => {
                *sealed = format!("{value_id}:{}", self.new.seal(&place, &secret)?);
                done.sealed += 1;
            }
            None => done.closed += 1,
        }
        Ok(())
    }
}
