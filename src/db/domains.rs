//! Domains: the tenants of an environment.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::DbError;

/// A domain.
#[derive(Debug, Clone)]
pub struct Domain {
    /// Inside this database only.
    pub id: i32,
    /// Everywhere else.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A page of domains, by name.
pub async fn list(connection: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<Domain>, DbError> {
    let found = sqlx::query_as!(
        Domain,
        "select id, name, created_at from domains where name > $1 order by name limit $2",
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// A domain by its name.
pub async fn by_name(connection: &mut PgConnection, name: &str) -> Result<Option<Domain>, DbError> {
    let found = sqlx::query_as!(Domain, "select id, name, created_at from domains where name = $1", name);
    Ok(found.fetch_optional(connection).await?)
}

/// Makes a domain.
///
/// # Errors
/// [`DbError::Constraint`] `domains_unique_name`.
pub async fn insert(connection: &mut PgConnection, name: &str) -> Result<Domain, DbError> {
    let made = sqlx::query_as!(Domain, "insert into domains (name) values ($1) returning id, name, created_at", name);
    Ok(made.fetch_one(connection).await?)
}
