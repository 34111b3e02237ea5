//! Everything through the public door: real servers, a real Postgres, HTTP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by panicking")]

mod access;
mod architecture;
mod audit;
mod bad_input;
mod catalogue;
mod claims;
mod closure;
mod failures;
mod faults;
mod grants;
mod hostile;
mod http;
mod import_options;
mod migration;
mod online;
mod openapi;
mod pictures;
mod plans;
mod polling;
mod properties;
mod records;
mod rewriting;
mod rights;
mod roles;
mod round_trips;
mod secrets;
mod sessions;
mod support;
mod thin;
mod tls;
mod trust;
mod type_changes;
mod types;
mod uploads;
mod wire_bytes;
