//! Users and their tokens. A token is kept as its hash.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::permission::DEFAULT_DOMAIN;

use super::{DbError, sessions};

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// His ID.
    pub id: Uuid,
    /// His domain, inside this database.
    pub domain_id: i32,
    /// His domain's name.
    pub domain: String,
    /// His name, unique in the domain.
    pub username: String,
    /// His role.
    pub role: String,
    /// What his role holds, if his domain made it.
    pub role_permissions: Option<Vec<String>>,
    /// When he was made.
    pub created_at: DateTime<Utc>,
}

/// A token, as a list shows it.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its ID.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// Narrower than the user's, if any.
    pub permissions: Option<Vec<String>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Users with what their roles hold, as far as a condition says; a macro, because a query is checked as one text.
macro_rules! users {
    ($rest:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            User,
            r#"select u.id, u.domain_id, d.name as domain, u.username, u.role,
                o.permissions as "role_permissions?", u.created_at
             from users u join domains d on d.id = u.domain_id
             left join roles o on o.domain_id = u.domain_id and o.name = u.role "# + $rest,
            $($argument),+
        )
    };
}

/// A user by domain and name.
pub async fn by_name(connection: &mut PgConnection, domain_id: i32, username: &str) -> Result<Option<User>, DbError> {
    let found = users!("where u.domain_id = $1 and u.username = $2", domain_id, username);
    Ok(found.fetch_optional(connection).await?)
}

/// A user by ID, in one domain.
pub async fn by_id(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<User>, DbError> {
    let found = users!("where u.domain_id = $1 and u.id = $2", domain_id, id);
    Ok(found.fetch_optional(connection).await?)
}

/// A user by ID, in whatever domain: for administrators of the environment.
pub async fn in_any_domain(connection: &mut PgConnection, id: Uuid) -> Result<Option<User>, DbError> {
    Ok(users!("where u.id = $1", id).fetch_optional(connection).await?)
}

/// A page of a domain's users, by name.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<User>, DbError> {
    let found =
        users!("where u.domain_id = $1 and u.username > $2 order by u.username limit $3", domain_id, after, limit);
    Ok(found.fetch_all(connection).await?)
}

/// Which of some names are users of a domain.
pub async fn existing_names(
    connection: &mut PgConnection,
    domain_id: i32,
    names: &[String],
) -> Result<Vec<String>, DbError> {
    let found =
        sqlx::query_scalar!("select username from users where domain_id = $1 and username = any($2)", domain_id, names);
    Ok(found.fetch_all(connection).await?)
}

/// Makes a user.
///
/// # Errors
/// [`DbError::Constraint`] `users_unique_name`.
pub async fn insert(
    connection: &mut PgConnection,
    domain_id: i32,
    username: &str,
    role: &str,
    password_hash: Option<&str>,
) -> Result<Uuid, DbError> {
    let id = Uuid::now_v7();
    sqlx::query!(
        "insert into users (id, domain_id, username, role, password_hash) values ($1, $2, $3, $4, $5)",
        id,
        domain_id,
        username,
        role,
        password_hash
    )
    .execute(connection)
    .await?;
    Ok(id)
}

/// Makes the user of the configuration's token, or leaves him as he is.
pub async fn ensure_admin(connection: &mut PgConnection, domain_id: i32) -> Result<Uuid, DbError> {
    let id = sqlx::query_scalar!(
        "insert into users (id, domain_id, username, role) values ($1, $2, 'admin', 'admin')
         on conflict (domain_id, username) do update set role = 'admin' returning id",
        Uuid::now_v7(),
        domain_id
    );
    Ok(id.fetch_one(connection).await?)
}

/// Gives a user another role.
pub async fn set_role(connection: &mut PgConnection, id: Uuid, role: &str) -> Result<(), DbError> {
    sqlx::query!("update users set role = $2 where id = $1", id, role).execute(connection).await?;
    Ok(())
}

/// Gives a user another password, which ends his sessions.
pub async fn set_password(connection: &mut PgConnection, id: Uuid, hash: &str) -> Result<(), DbError> {
    sqlx::query!("update users set password_hash = $2 where id = $1", id, hash).execute(&mut *connection).await?;
    sessions::end_all(connection, id).await
}

/// How a user's password is kept, if he has one.
pub async fn password_hash(connection: &mut PgConnection, id: Uuid) -> Result<Option<String>, DbError> {
    let found = sqlx::query_scalar!("select password_hash from users where id = $1", id);
    Ok(found.fetch_optional(connection).await?.flatten())
}

