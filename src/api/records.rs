//! Records: the list; finding one, and how clients see it.

pub mod actions;
pub mod checklist;
pub mod events;
pub mod items;
pub mod notes;
pub mod show;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::db::records::{self as rows, Filter};
use crate::db::{DbError, PgConnection};
use crate::domain::approval::Approval;
use crate::domain::checklist::ChecklistEntry;
use crate::domain::permission::Permission;
use crate::domain::record::{RecordKind, RecordStatus};
use crate::domain::resource::Hash;
use crate::wire::List;
use crate::wire::record::{Progress, Record, TargetRef};

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Query, time};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{from_cursor, page, page_size};

/// 202: a job was started; `Location` names its record.
pub struct Accepted<T> {
    location: String,
    body: T,
}

impl Accepted<Record> {
    pub(in crate::api) fn record(record: rows::Record) -> Result<Self, ApiError> {
        let body = to_wire(record)?;
        Ok(Self { location: format!("/api/v1/records/{}", body.id), body })
    }
}

impl<T: Serialize> Accepted<T> {
    /// Keeps it as the answer to the request's `Idempotency-Key`.
    pub(in crate::api) async fn keep(
        &self,
        once: &Once,
        connection: &mut PgConnection,
        hash: Option<&Hash>,
    ) -> Result<(), ApiError> {
        once.keep(connection, StatusCode::ACCEPTED, Some(&self.location), &self.body, hash).await
    }
}

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::ACCEPTED, Json(self.body)).into_response();
        if let Ok(location) = HeaderValue::from_str(&self.location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// What a list is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ListQuery {
    /// Of this kind.
    #[param(value_type = Option<RecordKind>)]
    kind: Option<String>,
    /// In this status.
    #[param(value_type = Option<RecordStatus>)]
    status: Option<String>,
    /// Somewhere in the name, the ID or the target's name.
    q: Option<String>,
    /// Asked for by this user.
    requested_by: Option<String>,
    /// Asked for at or after.
    from: Option<DateTime<Utc>>,
    /// Asked for before.
    to: Option<DateTime<Utc>>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// The domain's records, newest first; developers and viewers see their own.
#[utoipa::path(get, path = "/api/v1/records", params(ListQuery), responses((status = 200, body = List<Record>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<Record>>, ApiError> {
    let limit = page_size(query.limit)?;
    let before: Option<Uuid> = from_cursor(query.cursor.as_deref())?;
    let kind =
        |word| RecordKind::parse(word).ok_or_else(|| ApiError::field("kind", "must be export, import or online"));
    let status =
        |word| RecordStatus::parse(word).ok_or_else(|| ApiError::field("status", "is not a status of records"));
    let mut filter = Filter {
        kind: query.kind.as_deref().map(kind).transpose()?,
        status: query.status.as_deref().map(status).transpose()?,
        q: query.q.filter(|q| !q.is_empty()),
        requested_by: query.requested_by,
        from: time("from", query.from)?,
        to: time("to", query.to)?,
    };
    if !caller.sees_all_records() {
        if filter.requested_by.as_ref().is_some_and(|name| name != caller.username()) {
            return Ok(Json(List { items: Vec::new(), next_cursor: None }));
        }
        filter.requested_by = Some(caller.username().to_owned());
    }
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, caller.domain_id(), &filter, before, limit + 1).await?;
    let listed = page(found, limit, |row| row.id, |row| row);
    let items = all_ticked(&mut connection, caller.domain_id(), listed.items).await?;
    Ok(Json(List { items, next_cursor: listed.next_cursor }))
}

/// A record with what is done of its checklist by now.
pub(in crate::api) async fn ticked(connection: &mut PgConnection, row: rows::Record) -> Result<Record, DbError> {
    let record = all_ticked(connection, row.domain_id, vec![row]).await?.pop();
    record.ok_or(DbError::Corrupt("records"))
}

