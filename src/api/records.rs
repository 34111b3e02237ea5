//! Records: list, one, items.

use std::collections::HashSet;
use std::time::Duration;

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

use crate::db::record_items::CHUNK;
use crate::db::records::{self as rows, Filter};
use crate::db::resources::lack_secrets;
use crate::db::{DbError, PgConnection, record_items};
use crate::domain::outcome::{ChecklistEntry, Method, SECRET_MISSING, Status};
use crate::domain::record::{RecordKind, RecordStatus};
use crate::domain::resource::Hash;
use crate::wire::List;
use crate::wire::record::{Item, Progress, Record, TargetRef};

use super::Shared;
use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Path, Query, cursor, from_cursor, page, page_size, time};
use super::idempotency::Once;
use super::long_poll;

/// 202: a job was started; `Location` names its record.
pub struct Accepted<T> {
    location: String,
    body: T,
}

impl Accepted<Record> {
    pub(super) fn record(record: rows::Record) -> Result<Self, ApiError> {
        let body = to_wire(record)?;
        Ok(Self { location: format!("/api/v1/records/{}", body.id), body })
    }
}

impl<T: Serialize> Accepted<T> {
    /// Keeps it as the answer to the request's `Idempotency-Key`.
    pub(super) async fn keep(
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
    State(app): State<Shared>,
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
    let listed = page(found, limit, |row| row.id, to_wire);
    let mut items = listed.items.into_iter().collect::<Result<Vec<_>, DbError>>()?;
    tick_off(&mut connection, caller.domain_id(), &mut items).await?;
    Ok(Json(List { items, next_cursor: listed.next_cursor }))
}

/// How long an answer is held back.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ShowQuery {
    /// Answer only once the record is neither `queued` nor `running`, at the latest after so many seconds.
    #[param(minimum = 0, maximum = 30, default = 0)]
    wait_seconds: Option<u64>,
}

/// One record, at once or when its work has ended.
#[utoipa::path(get, path = "/api/v1/records/{id}", params(ShowQuery), responses((status = 200, body = Record)))]
pub async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ShowQuery>,
) -> Result<Json<Record>, ApiError> {
    if let Some(seconds) = query.wait_seconds.filter(|seconds| *seconds > 0) {
        if seconds > 30 {
            return Err(ApiError::field("wait_seconds", "must be at most 30"));
        }
        return Ok(Json(long_poll::record(&app, &caller, id, Duration::from_secs(seconds)).await?));
    }
    let mut connection = app.pool.acquire().await?;
    let row = find(&mut connection, &caller, id).await?;
    Ok(Json(ticked(&mut connection, row).await?))
}

/// A record with what is done of its checklist by now.
pub(super) async fn ticked(connection: &mut PgConnection, row: rows::Record) -> Result<Record, DbError> {
    let domain_id = row.domain_id;
    let mut record = to_wire(row)?;
    tick_off(connection, domain_id, std::slice::from_mut(&mut record)).await?;
    Ok(record)
}

/// Ticks off what imports left to do and was done since: secrets that are there now. What a migration left to
/// do is to be done at its target.
async fn tick_off(connection: &mut PgConnection, domain_id: i32, records: &mut [Record]) -> Result<(), DbError> {
    let import = RecordKind::Import.as_str();
    let imports = records.iter_mut().filter(|record| record.kind == import);
    tick(connection, domain_id, imports.flat_map(|record| &mut record.checklist)).await
}

/// The same for some entries of imports.
pub(super) async fn tick<'a>(
    connection: &mut PgConnection,
    domain_id: i32,
    entries: impl Iterator<Item = &'a mut ChecklistEntry>,
) -> Result<(), DbError> {
    let mut open: Vec<&mut ChecklistEntry> =
        entries.filter(|entry| entry.code == SECRET_MISSING && !entry.done).collect();
    if open.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = open.iter().map(|entry| entry.resource_id.clone()).collect();
    let lacking: HashSet<String> = lack_secrets(connection, domain_id, &ids).await?.into_iter().collect();
    for entry in &mut open {
        entry.done = !lacking.contains(&entry.resource_id);
    }
    Ok(())
}

