//! `signature.json`: a DSSE envelope over the manifest's bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::domain::json;

use super::PackageError;

const PAYLOAD_TYPE: &str = "application/vnd.ferry.manifest+json";

/// One is written; others may have been added by whom it passed.
const MAX_SIGNATURES: usize = 8;

/// Signs or checks with a key that this room does not know.
pub struct Keys<'a> {
    /// Gives the signature over some bytes, base64.
    pub sign: &'a dyn Fn(&[u8]) -> String,
    /// The key ID: the environment's ID.
    pub key_id: &'a str,
}

/// Whether a signature over some bytes is by the holder of a public key: (key, bytes, signature).
pub type Verify = fn(&str, &[u8], &str) -> bool;

#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<SignatureLine>,
}

#[derive(Serialize, Deserialize)]
struct SignatureLine {
    keyid: String,
    sig: String,
}

/// The envelope over a manifest.
pub fn sign(manifest: &[u8], keys: &Keys<'_>) -> Vec<u8> {
    let envelope = Envelope {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: BASE64.encode(manifest),
        signatures: vec![SignatureLine { keyid: keys.key_id.to_owned(), sig: (keys.sign)(&signed_bytes(manifest)) }],
    };
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// Checks the envelope against the manifest's bytes and the key of who says that he signed it; the key ID must be his.
///
/// # Errors
/// [`PackageError::Tampered`].
pub fn check(
    envelope: &[u8],
    manifest: &[u8],
    (signer, public_key): (&str, &str),
    verify: Verify,
) -> Result<(), PackageError> {
    let wrong = |reason: &str| PackageError::Tampered(format!("the signature {reason}"));
    let envelope: Envelope = json::outside(envelope).map_err(|_| wrong("cannot be read"))?;
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(wrong("has too many lines"));
    }
    if envelope.payload_type != PAYLOAD_TYPE || BASE64.decode(&envelope.payload).ok().as_deref() != Some(manifest) {
        return Err(wrong("does not fit the manifest"));
    }
    drop(envelope.payload);
    let mut own = envelope.signatures.iter().filter(|line| line.keyid == signer);
    let (Some(line), None) = (own.next(), own.next()) else {
        return Err(wrong("does not have one line of the environment that the manifest names"));
    };
    if verify(public_key, &signed_bytes(manifest), &line.sig) {
        Ok(())
    } else {
        Err(wrong("does not fit the manifest"))
    }
}

/// DSSE's pre-authentication encoding.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
