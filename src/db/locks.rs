//! Locks of a domain: writers of single resources share it, an import holds it alone.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::PgConnection;

use crate::domain::resource::Hash;

use super::DbError;

/// What an advisory lock is about; its first key.
const CATALOGUE: i32 = 0x0f_e0;
const ACYCLIC: i32 = 0x0f_e1;
const DERIVATION: i32 = 0x0f_e2;
const ATTACHMENTS: i32 = 0x0f_e3;
const LICENSE: i32 = 0x0f_e4;
const BYTES: i32 = 0x0f_e5;

/// Attachment bytes share so many locks: an import of thousands must not fill the lock table.
const STRIPES: u8 = 64;

/// Shares the domain's catalogue until the transaction ends; waits at most 5 seconds.
///
/// # Errors
/// [`DbError::Busy`] when an import holds it for longer.
pub async fn share_catalogue(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    sqlx::query("set local lock_timeout = '5s'").execute(&mut *connection).await?;
    sqlx::query!(
        "select pg_advisory_xact_lock_shared($1, $3), pg_advisory_xact_lock_shared($2, $3)",
        CATALOGUE,
        ATTACHMENTS,
        domain_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// As [`share_catalogue`], but alone among those who write resources or attachments: new bytes must meet
/// every resource that names them.
///
/// # Errors
/// [`DbError::Busy`] when another holds it for longer.
pub async fn hold_attachments(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    sqlx::query("set local lock_timeout = '5s'").execute(&mut *connection).await?;
    sqlx::query!(
        "select pg_advisory_xact_lock_shared($1, $3), pg_advisory_xact_lock($2, $3)",
        CATALOGUE,
        ATTACHMENTS,
        domain_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// One import at a time where a licence limits what the whole environment may hold.
pub async fn hold_license(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("select pg_advisory_xact_lock($1, 0)", LICENSE).execute(connection).await?;
    Ok(())
}

/// Takes the domain's catalogue alone until the transaction ends.
pub async fn hold_catalogue(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    sqlx::query!("select pg_advisory_xact_lock($1, $2)", CATALOGUE, domain_id).execute(connection).await?;
    Ok(())
}

/// One writer of acyclic references at a time: two could close a circle together.
///
/// # Errors
/// [`DbError::Busy`] after the lock time-out.
pub async fn hold_acyclic(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    sqlx::query!("select pg_advisory_xact_lock($1, $2)", ACYCLIC, domain_id).execute(connection).await?;
    Ok(())
}

/// One replica derives resources of changed type files.
pub async fn hold_derivation(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("select pg_advisory_xact_lock($1, 0)", DERIVATION).execute(connection).await?;
    Ok(())
}

/// Refuses to write with other type files than the environment has: what became secret would be written in clear.
/// Under the domain's lock.
///
/// # Errors
/// [`DbError::Outdated`].
pub async fn check_types(connection: &mut PgConnection, digest: &str) -> Result<(), DbError> {
    let same = sqlx::query_scalar!(r#"select types_digest = $1 as "same!" from environment"#, digest);
    if same.fetch_one(connection).await? { Ok(()) } else { Err(DbError::Outdated) }
}

/// As [`check_types`] without a lock on a catalogue: nothing is derived anew until the transaction ends.
///
/// # Errors
/// [`DbError::Outdated`].
pub async fn share_types(connection: &mut PgConnection, digest: &str) -> Result<(), DbError> {
    let same = sqlx::query_scalar!(r#"select types_digest = $1 as "same!" from environment for share"#, digest);
    if same.fetch_one(connection).await? { Ok(()) } else { Err(DbError::Outdated) }
}

/// Waits for whoever [`share_types`], and lets nobody do so until the transaction ends.
///
/// # Errors
/// The database fails.
pub async fn hold_types(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("select from environment for update").fetch_all(connection).await?;
    Ok(())
}

/// Holds the catalogues of all domains until the transaction ends.
pub async fn hold_all_catalogues(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("select pg_advisory_xact_lock($1, id) from (select id from domains order by id) d", CATALOGUE)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps these attachment bytes from being cleaned away until the transaction ends, which is to name them. To be taken
/// before one looks whether the store has them.
pub async fn share_bytes(connection: &mut PgConnection, hashes: impl Iterator<Item = &Hash>) -> Result<(), DbError> {
    let stripes: BTreeSet<i32> = hashes.map(stripe).collect();
    let stripes: Vec<i32> = stripes.into_iter().collect();
    sqlx::query!(
        "select pg_advisory_xact_lock_shared($1, stripe) from unnest($2::integer[]) as stripe",
        BYTES,
        &stripes
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Takes attachment bytes alone until the transaction ends, unless somebody is about to name them.
pub async fn try_hold_bytes(connection: &mut PgConnection, hash: &Hash) -> Result<bool, DbError> {
    let held = sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock($1, $2) as "held!""#, BYTES, stripe(hash));
    Ok(held.fetch_one(connection).await?)
}

fn stripe(hash: &Hash) -> i32 {
    i32::from(hash.0[0] % STRIPES)
}

/// The transaction may take its time between two statements, for planning computes much; but none of them takes longer
/// than this: whoever asked has been told to wait by then, and nothing is to be held for him.
pub async fn take_time(connection: &mut PgConnection, most: Duration) -> Result<(), DbError> {
    sqlx::query("set local idle_in_transaction_session_timeout = '15min'").execute(&mut *connection).await?;
    let longest = format!("set local statement_timeout = {}", most.as_millis());
    sqlx::query(&longest).execute(connection).await?;
    Ok(())
}
