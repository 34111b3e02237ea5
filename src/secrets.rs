//! Sealing of secrets at rest, the environment's signing key, tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::domain::resource::Hash;

pub mod envelope;
pub mod passwords;
pub mod rotation;

/// What can go wrong with keys.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The configured key is not 32 bytes in base64.
    #[error("security.secret_key must be 32 bytes in base64, as `openssl rand -base64 32` prints them")]
    Key,
    /// The key does not open what was sealed.
    #[error("the secret key does not open what is sealed in this database; start with the key that sealed it")]
    WrongKey,
    /// The operating system gives no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// The password could not be hashed.
    #[error("the password could not be hashed: {0}")]
    Password(argon2::password_hash::Error),
}

/// N bytes from the operating system.
///
/// # Errors
/// The operating system has none.
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SecretError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut())?;
    Ok(bytes)
}

/// Seals secrets with one key: XChaCha20-Poly1305, the place as associated data.
pub struct Sealer(XChaCha20Poly1305, hkdf::Hkdf<sha2::Sha256>);

impl Sealer {
    /// From the key as it is configured: 32 bytes in base64.
    ///
    /// # Errors
    /// It is not that.
    pub fn from_base64(key: &str) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(BASE64.decode(key.trim()).map_err(|_| SecretError::Key)?);
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| SecretError::Key)?;
        Ok(Self(cipher, hkdf::Hkdf::new(Some(b"ferry fingerprint"), &bytes)))
    }

    /// Tells requests apart that may hold a passphrase or a token: without the key nobody can try which.
    pub fn fingerprint(&self, request: &[u8]) -> Vec<u8> {
        let mut fingerprint = vec![0; 32];
        // 32 bytes are never too many.
        let _ = self.1.expand(request, &mut fingerprint);
        fingerprint
    }

    /// Seals some bytes for one place: nonce and ciphertext, in base64.
    ///
    /// # Errors
    /// No random bytes.
    pub fn seal(&self, place: &str, secret: &[u8]) -> Result<String, SecretError> {
        let nonce = random::<24>()?;
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(*nonce), payload).map_err(|_| SecretError::WrongKey)?;
        Ok(BASE64.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed for the same place.
    ///
    /// # Errors
    /// Another key, another place, or changed bytes.
    pub fn open(&self, place: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let bytes = BASE64.decode(sealed).map_err(|_| SecretError::WrongKey)?;
        let (nonce, sealed) = bytes.split_first_chunk::<24>().ok_or(SecretError::WrongKey)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| SecretError::WrongKey)
    }

    /// Seals a secret of a resource under a new value ID: `value ID:sealed`. Value IDs, not JSON paths,
    /// because arrays move.
    ///
    /// # Errors
    /// No random bytes.
    pub fn seal_value(&self, resource_id: &str, secret: &str) -> Result<String, SecretError> {
        let value_id = uuid::Uuid::new_v4().simple().to_string();
        let sealed = self.seal(&format!("{resource_id}/{value_id}"), secret.as_bytes())?;
        Ok(format!("{value_id}:{sealed}"))
    }

    /// Opens what [`Sealer::seal_value`] sealed for the same resource.
    ///
    /// # Errors
    /// Another key, another resource, or changed bytes.
    pub fn open_value(&self, resource_id: &str, sealed: &str) -> Result<Zeroizing<String>, SecretError> {
        let (value_id, sealed) = sealed.split_once(':').ok_or(SecretError::WrongKey)?;
        let opened = self.open(&format!("{resource_id}/{value_id}"), sealed)?;
        let text = std::str::from_utf8(&opened).map_err(|_| SecretError::WrongKey)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// The environment's signing key (ed25519).
pub struct Signer25519(SigningKey);

impl Signer25519 {
    /// From its seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public key, base64.
    pub fn public_key(&self) -> String {
        BASE64.encode(self.0.verifying_key().to_bytes())
    }

    /// The signature over some bytes, base64.
    pub fn sign(&self, message: &[u8]) -> String {
        BASE64.encode(self.0.sign(message).to_bytes())
    }
}

/// Whether a signature over some bytes is by the holder of a public key (both base64).
pub fn verify(public_key: &str, message: &[u8], signature: &str) -> bool {
    let checked = || {
        let key: [u8; 32] = BASE64.decode(public_key).ok()?.try_into().ok()?;
        let signature = Signature::from_slice(&BASE64.decode(signature).ok()?).ok()?;
        VerifyingKey::from_bytes(&key).ok()?.verify_strict(message, &signature).ok()
    };
    checked().is_some()
}

/// An ed25519 public key (32 bytes in base64) as keys are compared; `None`: it is none that signs anything.
pub fn public_key(text: &str) -> Option<String> {
    let bytes: [u8; 32] = BASE64.decode(text.trim()).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).map(|_| BASE64.encode(bytes))
}

/// The public half (X25519, base64) of a sealing seed.
pub fn sealing_key(seed: &[u8; 32]) -> String {
    let secret = x25519_dalek::StaticSecret::from(*seed);
    BASE64.encode(x25519_dalek::PublicKey::from(&secret).as_bytes())
}

/// A new API token: `ferry_`, 256 random bits in hex, and a CRC-32 for scanners.
///
/// # Errors
/// No random bytes.
pub fn new_token() -> Result<Zeroizing<String>, SecretError> {
    let body = Zeroizing::new(hex::encode(*random::<32>()?));
    Ok(Zeroizing::new(format!("ferry_{}{:08x}", *body, crc32fast::hash(body.as_bytes()))))
}

/// How a token is kept.
pub fn token_hash(token: &str) -> Hash {
    Hash::of(token.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_its_place_only() {
        let sealer = Sealer::from_base64(&BASE64.encode([7; 32])).unwrap();
        let sealed = sealer.seal("a/1", b"secret").unwrap();
        assert_eq!(sealer.open("a/1", &sealed).unwrap().as_slice(), b"secret");
        assert!(sealer.open("a/2", &sealed).is_err());
        assert!(Sealer::from_base64(&BASE64.encode([8; 32])).unwrap().open("a/1", &sealed).is_err());
        assert!(Sealer::from_base64("short").is_err());
    }

    #[test]
    fn signatures_verify_and_tokens_have_one_length() {
        let signer = Signer25519::from_seed(&[1; 32]);
        let signature = signer.sign(b"manifest");
        assert!(verify(&signer.public_key(), b"manifest", &signature));
        assert!(!verify(&signer.public_key(), b"manifesT", &signature));
        assert!(!verify("?", b"manifest", &signature));
        let token = new_token().unwrap();
        assert_eq!(token.len(), 6 + 64 + 8);
    }
}
