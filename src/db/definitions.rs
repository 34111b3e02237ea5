//! Bodies: canonical JSON text, append-only. They are written before anything points at them, in a block of IDs of
//! the run that writes them.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;
use super::copy::Rows;

/// How many IDs a block has; blocks begin at 1 and a multiple of it.
const BLOCK: i64 = 1 << 24;

/// The block of an ID.
pub fn block_of(id: i64) -> i64 {
    (id - 1) / BLOCK * BLOCK + 1
}

/// Bodies on their way, with the IDs that they will have.
pub struct Bodies {
    rows: Rows,
    block: i64,
    next: i64,
}

impl Bodies {
    /// Takes a block of IDs.
    pub async fn begin(connection: &mut PgConnection) -> Result<Self, DbError> {
        let block = sqlx::query_scalar!(r#"select nextval('definition_blocks') as "block!""#);
        let block = block.fetch_one(connection).await?;
        Ok(Self { rows: Rows::new("definitions", &["id", "body"]), block, next: block })
    }

    /// The first ID of the block.
    pub fn block(&self) -> i64 {
        self.block
    }

    /// Adds a body; its ID.
    pub fn add(&mut self, body: &[u8]) -> i64 {
        let id = self.next;
        self.next += 1;
        self.rows.row().big(id).bytes(body);
        id
    }

    /// Bytes gathered so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Nothing gathered.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Sends what is gathered.
    ///
    /// # Errors
    /// The database refuses a row.
    pub async fn send(&mut self, connection: &mut PgConnection) -> Result<(), DbError> {
        self.rows.send(connection).await
    }
}

/// Some bodies, in no order.
pub fn bodies<'a>(connection: &'a mut PgConnection, ids: &'a [i64]) -> BoxStream<'a, Result<(i64, String), DbError>> {
    sqlx::query!("select id, body from definitions where id = any($1)", ids)
        .fetch(connection)
        .map_ok(|row| (row.id, row.body))
        .map_err(DbError::from)
        .boxed()
}

/// Whether a version points at a body.
pub async fn is_used(connection: &mut PgConnection, id: i64) -> Result<bool, DbError> {
    let found =
        sqlx::query_scalar!(r#"select exists (select from resource_versions where definition_id = $1) as "used!""#, id);
    Ok(found.fetch_one(connection).await?)
}

/// How many of some bodies are there.
pub async fn count(connection: &mut PgConnection, ids: &[i64]) -> Result<i64, DbError> {
    let found = sqlx::query_scalar!(r#"select count(*) as "count!" from definitions where id = any($1)"#, ids);
    Ok(found.fetch_one(connection).await?)
}

/// Notes that a record's run stages bodies in a block.
pub async fn note_run(connection: &mut PgConnection, block: i64, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query!("insert into runs (block, record_id) values ($1, $2) on conflict do nothing", block, record_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes what runs of a record have staged, but for some blocks: their workers died.
pub async fn drop_other_runs(connection: &mut PgConnection, record_id: Uuid, kept: &[i64]) -> Result<(), DbError> {
    sqlx::query!(
        "with gone as (delete from runs where record_id = $1 and block <> all($2) returning block)
         delete from definitions d using gone where d.id >= gone.block and d.id < gone.block + 16777216",
        record_id,
        kept
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The record's import is being applied: what it staged is the catalogue's now, but for bodies that it does not use.
pub async fn use_runs(connection: &mut PgConnection, record_id: Uuid, unused: &[i64]) -> Result<(), DbError> {
    sqlx::query!(
        "with own as (delete from runs where record_id = $1 returning block)
         delete from definitions d using own
         where d.id = any($2) and d.id >= own.block and d.id < own.block + 16777216",
        record_id,
        unused
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes what is staged for records that have ended, and (after so many days) for those that nobody confirms:
/// such an import is parsed again when it is executed.
pub async fn forget_runs(connection: &mut PgConnection, days: u32) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "with old as (
            select r.block from runs r left join records c on c.id = r.record_id
            where c.id is null or c.status in ('succeeded', 'partially_succeeded', 'failed', 'cancelled', 'rolled_back')
               or (c.status in ('awaiting_confirmation', 'awaiting_approval') and r.created_at < clock_timestamp() - make_interval(days => $1))
            for update of r skip locked
         ), bodies as (
            delete from definitions d using old where d.id >= old.block and d.id < old.block + 16777216
         )
         delete from runs using old where runs.block = old.block",
        days as i32
    );
    Ok(done.execute(connection).await?.rows_affected())
}
