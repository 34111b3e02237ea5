//! From the staging tables into the catalogue, in a handful of statements that move pointers: used by single writes,
//! batches and imports alike.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, tombstones};

/// Who writes, and for which record.
#[derive(Debug, Clone)]
pub struct Writer<'a> {
    /// The domain written to.
    pub domain_id: i32,
    /// The user's name.
    pub username: &'a str,
    /// The import that writes.
    pub record_id: Option<Uuid>,
    /// The environment that the resources come from.
    pub source_environment: Option<&'a str>,
}

/// Points the catalogue at what is staged: updates, creates, a version of each, references, attachment paths; lifts
/// tombstones. Rows with a `base_revision` replace that revision; the others are new.
///
/// # Errors
/// [`DbError::Constraint`] `resources_pkey` when another transaction took an ID meanwhile,
/// [`DbError::Busy`] when a row to replace is not there any more in that revision.
pub async fn resources(connection: &mut PgConnection, writer: &Writer<'_>) -> Result<(), DbError> {
    // Not the time at which the transaction began: a long import would seem older than it is.
    let (now, expected): (DateTime<Utc>, i64) =
        sqlx::query_as("select clock_timestamp(), count(*) from staged_resources where base_revision is not null")
            .fetch_one(&mut *connection)
            .await?;
    if expected > 0 {
        let updated = sqlx::query(
            "update resources r set type = s.type, name = s.name, directory = s.directory, name_scope = s.name_scope,
                definition_id = s.definition_id, definition_hash = s.definition_hash, content_hash = s.content_hash,
                parts_hash = s.parts_hash, revision = r.revision + 1, updated_at = $5, updated_by = $2,
                imported_record = coalesce($3, r.imported_record), imported_from = coalesce($4, r.imported_from),
                imported_at = case when $3 is null then r.imported_at else $5 end
             from staged_resources s
             where s.id = r.id and s.base_revision = r.revision and r.domain_id = $1",
        )
        .bind(writer.domain_id)
        .bind(writer.username)
        .bind(writer.record_id)
        .bind(writer.source_environment)
        .bind(now)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if updated != expected as u64 {
            return Err(DbError::Busy);
        }
    }
    // An ID goes on counting where it ever was in this domain: what was deleted has left a tombstone, what was rolled
    // back its last revision.
    sqlx::query(
        "insert into resources (id, domain_id, type, name, directory, name_scope, owner, revision, definition_id,
            definition_hash, content_hash, parts_hash, created_at, updated_at, updated_by, imported_record,
            imported_from, imported_at)
         select s.id, $1, s.type, s.name, s.directory, s.name_scope, s.owner,
            1 + greatest(t.revision, l.revision, 0),
            s.definition_id, s.definition_hash, s.content_hash, s.parts_hash, $5, $5, $2, $3, $4,
            case when $3 is null then null else $5 end
         from staged_resources s left join tombstones t on t.domain_id = $1 and t.resource_id = s.id
            left join last_revisions l on l.domain_id = $1 and l.resource_id = s.id
         where s.base_revision is null",
    )
    .bind(writer.domain_id)
    .bind(writer.username)
    .bind(writer.record_id)
    .bind(writer.source_environment)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into resource_versions (domain_id, resource_id, revision, type, name, directory, owner, definition_id,
            definition_hash, content_hash, children, attachments, overlay, updated_at, updated_by, record_id, created,
            imported_record, imported_from, imported_at)
         select $1, r.id, r.revision, r.type, r.name, r.directory, r.owner, r.definition_id, r.definition_hash,
            r.content_hash, s.children, s.attachments, s.overlay, r.updated_at, r.updated_by, $2, s.base_revision is null, r.imported_record,
            r.imported_from, r.imported_at
         from staged_resources s join resources r on r.id = s.id",
    )
    .bind(writer.domain_id)
    .bind(writer.record_id)
    .execute(&mut *connection)
    .await?;
    edges(connection, writer.domain_id, expected > 0).await?;
    tombstones::lift(connection, writer).await
}

/// Replaces the references and attachment paths of what is staged, where they are others.
async fn edges(connection: &mut PgConnection, domain_id: i32, some_exist: bool) -> Result<(), DbError> {
    if some_exist {
        for statement in [
            "delete from resource_references e using staged_resources s where e.from_id = s.id and s.new_parts and s.base_revision is not null",
            "delete from resource_attachments a using staged_resources s where a.resource_id = s.id and s.new_parts and s.base_revision is not null",
        ] {
            sqlx::query(statement).execute(&mut *connection).await?;
        }
    }
    for statement in [
        "insert into resource_references (from_id, ordinal, domain_id, rule, kind, acyclic, to_id, to_type, to_name)
         select from_id, ordinal, $1, rule, kind, acyclic, to_id, to_type, to_name from staged_references",
        "insert into resource_attachments (resource_id, path, domain_id)
         select s.id, a ->> 0, $1 from staged_resources s, jsonb_array_elements(s.attachments) a where s.new_parts",
    ] {
        sqlx::query(statement).bind(domain_id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes the staged attachments: a path that is there gets the new bytes. Returns the paths whose bytes
/// are new.
pub async fn attachments(connection: &mut PgConnection, domain_id: i32) -> Result<Vec<String>, DbError> {
    let changed = sqlx::query_scalar(
        "insert into attachments (domain_id, path, sha256, size) select $1, path, sha256, size from staged_attachments
         on conflict (domain_id, path) do update set sha256 = excluded.sha256, size = excluded.size, updated_at = clock_timestamp()
         where attachments.sha256 <> excluded.sha256
         returning path",
    )
    .bind(domain_id);
    Ok(changed.fetch_all(connection).await?)
}

/// Checks the deferred constraints now, where their violation can still be told.
///
/// # Errors
/// [`DbError::Constraint`] `resources_unique_name`.
pub async fn check_constraints(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query("set constraints all immediate").execute(connection).await?;
    Ok(())
}

/// Writes the staged bases; those that are the same already are left alone.
///
/// # Errors
/// [`DbError::Constraint`] `import_bases_pkey` when one that should be new is there.
pub async fn bases(connection: &mut PgConnection, writer: &Writer<'_>) -> Result<(), DbError> {
    sqlx::query(
        "insert into import_bases (domain_id, source_environment, source_id, target_id, source_hash, result_hash, remapping, entry, type_digest, record_id)
         select $1, $2, source_id, target_id, source_hash, result_hash, remapping, entry, type_digest, $3 from staged_bases
         where is_new",
    )
    .bind(writer.domain_id)
    .bind(writer.source_environment)
    .bind(writer.record_id)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into import_bases (domain_id, source_environment, source_id, target_id, source_hash, result_hash, remapping, entry, type_digest, record_id)
         select $1, $2, source_id, target_id, source_hash, result_hash, remapping, entry, type_digest, $3 from staged_bases
         where not is_new
         on conflict (domain_id, source_id, target_id, source_environment) do update set source_hash = excluded.source_hash,
            result_hash = excluded.result_hash, remapping = excluded.remapping, entry = excluded.entry,
            type_digest = excluded.type_digest, record_id = excluded.record_id
         where (import_bases.source_hash, import_bases.result_hash, import_bases.remapping, import_bases.type_digest)
            is distinct from (excluded.source_hash, excluded.result_hash, excluded.remapping, excluded.type_digest)",
    )
    .bind(writer.domain_id)
    .bind(writer.source_environment)
    .bind(writer.record_id)
    .execute(connection)
    .await?;
    Ok(())
}
