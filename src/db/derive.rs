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
/// which. Of current ones the resources and their edges go along.
pub async fn apply(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    for statement in [
        "update resource_versions v set definition_id = s.definition_id, definition_hash = s.definition_hash,
            content_hash = s.content_hash, children = s.children, attachments = s.attachments, overlay = s.overlay
         from staged_resources s
         where v.domain_id = $1 and v.resource_id = s.id and v.revision = s.base_revision",
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

/// Notes which version each import of some types left behind, before their hashes become others.
pub async fn note_bases(connection: &mut PgConnection, types: &[String]) -> Result<(), DbError> {
    connection
        .execute(
            "create temporary table derived_bases (
                domain_id integer, source_environment text, source_id text, target_id text, revision bigint
             ) on commit drop",
        )
        .await?;
    sqlx::query(
        "insert into derived_bases
         select distinct on (b.domain_id, b.source_id, b.target_id, b.source_environment)
            b.domain_id, b.source_environment, b.source_id, b.target_id, v.revision
         from import_bases b join resource_versions v on v.domain_id = b.domain_id and v.resource_id = b.target_id
            and v.content_hash = b.result_hash
         where v.type = any($1)
         order by b.domain_id, b.source_id, b.target_id, b.source_environment,
            v.record_id is not distinct from b.record_id desc, v.revision",
    )
    .bind(types)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives what imports left behind the hashes that the versions have now: what was changed since stays so, and nothing
/// else counts as changed.
pub async fn rebase(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query(
        "update import_bases b set result_hash = v.content_hash from derived_bases d
         join resource_versions v on v.domain_id = d.domain_id and v.resource_id = d.target_id and v.revision = d.revision
         where b.domain_id = d.domain_id and b.source_id = d.source_id and b.target_id = d.target_id
            and b.source_environment = d.source_environment and b.result_hash <> v.content_hash",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the children of deleted resources that a type does not call children any more.
pub async fn forget_children(connection: &mut PgConnection, type_key: &str, keys: &[String]) -> Result<(), DbError> {
    sqlx::query!(
        "update tombstones set children = coalesce(
            (select jsonb_agg(c) from jsonb_array_elements(children) c where c ->> 0 = any($2)), '[]')
         where type = $1",
        type_key,
        keys
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from child_tombstones t using resources r
         where r.id = t.resource_id and r.domain_id = t.domain_id and r.type = $1 and t.key <> all($2)",
        type_key,
        keys
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets what was read with other type files than these.
pub async fn forget_entries(connection: &mut PgConnection, digests: &[Vec<u8>]) -> Result<(), DbError> {
    sqlx::query!(
        "update import_bases set entry = null, type_digest = null where entry is not null and type_digest <> all($1)",
        digests
    )
    .execute(connection)
    .await?;
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
/// on by itself then. What they have staged goes.
pub async fn parse_again(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!(
        "with staged as (delete from runs returning block)
         delete from definitions d using staged where d.id >= staged.block and d.id < staged.block + 16777216"
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "with stopped as (
            update jobs set state = 'failed', lease_until = null where kind in ('parse', 'plan', 'execute') and state in ('queued', 'running')
            returning record_id, domain_id, kind
         ), again as (
            update records r set status = 'queued',
                transfer = case when s.kind = 'execute' then r.transfer || '{\"run\": \"again\"}'::jsonb else r.transfer end
            from stopped s where s.record_id = r.id returning r.id, r.domain_id
         ), waiting as (
            update records set status = 'queued' where kind = 'import' and status in ('awaiting_confirmation', 'awaiting_approval')
            returning id, domain_id
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
