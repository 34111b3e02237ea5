//! From the staging tables into the catalogue, in a handful of statements: used by single writes,
//! batches and imports alike.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

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

/// Writes what is staged: history, updates, creates, references, attachment paths; lifts tombstones.
/// Rows with a `base_revision` replace that revision; the others are new.
///
/// # Errors
/// [`DbError::Constraint`] `resources_pkey` when another transaction took an ID meanwhile,
/// [`DbError::Busy`] when a row to replace is not there any more in that revision.
pub async fn resources(connection: &mut PgConnection, writer: &Writer<'_>) -> Result<(), DbError> {
    // Not the time at which the transaction began: a long import would seem older than it is.
    let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *connection).await?;
    sqlx::query(
        "insert into resource_history (resource_id, revision, domain_id, type, name, directory, definition,
            definition_hash, content_hash, owner, updated_at, updated_by, record_id, imported_record, imported_from,
            imported_at, superseded_at, superseded_by_record)
         select r.id, r.revision, r.domain_id, r.type, r.name, r.directory, r.definition, r.definition_hash,
            r.content_hash, r.owner, r.updated_at, r.updated_by, r.record_id, r.imported_record, r.imported_from,
            r.imported_at, $3, $2
         from resources r join staged_resources s on s.id = r.id
         where s.base_revision is not null and r.domain_id = $1",
    )
    .bind(writer.domain_id)
    .bind(writer.record_id)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let expected: i64 = sqlx::query_scalar("select count(*) from staged_resources where base_revision is not null")
        .fetch_one(&mut *connection)
        .await?;
    let updated = sqlx::query(
        "update resources r set type = s.type, name = s.name, directory = s.directory, name_scope = s.name_scope,
            definition = s.definition, definition_hash = s.definition_hash, content_hash = s.content_hash,
            children = s.children, revision = r.revision + 1, updated_at = $5, updated_by = $2, record_id = $3,
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
    sqlx::query(
        "insert into resources (id, domain_id, type, name, directory, name_scope, definition, definition_hash,
            content_hash, children, owner, revision, created_at, updated_at, updated_by, record_id, imported_record,
            imported_from, imported_at)
         select s.id, $1, s.type, s.name, s.directory, s.name_scope, s.definition, s.definition_hash, s.content_hash,
            s.children, s.owner, coalesce(t.revision, 0) + 1, now(), now(), $2, $3, $3, $4, case when $3 is null then null else $5 end
         from staged_resources s left join tombstones t on t.resource_id = s.id and t.domain_id = $1
         where s.base_revision is null",
    )
    .bind(writer.domain_id)
    .bind(writer.username)
    .bind(writer.record_id)
    .bind(writer.source_environment)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    edges(connection, writer.domain_id, expected > 0).await
}

/// Replaces the references and attachment paths of what is staged.
async fn edges(connection: &mut PgConnection, domain_id: i32, some_exist: bool) -> Result<(), DbError> {
    if some_exist {
        for statement in [
            "delete from resource_references e using staged_resources s where e.from_id = s.id and s.base_revision is not null",
            "delete from resource_attachments a using staged_resources s where a.resource_id = s.id and s.base_revision is not null",
        ] {
            sqlx::query(statement).execute(&mut *connection).await?;
        }
    }
    for statement in [
        "insert into resource_references (from_id, ordinal, domain_id, rule, kind, acyclic, to_id, to_type, to_name)
         select from_id, ordinal, $1, rule, kind, acyclic, to_id, to_type, to_name from staged_references",
        "insert into resource_attachments (resource_id, path, domain_id) select resource_id, path, $1 from staged_attachment_paths",
        "delete from tombstones t using staged_resources s where t.resource_id = s.id and t.domain_id = $1 and s.base_revision is null",
    ] {
        sqlx::query(statement).bind(domain_id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Gives resources that do not change otherwise the secrets that they lacked: nothing else tells that they did.
///
/// # Errors
/// [`DbError::Busy`] when one of so many is not there any more in its revision.
pub async fn secrets(connection: &mut PgConnection, domain_id: i32, expected: u64) -> Result<(), DbError> {
    let filled = sqlx::query(
        "update resources r set definition = s.definition from staged_secrets s
         where s.id = r.id and s.base_revision = r.revision and r.domain_id = $1",
    )
    .bind(domain_id)
    .execute(connection)
    .await?;
    if filled.rows_affected() == expected { Ok(()) } else { Err(DbError::Busy) }
}

/// Writes the staged attachments: a path that is there gets the new bytes. Returns the paths whose bytes
/// are new.
///
/// # Errors
/// The database fails.
pub async fn attachments(connection: &mut PgConnection, domain_id: i32) -> Result<Vec<String>, DbError> {
    let changed = sqlx::query_scalar(
        "insert into attachments (domain_id, path, sha256, size) select $1, path, sha256, size from staged_attachments
         on conflict (domain_id, path) do update set sha256 = excluded.sha256, size = excluded.size, updated_at = now()
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
/// The database fails.
pub async fn bases(connection: &mut PgConnection, writer: &Writer<'_>) -> Result<(), DbError> {
    sqlx::query(
        "insert into import_bases (domain_id, source_environment, source_id, target_id, source_hash, result_hash, remapping, entry, record_id)
         select $1, $2, source_id, target_id, source_hash, result_hash, remapping, entry, $3 from staged_bases
         on conflict (domain_id, source_id, target_id, source_environment) do update set source_hash = excluded.source_hash,
            result_hash = excluded.result_hash, remapping = excluded.remapping, entry = excluded.entry,
            record_id = excluded.record_id
         where (import_bases.source_hash, import_bases.result_hash, import_bases.remapping)
            is distinct from (excluded.source_hash, excluded.result_hash, excluded.remapping)",
    )
    .bind(writer.domain_id)
    .bind(writer.source_environment)
    .bind(writer.record_id)
    .execute(connection)
    .await?;
    Ok(())
}
