//! Records: one row per export, import or online migration.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::{Decode, FromRow, PgConnection, Postgres, QueryBuilder, Type};
use uuid::Uuid;

use crate::domain::approval::Approval;
use crate::domain::outcome::Counts;
use crate::domain::record::{Phase, RecordKind, RecordStatus, Undo, WrongState};
use crate::domain::transfer::Transfer;

use super::DbError;

mod changes;

pub use changes::{
    Arrived, Executed, Kept, Next, Note, Origin, Others, Packed, Parsed, Plan, Queued, Rest, Shown, await_approval,
    note, note_negotiating, parsed, queue, receive, reject, rest, save_plan,
};

/// A record.
#[derive(Debug, Clone, FromRow)]
pub struct Record {
    /// UUIDv7.
    pub id: Uuid,
    /// Its domain, inside this database.
    pub domain_id: i32,
    /// Its domain's name.
    pub domain: String,
    /// What it is about.
    pub kind: RecordKind,
    /// Where it stands.
    pub status: RecordStatus,
    /// What it is or was doing.
    pub phase: Option<Phase>,
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
    /// What it needs to go on.
    pub transfer: Transfer,
    /// The second person that its import waits for, or waited for.
    pub approval: Option<Approval>,
    /// When the window begins that it waits for.
    pub waits_until: Option<DateTime<Utc>>,
    /// Who asked for it where it comes from.
    pub source_requested_by: Option<String>,
    /// Who had it rolled back.
    pub rolled_back_by: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When a worker first took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Record {
    /// It may be cancelled.
    ///
    /// # Errors
    /// It has ended, or what it did is being undone.
    pub fn cancellable(&self) -> Result<(), WrongState> {
        match self.transfer.undo {
            Undo::No => self.status.cancellable(),
            Undo::Of(_) => Err(WrongState { status: self.status, attempt: "cancelled" }),
        }
    }
}

/// Everything but what can be large: manifest and roots.
const SELECT: &str = "select r.id, r.domain_id, d.name as domain, r.kind, r.status, r.phase, r.name, r.requested_by, r.options, \
    r.progress_done, r.progress_total, r.progress_unit, r.counts, r.error, r.warnings, r.warnings_total, r.checklist, \
    r.checklist_total, r.package, r.package_key, r.signature, r.plan_digest, r.target_id, r.target_name, r.source_environment, r.remote_record_id, r.transfer, r.rolled_back_by, r.approval, r.waits_until, r.source_requested_by, r.created_at, r.started_at, \
    r.finished_at from records r join domains d on d.id = r.domain_id";

/// Columns that are read as types of the domain.
macro_rules! columns {
    ($($column:literal as $stored:ty => $type:ty, $read:expr;)+) => {$(
        impl Type<Postgres> for $type {
            fn type_info() -> PgTypeInfo {
                <$stored as Type<Postgres>>::type_info()
            }
            fn compatible(other: &PgTypeInfo) -> bool {
                <$stored as Type<Postgres>>::compatible(other)
            }
        }
        impl<'r> Decode<'r, Postgres> for $type {
            fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
                let read: fn($stored) -> Option<Self> = $read;
                Ok(read(<$stored as Decode<Postgres>>::decode(value)?).ok_or(DbError::Corrupt($column))?)
            }
        }
    )+};
}
columns! {
    "records.kind" as String => RecordKind, |word| RecordKind::parse(&word);
    "records.status" as String => RecordStatus, |word| RecordStatus::parse(&word);
    "records.phase" as String => Phase, |word| Phase::parse(&word);
    "records.approval" as Value => Approval, |json| serde_json::from_value(json).ok();
    "records.transfer" as Value => Transfer, |json| serde_json::from_value(json).ok();
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
    /// Of an export or a migration: a digest of what is selected, and from when on a change may be missing.
    pub selected: Option<(&'a str, DateTime<Utc>)>,
}

/// Makes a record, queued.
pub async fn insert(connection: &mut PgConnection, new: &NewRecord<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "insert into records (id, domain_id, kind, status, name, requested_by, options, counts, target_id, target_name,
            roots, selected, seen_from)
         values ($1, $2, $3, 'queued', $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        new.id,
        new.domain_id,
        new.kind.as_str(),
        new.name,
        new.requested_by,
        new.options,
        serde_json::json!(Counts::default()),
        new.target.map(|(id, _)| id),
        new.target.map(|(_, name)| name),
        new.roots,
        new.selected.map(|(digest, _)| digest),
        new.selected.map(|(_, seen_from)| seen_from)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The manifest of an import's package, entries apart.
pub async fn manifest(connection: &mut PgConnection, id: Uuid) -> Result<Option<Value>, DbError> {
    Ok(sqlx::query_scalar!("select manifest from records where id = $1", id).fetch_one(connection).await?)
}

/// The selected resources of an export or a migration.
pub async fn roots(connection: &mut PgConnection, id: Uuid) -> Result<Value, DbError> {
    Ok(sqlx::query_scalar!("select roots from records where id = $1", id).fetch_one(connection).await?)
}

/// A record of a domain.
pub async fn by_id(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<Record>, DbError> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where r.domain_id = ").push_bind(domain_id).push(" and r.id = ").push_bind(id);
    Ok(query.build_query_as().fetch_optional(connection).await?)
}

/// The same, and its row is held until the transaction ends.
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
    pub kind: Option<RecordKind>,
    /// In this state.
    pub status: Option<RecordStatus>,
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
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Record>, DbError> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where r.domain_id = ").push_bind(domain_id);
    if let Some(kind) = filter.kind {
        query.push(" and r.kind = ").push_bind(kind.as_str());
    }
    if let Some(status) = filter.status {
        query.push(" and r.status = ").push_bind(status.as_str());
    }
    if let Some(requested_by) = &filter.requested_by {
        query.push(" and r.requested_by = ").push_bind(requested_by);
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

/// Lets go of the packages of some records that ended more than so many days ago, or have to go with their records; returns where they rest.
pub async fn let_go_packages(connection: &mut PgConnection, days: u32) -> Result<Vec<String>, DbError> {
    let found = sqlx::query_scalar!(
        r#"with old as (
            select id, package_key from records
            where package_key is not null and finished_at is not null
                and (package_until_end or finished_at < clock_timestamp() - make_interval(days => $1))
            limit 100 for update skip locked
         )
         update records r set package_key = null from old where r.id = old.id returning old.package_key as "key!""#,
        days as i32
    );
    Ok(found.fetch_all(connection).await?)
}

/// An import that is left waiting.
#[derive(Debug)]
pub struct Left {
    /// UUIDv7.
    pub id: Uuid,
    /// Its domain, inside this database.
    pub domain_id: i32,
    /// The package name.
    pub name: String,
    /// Where its package rested in the store: the record has let go of it.
    pub package_key: Option<String>,
}

/// Holds an import that has waited for its confirmation or approval for more than so many days, and lets go of its package.
pub async fn long_waiting(connection: &mut PgConnection, days: u32) -> Result<Option<Left>, DbError> {
    let found = sqlx::query_as!(
        Left,
        "with old as (
            select id, package_key from records
            where kind = 'import' and status in ('awaiting_confirmation', 'awaiting_approval')
              and waiting_since < clock_timestamp() - make_interval(days => $1)
            limit 1 for update skip locked
         )
         update records r set package_key = null from old where r.id = old.id
         returning r.id, r.domain_id, r.name, old.package_key",
        days as i32
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Which of some keys are those of a record's package.
pub async fn known_packages(connection: &mut PgConnection, keys: &[String]) -> Result<HashSet<String>, DbError> {
    let found = sqlx::query_scalar!(r#"select package_key as "key!" from records where package_key = any($1)"#, keys);
    Ok(found.fetch_all(connection).await?.into_iter().collect())
}
