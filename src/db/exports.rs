//! What an export reads of the catalogue: compact rows first, then definitions as a stream.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::{Acquire, Executor, PgConnection, Postgres, Transaction};

use crate::domain::resource::Hash;

use super::DbError;

/// Begins a transaction that sees one state of the catalogue throughout.
pub async fn begin_snapshot(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, DbError> {
    let mut transaction = connection.begin().await?;
    transaction.execute("set transaction isolation level repeatable read, read only").await?;
    Ok(transaction)
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
    Ok(found.into_iter().map(|row| Named::new(row.resource_id, row.path, row.sha256.zip(row.size))).collect())
}

/// The attachments that the resources of a domain name.
pub async fn all_attachments(connection: &mut PgConnection, domain_id: i32) -> Result<Vec<Named>, DbError> {
    let found = sqlx::query!(
        r#"select a.resource_id, a.path, b.sha256 as "sha256?", b.size as "size?" from resource_attachments a
           left join attachments b on b.domain_id = a.domain_id and b.path = a.path
           where a.domain_id = $1 order by a.resource_id, a.path"#,
        domain_id
    )
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|row| Named::new(row.resource_id, row.path, row.sha256.zip(row.size))).collect())
}

impl Named {
    fn new(resource_id: String, path: String, bytes: Option<(Vec<u8>, i64)>) -> Self {
        let bytes = bytes.and_then(|(hash, size)| Some((Hash::from_slice(&hash)?, size as u64)));
        Self { resource_id, path, bytes }
    }
}

/// Some bodies, in the order of `ids`.
pub fn bodies<'a>(connection: &'a mut PgConnection, ids: &'a [i64]) -> BoxStream<'a, Result<String, DbError>> {
    sqlx::query_scalar!(
        "select d.body from unnest($1::bigint[]) with ordinality as wanted(id, place)
         join definitions d on d.id = wanted.id order by wanted.place",
        ids
    )
    .fetch(connection)
    .map_err(DbError::from)
    .boxed()
}
