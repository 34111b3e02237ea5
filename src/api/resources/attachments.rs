//! Attachments: bytes under a path of the domain. A definition names them as `/` + path.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db;
use crate::domain::resource::parse_attachment_path;
use crate::store::{StoreError, attachment_key};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::bodies::{receive, whole};
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, is_known};
use crate::api::http::openapi::Binary;

/// An attachment that was written.
#[derive(Debug, Serialize, ToSchema)]
pub struct Written {
    /// As definitions name it.
    path: String,
    /// Of the bytes, hex.
    sha256: String,
    /// In bytes.
    size: u64,
}

/// Writes the bytes of an attachment; resources that name it get the content hash that fits.
#[utoipa::path(
    put, path = "/api/v1/attachments/{*path}",
    params(("path" = String, Path, description = "A definition names it as `/` + path; it may contain `/`")),
    request_body(content = Binary, content_type = "application/octet-stream", description = "Of any media type"),
    responses(
        (status = 200, body = Written, description = "There were other bytes before"),
        (status = 201, body = Written),
        (status = 507, description = "The store is full"),
    )
)]
pub async fn put(
    State(app): State<AppState>,
    caller: Caller,
    Path(path): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<Written>), ApiError> {
    let path = parse_attachment_path(&format!("/{path}"))?;
    let limit = app.config.limits.max_attachment_bytes;
    let (file, hash, size) = receive(&app, whole(request.into_body()), limit).await?;
    let key = attachment_key(&hash);
    app.store.ensure(&key, file.path(), size).await?;
    let mut transaction = app.pool.begin().await?;
    db::locks::share_bytes(&mut transaction, std::iter::once(&hash)).await?;
    // Until here nothing may have named them, so that they were cleaned away.
    app.store.ensure(&key, file.path(), size).await?;
    db::locks::hold_attachments(&mut transaction, caller.domain_id()).await?;
    if !caller.sees_all()
        && db::attachments::is_named_by_others(&mut transaction, caller.domain_id(), &path, &caller.sight).await?
    {
        return Err(ApiError::forbidden("A resource that you may not write names this attachment."));
    }
    let new =
        db::attachments::by_paths(&mut transaction, caller.domain_id(), std::slice::from_ref(&path)).await?.is_empty();
    db::staging::ensure(&mut transaction).await?;
    db::attachments::stage(&mut transaction, &[(path.clone(), hash, size)]).await?;
    let changed = db::merge::attachments(&mut transaction, caller.domain_id()).await?;
    if !changed.is_empty() {
        db::attachments::refresh_hashes(
            &mut transaction,
            caller.domain_id(),
            &changed,
            db::attachments::Cause::Written,
        )
        .await?;
    }
    let details = serde_json::json!({"sha256": hash.hex(), "size": size});
    note(&mut transaction, &caller, "attachment.write", ("attachment", &path), details).await?;
    transaction.commit().await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Written { path, sha256: hash.hex(), size })))
}

/// The bytes of an attachment, to whoever may read a resource that names it.
#[utoipa::path(
    get, path = "/api/v1/attachments/{*path}",
    params(
        ("path" = String, Path, description = "As a definition names it, without the first `/`"),
        ("If-None-Match" = Option<String>, Header, description = "An ETag"),
    ),
    responses(
        (
            status = 200,
            body = Binary,
            content_type = "application/octet-stream",
            description = "The bytes, with the media type of the name's ending",
            headers(("ETag" = String)),
        ),
        (status = 304),
    )
)]
pub async fn show(
    State(app): State<AppState>,
    caller: Caller,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = parse_attachment_path(&format!("/{path}"))?;
    let missing = || ApiError::not_found("attachment");
    let mut connection = app.pool.acquire().await?;
    if !caller.sees_all()
        && !db::attachments::is_named_by(&mut connection, caller.domain_id(), &path, &caller.sight).await?
    {
        return Err(missing());
    }
    let found = db::attachments::by_paths(&mut connection, caller.domain_id(), std::slice::from_ref(&path)).await?;
    let found = found.get(&path).ok_or_else(missing)?;
    let etag = format!("\"{}\"", found.sha256.hex());
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let bytes = app.store.read(&attachment_key(&found.sha256), None).await.map_err(|error| match error {
        StoreError::Missing => missing(),
        other => other.into(),
    })?;
    let kind = mime_guess::from_path(&path).first_or_octet_stream().to_string();
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_LENGTH, found.size.to_string()),
        (header::ETAG, etag),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        // Bytes that users upload must not become pages of ours.
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned()),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}
