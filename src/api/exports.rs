//! Exports: preview, start, download.

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum_extra::headers::{HeaderMapExt, Range};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::db::records::NewRecord;
use crate::db::targets::Target;
use crate::db::{self, Acquire, PgConnection, jobs};
use crate::domain::failure::{self, Failure};
use crate::domain::permission::Permission;
use crate::domain::record::{JobKind, RecordKind};
use crate::planning::carried::keep_passphrase;
use crate::remote::RemoteError;
use crate::store::StoreError;
use crate::wire::passphrase::weakness;
use crate::wire::record::{PackageInfo, Record};
use crate::wire::resource::PreviewItem;
use crate::wire::selection::{Ambiguous, ExportRequest, Preview, RefusedType};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, is_known};
use crate::api::http::idempotency::Once;
use crate::api::http::openapi::Binary;
use crate::api::records::{Accepted, find};
use crate::api::selections::{self, Since};

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
    let target = match request.target_id {
        Some(id) => Some(target(&mut connection, &caller, id).await?),
        None => None,
    };
    let since = Since::of(&request, request.target_id)?;
    let selected = selections::select(&app, &mut connection, &caller, &request, since).await?;
    let (roots, domain_id) = (&selected.roots, caller.domain_id());
    let resolved = db::closure::resolve(&mut connection, &app.types, domain_id, roots, selected.upstream).await?;
    let gone = resolved.gone.iter().map(|id| id.as_str().to_owned()).collect();
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
    let ambiguous = ambiguous(&app, &mut connection, &caller, &items).await?;
    let parts = resolved.shared_parts;
    let shared_parts = db::closure::visible_parts(&mut connection, caller.domain_id(), &caller.sight, parts).await?;
    drop(connection);
    let (refused_types, target_error) = match target {
        Some(target) => match refused_types(&app, &target, &items).await {
            Ok(refused) => (refused, None),
            Err(error) => (Vec::new(), Some(error.into())),
        },
        None => (Vec::new(), None),
    };
    Ok(Json(Preview { missing, forbidden, shared_parts, ambiguous, gone, refused_types, target_error, items }))
}

/// The target that a preview asks.
async fn target(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<Target, ApiError> {
    caller.require(Permission::MigrationOnline)?;
    let found = db::targets::by_id(connection, caller.domain_id(), id).await?;
    found.ok_or_else(|| ApiError::field("target_id", "names no target of this domain"))
}

/// References by name, of what would go, that more than one resource answers to.
async fn ambiguous(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    items: &[PreviewItem],
) -> Result<Vec<Ambiguous>, ApiError> {
    let ids: Vec<String> = items.iter().map(|item| item.resource_id.clone()).collect();
    let found = db::graph::ambiguous(connection, caller.domain_id(), &ids).await?;
    let candidates: Vec<String> = found.iter().flat_map(|found| &found.candidates).cloned().collect();
    let readable = db::lineage::nodes(connection, caller.domain_id(), &candidates).await?;
    let readable = readable.into_iter().filter(|node| caller.may_read(&node.owner, &node.directory));
    let readable: HashSet<String> = readable.map(|node| node.id).collect();
    let line = |found: db::graph::Ambiguous| {
        let rule = app.types.get(&found.from_type)?.rules.get(found.rule as usize)?;
        let count = found.candidates.len() as u64;
        let resource_ids = found.candidates.into_iter().filter(|id| readable.contains(id)).collect();
        let (kind, role) = (found.kind, rule.role.clone());
        Some(Ambiguous { kind, name: found.name, role, referenced_by: found.from_id, resource_ids, count })
    };
    Ok(found.into_iter().filter_map(line).collect())
}

/// The types, of what would go, that a target does not take: asked now.
async fn refused_types(
    app: &AppState,
    target: &Target,
    items: &[PreviewItem],
) -> Result<Vec<RefusedType>, RemoteError> {
    let there = app.remote(target)?.environment().await?;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    items.iter().for_each(|item| *counts.entry(&item.kind).or_default() += 1);
    let refused = |(kind, count): (&str, u64)| {
        let label = app.types.get(kind).map_or(kind, |kind| &kind.label.en);
        let Failure { code, message, hint, .. } = match there.features.get(kind) {
            Some(true) => return None,
            Some(false) => failure::feature_disabled(label),
            None => failure::type_unknown(kind),
        };
        Some(RefusedType { code, kind: kind.to_owned(), message, hint, count })
    };
    Ok(counts.into_iter().filter_map(refused).collect())
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
    let since = Since::of(&request, None)?;
    let selected = selections::allowed(&app, &mut connection, &caller, &request, since).await?;
    let id = Uuid::now_v7();
    let new = NewRecord {
        id,
        domain_id: caller.domain_id(),
        kind: RecordKind::Export,
        name: &name,
        requested_by: caller.username(),
        options: serde_json::json!({
            "export_upstream": selected.upstream,
            "note": request.note,
            "with_secrets": request.passphrase.is_some(),
            "by_selection": selected.found,
            "selection_id": request.selection_id,
            "changed_since_last": request.changed_since_last,
        }),
        roots: serde_json::json!(selected.roots),
        target: None,
        selected: Some((&selected.digest, selected.seen_from)),
    };
    let mut transaction = connection.begin().await?;
    let details = serde_json::json!({
        "name": name,
        "roots": selected.roots.len(),
        "export_upstream": selected.upstream,
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
