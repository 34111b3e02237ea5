//! Secrets that travel, sealed: with a passphrase, for a target; and the key that seals them at rest.

mod carried;
mod passphrases;
