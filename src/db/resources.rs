//! Live resources: reading, listing, deleting. Writing goes through staging and merge.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::domain::overlay::Overlay;
use crate::domain::sight::Sight;

use super::DbError;

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

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this type.
    pub kind: Option<String>,
    /// Name or ID holds this text, in any case.
    pub q: Option<String>,
    /// In this directory or below.
    pub directory: Option<String>,
    /// Of this owner.
    pub owner: Option<String>,
    /// That this user may read, where he does not see all.
    pub seen_by: Option<Sight>,
    /// Changed at or after.
    pub updated_since: Option<DateTime<Utc>>,
}

/// What a list is ordered by; IDs break ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By ID.
    Id,
    /// By name.
    Name,
    /// By time of change.
    UpdatedAt,
}

/// Where a page begins: after this key and ID.
#[derive(Debug, Clone)]
pub struct After {
    /// The name, when sorting by name.
    pub key: String,
    /// The time of change, when sorting by that.
    pub at: Option<DateTime<Utc>>,
    /// The ID.
    pub id: String,
}

/// Definitions of a page in bytes; a page that would hold more ends earlier.
const PAGE_BYTES: usize = 32 * 1024 * 1024;

/// A page of a domain's resources, and whether there are more.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    filter: &Filter,
    (sort, descending): (Sort, bool),
    after: Option<&After>,
    limit: i64,
) -> Result<(Vec<ResourceRow>, bool), DbError> {
    // The page first, its bodies then.
    let mut query = QueryBuilder::<Postgres>::new("with r as materialized (select * from resources where domain_id = ");
    query.push_bind(domain_id);
    narrow(&mut query, filter);
    let column = match sort {
        Sort::Id => "id",
        Sort::Name => "name",
        Sort::UpdatedAt => "updated_at",
    };
    let (compare, order) = if descending { ("<", "desc") } else { (">", "asc") };
    if let Some(after) = after {
        match sort {
            Sort::Id => query.push(format!(" and id {compare} ")).push_bind(&after.id),
            Sort::Name => query
                .push(format!(" and (name, id) {compare} ("))
                .push_bind(&after.key)
                .push(", ")
                .push_bind(&after.id)
                .push(")"),
            Sort::UpdatedAt => query
                .push(format!(" and (updated_at, id) {compare} ("))
                .push_bind(after.at)
                .push(", ")
                .push_bind(&after.id)
                .push(")"),
        };
    }
    let tie = if sort == Sort::Id { String::new() } else { format!(", id {order}") };
    query.push(format!(" order by {column} {order}{tie} limit ")).push_bind(limit + 1);
    let tie = if sort == Sort::Id { String::new() } else { format!(", r.id {order}") };
    query.push(format!(") select {COLUMNS} from r {WITH_BODY} order by r.{column} {order}{tie}"));
    let mut found = query.build_query_as::<ResourceRow>().fetch(connection);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.try_next().await? {
        bytes += row.body.len();
        if rows.len() as i64 == limit || (bytes > PAGE_BYTES && !rows.is_empty()) {
            return Ok((rows, true));
        }
        rows.push(row);
    }
    Ok((rows, false))
}

fn narrow(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(kind) = &filter.kind {
        query.push(" and type = ").push_bind(kind.clone());
    }
    if let Some(q) = &filter.q {
        let pattern = format!("%{}%", escape_like(q));
        query
            .push(" and (name collate \"default\" ilike ")
            .push_bind(pattern.clone())
            .push(" or id ilike ")
            .push_bind(pattern)
            .push(")");
    }
    if let Some(directory) = filter.directory.as_ref().filter(|directory| *directory != "/") {
        let below = format!("{}/%", escape_like(directory));
        query
            .push(" and (directory = ")
            .push_bind(directory.clone())
            .push(" or directory like ")
            .push_bind(below)
            .push(")");
    }
    if let Some(owner) = &filter.owner {
        query.push(" and owner = ").push_bind(owner.clone());
    }
    if let Some(sight) = &filter.seen_by {
        query
            .push(" and (owner = ")
            .push_bind(sight.username.clone())
            .push(" or exists (select from unnest(")
            .push_bind(sight.readable())
            .push("::text[]) as granted (prefix) where starts_with(directory || '/', prefix)))");
    }
    if let Some(since) = filter.updated_since {
        query.push(" and updated_at >= ").push_bind(since);
    }
}

pub(super) fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// One resource of a domain.
pub async fn by_id(connection: &mut PgConnection, domain_id: i32, id: &str) -> Result<Option<ResourceRow>, DbError> {
    let mut query =
        QueryBuilder::<Postgres>::new(format!("select {COLUMNS} from resources r {WITH_BODY} where r.domain_id = "));
    query.push_bind(domain_id).push(" and r.id = ").push_bind(id);
    Ok(query.build_query_as().fetch_optional(connection).await?)
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

/// Which of some resources still lack a secret.
pub async fn lack_secrets(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<String>, DbError> {
    let found = overlays(connection, domain_id, ids).await?;
    Ok(found.into_iter().filter(|(_, own)| own.lacks_secrets()).map(|(id, _)| id).collect())
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