/// The same of some records of a domain. What a migration left to do is to be done at its target, and stands as that
/// said it.
async fn all_ticked(
    connection: &mut PgConnection,
    domain_id: i32,
    rows: Vec<rows::Record>,
) -> Result<Vec<Record>, DbError> {
    let lists = rows.iter().map(|row| read::<Vec<ChecklistEntry>>(row.checklist.clone(), "records.checklist"));
    let mut lists: Vec<Vec<ChecklistEntry>> = lists.collect::<Result<_, _>>()?;
    let imports = rows.iter().zip(&mut lists).filter(|(row, _)| row.kind == RecordKind::Import);
    let entries = imports.flat_map(|(row, list)| list.iter_mut().map(|entry| (row.id, entry))).collect();
    checklist::tick(connection, domain_id, entries).await?;
    let records = rows.into_iter().zip(lists).map(|(row, checklist)| Ok(Record { checklist, ..to_wire(row)? }));
    records.collect()
}

/// A record that the caller may see; 404 otherwise.
pub(in crate::api) async fn find(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
) -> Result<rows::Record, ApiError> {
    let found = rows::by_id(connection, caller.domain_id(), id).await?;
    match found {
        Some(record) if decides(caller, &record) => Ok(record),
        other => visible(caller, other),
    }
}

/// The same, held until the transaction ends.
pub(in crate::api) async fn lock(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
) -> Result<rows::Record, ApiError> {
    visible(caller, rows::lock(connection, caller.domain_id(), id).await?)
}

/// Who may approve reads what waits for that, and what he decided himself.
pub(in crate::api) fn decides(caller: &Caller, record: &rows::Record) -> bool {
    let decided_by = record.approval.as_ref().and_then(Approval::decided_by);
    caller.may(Permission::MigrationApprove)
        && record.kind == RecordKind::Import
        && (record.status == RecordStatus::AwaitingApproval || decided_by == Some(caller.username()))
}

fn visible(caller: &Caller, found: Option<rows::Record>) -> Result<rows::Record, ApiError> {
    let found = found.filter(|record| caller.sees_all_records() || record.requested_by == caller.username());
    found.ok_or_else(|| ApiError::not_found("record"))
}

fn read<T: DeserializeOwned>(value: Value, column: &'static str) -> Result<T, DbError> {
    serde_json::from_value(value).map_err(|_| DbError::Corrupt(column))
}

/// By what an entry ticks itself off is not told.
fn told(entries: Vec<ChecklistEntry>) -> Vec<ChecklistEntry> {
    entries.into_iter().map(|entry| ChecklistEntry { by: None, ..entry }).collect()
}

/// A record as clients see it.
pub(in crate::api) fn to_wire(row: rows::Record) -> Result<Record, DbError> {
    let error = row.error.filter(|error| !error.is_null());
    Ok(Record {
        id: row.id,
        kind: row.kind.as_str().to_owned(),
        status: row.status.as_str().to_owned(),
        phase: row.phase.map(|phase| phase.as_str().to_owned()),
        name: row.name,
        domain: row.domain,
        requested_by: row.requested_by,
        source_requested_by: row.source_requested_by,
        approval: row.approval,
        waits_until: row.waits_until,
        options: row.options,
        progress: Progress {
            done: row.progress_done as u64,
            total: row.progress_total as u64,
            unit: row.progress_unit,
        },
        counts: read(row.counts, "records.counts")?,
        error: error.map(|error| read(error, "records.error")).transpose()?,
        package: row.package.map(|package| read(package, "records.package")).transpose()?,
        target: row.target_id.zip(row.target_name).map(|(id, name)| TargetRef { id, name }),
        source_environment: row.source_environment,
        signature: row.signature.map(|signature| read(signature, "records.signature")).transpose()?,
        remote_record_id: row.remote_record_id,
        warnings: read(row.warnings, "records.warnings")?,
        warnings_total: row.warnings_total as u64,
        checklist: told(read(row.checklist, "records.checklist")?),
        checklist_total: row.checklist_total as u64,
        plan_digest: row.plan_digest,
        rolled_back_by: row.rolled_back_by,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
    })
}
