//! Exports: preview, start, download.

use std::collections::HashSet;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::headers::{HeaderMapExt, Range};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::db::records::NewRecord;
use crate::db::{self, Acquire, jobs};
use crate::domain::permission::Permission;
use crate::domain::record::{JobKind, RecordKind};
use crate::planning::carried::keep_passphrase;
use crate::store::StoreError;
use crate::wire::passphrase::weakness;
use crate::wire::record::{PackageInfo, Record};
use crate::wire::resource::PreviewItem;
use crate::wire::selection::{ExportRequest, Preview};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, is_known};
use crate::api::http::idempotency::Once;
use crate::api::http::openapi::Binary;
use crate::api::records::{Accepted, find};
use crate::api::selections;

/// What an export would take along, and why.
#[utoipa::path(
    post, path = "/api/v1/exports/preview",
    request_body = ExportRequest,
    responses((status = 200, body = Preview))
)]
pub async fn preview(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(request): JsonBody<ExportRequest>,
) -> Result<Json<Preview>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let roots = selections::roots(&app, &mut connection, &caller, &request).await?;
    let resolved =
        db::closure::resolve(&mut connection, &app.types, caller.domain_id(), &roots, request.export_upstream).await?;
    let forbidden = selections::forbidden(&caller, &resolved);
    let items =
        resolved.catalogue.nodes.into_iter().filter(|node| caller.may_read(&node.owner, &node.directory)).map(|node| {
            PreviewItem {
                resource_id: node.id.to_string(),
                kind: node.kind.to_string(),
                name: node.name.into(),
                directory: node.directory.to_string(),
                reason: node.reason,
            }
        });
    let items: Vec<PreviewItem> = items.collect();
    let listed: HashSet<&str> = items.iter().map(|item| item.resource_id.as_str()).collect();
    let missing =
        resolved.missing.into_iter().filter(|missing| listed.contains(missing.referenced_by.as_str())).collect();
    let parts = resolved.shared_parts;
    let shared_parts = db::closure::visible_parts(&mut connection, caller.domain_id(), &caller.sight, parts).await?;
    Ok(Json(Preview { missing, forbidden, shared_parts, items }))
}

