//! Trusted sources: environments by the key that they sign their packages with.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// A trusted source.
#[derive(Debug, Clone)]
pub struct TrustedSource {
    /// Its ID.
    pub id: Uuid,
    /// What this environment calls it.
    pub name: String,
    /// ed25519, base64.
    pub public_key: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A page of trusted sources, by name.
pub async fn list(connection: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<TrustedSource>, DbError> {
    let found = sqlx::query_as!(
        TrustedSource,
        "select id, name, public_key, created_at from trusted_sources where name > $1 order by name limit $2",
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// The source that has a key.
pub async fn by_key(connection: &mut PgConnection, public_key: &str) -> Result<Option<TrustedSource>, DbError> {
    let found = sqlx::query_as!(
        TrustedSource,
        "select id, name, public_key, created_at from trusted_sources where public_key = $1",
        public_key
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Makes a trusted source.
///
/// # Errors
/// [`DbError::Constraint`] `trusted_sources_unique_name`, `trusted_sources_unique_key`.
pub async fn insert(connection: &mut PgConnection, name: &str, public_key: &str) -> Result<TrustedSource, DbError> {
    let made = sqlx::query_as!(
        TrustedSource,
        "insert into trusted_sources (id, name, public_key) values ($1, $2, $3)
         returning id, name, public_key, created_at",
        Uuid::now_v7(),
        name,
        public_key
    );
    Ok(made.fetch_one(connection).await?)
}

/// Removes a trusted source; returns what it was.
pub async fn delete(connection: &mut PgConnection, id: Uuid) -> Result<Option<TrustedSource>, DbError> {
    let gone = sqlx::query_as!(
        TrustedSource,
        "delete from trusted_sources where id = $1 returning id, name, public_key, created_at",
        id
    );
    Ok(gone.fetch_optional(connection).await?)
}
