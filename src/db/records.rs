//! Records: one row per export, import or online migration.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::domain::failure::Warning;
use crate::domain::outcome::{ChecklistEntry, Counts};
use crate::domain::record::{Phase, RecordKind, RecordStatus, Transfer};

use super::DbError;
use super::record_notes::{self, Notes};

/// A record.
#[derive(Debug, Clone, FromRow)]
pub struct Record {
    /// UUIDv7.
    pub id: Uuid,
    /// Its domain, inside this database.
    pub domain_id: i32,
    /// Its domain's name.
    pub domain: String,
    /// [`RecordKind`] as text.
    pub kind: String,
    /// [`RecordStatus`] as text.
    pub status: String,
    /// [`Phase`] as text.
    pub phase: Option<String>,
    /// The package name.
    pub name: String,
    /// User name.
    pub requested_by: String,
    /// What the user chose.
    pub options: Value,
    /// Done so far.
    pub progress_done: i64,
    /// To be done.
    pub progress_total: i64,
    /// `resources` or `bytes`.
    pub progress_unit: String,
    /// [`Counts`].
    pub counts: Value,
    /// `{code, message, hint}`.
    pub error: Option<Value>,
    /// The first [`Warning`]s; [`super::record_notes`] has the rest.
    pub warnings: Value,
    /// How many there are.
    pub warnings_total: i32,
    /// The first [`ChecklistEntry`]s, as there.
    pub checklist: Value,
    /// How many there are.
    pub checklist_total: i32,
    /// `{size, sha256, file_name, resources}`.
    pub package: Option<Value>,
    /// Where the package rests in the store.
    pub package_key: Option<String>,
    /// Who signed the package of an import.
    pub signature: Option<Value>,
    /// Of the plan that is shown.
    pub plan_digest: Option<String>,
    /// The target of an online migration.
    pub target_id: Option<Uuid>,
    /// Its name.
    pub target_name: Option<String>,
    /// The name of the environment that an import comes from.
    pub source_environment: Option<String>,
    /// The import record at the target.
    pub remote_record_id: Option<Uuid>,
    /// [`Transfer`].
    pub transfer: Value,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When a worker first took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Everything but what can be large: manifest and roots.
const SELECT: &str = "select r.id, r.domain_id, d.name as domain, r.kind, r.status, r.phase, r.name, r.requested_by, r.options, \
    r.progress_done, r.progress_total, r.progress_unit, r.counts, r.error, r.warnings, r.warnings_total, r.checklist, \
    r.checklist_total, r.package, r.package_key, r.signature, r.plan_digest, r.target_id, r.target_name, r.source_environment, r.remote_record_id, r.transfer, r.created_at, r.started_at, \
    r.finished_at from records r join domains d on d.id = r.domain_id";

impl Record {
    /// What it is about.
    ///
    /// # Errors
    /// The row holds another word.
    pub fn kind(&self) -> Result<RecordKind, DbError> {
        RecordKind::parse(&self.kind).ok_or(DbError::Corrupt("records.kind"))
    }

    /// What it needs to go on.
    ///
    /// # Errors
    /// The row holds something else.
    pub fn transfer(&self) -> Result<Transfer, DbError> {
        serde_json::from_value(self.transfer.clone()).map_err(|_| DbError::Corrupt("records.transfer"))
    }

