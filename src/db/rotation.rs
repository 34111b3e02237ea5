//! Everything that rests sealed with the secret key, to be sealed with another one in one transaction:
//! secrets of resources with their earlier versions, tokens of targets, passphrases of records, the environment's own
//! seeds. Kept answers to requests are sealed too; they are forgotten.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;
use super::environment::Identity;

/// Rows that are read and written together: a definition may have many MiB.
const PORTION: i64 = 50;
/// How often it is looked whether others have gone: a server that has just stopped needs a moment.
const LOOKS: usize = 20;

/// Keeps servers from starting, and tells whether all have stopped. No server reads its identity until the
/// transaction has ended.
pub async fn hold(connection: &mut PgConnection) -> Result<bool, DbError> {
    sqlx::query!("lock table environment in access exclusive mode").execute(&mut *connection).await?;
    for _ in 0..LOOKS {
        let others = sqlx::query_scalar!(
            r#"select count(*) as "others!" from pg_stat_activity
               where datname = current_database() and starts_with(application_name, $1) and pid <> pg_backend_pid()"#,
            super::APPLICATION
        );
        // In a transaction the statistics stay as they were first seen.
        sqlx::query!("select pg_stat_clear_snapshot()").execute(&mut *connection).await?;
        if others.fetch_one(&mut *connection).await? == 0 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}

/// A version that has something sealed.
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose it is.
    pub id: String,
    /// Its domain.
    pub domain_id: i32,
    /// Which version.
    pub revision: i64,
    /// What belongs to this environment alone, JSON text.
    pub overlay: String,
    /// It is the current one.
    pub current: bool,
}

/// The next versions that have something sealed.
pub async fn versions(connection: &mut PgConnection, after: Option<&Row>) -> Result<Vec<Row>, DbError> {
    let found = sqlx::query_as!(
        Row,
        r#"select v.resource_id as id, v.domain_id, v.revision, v.overlay as "overlay!", r.id is not null as "current!"
           from resource_versions v
           left join resources r on r.id = v.resource_id and r.domain_id = v.domain_id and r.revision = v.revision
           where (v.domain_id, v.resource_id, v.revision) > ($1, $2, $3) and v.overlay like '%"sealed"%'
           order by v.domain_id, v.resource_id, v.revision limit $4"#,
        after.map_or(i32::MIN, |row| row.domain_id),
        after.map_or("", |row| &row.id),
        after.map_or(0, |row| row.revision),
        PORTION
    );
    Ok(found.fetch_all(connection).await?)
}

/// Writes what versions have of their own back; nothing else of them changes.
pub async fn write_versions(connection: &mut PgConnection, rows: &[Row]) -> Result<(), DbError> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let domains: Vec<i32> = rows.iter().map(|row| row.domain_id).collect();
    let revisions: Vec<i64> = rows.iter().map(|row| row.revision).collect();
    let overlays: Vec<String> = rows.iter().map(|row| row.overlay.clone()).collect();
    sqlx::query!(
        "update resource_versions v set overlay = n.overlay
         from unnest($1::text[], $2::int[], $3::bigint[], $4::text[]) as n(id, domain_id, revision, overlay)
         where v.domain_id = n.domain_id and v.resource_id = n.id and v.revision = n.revision",
        &ids,
        &domains,
        &revisions,
        &overlays
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Entries of imports that have not ended, with what came along sealed: (record, place, JSON text).
pub async fn entries(connection: &mut PgConnection) -> Result<Vec<(Uuid, i32, String)>, DbError> {
    let found = sqlx::query!(r#"select record_id, first, entries from import_entries where entries like '%"sealed"%'"#);
    Ok(found.fetch_all(connection).await?.into_iter().map(|row| (row.record_id, row.first, row.entries)).collect())
}

/// Writes entries back.
pub async fn write_entries(
    connection: &mut PgConnection,
    record_id: Uuid,
    first: i32,
    entries: &str,
) -> Result<(), DbError> {
    sqlx::query!(
        "update import_entries set entries = $3 where record_id = $1 and first = $2",
        record_id,
        first,
        entries
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The tokens of all targets, with the targets' IDs.
pub async fn tokens(connection: &mut PgConnection) -> Result<Vec<(Uuid, String)>, DbError> {
    let found = sqlx::query!("select id, token from targets").fetch_all(connection).await?;
    Ok(found.into_iter().map(|row| (row.id, row.token)).collect())
}

/// Writes the token of a target back.
pub async fn write_token(connection: &mut PgConnection, id: Uuid, token: &str) -> Result<(), DbError> {
    sqlx::query!("update targets set token = $2 where id = $1", id, token).execute(connection).await?;
    Ok(())
}

/// The passphrases of all records that have one, with the records' IDs.
pub async fn passphrases(connection: &mut PgConnection) -> Result<Vec<(Uuid, String)>, DbError> {
    let found = sqlx::query!(r#"select id, passphrase as "passphrase!" from records where passphrase is not null"#);
    Ok(found.fetch_all(connection).await?.into_iter().map(|row| (row.id, row.passphrase)).collect())
}

/// Writes what rests of the environment itself back, and forgets all kept answers.
pub async fn write_identity(connection: &mut PgConnection, identity: &Identity) -> Result<(), DbError> {
    sqlx::query!(
        "update environment set key_check = $1, signing_seed = $2, sealing_seed = $3",
        identity.key_check,
        identity.signing_seed,
        identity.sealing_seed
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from idempotency_keys").execute(connection).await?;
    Ok(())
}
