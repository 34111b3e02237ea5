//! Uploads in pieces: tus 1.0 with creation, creation-with-upload, checksum, termination and expiration.
//! Each piece is committed together with the new offset.

pub mod held;
pub mod pieces;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::StreamExt;
use uuid::Uuid;

use crate::db::Acquire;
use crate::db::uploads::{self as rows, Upload};
use crate::domain::resource::Hash;

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, is_media_type};
use crate::api::http::idempotency::Once;
use crate::api::http::openapi::Binary;
use crate::api::uploads::held::held;
use crate::api::uploads::pieces::take;

const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,checksum,termination,expiration";
/// The media type of a piece.
const PIECE_TYPE: &str = "application/offset+octet-stream";
/// Longest `Upload-Metadata`, in bytes.
const MAX_METADATA: usize = 4096;

fn is_upload(request: &Request) -> bool {
    let path = request.uri().path();
    path == "/api/v1/uploads" || path.starts_with("/api/v1/uploads/")
}

/// Asks for the protocol's version on its paths.
pub async fn versioned(request: Request, next: Next) -> Response {
    let spoken = request.headers().get("tus-resumable").is_some_and(|version| version == VERSION);
    if spoken || !is_upload(&request) || request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    let detail = format!("This address speaks tus: send the header Tus-Resumable: {VERSION}.");
    ApiError::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail).into_response()
}

/// Says the protocol's version in every answer on its paths.
pub async fn announced(request: Request, next: Next) -> Response {
    let upload = is_upload(&request);
    let mut response = next.run(request).await;
    if upload {
        response.headers_mut().insert("tus-resumable", HeaderValue::from_static(VERSION));
        response.headers_mut().insert("tus-version", HeaderValue::from_static(VERSION));
    }
    response
}

/// What the server can do of the protocol.
#[utoipa::path(options, path = "/api/v1/uploads", responses((status = 204, description = "In the headers `Tus-…`")))]
pub async fn options(State(app): State<AppState>) -> Response {
    let headers = [
        ("tus-extension", EXTENSIONS.to_owned()),
        ("tus-max-size", app.config.limits.max_package_bytes.to_string()),
        ("tus-checksum-algorithm", "sha256,sha1".to_owned()),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Makes an upload of `Upload-Length` bytes; a body is its first piece.
#[utoipa::path(
    post, path = "/api/v1/uploads",
    params(
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Length" = u64, Header, description = "Of all of it, in bytes"),
        ("Upload-Metadata" = Option<String>, Header, description = "Pairs of a key and a value in base64"),
    ),
    request_body(content = Option<Binary>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 201, description = "Made; `Location` names it, `Upload-Expires` says until when"),
        (status = 412, description = "Another version of tus"),
    )
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let size = number(&headers, "upload-length")?;
    if size > app.config.limits.max_package_bytes {
        return Err(ApiError::too_large(app.config.limits.max_package_bytes));
    }
    let metadata = metadata(&headers)?;
    let asked = Hash::of(format!("{size} {metadata}").as_bytes());
    if let Some(answer) = once.answered(&asked)? {
        return Ok(answer);
    }
    let id = Uuid::now_v7();
    let location = format!("/api/v1/uploads/{id}");
    let hours = app.config.retention.upload_hours;
    let with_piece = is_media_type(&headers, &[PIECE_TYPE]);
    let mut connection = app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    rows::insert(&mut transaction, (caller.domain_id(), caller.user.id), (id, size, &metadata), hours).await?;
    note(&mut transaction, &caller, "upload.create", ("upload", id), serde_json::json!({"size": size})).await?;
    let upload = held(&mut transaction, &caller, id).await?;
    once.keep(&mut transaction, StatusCode::CREATED, Some(&location), &(), Some(&asked)).await?;
    transaction.commit().await?;
    drop(connection);
    let received = match with_piece {
        true => take(&app, &caller, &upload, 0, request).await?,
        false => 0,
    };
    let headers = [("location", location), ("upload-offset", received.to_string()), expires(&upload)];
    Ok((StatusCode::CREATED, headers).into_response())
}

/// How far an upload is.
#[utoipa::path(
    head, path = "/api/v1/uploads/{id}", params(("Tus-Resumable" = String, Header, description = "1.0.0")),
    responses(
        (status = 200, description = "`Upload-Offset` and `Upload-Length`"),
        (status = 410, description = "It has expired"),
    )
)]
pub async fn head(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<Response, ApiError> {
    let upload = find(&app, &caller, id).await?;
    let mut headers = HeaderMap::new();
    let lines = [
        ("upload-offset", upload.received.to_string()),
        ("upload-length", upload.size.to_string()),
        ("upload-metadata", upload.metadata.clone()),
        expires(&upload),
    ];
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((StatusCode::OK, headers).into_response())
}

/// Adds a piece at `Upload-Offset`, which must be the end of what is there.
#[utoipa::path(
    patch, path = "/api/v1/uploads/{id}",
    params(
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Offset" = u64, Header, description = "Where the piece begins"),
        ("Upload-Checksum" = Option<String>, Header, description = "`sha256` or `sha1`, and the hash in base64"),
    ),
    request_body(content = Binary, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204, description = "Taken; `Upload-Offset` is where the next one begins"),
        (status = 409, description = "The next piece begins elsewhere"),
        (status = 410, description = "It has expired"),
        (status = 460, description = "The piece does not have its checksum"),
    )
)]
pub async fn patch(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    request: Request,
) -> Result<Response, ApiError> {
    if !is_media_type(request.headers(), &[PIECE_TYPE]) {
        return Err(ApiError::media_type(PIECE_TYPE));
    }
    let offset = number(request.headers(), "upload-offset")?;
    let upload = find(&app, &caller, id).await?;
    let received = take(&app, &caller, &upload, offset, request).await?;
    Ok((StatusCode::NO_CONTENT, [("upload-offset", received.to_string()), expires(&upload)]).into_response())
}

