//! What a request to import brings: a package as its body, in a form, or as an upload in pieces.

use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request};
use futures_util::TryStreamExt;
use uuid::Uuid;

use crate::domain::resource::Hash;
use crate::wire::import::FromUpload;

use super::Shared;
use super::attachments::{receive, whole};
use super::auth::Caller;
use super::bounds::broken;
use super::error::ApiError;
use super::extract::{JsonBody, is_media_type};
use super::uploads::content;

/// A package as it was received.
pub(super) struct Received {
    pub(super) file: tempfile::NamedTempFile,
    pub(super) sha256: Hash,
    pub(super) size: u64,
    /// It came in pieces.
    pub(super) upload: Option<Uuid>,
}

/// What a request brings: a package, or the upload of one that became an import already.
pub(super) enum Brought {
    Package(Received),
    Import(Uuid),
}

/// Receives it.
pub(super) async fn brought(app: &Shared, caller: &Caller, request: Request) -> Result<Brought, ApiError> {
    let limit = app.config.limits.max_package_bytes;
    let headers = request.headers();
    if is_media_type(headers, &["multipart/form-data"]) {
        return from_form(app, request, limit).await.map(Brought::Package);
    }
    if is_media_type(headers, &["application/json"]) {
        let JsonBody(FromUpload { upload_id }) = JsonBody::from_request(request, app).await?;
        return uploaded(app, caller, upload_id).await;
    }
    if !is_media_type(headers, &["application/zip", "application/x-zip-compressed", "application/octet-stream"]) {
        return Err(ApiError::media_type("application/zip, multipart/form-data or application/json"));
    }
    let (file, sha256, size) = receive(app, whole(request.into_body()), limit).await?;
    Ok(Brought::Package(Received { file, sha256, size, upload: None }))
}

/// Brings the pieces of an upload together.
pub(super) async fn uploaded(app: &Shared, caller: &Caller, id: Uuid) -> Result<Brought, ApiError> {
    let (upload, body) = content(app, caller, id).await?;
    if let Some(record_id) = upload.record_id {
        return Ok(Brought::Import(record_id));
    }
    let (file, sha256, size) = receive(app, whole(body), upload.size).await?;
    if size != upload.size {
        return Err(ApiError::conflict("The upload is becoming an import already."));
    }
    Ok(Brought::Package(Received { file, sha256, size, upload: Some(id) }))
}

async fn from_form(app: &Shared, request: Request, limit: u64) -> Result<Received, ApiError> {
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| ApiError::body(error.body_text()))?;
    let unread = |error: MultipartError| match broken(&error) {
        other if other.is_client_body() => ApiError::body(format!("The form cannot be read: {error}.")),
        other => other,
    };
    let mut received = None;
    while let Some(field) = form.next_field().await.map_err(unread)? {
        if field.name() == Some("package") {
            let pieces = field.map_err(|error| broken(&error));
            let (file, sha256, size) = receive(app, pieces, limit).await?;
            received = Some(Received { file, sha256, size, upload: None });
        }
    }
    received.ok_or_else(|| ApiError::field("package", "is missing from the form"))
}
