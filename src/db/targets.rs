//! Targets: the environments that a domain may migrate to. Their tokens are sealed.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// A target.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its ID.
    pub id: Uuid,
    /// Unique in the domain.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// Sealed for the place `target/{id}`.
    pub token: String,
    /// The fixed owner of what is migrated there.
    pub owner: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
}

/// A page of a domain's targets, by name.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<Target>, DbError> {
    let found = sqlx::query_as!(
        Target,
        "select id, name, url, token, owner, created_at, updated_at from targets
         where domain_id = $1 and name > $2 order by name limit $3",
        domain_id,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// A target of a domain.
pub async fn by_id(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<Target>, DbError> {
    let found = sqlx::query_as!(
        Target,
        "select id, name, url, token, owner, created_at, updated_at from targets where domain_id = $1 and id = $2",
        domain_id,
        id
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Keeps a target, new or changed.
///
/// # Errors
/// [`DbError::Constraint`] `targets_unique_name`.
pub async fn save(connection: &mut PgConnection, domain_id: i32, target: &Target) -> Result<(), DbError> {
    sqlx::query!(
        "insert into targets (id, domain_id, name, url, token, owner) values ($1, $2, $3, $4, $5, $6)
         on conflict (id) do update set name = excluded.name, url = excluded.url, token = excluded.token,
            owner = excluded.owner, updated_at = now()",
        target.id,
        domain_id,
        target.name,
        target.url,
        target.token,
        target.owner
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a target; false: the domain has no such target.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!("delete from targets where domain_id = $1 and id = $2", domain_id, id);
    Ok(done.execute(connection).await?.rows_affected() > 0)
}
