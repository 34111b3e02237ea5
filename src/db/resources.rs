//! Live resources: reading, listing, deleting. Writing goes through staging and merge.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::domain::overlay::Overlay;

use super::DbError;

mod list;

pub(super) use list::escape_like;
pub use list::{After, Filter, Sort, list};

/// A resource as it stands.
#[derive(Debug, Clone, FromRow)]
pub struct ResourceRow {
    /// Its ID.
    pub id: String,
    /// Its type.
    #[sqlx(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    body: String,
    overlay: Option<String>,
    /// 32 bytes.
    pub content_hash: Vec<u8>,
    /// User name.
    pub owner: String,
    /// Counts up with each change.
    pub revision: i64,
    /// When it was made here.
    pub created_at: DateTime<Utc>,
    /// When it was changed here.
    pub updated_at: DateTime<Utc>,
    /// By whom.
    pub updated_by: String,
    /// The import that last wrote it.
    pub imported_record: Option<Uuid>,
    /// From which environment.
    pub imported_from: Option<String>,
    /// When.
    pub imported_at: Option<DateTime<Utc>>,
}

impl ResourceRow {
    /// The whole definition, secrets as markers.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn definition(&self) -> Result<Value, DbError> {
        definition(&self.body, self.overlay.as_deref())
    }

    /// The same, as it would be with something else of its own.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn definition_with(&self, change: impl FnOnce(&mut Overlay)) -> Result<Value, DbError> {
        let mut own = overlay(self.overlay.as_deref())?;
        change(&mut own);
        let mut value = serde_json::from_str(&self.body).map_err(|_| DbError::Corrupt("definitions.body"))?;
        own.show(&mut value);
        Ok(value)
    }
}

/// A body with what belongs to this environment alone: the whole definition, secrets as markers.
///
/// # Errors
/// [`DbError::Corrupt`].
pub fn definition(body: &str, overlay: Option<&str>) -> Result<Value, DbError> {
    let mut value = serde_json::from_str(body).map_err(|_| DbError::Corrupt("definitions.body"))?;
    self::overlay(overlay)?.show(&mut value);
    Ok(value)
}

/// Reads an overlay as it is kept.
///
/// # Errors
/// [`DbError::Corrupt`].
pub fn overlay(text: Option<&str>) -> Result<Overlay, DbError> {
    text.map_or(Ok(Overlay::default()), |text| {
        serde_json::from_str(text).map_err(|_| DbError::Corrupt("resource_versions.overlay"))
    })
}

/// With the body and the version of `r`, which is a row of `resources`.
const WITH_BODY: &str = "join definitions d on d.id = r.definition_id \
    join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision";
const COLUMNS: &str = "r.id, r.type, r.name, r.directory, d.body, v.overlay, r.content_hash, r.owner, r.revision, r.created_at, \
    r.updated_at, r.updated_by, r.imported_record, r.imported_from, r.imported_at";

/// One resource of a domain.
pub async fn by_id(connection: &mut PgConnection, domain_id: i32, id: &str) -> Result<Option<ResourceRow>, DbError> {
    let mut query =
        QueryBuilder::<Postgres>::new(format!("select {COLUMNS} from resources r {WITH_BODY} where r.domain_id = "));
    query.push_bind(domain_id).push(" and r.id = ").push_bind(id);
    Ok(query.build_query_as().fetch_optional(connection).await?)
}

