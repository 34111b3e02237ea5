//! The audit: what handlers say of what they did, and the list of it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Json};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::db::DbError;
use crate::db::audit::{self as rows, Filter};
use crate::domain::permission::Permission;
use crate::wire::List;
use crate::wire::audit::AuditLine;

use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Query, time};
use crate::api::http::paging::{from_cursor, page, page_size};
use crate::api::http::{AppState, csv};

/// Rows that are read at a time for CSV.
const PORTION: i64 = 1_000;

/// What a list is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
pub struct AuditQuery {
    /// By this user.
    user: Option<String>,
    /// This action, or all of a noun: `target.create`, `target`.
    action: Option<String>,
    /// To the thing of this ID, or to things of this kind: `record`.
    object: Option<String>,
    /// At or after.
    from: Option<DateTime<Utc>>,
    /// Before.
    to: Option<DateTime<Utc>>,
    /// Somewhere in user, action, ID, details or address.
    q: Option<String>,
    /// `csv`: all that fits, as CSV, whatever cursor and limit say; so does `Accept: text/csv`.
    format: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// Who did what to what, when and from where, newest first.
///
/// In the caller's domain; who manages the environment also sees what concerns it as a whole.
#[utoipa::path(
    get, path = "/api/v1/audit",
    params(AuditQuery),
    responses((
        status = 200,
        content((List<AuditLine> = "application/json"), (String = "text/csv")),
        description = "A page, or all of it as CSV (RFC 4180)",
    ))
)]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let limit = page_size(query.limit)?;
    let before: Option<i64> = from_cursor(query.cursor.as_deref())?;
    let filter = Filter {
        user: query.user,
        action: query.action,
        object: query.object,
        from: time("from", query.from)?,
        to: time("to", query.to)?,
        q: query.q,
    };
    let seen = (caller.domain_id(), caller.may(Permission::EnvironmentManage));
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let as_csv = match query.format.as_deref() {
        Some("csv") => true,
        Some("json") => false,
        Some(_) => return Err(ApiError::field("format", "must be csv or json")),
        None => accepted.to_ascii_lowercase().contains("text/csv"),
    };
    if as_csv {
        return download(app, seen, filter);
    }
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, seen, &filter, before, limit + 1).await?;
    Ok(Json(page(found, limit, |row| row.id, to_wire)).into_response())
}

/// All rows as CSV, read portion by portion while they are sent.
fn download(app: AppState, seen: (i32, bool), filter: Filter) -> Result<Response, ApiError> {
    let head = csv::lines([[
        "id",
        "at",
        "domain",
        "user",
        "token",
        "action",
        "object_kind",
        "object_id",
        "details",
        "address",
    ]])?;
    let portions = futures_util::stream::try_unfold((app, filter, None::<i64>, false), move |state| async move {
        let (app, filter, before, ended) = state;
        if ended {
            return Ok(None);
        }
        let mut connection = app.pool.acquire().await.map_err(DbError::from)?;
        let found = rows::list(&mut connection, seen, &filter, before, PORTION).await?;
        drop(connection);
        let (last, ended) = (found.last().map(|row| row.id), (found.len() as i64) < PORTION);
        let text = csv::lines(found.into_iter().map(cells))?;
        Ok::<_, BoxError>(Some((text, (app, filter, last, ended))))
    });
    let whole = futures_util::StreamExt::chain(futures_util::stream::once(async { Ok(head) }), portions);
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
    ];
    Ok((headers, Body::from_stream(whole)).into_response())
}

fn cells(row: rows::Row) -> [String; 10] {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        row.id.to_string(),
        row.at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        text(row.domain),
        text(row.username),
        text(row.token),
        row.action,
        row.object_kind,
        row.object_id,
        row.details.to_string(),
        text(row.address),
    ]
}

fn to_wire(row: rows::Row) -> AuditLine {
    AuditLine {
        id: row.id,
        at: row.at,
        domain: row.domain,
        user: row.username,
        token: row.token,
        action: row.action,
        object_kind: row.object_kind,
        object_id: row.object_id,
        details: row.details,
        address: row.address,
    }
}