    /// Where it stands.
    ///
    /// # Errors
    /// The row holds another word.
    pub fn status(&self) -> Result<RecordStatus, DbError> {
        RecordStatus::parse(&self.status).ok_or(DbError::Corrupt("records.status"))
    }
}

/// A record to be made.
#[derive(Debug)]
pub struct NewRecord<'a> {
    /// UUIDv7.
    pub id: Uuid,
    /// Its domain.
    pub domain_id: i32,
    /// What it is about.
    pub kind: RecordKind,
    /// The package name.
    pub name: &'a str,
    /// User name.
    pub requested_by: &'a str,
    /// What the user chose.
    pub options: Value,
    /// The selected resources of an export or a migration.
    pub roots: Value,
    /// The target of an online migration.
    pub target: Option<(Uuid, &'a str)>,
}

/// Makes a record, queued.
///
/// # Errors
/// The database fails.
pub async fn insert(connection: &mut PgConnection, new: &NewRecord<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "insert into records (id, domain_id, kind, status, name, requested_by, options, counts, target_id, target_name,
            roots)
         values ($1, $2, $3, 'queued', $4, $5, $6, $7, $8, $9, $10)",
        new.id,
        new.domain_id,
        new.kind.as_str(),
        new.name,
        new.requested_by,
        new.options,
        serde_json::json!(Counts::default()),
        new.target.map(|(id, _)| id),
        new.target.map(|(_, name)| name),
        new.roots
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The manifest of an import's package, entries apart.
///
/// # Errors
/// The database fails.
pub async fn manifest(connection: &mut PgConnection, id: Uuid) -> Result<Option<Value>, DbError> {
    Ok(sqlx::query_scalar!("select manifest from records where id = $1", id).fetch_one(connection).await?)
}

/// The selected resources of an export or a migration.
///
/// # Errors
/// The database fails.
pub async fn roots(connection: &mut PgConnection, id: Uuid) -> Result<Value, DbError> {
    Ok(sqlx::query_scalar!("select roots from records where id = $1", id).fetch_one(connection).await?)
}

/// A record of a domain.
///
/// # Errors
/// The database fails.
pub async fn by_id(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<Record>, DbError> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where r.domain_id = ").push_bind(domain_id).push(" and r.id = ").push_bind(id);
    Ok(query.build_query_as().fetch_optional(connection).await?)
}

/// The same, and its row is held until the transaction ends.
///
/// # Errors
/// The database fails.
pub async fn lock(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<Record>, DbError> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query
        .push(" where r.domain_id = ")
        .push_bind(domain_id)
        .push(" and r.id = ")
        .push_bind(id)
        .push(" for update of r");
    Ok(query.build_query_as().fetch_optional(connection).await?)
}

/// What a list of records is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this kind.
    pub kind: Option<String>,
    /// In this state.
    pub status: Option<String>,
    /// Name, ID or target holds this text.
    pub q: Option<String>,
    /// Asked for by this user.
    pub requested_by: Option<String>,
    /// Made at or after.
    pub from: Option<DateTime<Utc>>,
    /// Made before.
    pub to: Option<DateTime<Utc>>,
}

/// A page of a domain's records, newest first.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Record>, DbError> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where r.domain_id = ").push_bind(domain_id);
    for (column, value) in
        [("r.kind", &filter.kind), ("r.status", &filter.status), ("r.requested_by", &filter.requested_by)]
    {
        if let Some(value) = value {
            query.push(format!(" and {column} = ")).push_bind(value.clone());
        }
    }
    if let Some(q) = &filter.q {
        let pattern = format!("%{}%", super::resources::escape_like(q));
        query.push(" and (r.name ilike ").push_bind(pattern.clone());
        query.push(" or r.id::text ilike ").push_bind(pattern.clone());
        query.push(" or r.target_name ilike ").push_bind(pattern).push(")");
    }
    if let Some(from) = filter.from {
        query.push(" and r.created_at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        query.push(" and r.created_at < ").push_bind(to);
    }
    if let Some(before) = before {
        query.push(" and r.id < ").push_bind(before);
    }
    query.push(" order by r.id desc limit ").push_bind(limit);
    Ok(query.build_query_as().fetch_all(connection).await?)
}

