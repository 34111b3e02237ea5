//! Secrets that travel, sealed: with a passphrase, for a target; and the key that seals them at rest.

mod canaries;
mod carried;
mod hostile;
pub mod passphrases;
mod rotation;
