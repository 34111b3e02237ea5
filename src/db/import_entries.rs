//! What a plan needs of each resource of a package; there from parse until the record ends.

use futures_util::TryStreamExt;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::import_plan::Entry;

use super::DbError;

/// Entries in a row.
const CHUNK: usize = 500;

/// Replaces the entries of a record.
pub async fn replace(connection: &mut PgConnection, record_id: Uuid, entries: &[Entry]) -> Result<(), DbError> {
    delete(connection, record_id).await?;
    for (index, chunk) in entries.chunks(CHUNK).enumerate() {
        let text = serde_json::to_string(chunk).map_err(|_| DbError::Corrupt("import_entries.entries"))?;
        sqlx::query!(
            "insert into import_entries (record_id, first, entries) values ($1, $2, $3)",
            record_id,
            (index * CHUNK) as i32,
            text
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The entries of a record, in their order.
pub async fn load(connection: &mut PgConnection, record_id: Uuid) -> Result<Vec<Entry>, DbError> {
    let mut entries = Vec::new();
    let mut chunks =
        sqlx::query_scalar!("select entries from import_entries where record_id = $1 order by first", record_id)
            .fetch(connection);
    while let Some(chunk) = chunks.try_next().await? {
        let part: Vec<Entry> = serde_json::from_str(&chunk).map_err(|_| DbError::Corrupt("import_entries.entries"))?;
        entries.extend(part);
    }
    drop(chunks);
    Ok(entries)
}

/// Forgets the entries of a record; when it ends, the database does so by itself.
async fn delete(connection: &mut PgConnection, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query!("delete from import_entries where record_id = $1", record_id).execute(&mut *connection).await?;
    sqlx::query!("delete from standing_imports where record_id = $1", record_id).execute(connection).await?;
    Ok(())
}