/// Changes to a record; what is `None` stays.
#[derive(Debug, Default)]
pub struct Change {
    /// Its state; a final one sets `finished_at`.
    pub status: Option<RecordStatus>,
    /// What it is doing.
    pub phase: Option<Phase>,
    /// (done, total, unit).
    pub progress: Option<(u64, u64, &'static str)>,
    /// Counts over its items.
    pub counts: Option<Counts>,
    /// A cause of the whole record, or none any more.
    pub error: Option<Option<Value>>,
    /// All its warnings.
    pub warnings: Option<Vec<Warning>>,
    /// All that is left to do.
    pub checklist: Option<Vec<ChecklistEntry>>,
    /// Its package.
    pub package: Option<Value>,
    /// Where it rests.
    pub package_key: Option<String>,
    /// Who signed it.
    pub signature: Option<Value>,
    /// Its manifest, entries apart.
    pub manifest: Option<Value>,
    /// What the user chose.
    pub options: Option<Value>,
    /// Of the plan that is shown.
    pub plan_digest: Option<String>,
    /// The environment that it comes from.
    pub source_environment: Option<String>,
    /// The record at the target.
    pub remote_record_id: Option<Uuid>,
    /// What it needs to go on.
    pub transfer: Option<Transfer>,
}

/// Changes a record.
///
/// # Errors
/// The database fails.
pub async fn update(connection: &mut PgConnection, id: Uuid, change: Change) -> Result<(), DbError> {
    let mut query = QueryBuilder::<Postgres>::new("update records set id = id");
    macro_rules! set {
        ($($column:literal = $value:expr),+ $(,)?) => {
            $(if let Some(value) = $value { query.push(concat!(", ", $column, " = ")).push_bind(value); })+
        };
    }
    set!(
        "status" = change.status.map(RecordStatus::as_str),
        "phase" = change.phase.map(Phase::as_str),
        "progress_done" = change.progress.map(|(done, ..)| done as i64),
        "progress_total" = change.progress.map(|(_, total, _)| total as i64),
        "progress_unit" = change.progress.map(|(.., unit)| unit),
        "counts" = change.counts.map(|counts| serde_json::json!(counts)),
        "error" = change.error,
        "warnings" = change.warnings.as_deref().map(record_notes::shown),
        "warnings_total" = change.warnings.as_ref().map(|list| list.len() as i32),
        "checklist" = change.checklist.as_deref().map(record_notes::shown),
        "checklist_total" = change.checklist.as_ref().map(|list| list.len() as i32),
        "package" = change.package,
        "package_key" = change.package_key,
        "signature" = change.signature,
        "manifest" = change.manifest,
        "options" = change.options,
        "plan_digest" = change.plan_digest,
        "source_environment" = change.source_environment,
        "remote_record_id" = change.remote_record_id,
        "transfer" = change.transfer.map(|transfer| serde_json::json!(transfer)),
    );
    if let Some(status) = change.status {
        // Only what is tried again goes back. Nobody needs the passphrase of a record that has ended.
        query.push(match status.is_final() {
            true => ", finished_at = clock_timestamp(), passphrase = null",
            false => ", finished_at = null",
        });
    }
    if change.status == Some(RecordStatus::Running) {
        query.push(", started_at = coalesce(started_at, clock_timestamp())");
    }
    query.push(" where id = ").push_bind(id);
    query.build().execute(&mut *connection).await?;
    if let Some(warnings) = &change.warnings {
        record_notes::replace_rest(connection, id, Notes::Warnings, warnings).await?;
    }
    if let Some(checklist) = &change.checklist {
        record_notes::replace_rest(connection, id, Notes::Checklist, checklist).await?;
    }
    Ok(())
}

/// Lets go of the packages of some records that ended more than so many days ago; returns where they rest.
///
/// # Errors
/// The database fails.
pub async fn let_go_packages(connection: &mut PgConnection, days: u32) -> Result<Vec<String>, DbError> {
    let found = sqlx::query_scalar!(
        r#"with old as (
            select id, package_key from records
            where package_key is not null and finished_at < clock_timestamp() - make_interval(days => $1)
            limit 100 for update skip locked
         )
         update records r set package_key = null from old where r.id = old.id returning old.package_key as "key!""#,
        days as i32
    );
    Ok(found.fetch_all(connection).await?)
}

/// Which of some keys are those of a record's package.
///
/// # Errors
/// The database fails.
pub async fn known_packages(connection: &mut PgConnection, keys: &[String]) -> Result<HashSet<String>, DbError> {
    let found = sqlx::query_scalar!(r#"select package_key as "key!" from records where package_key = any($1)"#, keys);
    Ok(found.fetch_all(connection).await?.into_iter().collect())
}

/// Notes that a record which has said nothing of what it does asks its target.
///
/// # Errors
/// The database fails.
pub async fn note_negotiating(connection: &mut PgConnection, id: Uuid) -> Result<(), DbError> {
    let phase = Phase::Negotiating.as_str();
    sqlx::query!("update records set phase = $2 where id = $1 and phase is null and status = 'running'", id, phase)
        .execute(connection)
        .await?;
    Ok(())
}
