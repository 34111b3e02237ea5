//! Everything through the public door: real servers, a real Postgres, HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod access;
mod bad_input;
mod catalogue;
mod closure;
mod failures;
mod hostile;
mod import_options;
mod migration;
mod online;
mod properties;
mod support;
mod types;