/// How the configured password is kept that was applied last, if one was.
pub async fn configured_password(connection: &mut PgConnection, id: Uuid) -> Result<Option<String>, DbError> {
    let found = sqlx::query_scalar!("select configured_password_hash from users where id = $1 for update", id);
    Ok(found.fetch_optional(connection).await?.flatten())
}

/// Notes which configured password was applied; none: none is configured any more.
pub async fn note_configured_password(
    connection: &mut PgConnection,
    id: Uuid,
    hash: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query!("update users set configured_password_hash = $2 where id = $1", id, hash).execute(connection).await?;
    Ok(())
}

/// The administrators of the domain that manages the environment, held as they are until the transaction ends.
pub async fn lock_root_administrators(connection: &mut PgConnection) -> Result<Vec<Uuid>, DbError> {
    let found = sqlx::query_scalar!(
        "select u.id from users u join domains d on d.id = u.domain_id
         where d.name = $1 and u.role = 'admin' order by u.id for update of u",
        DEFAULT_DOMAIN
    );
    Ok(found.fetch_all(connection).await?)
}

/// Removes a user with his tokens, sessions and grants; false: no such user in the domain.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!("delete from users where domain_id = $1 and id = $2", domain_id, id);
    Ok(done.execute(connection).await?.rows_affected() > 0)
}

/// A token to be kept.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// Whose.
    pub user_id: Uuid,
    /// What its owner calls it.
    pub name: &'a str,
    /// As it is kept.
    pub hash: &'a [u8],
    /// Narrower than the user's, if any.
    pub permissions: Option<&'a [String]>,
    /// When it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Keeps a token.
///
/// # Errors
/// [`DbError::Constraint`] `tokens_unique_hash`.
pub async fn insert_token(connection: &mut PgConnection, new: &NewToken<'_>) -> Result<Token, DbError> {
    let made = sqlx::query_as!(
        Token,
        "insert into tokens (id, user_id, name, hash, permissions, expires_at) values ($1, $2, $3, $4, $5, $6)
         returning id, name, permissions, created_at, expires_at, last_used_at",
        Uuid::now_v7(),
        new.user_id,
        new.name,
        new.hash,
        new.permissions,
        new.expires_at
    );
    Ok(made.fetch_one(connection).await?)
}

/// Sets the configuration's token of a user, or revokes it where none is configured any more; whether that
/// changed anything.
pub async fn configure_token(
    connection: &mut PgConnection,
    user_id: Uuid,
    hash: Option<&[u8]>,
) -> Result<bool, DbError> {
    let gone = sqlx::query!(
        "delete from tokens where user_id = $1 and configured and hash is distinct from $2",
        user_id,
        hash
    );
    let mut changed = gone.execute(&mut *connection).await?.rows_affected();
    if let Some(hash) = hash {
        let made = sqlx::query!(
            "insert into tokens (id, user_id, name, hash, configured) values ($1, $2, 'configuration', $3, true)
             on conflict (hash) do nothing",
            Uuid::now_v7(),
            user_id,
            hash
        );
        changed += made.execute(connection).await?.rows_affected();
    }
    Ok(changed > 0)
}

/// A page of a user's tokens, oldest first.
pub async fn tokens(
    connection: &mut PgConnection,
    user_id: Uuid,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Token>, DbError> {
    let found = sqlx::query_as!(
        Token,
        "select id, name, permissions, created_at, expires_at, last_used_at from tokens
         where user_id = $1 and id > $2 order by id limit $3",
        user_id,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// What a token of a user is narrowed to, if it is; `None`: he has no such token.
pub async fn token_permissions(
    connection: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Option<Vec<String>>>, DbError> {
    let found = sqlx::query_scalar!("select permissions from tokens where user_id = $1 and id = $2", user_id, id);
    Ok(found.fetch_optional(connection).await?)
}

/// Whether a resource or a record of a domain is of somebody of this name.
pub async fn still_owns(connection: &mut PgConnection, domain_id: i32, username: &str) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from resources where domain_id = $1 and owner = $2)
            or exists (select from records where domain_id = $1 and requested_by = $2)
            or exists (select from selections where domain_id = $1 and owner = $2) as "owns!""#,
        domain_id,
        username
    );
    Ok(found.fetch_one(connection).await?)
}

/// Revokes a token; false: the user has no such token.
pub async fn delete_token(connection: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!("delete from tokens where user_id = $1 and id = $2", user_id, id);
    Ok(done.execute(connection).await?.rows_affected() > 0)
}