/// Starts an export.
#[utoipa::path(
    post, path = "/api/v1/exports",
    request_body = ExportRequest,
    responses((status = 202, body = Record))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(request): JsonBody<ExportRequest>,
) -> Result<Accepted<Record>, ApiError> {
    let name = selections::package_name(request.name.as_deref())?;
    if let Some(weakness) = request.passphrase.as_ref().and_then(weakness) {
        return Err(ApiError::field("passphrase", weakness));
    }
    if request.passphrase.is_some() {
        caller.require(Permission::SecretCarry)?;
    }
    let mut connection = app.pool.acquire().await?;
    let roots = selections::allowed_roots(&app, &mut connection, &caller, &request).await?;
    let id = Uuid::now_v7();
    let new = NewRecord {
        id,
        domain_id: caller.domain_id(),
        kind: RecordKind::Export,
        name: &name,
        requested_by: caller.username(),
        options: serde_json::json!({
            "export_upstream": request.export_upstream,
            "note": request.note,
            "with_secrets": request.passphrase.is_some(),
            "by_selection": request.selection.is_some(),
        }),
        roots: serde_json::json!(roots),
        target: None,
    };
    let mut transaction = connection.begin().await?;
    let details = serde_json::json!({
        "name": name,
        "roots": roots.len(),
        "export_upstream": request.export_upstream,
        "with_secrets": request.passphrase.is_some(),
    });
    note(&mut transaction, &caller, "export.create", ("record", id), details).await?;
    db::records::insert(&mut transaction, &new).await?;
    if let Some(passphrase) = &request.passphrase {
        keep_passphrase(&app, &mut transaction, id, passphrase).await?;
    }
    jobs::queue(&mut transaction, JobKind::Export, id, caller.domain_id()).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// The package of an export: whole, or a range of it.
#[utoipa::path(
    get, path = "/api/v1/exports/{id}/package",
    params(
        ("Range" = Option<String>, Header, description = "One range of bytes"),
        ("If-Range" = Option<String>, Header, description = "An ETag"),
        ("If-None-Match" = Option<String>, Header, description = "An ETag"),
    ),
    responses(
        (status = 200, body = Binary, content_type = "application/zip", headers(("ETag" = String))),
        (
            status = 206,
            body = Binary,
            content_type = "application/zip",
            headers(("ETag" = String), ("Content-Range" = String)),
        ),
        (status = 304),
        (status = 409, description = "It is not packed yet"),
        (status = 410, description = "The package is no longer kept"),
        (status = 416),
    )
)]
pub async fn package(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let record = find(&mut connection, &caller, id).await?;
    // The disk may take its time.
    drop(connection);
    if record.kind == RecordKind::Import {
        return Err(ApiError::not_found("export"));
    }
    let (Some(key), Some(package)) = (&record.package_key, record.package.clone()) else {
        if record.package.is_some() {
            return Err(ApiError::new(StatusCode::GONE, "gone", "The package is no longer kept. Export again."));
        }
        let detail = format!("The package is not there: the record is {}.", record.status.as_str());
        return Err(ApiError::new(StatusCode::CONFLICT, "wrong_state", detail));
    };
    let package: PackageInfo = serde_json::from_value(package).map_err(|_| db::DbError::Corrupt("records.package"))?;
    let etag = format!("\"{}\"", package.sha256);
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let still = headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    // A range that cannot be read is no range (RFC 9110, 14.2).
    let wanted = match headers.typed_get::<Range>().filter(|_| still) {
        Some(range) => match one_range(&range, package.size) {
            Ok(range) => Some(range),
            Err(refused) => {
                let mut response = refused.into_response();
                let size = HeaderValue::from_str(&format!("bytes */{}", package.size));
                response.headers_mut().extend(size.ok().map(|size| (header::CONTENT_RANGE, size)));
                return Ok(response);
            }
        },
        None => None,
    };
    let part = wanted.flatten();
    let bytes = app.store.read(key, part.clone()).await.map_err(|error| match error {
        StoreError::Missing => {
            ApiError::new(StatusCode::GONE, "gone", "The package is no longer kept. Export it again.")
        }
        other => other.into(),
    })?;
    let range = part.as_ref().map(|part| [part.start, part.end]);
    let details = serde_json::json!({"name": record.name, "sha256": package.sha256, "range": range});
    note(&mut *app.pool.acquire().await?, &caller, "package.download", ("record", id), details).await?;
    let length = part.as_ref().map_or(package.size, |part| part.end - part.start);
    let mut response = Body::from_stream(bytes).into_response();
    let answer = response.headers_mut();
    let value = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    answer.insert(header::CONTENT_LENGTH, value(length.to_string()));
    answer.insert(header::ETAG, value(etag));
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CONTENT_DISPOSITION, value(disposition(&package.file_name)));
    if let Some(part) = part {
        answer.insert(header::CONTENT_RANGE, value(format!("bytes {}-{}/{}", part.start, part.end - 1, package.size)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The one range that is asked for; `None`: several are, and the whole is the answer.
fn one_range(range: &Range, size: u64) -> Result<Option<std::ops::Range<u64>>, ApiError> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let mut ranges = range.satisfiable_ranges(size).map(|(from, to)| {
        let from = match from {
            Included(from) => from,
            Excluded(from) => from + 1,
            Unbounded => 0,
        };
        let to = match to {
            Included(to) => to.saturating_add(1).min(size),
            Excluded(to) => to.min(size),
            Unbounded => size,
        };
        from..to
    });
    match (ranges.next(), ranges.next()) {
        (Some(one), None) if one.start < one.end => Ok(Some(one)),
        (Some(_), Some(_)) => Ok(None),
        _ => Err(ApiError::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range_not_satisfiable",
            format!("The package has {size} bytes."),
        )),
    }
}

/// All that is not surely a character of a parameter.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// A download under a name that may hold any character (RFC 6266, RFC 8187).
fn disposition(file_name: &str) -> String {
    let plain: String = file_name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .collect();
    let encoded = utf8_percent_encode(file_name, ENCODED);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}
