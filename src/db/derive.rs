//! Deriving resources of a changed type file anew, whatever their domain.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::DbError;

/// A resource to be derived.
#[derive(Debug)]
pub struct Row {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// JSON text, secrets sealed.
    pub definition: String,
    /// Counts up with each change.
    pub revision: i64,
    /// Every attachment of its domain that its definition may name: path → hash in hex.
    pub attachments: HashMap<String, String>,
}

/// The next resources of a type, by ID.
///
/// # Errors
/// The database fails.
pub async fn portion(connection: &mut PgConnection, kind: &str, after: &str, limit: i64) -> Result<Vec<Row>, DbError> {
    let found = sqlx::query!(
        r#"select r.id, r.name, r.directory, r.definition::text as "definition!", r.revision,
            coalesce((select jsonb_object_agg(a.path, encode(a.sha256, 'hex')) from attachments a
                where a.domain_id = r.domain_id and strpos(r.definition::text, to_json(a.path)::text) > 0), '{}') as "attachments!"
         from resources r where r.type = $1 and r.id > $2 order by r.id limit $3"#,
        kind,
        after,
        limit
    )
    .fetch_all(connection)
    .await?;
    found
        .into_iter()
        .map(|row| {
            Ok(Row {
                id: row.id,
                name: row.name,
                directory: row.directory,
                definition: row.definition,
                revision: row.revision,
                attachments: serde_json::from_value(row.attachments).map_err(|_| DbError::Corrupt("attachment"))?,
            })
        })
        .collect()
}

/// Writes what is staged over the resources of the same ID, and empties the staging tables.
///
/// # Errors
/// The database fails.
pub async fn apply(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::raw_sql(
        "update resources r set name_scope = s.name_scope, definition = s.definition, definition_hash = s.definition_hash,
            content_hash = s.content_hash, children = s.children
         from staged_resources s where s.id = r.id;
         delete from resource_references e using staged_resources s where e.from_id = s.id;
         insert into resource_references (from_id, ordinal, domain_id, rule, kind, acyclic, to_id, to_type, to_name)
         select e.from_id, e.ordinal, r.domain_id, e.rule, e.kind, e.acyclic, e.to_id, e.to_type, e.to_name
         from staged_references e join resources r on r.id = e.from_id;
         delete from resource_attachments a using staged_resources s where a.resource_id = s.id;
         insert into resource_attachments (resource_id, path, domain_id)
         select p.resource_id, p.path, r.domain_id from staged_attachment_paths p join resources r on r.id = p.resource_id;
         truncate staged_resources, staged_references, staged_attachment_paths",
    )
    .execute(connection)
    .await?;
    Ok(())
}
