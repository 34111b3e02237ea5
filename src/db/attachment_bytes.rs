//! Attachment bytes in the store: who names them, and since when nobody does. The same bytes rest there once, whatever
//! domains name them.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::resource::Hash;

use super::DbError;

/// Names bytes for a record that may put them into the store, until it ends. Under [`super::locks::share_bytes`].
pub async fn note_staged(
    connection: &mut PgConnection,
    record_id: Uuid,
    sizes: &HashMap<Hash, u64>,
) -> Result<(), DbError> {
    let (hashes, sizes): (Vec<Vec<u8>>, Vec<i64>) =
        sizes.iter().map(|(hash, size)| (hash.0.to_vec(), *size as i64)).unzip();
    sqlx::query!(
        "insert into staged_bytes (record_id, sha256, size)
         select $1, sha256, size from unnest($2::bytea[], $3::bigint[]) as n (sha256, size) on conflict do nothing",
        record_id,
        &hashes,
        &sizes
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The bytes that a record names, with their sizes.
pub async fn staged(connection: &mut PgConnection, record_id: Uuid) -> Result<HashMap<Hash, u64>, DbError> {
    let found = sqlx::query!("select sha256, size from staged_bytes where record_id = $1", record_id);
    let rows = found.fetch_all(connection).await?;
    Ok(rows.into_iter().filter_map(|row| Some((Hash::from_slice(&row.sha256)?, row.size as u64))).collect())
}

/// Bytes that records named which have ended since.
pub async fn left_over(connection: &mut PgConnection) -> Result<Vec<Hash>, DbError> {
    let found = sqlx::query_scalar!(
        "select distinct s.sha256 from staged_bytes s left join records r on r.id = s.record_id
         where r.id is null or r.finished_at is not null order by s.sha256"
    );
    Ok(found.fetch_all(connection).await?.iter().filter_map(|bytes| Hash::from_slice(bytes)).collect())
}

/// Which of some bytes nothing names: no attachment, no version, nothing that an import left behind or a roll back needs, no record that
/// goes on.
pub async fn unnamed(connection: &mut PgConnection, hashes: &[Hash]) -> Result<Vec<Hash>, DbError> {
    let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
    let found = sqlx::query_scalar!(
        r#"select h.sha256 as "sha256!" from unnest($1::bytea[]) as h (sha256)
           where not exists (select from attachments a where a.sha256 = h.sha256)
             and not exists (select from attachment_bases b where b.sha256 = h.sha256)
             and not exists (select from undo_attachments u where u.sha256 = h.sha256)
             and not exists (select from staged_bytes s join records r on r.id = s.record_id
                where s.sha256 = h.sha256 and r.finished_at is null)
             and not exists (select from resource_versions v, jsonb_array_elements(v.attachments) a
                where v.attachments <> '[]' and a ->> 1 = encode(h.sha256, 'hex'))"#,
        &hashes
    );
    Ok(found.fetch_all(connection).await?.iter().filter_map(|bytes| Hash::from_slice(bytes)).collect())
}

/// Which of some bytes nothing has named for a day, as far as was looked; notes those that nothing names now.
pub async fn long_unnamed(connection: &mut PgConnection, hashes: &[Hash]) -> Result<Vec<Hash>, DbError> {
    let unnamed = unnamed(&mut *connection, hashes).await?;
    let rows = |hashes: &[Hash]| hashes.iter().map(|hash| hash.0.to_vec()).collect::<Vec<_>>();
    let (all, unnamed) = (rows(hashes), rows(&unnamed));
    sqlx::query!("delete from unnamed_bytes where sha256 = any($1) and sha256 <> all($2)", &all, &unnamed)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "insert into unnamed_bytes (sha256) select * from unnest($1::bytea[]) on conflict do nothing",
        &unnamed
    )
    .execute(&mut *connection)
    .await?;
    let over = sqlx::query_scalar!(
        "select sha256 from unnamed_bytes where sha256 = any($1) and since < clock_timestamp() - interval '1 day'",
        &unnamed
    );
    Ok(over.fetch_all(connection).await?.iter().filter_map(|bytes| Hash::from_slice(bytes)).collect())
}

/// Forgets that records which have ended named these bytes, and since when nothing does.
pub async fn forget(connection: &mut PgConnection, hash: &Hash) -> Result<(), DbError> {
    sqlx::query!(
        "with looked as (delete from unnamed_bytes where sha256 = $1)
         delete from staged_bytes s where s.sha256 = $1
            and not exists (select from records r where r.id = s.record_id and r.finished_at is null)",
        &hash.0[..]
    )
    .execute(connection)
    .await?;
    Ok(())
}
