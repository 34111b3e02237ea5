//! From one secret key to another.

use crate::domain::import_plan::Entry;
use crate::domain::overlay::{Overlay, Own};

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

/// What was done to the secrets of a resource.
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

    /// Seals again what a version of a resource has sealed, in the text that is kept; value IDs stay.
    ///
    /// # Errors
    /// No random bytes, or the text is none.
    pub fn version(&self, resource_id: &str, text: &mut String) -> Result<Done, SecretError> {
        let mut overlay: Overlay = serde_json::from_str(text).map_err(|_| SecretError::WrongKey)?;
        let done = self.overlay(resource_id, &mut overlay)?;
        *text = serde_json::to_string(&overlay).map_err(|_| SecretError::WrongKey)?;
        Ok(done)
    }

    /// The same for what came along with an import that has not ended.
    ///
    /// # Errors
    /// No random bytes, or the text is none.
    pub fn entries(&self, text: &mut String) -> Result<(), SecretError> {
        let mut entries: Vec<Entry> = serde_json::from_str(text).map_err(|_| SecretError::WrongKey)?;
        for entry in &mut entries {
            self.overlay(entry.id.as_str(), &mut entry.own)?;
        }
        *text = serde_json::to_string(&entries).map_err(|_| SecretError::WrongKey)?;
        Ok(())
    }

    fn overlay(&self, resource_id: &str, overlay: &mut Overlay) -> Result<Done, SecretError> {
        let mut done = Done::default();
        for (_, own) in &mut overlay.0 {
            if let Own::Sealed(sealed) = own {
                self.value(resource_id, sealed, &mut done)?;
            }
        }
        Ok(done)
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
