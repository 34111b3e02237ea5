//! Who signed a package, and whether that is enough.

use serde::{Deserialize, Serialize};

use super::manifest::Origin;

/// Who signed the package of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Signature {
    /// The name that the signer gives itself.
    pub environment: String,
    /// The key ID of the signature: the signer's environment ID.
    pub key_id: String,
    /// The key is that of a trusted source, or this environment's own; false: nobody here vouches for the signer.
    pub verified: bool,
    /// The name of the trusted source.
    pub trusted_as: Option<String>,
}

/// What an environment knows of a signer.
#[derive(Debug)]
pub struct Known<'a> {
    /// This environment's own ID and key.
    pub own: (&'a str, &'a str),
    /// The key of the last import from the signer's environment that was executed in the domain.
    pub pinned: Option<&'a str>,
    /// The trusted source that has the key.
    pub trusted_as: Option<String>,
    /// Packages of others are refused.
    pub trusted_only: bool,
}

/// Why a signer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Another key stands for its ID.
    #[error("The package claims to come from an environment whose packages were signed with another key so far.")]
    OtherKey,
    /// It is not among the trusted sources.
    #[error("This environment accepts packages of trusted sources only, and the one that signed this is none.")]
    NoSource,
}

impl Untrusted {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::OtherKey => {
                "Make sure where the package comes from. If that environment has a new key, an administrator of the domain removes the pinned one, or an administrator of this environment adds the new one to the trusted sources."
            }
            Self::NoSource => {
                "Ask the administrator of this environment to add the public key of the one that it comes from to the trusted sources."
            }
        }
    }
}

/// Decides on the signer of a package, whose signature fits its key already.
pub fn decide(origin: &Origin, known: Known<'_>) -> Result<Signature, Untrusted> {
    let (own_id, own_key) = known.own;
    let expected = match () {
        () if origin.id == own_id => Some(own_key),
        // Somebody named this key; the other was only met first.
        () if known.trusted_as.is_some() => None,
        () => known.pinned,
    };
    if expected.is_some_and(|key| key != origin.public_key) {
        return Err(Untrusted::OtherKey);
    }
    let verified = known.trusted_as.is_some() || origin.public_key == own_key;
    if known.trusted_only && !verified {
        return Err(Untrusted::NoSource);
    }
    Ok(Signature {
        environment: origin.name.clone(),
        key_id: origin.id.clone(),
        verified,
        trusted_as: known.trusted_as,
    })
}