/// Ends an upload; nothing of it is kept.
#[utoipa::path(
    delete, path = "/api/v1/uploads/{id}", params(("Tus-Resumable" = String, Header, description = "1.0.0")),
    responses((status = 204, description = "Gone"), (status = 410, description = "It has expired"))
)]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    held(&mut transaction, &caller, id).await?;
    let pieces = rows::pieces(&mut transaction, id).await?;
    rows::delete(&mut transaction, id).await?;
    note(&mut transaction, &caller, "upload.delete", ("upload", id), serde_json::json!({})).await?;
    transaction.commit().await?;
    for key in pieces {
        app.store.delete(&key).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// For clients that can send no PATCH and no DELETE: `X-HTTP-Method-Override` says which it is.
#[utoipa::path(
    post, path = "/api/v1/uploads/{id}",
    params(("Tus-Resumable" = String, Header, description = "1.0.0"), ("X-HTTP-Method-Override" = String, Header, description = "PATCH, DELETE or HEAD")),
    request_body(content = Option<Binary>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 200, description = "As HEAD"),
        (status = 204, description = "As PATCH or DELETE"),
        (status = 405, description = "It stands for none of these"),
        (status = 409, description = "The next piece begins elsewhere"),
        (status = 410, description = "It has expired"),
        (status = 460, description = "The piece does not have its checksum"),
    )
)]
pub async fn overridden(
    state: State<AppState>,
    caller: Caller,
    path: Path<Uuid>,
    request: Request,
) -> Result<Response, ApiError> {
    let method = request.headers().get("x-http-method-override").and_then(|value| value.to_str().ok());
    match method.unwrap_or_default().to_ascii_uppercase().as_str() {
        "PATCH" => patch(state, caller, path, request).await,
        "DELETE" => delete(state, caller, path).await.map(IntoResponse::into_response),
        "HEAD" => head(state, caller, path).await,
        _ => {
            let detail = "This address takes HEAD, PATCH and DELETE.";
            Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail))
        }
    }
}

async fn find(app: &AppState, caller: &Caller, id: Uuid) -> Result<Upload, ApiError> {
    let mut transaction = app.pool.begin().await?;
    held(&mut transaction, caller, id).await
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, ApiError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
    value.filter(|value| *value <= i64::MAX as u64).ok_or_else(|| ApiError::field(name, "must be a number of bytes"))
}

/// `Upload-Metadata`: keys, each with a value in base64 or none.
fn metadata(headers: &HeaderMap) -> Result<String, ApiError> {
    let Some(value) = headers.get("upload-metadata") else { return Ok(String::new()) };
    let refuse =
        || ApiError::field("upload-metadata", "must be pairs of a key and a value in base64, parted by commas");
    let text = value.to_str().ok().filter(|text| text.len() <= MAX_METADATA).ok_or_else(refuse)?;
    let fits = text.split(',').filter(|pair| !pair.trim().is_empty()).all(|pair| {
        let mut words = pair.split_whitespace();
        words.next().is_some()
            && words.next().is_none_or(|value| BASE64.decode(value).is_ok())
            && words.next().is_none()
    });
    if fits { Ok(text.to_owned()) } else { Err(refuse()) }
}

fn expires(upload: &Upload) -> (&'static str, String) {
    ("upload-expires", httpdate::fmt_http_date(upload.expires_at.into()))
}

/// All pieces of a complete upload, one after the other, as a body.
pub(in crate::api) async fn content(app: &AppState, caller: &Caller, id: Uuid) -> Result<(Upload, Body), ApiError> {
    let mut transaction = app.pool.begin().await?;
    let upload = held(&mut transaction, caller, id).await?;
    if upload.received < upload.size {
        let detail = format!("The upload has {} of {} bytes so far.", upload.received, upload.size);
        return Err(ApiError::new(StatusCode::CONFLICT, "wrong_state", detail));
    }
    let keys = rows::pieces(&mut transaction, id).await?;
    let store = app.store.clone();
    let pieces = futures_util::stream::iter(keys)
        .then(move |key| {
            let store = store.clone();
            async move { store.read(&key, None).await }
        })
        .flat_map(|piece| match piece {
            Ok(bytes) => bytes,
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        });
    Ok((upload, Body::from_stream(pieces)))
}

/// Removes the pieces of an upload that has become an import.
pub(in crate::api) async fn clear(app: &AppState, id: Uuid) -> Result<(), ApiError> {
    let mut connection = app.pool.acquire().await?;
    let keys = rows::pieces(&mut connection, id).await?;
    drop(connection);
    for key in keys {
        app.store.delete(&key).await?;
    }
    let mut connection = app.pool.acquire().await?;
    Ok(rows::forget_pieces(&mut connection, id).await?)
}
