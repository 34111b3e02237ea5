//! The items of records, in chunks of up to 500: one row each, so that a million of them cost 2,000 rows.

use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// Items in a chunk.
pub const CHUNK: usize = 500;

/// A chunk of items: JSON array text, and what a filter may find inside.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The place of its first item in the record.
    pub first: i32,
    /// A JSON array.
    pub items: String,
    /// Whether the changes that its pending items say were written, once that was decided for all of them at once.
    pub applied: Option<bool>,
    /// Where all of a migration were in the target as they were sent: below this directory, or none.
    pub as_sent_below: Option<String>,
}

/// A chunk to be written.
#[derive(Debug, Default)]
pub struct NewChunk {
    /// The place of its first item in the record.
    pub first: i32,
    /// Methods that occur.
    pub methods: Vec<String>,
    /// Statuses that occur.
    pub statuses: Vec<String>,
    /// Types that occur.
    pub types: Vec<String>,
    /// A JSON array.
    pub items: String,
}

/// Replaces all items of a record.
pub async fn replace(connection: &mut PgConnection, record_id: Uuid, chunks: &[NewChunk]) -> Result<(), DbError> {
    clear(connection, record_id).await?;
    for chunk in chunks {
        put(connection, record_id, chunk).await?;
    }
    Ok(())
}

/// Removes all items of a record.
pub async fn clear(connection: &mut PgConnection, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query!("delete from record_items where record_id = $1", record_id).execute(connection).await?;
    Ok(())
}

/// Writes a chunk of items, in the place of one that begins there.
pub async fn put(connection: &mut PgConnection, record_id: Uuid, chunk: &NewChunk) -> Result<(), DbError> {
    sqlx::query!(
        "insert into record_items (record_id, first, methods, statuses, types, items) values ($1, $2, $3, $4, $5, $6)
         on conflict (record_id, first) do update set methods = excluded.methods, statuses = excluded.statuses,
            types = excluded.types, items = excluded.items, applied = null, as_sent_below = null",
        record_id,
        chunk.first,
        &chunk.methods,
        &chunk.statuses,
        &chunk.types,
        chunk.items
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends all items of a record as planned, without writing them again; `ends`: the status that each method comes to.
pub async fn settle(
    connection: &mut PgConnection,
    record_id: Uuid,
    applied: bool,
    ends: &[(&str, &str)],
) -> Result<(), DbError> {
    let (methods, statuses): (Vec<String>, Vec<String>) =
        ends.iter().map(|(method, status)| ((*method).to_owned(), (*status).to_owned())).unzip();
    sqlx::query!(
        "update record_items i set applied = $2, statuses = array(
            select distinct e.status from unnest($3::text[], $4::text[]) as e(method, status) where e.method = any(i.methods)
         ) where record_id = $1",
        record_id,
        applied,
        &methods,
        &statuses
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends all items of a migration as the target has them: as they were sent, below a directory; nothing of them is
/// written again.
pub async fn settle_as_sent(connection: &mut PgConnection, record_id: Uuid, below: &str) -> Result<(), DbError> {
    sqlx::query!(
        "update record_items set as_sent_below = $2, methods = '{unchanged}', statuses = '{unchanged}' where record_id = $1",
        record_id,
        below
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The next chunks that may hold an item from a place on, of some status, method and type.
pub async fn chunks(
    connection: &mut PgConnection,
    record_id: Uuid,
    from: i32,
    filter: (Option<&str>, Option<&str>, Option<&str>),
    limit: i64,
) -> Result<Vec<Chunk>, DbError> {
    let (status, method, kind) = filter;
    let found = sqlx::query_as!(
        Chunk,
        "select first, items, applied, as_sent_below from record_items
         where record_id = $1 and first > $2 - 500
            and ($3::text is null or $3 = any(statuses)) and ($4::text is null or $4 = any(methods))
            and ($5::text is null or $5 = any(types))
         order by first limit $6",
        record_id,
        from,
        status,
        method,
        kind,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}
