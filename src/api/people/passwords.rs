//! Passwords as people give them: how often they may be tried, and from where.

use std::net::IpAddr;

use tokio::sync::Semaphore;

use crate::db::PgConnection;
use crate::db::sessions::{self as rows, Allowed, Since};
use crate::domain::resource::Hash;
use crate::secrets::passwords::{password_fits, password_hash, weakness};

use crate::api::http::client::network;
use crate::api::http::error::ApiError;

/// From one address, whoever is meant: a minute's worth. Those that succeed do not count.
const PER_ADDRESS: Allowed = Allowed { attempts: 30, seconds: 60, since: Since::First };
/// For one account from one address: then it is locked for that address for five minutes. Not for others: a stranger
/// locks nobody out.
const PER_ACCOUNT: Allowed = Allowed { attempts: 5, seconds: 300, since: Since::Last };
/// Hashing a password takes some 50 ms of a processor and 19 MiB; the others wait.
static HASHING: Semaphore = Semaphore::const_new(4);

/// An attempt to give the password of an account, counted.
pub(in crate::api) struct Attempt {
    address: Hash,
    account: Hash,
}

impl Attempt {
    /// Counts it before it is known how it ends.
    ///
    /// # Errors
    /// 429: there were too many.
    pub(in crate::api) async fn begin(
        connection: &mut PgConnection,
        client: Option<IpAddr>,
        domain: &str,
        username: &str,
    ) -> Result<Self, ApiError> {
        let from = client.map(network).unwrap_or_default();
        let address = place("address", &[&from]);
        let account = place("account", &[domain.as_bytes(), username.as_bytes(), &from]);
        for (place, allowed) in [(&address, PER_ADDRESS), (&account, PER_ACCOUNT)] {
            if let Some(seconds) = rows::attempt(connection, &place.0, allowed).await? {
                return Err(ApiError::rate_limited(seconds));
            }
        }
        Ok(Self { address, account })
    }

    /// It was the right one: it does not count, nor do those before it for the account.
    pub(in crate::api) async fn succeeded(&self, connection: &mut PgConnection) -> Result<(), ApiError> {
        rows::forgive(connection, &self.account.0).await?;
        rows::take_back(connection, &self.address.0).await?;
        Ok(())
    }
}

/// Whether a password is the kept one; where none is kept that takes as long.
pub(in crate::api) async fn fits(password: String, kept: Option<String>) -> Result<bool, ApiError> {
    let _turn = HASHING.acquire().await.map_err(|_| ApiError::busy())?;
    Ok(tokio::task::spawn_blocking(move || password_fits(&password, kept.as_deref())).await?)
}

/// A new password of a user as it is kept.
///
/// # Errors
/// 422: it is too short, or too common.
pub(in crate::api) async fn hashed(password: String, names: &[&str]) -> Result<String, ApiError> {
    if let Some(weakness) = weakness(&password, names) {
        return Err(ApiError::field("password", weakness));
    }
    let _turn = HASHING.acquire().await.map_err(|_| ApiError::busy())?;
    Ok(tokio::task::spawn_blocking(move || password_hash(&password)).await??)
}

/// Where attempts are counted.
fn place(kind: &str, parts: &[&[u8]]) -> Hash {
    let mut bytes = kind.as_bytes().to_vec();
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(*part);
    }
    Hash::of(&bytes)
}
