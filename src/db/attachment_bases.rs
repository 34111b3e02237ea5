//! Which bytes the last import from a source environment brought for an attachment path, and who shares one.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::domain::import_plan::Sharers;
use crate::domain::resource::Hash;

use super::DbError;
use super::merge::Writer;

/// So many names of those who share an attachment are told.
const NAMED: usize = 5;

/// The bytes that the last import from a source environment brought for some paths.
pub async fn by_paths(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    paths: &[String],
) -> Result<HashMap<String, Hash>, DbError> {
    let found = sqlx::query!(
        "select path, sha256 from attachment_bases where domain_id = $1 and source_environment = $2 and path = any($3)",
        domain_id,
        source_environment,
        paths
    );
    let rows = found.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok((row.path, Hash::from_slice(&row.sha256).ok_or(DbError::Corrupt("hash"))?))).collect()
}

/// Notes the bytes that an import brought, by path.
pub async fn note(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    brought: &HashMap<&str, Hash>,
) -> Result<(), DbError> {
    if brought.is_empty() {
        return Ok(());
    }
    let paths: Vec<String> = brought.keys().map(|path| (*path).to_owned()).collect();
    let hashes: Vec<Vec<u8>> = brought.values().map(|hash| hash.0.to_vec()).collect();
    sqlx::query!(
        "insert into attachment_bases (domain_id, source_environment, path, sha256)
         select $1, $2, path, sha256 from unnest($3::text[], $4::bytea[]) as brought(path, sha256)
         on conflict (domain_id, source_environment, path) do update set sha256 = excluded.sha256",
        writer.domain_id,
        writer.source_environment,
        &paths,
        &hashes
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Who names some paths, but for some resources.
pub async fn sharers(
    connection: &mut PgConnection,
    domain_id: i32,
    paths: &[String],
    but: &[String],
) -> Result<HashMap<String, Sharers>, DbError> {
    if paths.is_empty() {
        return Ok(HashMap::new());
    }
    let found = sqlx::query!(
        r#"select a.path, count(*) as "count!", (array_agg(r.name order by r.id))[1:$4] as "names!"
         from resource_attachments a join resources r on r.id = a.resource_id
         where a.domain_id = $1 and a.path = any($2)
            and not exists (select from unnest($3::text[]) as own (id) where own.id = a.resource_id)
         group by a.path"#,
        domain_id,
        paths,
        but,
        NAMED as i32
    );
    let rows = found.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.path, Sharers { count: row.count as u64, names: row.names })).collect())
}
