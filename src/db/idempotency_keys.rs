//! `Idempotency-Key`s: who is being answered, and what was answered before.

use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// A key as a request gives it.
#[derive(Debug, Clone)]
pub struct Key {
    /// Whose it is.
    pub user_id: Uuid,
    /// By what he is known: others of his credentials may be good for more, or for less.
    pub credential: Vec<u8>,
    /// Where it was posted to.
    pub path: String,
    /// The key itself.
    pub key: String,
}

/// What was answered to a request, and to which.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Of the request's body.
    pub request_hash: Vec<u8>,
    /// HTTP status.
    pub status: i16,
    /// Of what was made.
    pub location: Option<String>,
    /// The body, sealed.
    pub answer: String,
}

/// Where a key stands.
#[derive(Debug)]
pub enum Claimed {
    /// The caller's request is the first.
    Fresh,
    /// The first one is still being received.
    Busy,
    /// It was answered.
    Answered(Answered),
}

/// Claims a key for a request, for a while.
pub async fn claim(
    connection: &mut PgConnection,
    key: &Key,
    claim: Uuid,
    lease_seconds: u32,
) -> Result<Claimed, DbError> {
    let claimed = sqlx::query_scalar!(
        "insert into idempotency_keys (user_id, credential, path, key, claim, busy_until)
         values ($6, $1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
         on conflict (credential, path, key) do update set claim = excluded.claim, busy_until = excluded.busy_until
         where idempotency_keys.status is null and idempotency_keys.busy_until < clock_timestamp()
         returning claim",
        key.credential,
        key.path,
        key.key,
        claim,
        f64::from(lease_seconds),
        key.user_id
    );
    if claimed.fetch_optional(&mut *connection).await?.is_some() {
        return Ok(Claimed::Fresh);
    }
    let found = sqlx::query!(
        "select request_hash, status, location, answer from idempotency_keys where credential = $1 and path = $2 and key = $3",
        key.credential,
        key.path,
        key.key
    );
    // One that was given up between the two statements counts as busy: the client comes again.
    let answered = found.fetch_optional(connection).await?.and_then(|row| {
        let location = row.location;
        Some(Answered { request_hash: row.request_hash?, status: row.status?, location, answer: row.answer? })
    });
    Ok(answered.map_or(Claimed::Busy, Claimed::Answered))
}

/// Keeps a claim while its request is being received.
pub async fn renew(connection: &mut PgConnection, claim: Uuid, key: &Key, lease_seconds: u32) -> Result<(), DbError> {
    sqlx::query!(
        "update idempotency_keys set busy_until = clock_timestamp() + make_interval(secs => $5)
         where credential = $1 and path = $2 and key = $3 and claim = $4",
        key.credential,
        key.path,
        key.key,
        claim,
        f64::from(lease_seconds)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the answer, in the transaction of what the request made.
///
/// # Errors
/// [`DbError::Fenced`] when another request has the claim.
pub async fn keep(connection: &mut PgConnection, claim: Uuid, key: &Key, answered: &Answered) -> Result<(), DbError> {
    let done = sqlx::query!(
        "update idempotency_keys set request_hash = $5, status = $6, location = $7, answer = $8
         where credential = $1 and path = $2 and key = $3 and claim = $4 and status is null",
        key.credential,
        key.path,
        key.key,
        claim,
        answered.request_hash,
        answered.status,
        answered.location,
        answered.answer
    );
    if done.execute(connection).await?.rows_affected() == 1 { Ok(()) } else { Err(DbError::Fenced) }
}

/// Gives up a claim whose request made nothing.
pub async fn release(connection: &mut PgConnection, claim: Uuid, key: &Key) -> Result<(), DbError> {
    sqlx::query!(
        "delete from idempotency_keys where credential = $1 and path = $2 and key = $3 and claim = $4 and status is null",
        key.credential,
        key.path,
        key.key,
        claim
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets keys that are older than so many days.
pub async fn forget(connection: &mut PgConnection, days: u32) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "delete from idempotency_keys where created_at < clock_timestamp() - make_interval(days => $1)",
        days as i32
    );
    Ok(done.execute(connection).await?.rows_affected())
}
