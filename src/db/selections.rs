//! Saved selections.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// A saved selection.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Its ID.
    pub id: Uuid,
    /// Unique in the domain.
    pub name: String,
    /// User name of who may change it.
    pub owner: String,
    /// These resources,
    pub resource_ids: Option<Vec<String>>,
    /// or those.
    pub selection: Option<Value>,
    /// Export Upstream Resources.
    pub export_upstream: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    pub updated_at: DateTime<Utc>,
}

/// A page of a domain's selections, by name.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<Selection>, DbError> {
    let found = sqlx::query_as!(
        Selection,
        "select id, name, owner, resource_ids, selection, export_upstream, created_at, updated_at from selections
         where domain_id = $1 and name > $2 order by name limit $3",
        domain_id,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// A selection of a domain.
pub async fn by_id(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<Selection>, DbError> {
    let found = sqlx::query_as!(
        Selection,
        "select id, name, owner, resource_ids, selection, export_upstream, created_at, updated_at from selections
         where domain_id = $1 and id = $2",
        domain_id,
        id
    );
    Ok(found.fetch_optional(connection).await?)
}

/// The same, held until the transaction ends.
pub async fn lock(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<Selection>, DbError> {
    let found = sqlx::query_as!(
        Selection,
        "select id, name, owner, resource_ids, selection, export_upstream, created_at, updated_at from selections
         where domain_id = $1 and id = $2 for update",
        domain_id,
        id
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Keeps a selection, new or changed.
///
/// # Errors
/// [`DbError::Constraint`] `selections_unique_name`.
pub async fn save(connection: &mut PgConnection, domain_id: i32, new: &Selection) -> Result<(), DbError> {
    sqlx::query!(
        "insert into selections (id, domain_id, name, owner, resource_ids, selection, export_upstream)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (id) do update set name = excluded.name, resource_ids = excluded.resource_ids,
            selection = excluded.selection, export_upstream = excluded.export_upstream, updated_at = clock_timestamp()",
        new.id,
        domain_id,
        new.name,
        new.owner,
        new.resource_ids.as_deref(),
        new.selection,
        new.export_upstream
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a selection; what was made with it stays.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<(), DbError> {
    sqlx::query!("delete from selections where domain_id = $1 and id = $2", domain_id, id).execute(connection).await?;
    Ok(())
}

/// The time from which on a change may be missing in what is read now: whoever writes has begun after it.
pub async fn seen_from(connection: &mut PgConnection) -> Result<DateTime<Utc>, DbError> {
    let found = sqlx::query_scalar!(
        r#"select least(clock_timestamp(), min(xact_start)) as "from!" from pg_stat_activity
           where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid()"#
    );
    Ok(found.fetch_one(connection).await?)
}

/// From when on a change may be missing in the last record that selected the same and brought all of it: to a target as
/// that is set now, or (none) into a package.
pub async fn last_success(
    connection: &mut PgConnection,
    domain_id: i32,
    selected: &str,
    target_id: Option<Uuid>,
) -> Result<Option<DateTime<Utc>>, DbError> {
    let found = sqlx::query_scalar!(
        r#"select r.seen_from as "from!" from records r
           where r.domain_id = $1 and r.selected = $2 and r.status = 'succeeded' and r.seen_from is not null
             and (r.counts ->> 'skip')::bigint + (r.counts ->> 'map')::bigint = 0
             and case when $3::uuid is null then r.kind = 'export' else r.kind = 'online' and r.target_id = $3
                and r.seen_from >= (select updated_at from targets where id = $3) end
           order by r.id desc limit 1"#,
        domain_id,
        selected,
        target_id
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Which of some resources of a domain were changed since a time.
pub async fn changed(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
    since: DateTime<Utc>,
) -> Result<Vec<String>, DbError> {
    let found = sqlx::query_scalar!(
        "select id from resources where domain_id = $1 and id = any($2) and updated_at >= $3",
        domain_id,
        ids,
        since
    );
    Ok(found.fetch_all(connection).await?)
}