/// Some resources of a domain, those that are there.
pub async fn by_ids(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<ResourceRow>, DbError> {
    let mut query =
        QueryBuilder::<Postgres>::new(format!("select {COLUMNS} from resources r {WITH_BODY} where r.domain_id = "));
    query.push_bind(domain_id).push(" and r.id = any(").push_bind(ids.to_vec()).push(")");
    Ok(query.build_query_as().fetch_all(connection).await?)
}

/// What stands under an ID, in whatever domain.
#[derive(Debug, Clone)]
pub struct Current {
    /// Its ID.
    pub id: String,
    /// Its domain.
    pub domain_id: i32,
    /// Its type.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Its body.
    pub definition_id: i64,
    /// Of its body; 32 bytes.
    pub definition_hash: Vec<u8>,
    /// Of its references, children and attachment paths; 32 bytes.
    pub parts_hash: Vec<u8>,
    /// What belongs to this environment alone.
    pub overlay: Option<String>,
    /// Counts up with each change.
    pub revision: i64,
    /// User name.
    pub owner: String,
}

/// What stands under some IDs, locked until the transaction ends. For writers.
///
/// # Errors
/// [`DbError::Busy`].
pub async fn lock(connection: &mut PgConnection, ids: &[String]) -> Result<Vec<Current>, DbError> {
    let found = sqlx::query_as!(
        Current,
        r#"select r.id, r.domain_id, r.type as kind, r.name, r.directory, r.definition_id, r.definition_hash, r.parts_hash,
              v.overlay, r.revision, r.owner
           from resources r
           join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision
           where r.id = any($1) order by r.id for update of r"#,
        ids
    );
    Ok(found.fetch_all(connection).await?)
}

/// What some resources of a domain have of their own, by ID; those that have nothing are left out.
pub async fn overlays(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<HashMap<String, Overlay>, DbError> {
    let found = sqlx::query!(
        r#"select r.id, v.overlay as "overlay!" from resources r
           join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision
           where r.domain_id = $1 and r.id = any($2) and v.overlay is not null"#,
        domain_id,
        ids
    );
    let rows = found.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok((row.id, overlay(Some(&row.overlay))?))).collect()
}

/// Who changed some resources of a domain last, and when; nothing for none.
pub async fn last_changes(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<(String, String, DateTime<Utc>)>, DbError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = sqlx::query!(
        "select id, updated_by, updated_at from resources where domain_id = $1 and id = any($2)",
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?.into_iter().map(|row| (row.id, row.updated_by, row.updated_at)).collect())
}

/// IDs of a domain's resources that a selection names by type, directory or time; all without any.
pub async fn select(
    connection: &mut PgConnection,
    domain_id: i32,
    types: &[String],
    directories: &[String],
    changed_since: Option<DateTime<Utc>>,
) -> Result<Vec<String>, DbError> {
    let below: Vec<String> =
        directories.iter().map(|directory| format!("{}/%", escape_like(directory.trim_end_matches('/')))).collect();
    let found = sqlx::query_scalar!(
        "select id from resources where domain_id = $1
            and (cardinality($2::text[]) = 0 or type = any($2))
            and (cardinality($3::text[]) = 0 or directory = any($3) or directory like any($4))
            and ($5::timestamptz is null or updated_at >= $5)",
        domain_id,
        types,
        directories,
        &below,
        changed_since
    );
    Ok(found.fetch_all(connection).await?)
}

/// Deletes a resource: its versions and a tombstone stay.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: &str, username: &str) -> Result<(), DbError> {
    sqlx::query!(
        "with gone as (delete from resources where domain_id = $1 and id = $2 returning id, type, revision)
         insert into tombstones (domain_id, resource_id, type, revision, children, deleted_by)
         select $1, gone.id, gone.type, gone.revision, v.children, $3 from gone
         join resource_versions v on v.domain_id = $1 and v.resource_id = gone.id and v.revision = gone.revision
         on conflict (domain_id, resource_id) do update set type = excluded.type, revision = excluded.revision,
            children = excluded.children, deleted_at = now(), deleted_by = excluded.deleted_by",
        domain_id,
        id,
        username
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from resource_references where from_id = $1", id).execute(&mut *connection).await?;
    sqlx::query!("delete from resource_attachments where resource_id = $1", id).execute(connection).await?;
    Ok(())
}

/// A version of a resource.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Counts up with each change.
    pub revision: i64,
    /// By whom.
    pub updated_by: String,
    /// When.
    pub updated_at: DateTime<Utc>,
    /// By which import.
    pub record_id: Option<Uuid>,
    /// 32 bytes.
    pub content_hash: Vec<u8>,
}

/// A page of a resource's versions, newest first, from below a revision.
pub async fn revisions(
    connection: &mut PgConnection,
    domain_id: i32,
    id: &str,
    before: i64,
    limit: i64,
) -> Result<Vec<Revision>, DbError> {
    let found = sqlx::query_as!(
        Revision,
        "select revision, updated_by, updated_at, record_id, content_hash from resource_versions
         where domain_id = $1 and resource_id = $2 and revision < $3 order by revision desc limit $4",
        domain_id,
        id,
        before,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// Staged resources whose name is taken by another resource, or wanted twice: (ordinal, type, name).
pub async fn staged_clash(
    connection: &mut PgConnection,
    domain_id: i32,
) -> Result<Option<(i32, String, String)>, DbError> {
    let found: Option<(i32, String, String)> = sqlx::query_as(
        "select s.ordinal, s.type, s.name from staged_resources s where s.name_scope is not null and exists (
            select from resources r where r.domain_id = $1 and r.type = s.type and r.name_scope = s.name_scope
                and r.name = s.name and r.id <> s.id)
         order by s.ordinal limit 1",
    )
    .bind(domain_id)
    .fetch_optional(connection)
    .await?;
    Ok(found)
}
