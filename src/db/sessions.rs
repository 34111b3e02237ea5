//! Sessions of the page, and attempts to begin one. All by the database's clock: replicas count together.

use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::DbError;

/// A session that is not used for so long ends: 12 hours.
pub const IDLE: PgInterval = PgInterval { months: 0, days: 0, microseconds: 12 * 3_600 * 1_000_000 };

/// A user who wants to sign in.
#[derive(Debug, Clone)]
pub struct Account {
    /// His ID.
    pub user_id: Uuid,
    /// His domain, inside this database.
    pub domain_id: i32,
    /// Argon2, as a PHC string; a user without one has tokens only.
    pub password_hash: Option<String>,
}

/// The user of a domain's name and his own.
pub async fn account(connection: &mut PgConnection, domain: &str, username: &str) -> Result<Option<Account>, DbError> {
    let found = sqlx::query_as!(
        Account,
        "select u.id as user_id, u.domain_id, u.password_hash from users u join domains d on d.id = u.domain_id
         where d.name = $1 and u.username = $2",
        domain,
        username
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Begins a session for seven days at most; false: the user is gone, or has another password by now.
pub async fn insert(connection: &mut PgConnection, account: &Account, hash: &[u8]) -> Result<bool, DbError> {
    // The share lock lets a change of the password wait for this session, and end it.
    let done = sqlx::query!(
        "insert into sessions (hash, user_id, ends_at)
         select $3, id, clock_timestamp() + interval '7 days' from users where id = $1 and password_hash = $2 for share",
        account.user_id,
        account.password_hash,
        hash
    );
    Ok(done.execute(connection).await?.rows_affected() > 0)
}

/// Ends a session.
pub async fn delete(connection: &mut PgConnection, hash: &[u8]) -> Result<(), DbError> {
    sqlx::query!("delete from sessions where hash = $1", hash).execute(connection).await?;
    Ok(())
}

/// Ends all sessions of a user.
pub async fn end_all(connection: &mut PgConnection, user_id: Uuid) -> Result<(), DbError> {
    sqlx::query!("delete from sessions where user_id = $1", user_id).execute(connection).await?;
    Ok(())
}

/// How many attempts at a place are let through, and in how many seconds.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// Attempts.
    pub attempts: i32,
    /// Counted from the first of them.
    pub seconds: i32,
    /// The count begins anew this long after the last of them instead.
    pub from_last: bool,
}

/// Counts an attempt before it is known how it ends, so that many at once are no way around the count.
/// Gives the seconds to wait where there were too many; those that are refused count no further.
pub async fn attempt(connection: &mut PgConnection, place: &[u8], allowed: Allowed) -> Result<Option<u64>, DbError> {
    let Allowed { attempts, seconds, from_last } = allowed;
    let counted = sqlx::query!(
        r#"insert into sign_in_attempts as a (place, attempts, ends_at)
         values ($1, 1, clock_timestamp() + make_interval(secs => $3))
         on conflict (place) do update set
            attempts = case when a.ends_at <= clock_timestamp() then 1 else least(a.attempts, $2) + 1 end,
            ends_at = case
                when a.ends_at <= clock_timestamp() or ($4 and a.attempts < $2)
                then clock_timestamp() + make_interval(secs => $3) else a.ends_at end
         returning attempts > $2 as "refused!", ceil(extract(epoch from ends_at - clock_timestamp()))::bigint as "wait!""#,
        place,
        attempts,
        f64::from(seconds),
        from_last
    )
    .fetch_one(connection)
    .await?;
    Ok(counted.refused.then_some(counted.wait.max(1) as u64))
}

/// Takes back an attempt that succeeded.
pub async fn take_back(connection: &mut PgConnection, place: &[u8]) -> Result<(), DbError> {
    sqlx::query!("update sign_in_attempts set attempts = greatest(attempts - 1, 0) where place = $1", place)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets the attempts at a place.
pub async fn forgive(connection: &mut PgConnection, place: &[u8]) -> Result<(), DbError> {
    sqlx::query!("delete from sign_in_attempts where place = $1", place).execute(connection).await?;
    Ok(())
}

/// Forgets sessions that have ended, and attempts that count no more.
pub async fn forget(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!(
        "delete from sessions where ends_at <= clock_timestamp() or used_at <= clock_timestamp() - $1::interval",
        IDLE
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from sign_in_attempts where ends_at <= clock_timestamp()").execute(connection).await?;
    Ok(())
}
