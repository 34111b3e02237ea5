//! Pages of the index of earlier imports, by the hash of their lines. Rows are held in the order of their names: imports
//! of one source may be parsed and executed at once.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::pages::Page;
use crate::domain::resource::Hash;

use super::DbError;

/// The lines of some pages that a source sent before.
pub async fn find(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    names: &[Hash],
) -> Result<HashMap<Hash, String>, DbError> {
    let names: Vec<Vec<u8>> = names.iter().map(|name| name.0.to_vec()).collect();
    let found = sqlx::query!(
        "select name, lines from index_pages where domain_id = $1 and source_environment = $2 and name = any($3)",
        domain_id,
        source_environment,
        &names
    );
    let found = found.fetch_all(connection).await?;
    found.into_iter().map(|row| Ok((Hash::from_slice(&row.name).ok_or(DbError::Corrupt("hash"))?, row.lines))).collect()
}

/// Keeps the pages that an import names, where they are here still.
pub async fn keep_named(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    record_id: Uuid,
    names: &[Hash],
) -> Result<(), DbError> {
    let names: Vec<Vec<u8>> = names.iter().map(|name| name.0.to_vec()).collect();
    sqlx::query!(
        "with held as (
             select name from index_pages where domain_id = $1 and source_environment = $2 and name = any($4)
             order by name for update)
         update index_pages page set record_id = $3 from held
         where page.domain_id = $1 and page.source_environment = $2 and page.name = held.name",
        domain_id,
        source_environment,
        record_id,
        &names
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the pages of an import.
pub async fn keep(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    record_id: Uuid,
    pages: &[Page],
) -> Result<(), DbError> {
    let names: Vec<Hash> = pages.iter().map(|page| page.name).collect();
    keep_named(connection, domain_id, source_environment, record_id, &names).await?;
    let names: Vec<Vec<u8>> = names.iter().map(|name| name.0.to_vec()).collect();
    let lines: Vec<&str> = pages.iter().map(|page| page.lines.as_str()).collect();
    sqlx::query!(
        "insert into index_pages (domain_id, source_environment, record_id, name, lines)
         select $1, $2, $3, page.name, page.lines from unnest($4::bytea[], $5::text[]) as page (name, lines)
         where not exists (
             select from index_pages known
             where known.domain_id = $1 and known.source_environment = $2 and known.name = page.name)
         on conflict do nothing",
        domain_id,
        source_environment,
        record_id,
        &names,
        &lines as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets what only earlier imports of a source listed, once one with pages was executed.
pub async fn keep_last(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    record_id: Uuid,
) -> Result<(), DbError> {
    sqlx::query!(
        "with held as (
             select name from index_pages where domain_id = $1 and source_environment = $2 and record_id <> $3
             and exists (select from index_pages own
                 where own.domain_id = $1 and own.source_environment = $2 and own.record_id = $3)
             order by name for update)
         delete from index_pages page using held
         where page.domain_id = $1 and page.source_environment = $2 and page.name = held.name",
        domain_id,
        source_environment,
        record_id
    )
    .execute(connection)
    .await?;
    Ok(())
}
