//! Deriving versions of a changed type file anew, whatever their domain.

use sqlx::{Executor, PgConnection};

use super::DbError;

/// A version to be derived.
#[derive(Debug)]
pub struct Row {
    /// Its domain.
    pub domain_id: i32,
    /// Its resource.
    pub resource_id: String,
    /// Which version.
    pub revision: i64,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Its body.
    pub definition_id: i64,
    /// The text of it.
    pub body: String,
    /// What belongs to this environment alone.
    pub overlay: Option<String>,
    /// `[path, SHA-256]` pairs.
    pub attachments: serde_json::Value,
    /// It is the current one.
    pub current: bool,
}

/// The next versions of a type.
pub async fn portion(
    connection: &mut PgConnection,
    type_key: &str,
    after: &(i32, String, i64),
    limit: i64,
) -> Result<Vec<Row>, DbError> {
    let found = sqlx::query_as!(
        Row,
        r#"select v.domain_id, v.resource_id, v.revision, v.name, v.directory, v.definition_id, d.body, v.overlay,
              v.attachments, r.id is not null as "current!"
           from resource_versions v join definitions d on d.id = v.definition_id
           left join resources r on r.id = v.resource_id and r.domain_id = v.domain_id and r.revision = v.revision
           where v.type = $1 and (v.domain_id, v.resource_id, v.revision) > ($2, $3, $4)
           order by v.domain_id, v.resource_id, v.revision limit $5"#,
        type_key,
        after.0,
        after.1,
        after.2,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// Points the staged versions at their new bodies, in place, and empties the staging tables: `base_revision` says
/// which. Of current ones the resources and their edges go along, and so does what imports left behind, so that
/// nothing counts as changed in the target.
pub async fn apply(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    for statement in [
        "update resource_versions v set definition_id = s.definition_id, definition_hash = s.definition_hash,
            content_hash = s.content_hash, children = s.children, attachments = s.attachments, overlay = s.overlay
         from staged_resources s
         where v.domain_id = $1 and v.resource_id = s.id and v.revision = s.base_revision",
        "update import_bases b set result_hash = s.content_hash from staged_resources s join resources r on r.id = s.id
         where b.target_id = s.id and b.domain_id = $1 and r.domain_id = $1 and r.revision = s.base_revision
            and b.result_hash = r.content_hash",
        "delete from staged_resources s where not exists (
            select from resources r where r.id = s.id and r.domain_id = $1 and r.revision = s.base_revision)",
        "update resources r set name_scope = s.name_scope, definition_id = s.definition_id,
            definition_hash = s.definition_hash, content_hash = s.content_hash, parts_hash = s.parts_hash
         from staged_resources s where s.id = r.id and r.domain_id = $1",
        "delete from resource_references e using staged_resources s where e.from_id = s.id and e.domain_id = $1",
        "insert into resource_references (from_id, ordinal, domain_id, rule, kind, acyclic, to_id, to_type, to_name)
         select e.from_id, e.ordinal, $1, e.rule, e.kind, e.acyclic, e.to_id, e.to_type, e.to_name
         from staged_references e",
        "delete from resource_attachments a using staged_resources s where a.resource_id = s.id and a.domain_id = $1",
        "insert into resource_attachments (resource_id, path, domain_id)
         select s.id, a ->> 0, $1 from staged_resources s, jsonb_array_elements(s.attachments) a",
    ] {
        sqlx::query(statement).bind(domain_id).execute(&mut *connection).await?;
    }
    connection.execute("truncate staged_resources, staged_references").await?;
    Ok(())
}

/// Removes bodies that no version of a type points at any more.
pub async fn drop_bodies(connection: &mut PgConnection, type_key: &str, replaced: &[i64]) -> Result<(), DbError> {
    sqlx::query!(
        "delete from definitions d where d.id = any($2)
            and not exists (select from resource_versions v where v.type = $1 and v.definition_id = d.id)",
        type_key,
        replaced
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the space of removed bodies back, so that nothing of them rests in the files.
pub async fn vacuum(connection: &mut PgConnection) -> Result<(), DbError> {
    connection.execute("vacuum (full, analyze) definitions").await?;
    connection.execute("vacuum (full, analyze) resource_versions").await?;
    Ok(())
}

/// Imports that are not done were parsed with the old type files: they are parsed again. One that was executed goes
/// on by itself then.
pub async fn parse_again(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!(
        "with stopped as (
            update jobs set state = 'failed', lease_until = null where kind in ('parse', 'execute') and state in ('queued', 'running')
            returning record_id, domain_id, kind
         ), again as (
            update records r set status = 'queued',
                transfer = case when s.kind = 'execute' then r.transfer || '{\"run\": \"again\"}'::jsonb else r.transfer end
            from stopped s where s.record_id = r.id returning r.id, r.domain_id
         ), waiting as (
            update records set status = 'queued' where kind = 'import' and status = 'awaiting_confirmation' returning id, domain_id
         )
         insert into jobs (kind, record_id, domain_id)
         select 'parse', id, domain_id from again union all select 'parse', id, domain_id from waiting"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets go of the packages of records that have ended and hold one of some types; returns where they rest.
pub async fn let_go_packages(connection: &mut PgConnection, types: &[String]) -> Result<Vec<String>, DbError> {
    let found = sqlx::query_scalar!(
        r#"with old as (
            select r.id, r.package_key from records r
            where r.package_key is not null and r.finished_at is not null
                and exists (select from record_items i where i.record_id = r.id and i.types && $1)
            for update
         )
         update records r set package_key = null from old where r.id = old.id returning old.package_key as "key!""#,
        types
    );
    Ok(found.fetch_all(connection).await?)
}
