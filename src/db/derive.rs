//! Deriving resources of a changed type file anew, whatever their domain.

use sqlx::{Executor, PgConnection};

use super::DbError;

/// A resource to be derived.
#[derive(Debug)]
pub struct Row {
    /// Its ID.
    pub id: String,
    /// Its domain.
    pub domain_id: i32,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// JSON text, secrets sealed.
    pub definition: String,
    /// Counts up with each change.
    pub revision: i64,
}

/// The next resources of a type, by ID, held until the transaction ends.
///
/// # Errors
/// The database fails.
pub async fn portion(connection: &mut PgConnection, kind: &str, after: &str, limit: i64) -> Result<Vec<Row>, DbError> {
    let found = sqlx::query_as!(
        Row,
        r#"select id, domain_id, name, directory, definition::text as "definition!", revision
           from resources where type = $1 and id > $2 order by id limit $3 for update"#,
        kind,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// Writes what is staged over the resources of the same ID, and empties the staging tables. What imports
/// left behind goes along, so that nothing counts as changed in the target.
///
/// # Errors
/// The database fails.
pub async fn apply(connection: &mut PgConnection) -> Result<(), DbError> {
    connection.execute("update import_bases b set result_hash = s.content_hash from staged_resources s join resources r on r.id = s.id
         where b.target_id = s.id and b.domain_id = r.domain_id and b.result_hash = r.content_hash;
         update resources r set name_scope = s.name_scope, definition = s.definition, definition_hash = s.definition_hash,
            content_hash = s.content_hash, children = s.children
         from staged_resources s where s.id = r.id and s.base_revision = r.revision;
         delete from resource_references e using staged_resources s where e.from_id = s.id;
         insert into resource_references (from_id, ordinal, domain_id, rule, kind, acyclic, to_id, to_type, to_name)
         select e.from_id, e.ordinal, r.domain_id, e.rule, e.kind, e.acyclic, e.to_id, e.to_type, e.to_name
         from staged_references e join resources r on r.id = e.from_id;
         delete from resource_attachments a using staged_resources s where a.resource_id = s.id;
         insert into resource_attachments (resource_id, path, domain_id)
         select p.resource_id, p.path, r.domain_id from staged_attachment_paths p join resources r on r.id = p.resource_id;
         truncate staged_resources, staged_references, staged_attachment_paths")
    .await?;
    Ok(())
}

/// Imports that wait for confirmation were planned with the old type files: they are parsed again.
///
/// # Errors
/// The database fails.
pub async fn parse_again(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!(
        "with again as (
            update records set status = 'queued' where kind = 'import' and status = 'awaiting_confirmation' returning id, domain_id
         )
         insert into jobs (kind, record_id, domain_id) select $1, id, domain_id from again",
        super::jobs::PARSE
    )
    .execute(connection)
    .await?;
    Ok(())
}