/// A record that the caller may see; 404 otherwise.
pub(super) async fn find(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<rows::Record, ApiError> {
    visible(caller, rows::by_id(connection, caller.domain_id(), id).await?)
}

/// The same, held until the transaction ends.
pub(super) async fn lock(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<rows::Record, ApiError> {
    visible(caller, rows::lock(connection, caller.domain_id(), id).await?)
}

fn visible(caller: &Caller, found: Option<rows::Record>) -> Result<rows::Record, ApiError> {
    let found = found.filter(|record| caller.sees_all_records() || record.requested_by == caller.username());
    found.ok_or_else(|| ApiError::not_found("record"))
}

/// What a list of items is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ItemsQuery {
    /// In this status.
    #[param(value_type = Option<Status>)]
    status: Option<String>,
    /// With this method.
    #[param(value_type = Option<Method>)]
    method: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Leaves out those that are `as_sent` in this status, and have neither errors nor warnings: whoever sent the
    /// package knows all that they say.
    #[param(value_type = Option<Status>)]
    but: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// The statuses of items.
const STATUSES: [&str; 5] = ["pending", "succeeded", "failed", "skipped", "unchanged"];

/// The items of a record, in dependency order.
#[utoipa::path(get, path = "/api/v1/records/{id}/items", params(ItemsQuery), responses((status = 200, body = List<Item>)))]
pub async fn items(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ItemsQuery>,
) -> Result<Json<List<Item>>, ApiError> {
    let limit = page_size(query.limit)? as usize;
    let word = |field: &str, value: &Option<String>, known: &[&str]| match value.as_deref() {
        Some(word) if !known.contains(&word) => {
            Err(ApiError::field(field, format!("must be one of {}", known.join(", "))))
        }
        _ => Ok(()),
    };
    word("status", &query.status, &STATUSES)?;
    word("but", &query.but, &STATUSES)?;
    let but = query.but.as_deref().and_then(Status::parse);
    word("method", &query.method, &["create", "update", "unchanged", "skip", "map", "delete", "blocked"])?;
    let mut place: i32 = from_cursor(query.cursor.as_deref())?.unwrap_or(0);
    if !(0..=i32::MAX - CHUNK as i32).contains(&place) {
        return Err(ApiError::field("cursor", "is not one that this list gave"));
    }
    let mut connection = app.pool.acquire().await?;
    find(&mut connection, &caller, id).await?;
    let wanted = |item: &Item| {
        let is = |value: Value, word: &Option<String>| word.as_ref().is_none_or(|word| value == **word);
        is(serde_json::json!(item.status), &query.status)
            && is(serde_json::json!(item.method), &query.method)
            && query.kind.as_ref().is_none_or(|kind| *kind == item.kind)
            && !but.is_some_and(|status| item.is_as_sent(status))
    };
    let filter = (query.status.as_deref(), query.method.as_deref(), query.kind.as_deref());
    let mut found: Vec<(i32, Item)> = Vec::new();
    while found.len() <= limit {
        let chunks = record_items::chunks(&mut connection, id, place, filter, 4).await?;
        let Some(last) = chunks.last().map(|chunk| chunk.first) else { break };
        for chunk in chunks {
            let items: Vec<Item> =
                serde_json::from_str(&chunk.items).map_err(|_| DbError::Corrupt("record_items.items"))?;
            let placed = items.into_iter().enumerate().map(|(at, item)| (chunk.first + at as i32, item));
            found.extend(placed.filter(|(at, item)| *at >= place && wanted(item)));
        }
        place = last + CHUNK as i32;
    }
    let next_cursor = found.get(limit).map(|(at, _)| cursor(at));
    found.truncate(limit);
    Ok(Json(List { items: found.into_iter().map(|(_, item)| Item { arrives: None, ..item }).collect(), next_cursor }))
}

/// A record as clients see it.
pub(super) fn to_wire(row: rows::Record) -> Result<Record, DbError> {
    fn read<T: DeserializeOwned>(value: Value, column: &'static str) -> Result<T, DbError> {
        serde_json::from_value(value).map_err(|_| DbError::Corrupt(column))
    }
    let error = row.error.filter(|error| !error.is_null());
    Ok(Record {
        id: row.id,
        kind: row.kind.as_str().to_owned(),
        status: row.status.as_str().to_owned(),
        phase: row.phase.map(|phase| phase.as_str().to_owned()),
        name: row.name,
        domain: row.domain,
        requested_by: row.requested_by,
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
        checklist: read(row.checklist, "records.checklist")?,
        checklist_total: row.checklist_total as u64,
        plan_digest: row.plan_digest,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
    })
}
