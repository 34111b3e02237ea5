//! What an export reads of the catalogue: compact rows first, then definitions as a stream.

use std::collections::HashMap;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::{Executor, PgConnection};

use crate::domain::resource::Hash;

use super::DbError;

/// Begins a transaction that sees one state of the catalogue throughout.
///
/// # Errors
/// The database fails.
pub async fn begin_snapshot(connection: &mut PgConnection) -> Result<(), DbError> {
    connection.execute("begin isolation level repeatable read").await?;
    Ok(())
}

/// Ends it.
///
/// # Errors
/// The database fails.
pub async fn end_snapshot(connection: &mut PgConnection) -> Result<(), DbError> {
    connection.execute("commit").await?;
    Ok(())
}

/// What the index says of a resource besides its references.
#[derive(Debug, Clone)]
pub struct Compact {
    /// With name, directory and attachments.
    pub content_hash: Hash,
    /// Of the definition alone.
    pub definition_hash: Hash,
    /// IDs of children.
    pub children: Vec<(String, String)>,
}

/// Hashes and children of some resources, by ID.
///
/// # Errors
/// The database fails.
pub async fn compact(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<HashMap<String, Compact>, DbError> {
    let found = sqlx::query!(
        "select id, content_hash, definition_hash, children from resources where domain_id = $1 and id = any($2)",
        domain_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    found
        .into_iter()
        .map(|row| {
            let compact = Compact {
                content_hash: Hash::from_slice(&row.content_hash).ok_or(DbError::Corrupt("hash"))?,
                definition_hash: Hash::from_slice(&row.definition_hash).ok_or(DbError::Corrupt("hash"))?,
                children: serde_json::from_value(row.children).map_err(|_| DbError::Corrupt("child"))?,
            };
            Ok((row.id, compact))
        })
        .collect()
}

/// An attachment that a resource names.
#[derive(Debug, Clone)]
pub struct Named {
    /// Who names it.
    pub resource_id: String,
    /// The path.
    pub path: String,
    /// Hash and size of its bytes, if they are there.
    pub bytes: Option<(Hash, u64)>,
}

/// The attachments that some resources name.
///
/// # Errors
/// The database fails.
pub async fn attachments(connection: &mut PgConnection, domain_id: i32, ids: &[String]) -> Result<Vec<Named>, DbError> {
    let found = sqlx::query!(
        r#"select a.resource_id, a.path, b.sha256 as "sha256?", b.size as "size?" from resource_attachments a
           left join attachments b on b.domain_id = a.domain_id and b.path = a.path
           where a.domain_id = $1 and a.resource_id = any($2) order by a.resource_id, a.path"#,
        domain_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    let bytes = |sha256: Option<Vec<u8>>, size: Option<i64>| Some((Hash::from_slice(&sha256?)?, size? as u64));
    Ok(found
        .into_iter()
        .map(|row| Named { resource_id: row.resource_id, path: row.path, bytes: bytes(row.sha256, row.size) })
        .collect())
}

/// The definitions of some resources, secrets sealed, in the order of `ids`, as JSON text.
pub fn definitions<'a>(
    connection: &'a mut PgConnection,
    domain_id: i32,
    ids: &'a [String],
) -> BoxStream<'a, Result<(String, String), DbError>> {
    sqlx::query!(
        r#"select r.id, r.definition::text as "definition!" from unnest($2::text[]) with ordinality as wanted(id, place)
           join resources r on r.id = wanted.id where r.domain_id = $1 order by wanted.place"#,
        domain_id,
        ids
    )
    .fetch(connection)
    .map_ok(|row| (row.id, row.definition))
    .map_err(DbError::from)
    .boxed()
}
