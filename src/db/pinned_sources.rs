//! The keys of source environments, as they were when an import of theirs was executed; per domain.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::manifest::Origin;

use super::DbError;

/// A pinned key.
#[derive(Debug, Clone)]
pub struct PinnedSource {
    /// Its own ID.
    pub id: Uuid,
    /// The environment that signs with it.
    pub environment_id: String,
    /// The name that this gives itself.
    pub name: String,
    /// test, production, other.
    pub kind: String,
    /// ed25519, base64.
    pub public_key: String,
    /// The import that pinned it, while it is kept.
    pub record_id: Option<Uuid>,
    /// When.
    pub pinned_at: DateTime<Utc>,
}

/// A page of a domain's pins, by environment.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<PinnedSource>, DbError> {
    let found = sqlx::query_as!(
        PinnedSource,
        "select id, environment_id, name, kind, public_key, record_id, pinned_at from pinned_sources
         where domain_id = $1 and environment_id > $2 order by environment_id limit $3",
        domain_id,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// The key that a domain has pinned for an environment.
pub async fn key(
    connection: &mut PgConnection,
    domain_id: i32,
    environment_id: &str,
) -> Result<Option<String>, DbError> {
    let found = sqlx::query_scalar!(
        "select public_key from pinned_sources where domain_id = $1 and environment_id = $2",
        domain_id,
        environment_id
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Pins the key of an environment; tells whether it is another than before.
pub async fn pin(
    connection: &mut PgConnection,
    domain_id: i32,
    record_id: Uuid,
    origin: &Origin,
) -> Result<bool, DbError> {
    let pinned = sqlx::query_scalar!(
        "insert into pinned_sources (id, domain_id, environment_id, name, kind, public_key, record_id)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (domain_id, environment_id) do update set
             name = excluded.name, kind = excluded.kind, public_key = excluded.public_key,
             record_id = excluded.record_id, pinned_at = now()
         where pinned_sources.public_key <> excluded.public_key
         returning id",
        Uuid::now_v7(),
        domain_id,
        origin.id,
        origin.name,
        origin.kind,
        origin.public_key,
        record_id
    );
    Ok(pinned.fetch_optional(connection).await?.is_some())
}

/// Removes a pin of a domain; returns what it was.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<PinnedSource>, DbError> {
    let gone = sqlx::query_as!(
        PinnedSource,
        "delete from pinned_sources where domain_id = $1 and id = $2
         returning id, environment_id, name, kind, public_key, record_id, pinned_at",
        domain_id,
        id
    );
    Ok(gone.fetch_optional(connection).await?)
}
