//! Sessions of the page, and attempts to begin one. All by the database's clock: replicas count together.

use chrono::{DateTime, Utc};
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

/// A session to be begun.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Of its key.
    pub hash: &'a [u8],
    /// From where it is begun, where that is known.
    pub address: Option<String>,
}

/// Begins a session for seven days at most; false: the user is gone, or has another password by now.
pub async fn insert(connection: &mut PgConnection, account: &Account, new: &NewSession<'_>) -> Result<bool, DbError> {
    // The share lock lets a change of the password wait for this session, and end it.
    let done = sqlx::query!(
        "insert into sessions (hash, id, user_id, ends_at, address)
         select $3, $4, id, clock_timestamp() + interval '7 days', $5
         from users where id = $1 and password_hash = $2 for share",
        account.user_id,
        account.password_hash,
        new.hash,
        Uuid::now_v7(),
        new.address
    );
    Ok(done.execute(connection).await?.rows_affected() > 0)
}

/// A session, as its user sees it.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its ID.
    pub id: Uuid,
    /// Of its key.
    pub hash: Vec<u8>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to the minute.
    pub used_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub ends_at: DateTime<Utc>,
    /// From where it was begun.
    pub address: Option<String>,
}

/// A page of a user's sessions that have not ended, oldest first.
pub async fn list(
    connection: &mut PgConnection,
    user_id: Uuid,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Session>, DbError> {
    let found = sqlx::query_as!(
        Session,
        "select id, hash, created_at, used_at, ends_at, address from sessions
         where user_id = $1 and id > $2 and ends_at > clock_timestamp() and used_at > clock_timestamp() - $4::interval
         order by id limit $3",
        user_id,
        after,
        limit,
        IDLE
    );
    Ok(found.fetch_all(connection).await?)
}

/// Ends a session of a user; false: he has none of this ID.
pub async fn end(connection: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!("delete from sessions where user_id = $1 and id = $2", user_id, id);
    Ok(done.execute(connection).await?.rows_affected() > 0)
}

/// Ends the session of a key.
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
    /// After which the count begins anew.
    pub seconds: i32,
    /// From when these are counted.
    pub since: Since,
}

/// From which of some attempts time is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The first.
    First,
    /// The last that was let through.
    Last,
}

/// Counts an attempt before it is known how it ends, so that many at once are no way around the count.
/// Gives the seconds to wait where there were too many; those that are refused count no further.
pub async fn attempt(connection: &mut PgConnection, place: &[u8], allowed: Allowed) -> Result<Option<u64>, DbError> {
    let Allowed { attempts, seconds, since } = allowed;
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
        since == Since::Last
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
