//! What an import replaces besides versions of resources, kept for its roll back; before it is replaced.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::resource::Hash;

use super::DbError;
use super::merge::Writer;

/// Keeps what the staged bases replace.
pub async fn bases(connection: &mut PgConnection, writer: &Writer<'_>) -> Result<(), DbError> {
    sqlx::query(
        "insert into undo_bases (record_id, source_id, target_id, source_hash, result_hash, remapping, entry, type_digest, base_record)
         select $3, b.source_id, b.target_id, b.source_hash, b.result_hash, b.remapping, b.entry, b.type_digest, b.record_id
         from staged_bases s join import_bases b on b.domain_id = $1 and b.source_environment = $2
            and b.source_id = s.source_id and b.target_id = s.target_id
         where b.record_id <> $3 on conflict do nothing",
    )
    .bind(writer.domain_id)
    .bind(writer.source_environment)
    .bind(writer.record_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what the staged attachments replace.
pub async fn attachments(connection: &mut PgConnection, domain_id: i32, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query(
        "insert into undo_attachments (record_id, path, sha256, size, new_sha256)
         select $2, s.path, a.sha256, a.size, s.sha256 from staged_attachments s
         left join attachments a on a.domain_id = $1 and a.path = s.path
         where a.sha256 is distinct from s.sha256
         on conflict (record_id, path) do update set new_sha256 = excluded.new_sha256",
    )
    .bind(domain_id)
    .bind(record_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps which bytes the import before brought for some paths.
pub async fn attachment_bases(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    brought: &HashMap<&str, Hash>,
) -> Result<(), DbError> {
    if brought.is_empty() {
        return Ok(());
    }
    let paths: Vec<String> = brought.keys().map(|path| (*path).to_owned()).collect();
    sqlx::query!(
        "insert into undo_attachment_bases (record_id, path, sha256)
         select $3, p.path, b.sha256 from unnest($4::text[]) as p(path)
         left join attachment_bases b on b.domain_id = $1 and b.source_environment = $2 and b.path = p.path
         on conflict do nothing",
        writer.domain_id,
        writer.source_environment,
        writer.record_id,
        &paths
    )
    .execute(connection)
    .await?;
    Ok(())
}
