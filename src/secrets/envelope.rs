//! `secrets.sealed`: a line of JSON that says how, a newline, and the payload under XChaCha20-Poly1305. The key
//! comes from a passphrase (argon2id) or from the target's sealing key (X25519, HKDF). The line, and which
//! export it belongs to, are associated data. A line is hostile until the payload has opened.

use std::sync::{Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::domain::json;

use super::{SecretError, random};

/// The newest form that this version writes and opens.
const FORMAT: u64 = 1;
/// The longest first line, in bytes.
const LONGEST_HEADER: usize = 4096;
/// What is written: RFC 9106's second recommendation, in one lane.
const ARGON: Argon = Argon { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
/// What is opened at most, so that no package costs more than a moment: KiB, passes, lanes, KiB times passes.
const MOST: (u32, u32, u32, u64) = (256 * 1024, 16, 4, 1024 * 1024);
/// What a key from a sealing key is for.
const INFO: &[u8] = b"ferry secrets.sealed 1";

/// Why an envelope cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// It is not one, or not one that may be opened.
    #[error("secrets.sealed {0}")]
    Malformed(&'static str),
    /// A newer version wrote it.
    #[error("secrets.sealed has a newer form than this version opens")]
    Newer,
    /// The key is another one, or the bytes are.
    #[error("secrets.sealed does not open")]
    Closed,
    /// It is for the holder of another sealing key.
    #[error("its secrets are sealed for another environment, and can be opened there alone")]
    Elsewhere,
    /// The target's sealing key is none.
    #[error("the sealing key is not 32 bytes of a curve point in base64")]
    SealingKey,
    /// No random bytes.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Who can open an envelope.
pub enum Recipient<'a> {
    /// Who knows the passphrase.
    Passphrase(&'a str),
    /// One environment.
    Environment {
        /// Its ID.
        id: &'a str,
        /// X25519, base64.
        sealing_key: &'a str,
    },
}

/// The export that an envelope belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Belongs<'a> {
    /// The ID of the environment that exports.
    pub environment: &'a str,
    /// The ID of its record.
    pub record: &'a str,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u64,
    #[serde(rename = "for")]
    recipient: To,
    nonce: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum To {
    Passphrase { argon2id: Argon, salt: String },
    Environment { id: String, ephemeral_key: String },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argon {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Seals a payload.
///
/// # Errors
/// The target's sealing key is none, or there are no random bytes.
pub fn seal(recipient: &Recipient<'_>, belongs: Belongs<'_>, payload: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let nonce = random::<24>()?;
    let (key, to) = match recipient {
        Recipient::Passphrase(passphrase) => {
            let salt = random::<16>()?;
            let key = of_passphrase(passphrase, ARGON, salt.as_slice())?;
            (key, To::Passphrase { argon2id: ARGON, salt: BASE64.encode(*salt) })
        }
        Recipient::Environment { id, sealing_key } => {
            let theirs = PublicKey::from(bytes(sealing_key).ok_or(EnvelopeError::SealingKey)?);
            let own = StaticSecret::from(*random::<32>()?);
            let ephemeral = PublicKey::from(&own);
            let key = agreed(&own, &theirs, (&ephemeral, &theirs)).ok_or(EnvelopeError::SealingKey)?;
            (key, To::Environment { id: (*id).to_owned(), ephemeral_key: BASE64.encode(ephemeral.as_bytes()) })
        }
    };
    let header = Header { format: FORMAT, recipient: to, nonce: BASE64.encode(*nonce) };
    let mut line = serde_json::to_vec(&header).map_err(|_| EnvelopeError::Malformed("cannot be written"))?;
    let payload = Payload { msg: payload, aad: &associated(&line, belongs) };
    let sealed = XChaCha20Poly1305::new((&*key).into()).encrypt(&XNonce::from(*nonce), payload);
    line.push(b'\n');
    line.extend(sealed.map_err(|_| EnvelopeError::Malformed("is too large"))?);
    Ok(line)
}

/// An envelope that is not open yet.
pub struct Envelope<'a> {
    header: Header,
    line: &'a [u8],
    nonce: [u8; 24],
    sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads its first line.
    ///
    /// # Errors
    /// It is none, or too new.
    pub fn read(envelope: &'a [u8]) -> Result<Self, EnvelopeError> {
        let first = &envelope[..envelope.len().min(LONGEST_HEADER)];
        let end = first.iter().position(|byte| *byte == b'\n').ok_or(EnvelopeError::Malformed("has no first line"))?;
        let (line, sealed) = (&envelope[..end], &envelope[end + 1..]);
        let unread = |_| EnvelopeError::Malformed("has a first line that cannot be read");
        let form: serde_json::Value = json::outside(line).map_err(unread)?;
        if form["format"].as_u64().is_some_and(|format| format > FORMAT) {
            return Err(EnvelopeError::Newer);
        }
        let header: Header = json::outside(line).map_err(unread)?;
        if header.format != FORMAT {
            return Err(EnvelopeError::Malformed("has no form that is known"));
        }
        let nonce = bytes(&header.nonce).ok_or(EnvelopeError::Malformed("has a nonce of another length"))?;
        Ok(Self { header, line, nonce, sealed })
    }

    /// It takes a passphrase to open it.
    pub fn wants_passphrase(&self) -> bool {
        matches!(self.header.recipient, To::Passphrase { .. })
    }

    /// Opens it with a passphrase. Takes a good part of a second.
    ///
    /// # Errors
    /// [`EnvelopeError::Closed`] for another passphrase, another export, or changed bytes.
    pub fn open_with(&self, passphrase: &str, belongs: Belongs<'_>) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let To::Passphrase { argon2id, salt } = &self.header.recipient else { return Err(EnvelopeError::Elsewhere) };
        let salt = BASE64.decode(salt).ok().filter(|salt| (8..=64).contains(&salt.len()));
        let salt = salt.ok_or(EnvelopeError::Malformed("has a salt of another length"))?;
        let key = of_passphrase(passphrase, *argon2id, &salt)?;
        self.open(&key, belongs)
    }

    /// Opens it as an environment, with the seed of its sealing key.
    ///
    /// # Errors
    /// [`EnvelopeError::Elsewhere`] when it is for another one, [`EnvelopeError::Closed`] for another export or
    /// changed bytes.
    pub fn open_as(
        &self,
        id: &str,
        seed: &[u8; 32],
        belongs: Belongs<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let ephemeral = match &self.header.recipient {
            To::Environment { id: theirs, ephemeral_key } if theirs == id => bytes(ephemeral_key),
            _ => return Err(EnvelopeError::Elsewhere),
        };
        let ephemeral = PublicKey::from(ephemeral.ok_or(EnvelopeError::Malformed("has a key of another length"))?);
        let own = StaticSecret::from(*seed);
        let public = PublicKey::from(&own);
        let key = agreed(&own, &ephemeral, (&ephemeral, &public)).ok_or(EnvelopeError::Closed)?;
        self.open(&key, belongs)
    }

    fn open(&self, key: &[u8; 32], belongs: Belongs<'_>) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let aad = associated(self.line, belongs);
        let payload = Payload { msg: self.sealed, aad: &aad };
        let opened = XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(self.nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| EnvelopeError::Closed)
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// What the key is bound to besides the payload.
fn associated(line: &[u8], belongs: Belongs<'_>) -> Vec<u8> {
    [line, b"\n", belongs.environment.as_bytes(), b"\n", belongs.record.as_bytes()].concat()
}

/// The key of two key pairs, bound to both public keys; none for a point that gives everyone the same.
fn agreed(own: &StaticSecret, theirs: &PublicKey, (ephemeral, target): (&PublicKey, &PublicKey)) -> Option<Key> {
    let shared = own.diffie_hellman(theirs);
    if !shared.was_contributory() {
        return None;
    }
    let salt = [ephemeral.as_bytes().as_slice(), target.as_bytes()].concat();
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Hkdf::<Sha256>::new(Some(&salt), shared.as_bytes()).expand(INFO, key.as_mut_slice()).ok()?;
    Some(key)
}

type Key = Zeroizing<[u8; 32]>;

/// The key of a passphrase, which counts in Unicode NFC: keyboards differ in how they write an umlaut.
fn of_passphrase(passphrase: &str, argon: Argon, salt: &[u8]) -> Result<Key, EnvelopeError> {
    // However many packages come at once, one of them takes memory.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Argon { memory_kib, passes, lanes } = argon;
    let cost = u64::from(memory_kib) * u64::from(passes);
    if memory_kib > MOST.0 || passes > MOST.1 || lanes > MOST.2 || cost > MOST.3 {
        return Err(EnvelopeError::Malformed("asks for more work than a passphrase is worth"));
    }
    let wrong = |_| EnvelopeError::Malformed("asks for work that cannot be done");
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(wrong)?;
    let passphrase: Zeroizing<String> = Zeroizing::new(passphrase.nfc().collect());
    let mut key = Zeroizing::new([0; 32]);
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice()).map_err(wrong)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BELONGS: Belongs<'static> = Belongs { environment: "e", record: "r" };

    fn closed<T>(opened: Result<T, EnvelopeError>) -> bool {
        matches!(opened, Err(EnvelopeError::Closed))
    }

    #[test]
    fn a_passphrase_opens_what_it_sealed_and_nothing_else_does() {
        let sealed = seal(&Recipient::Passphrase("Schlüssel 钥匙"), BELONGS, b"payload").unwrap();
        let envelope = Envelope::read(&sealed).unwrap();
        assert!(envelope.wants_passphrase());
        assert_eq!(envelope.open_with("Schlu\u{308}ssel 钥匙", BELONGS).unwrap().as_slice(), b"payload");
        assert!(closed(envelope.open_with("Schlüssel", BELONGS)));
        assert!(closed(envelope.open_with("Schlüssel 钥匙", Belongs { record: "other", ..BELONGS })));
        assert!(matches!(envelope.open_as("e", &[1; 32], BELONGS), Err(EnvelopeError::Elsewhere)));
    }

    #[test]
    fn an_environment_opens_what_is_for_it_and_no_other_does() {
        let key = super::super::sealing_key(&[5; 32]);
        let recipient = Recipient::Environment { id: "target", sealing_key: &key };
        let sealed = seal(&recipient, BELONGS, b"").unwrap();
        let envelope = Envelope::read(&sealed).unwrap();
        assert!(!envelope.wants_passphrase());
        assert!(envelope.open_as("target", &[5; 32], BELONGS).unwrap().is_empty());
        assert!(closed(envelope.open_as("target", &[6; 32], BELONGS)));
        assert!(closed(envelope.open_as("target", &[5; 32], Belongs { environment: "x", ..BELONGS })));
        assert!(matches!(envelope.open_as("other", &[5; 32], BELONGS), Err(EnvelopeError::Elsewhere)));
        let low = BASE64.encode([0; 32]);
        for sealing_key in ["", "AAAA", low.as_str()] {
            let refused = seal(&Recipient::Environment { id: "target", sealing_key }, BELONGS, b"");
            assert!(matches!(refused, Err(EnvelopeError::SealingKey)));
        }
    }

    #[test]
    fn every_bit_counts() {
        let key = super::super::sealing_key(&[5; 32]);
        let sealed = seal(&Recipient::Environment { id: "t", sealing_key: &key }, BELONGS, b"some secrets").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let opened = Envelope::read(&changed).and_then(|envelope| envelope.open_as("t", &[5; 32], BELONGS));
            assert!(opened.is_err(), "{at}");
            let cut = Envelope::read(&sealed[..at]).and_then(|envelope| envelope.open_as("t", &[5; 32], BELONGS));
            assert!(cut.is_err(), "cut at {at}");
        }
    }
}
