//! What handlers say of what they did, in the transaction in which they do it.

use std::fmt::Display;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::db::audit::{self as rows, Entry};
use crate::db::{DbError, PgConnection};

use super::auth::Caller;

/// Says what the caller does in his domain, in the transaction in which he does it and before a record changes
/// its state. Details never hold a secret, token, password or definition.
pub(in crate::api) async fn note(
    connection: &mut PgConnection,
    caller: &Caller,
    action: &str,
    object: (&str, impl Display),
    details: Value,
) -> Result<(), DbError> {
    note_in(connection, caller, Some(caller.domain_id()), action, object, details).await
}

/// The same in another domain, or (none) in the environment as a whole.
pub(in crate::api) async fn note_in(
    connection: &mut PgConnection,
    caller: &Caller,
    domain_id: Option<i32>,
    action: &str,
    (kind, id): (&str, impl Display),
    mut details: Value,
) -> Result<(), DbError> {
    if domain_id.is_some_and(|domain_id| domain_id != caller.domain_id()) {
        // Names are unique in a domain only.
        details["actor_domain"] = json!(caller.user.domain);
    }
    let address = caller.address.map(|address| address.to_string());
    let entry = Entry {
        domain_id,
        username: Some(caller.username()),
        token: Some(&caller.token),
        action,
        object: (kind, &id.to_string()),
        details,
        address: address.as_deref(),
    };
    rows::insert(connection, &entry).await
}

/// Says that somebody signed in, or tried to. `user` is one who exists. Without a domain the row is the
/// environment's own.
pub(in crate::api) async fn sign_in(
    connection: &mut PgConnection,
    action: &str,
    domain_id: Option<i32>,
    user: Option<&str>,
    address: Option<IpAddr>,
) -> Result<(), DbError> {
    let address = address.map(|address| address.to_string());
    let entry = Entry {
        domain_id,
        username: user,
        token: Some("session"),
        action,
        object: ("user", user.unwrap_or("unknown")),
        details: json!({}),
        address: address.as_deref(),
    };
    rows::insert(connection, &entry).await
}
