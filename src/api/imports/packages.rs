//! What a request to import brings: a package as its body, in a form, or as an upload in pieces.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use futures_util::TryStreamExt;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::resource::Hash;
use crate::wire::import::FromUpload;

use crate::store::ScratchFile;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::bodies::{receive, whole};
use crate::api::http::bounds::broken;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, is_media_type};
use crate::api::uploads::content;

/// The longest text of a form besides its package, in bytes.
const LONGEST_TEXT: usize = 8 * 1024;

/// A package as it was received.
pub(in crate::api) struct Received {
    pub(in crate::api) file: ScratchFile,
    pub(in crate::api) sha256: Hash,
    pub(in crate::api) size: u64,
    /// It came in pieces.
    pub(in crate::api) upload: Option<Uuid>,
    /// What was given to open its secrets.
    pub(in crate::api) passphrase: Option<SecretString>,
}

/// What a request brings: a package, or the upload of one that became an import already.
pub(in crate::api) enum Brought {
    Package(Received),
    Import(Uuid),
}

/// Receives it.
pub(in crate::api) async fn brought(app: &AppState, caller: &Caller, request: Request) -> Result<Brought, ApiError> {
    let limit = app.config.limits.max_package_bytes;
    let headers = request.headers();
    if is_media_type(headers, &["multipart/form-data"]) {
        return from_form(app, request, limit).await.map(Brought::Package);
    }
    if is_media_type(headers, &["application/json"]) {
        let JsonBody(from) = JsonBody::from_request(request, app).await?;
        return uploaded(app, caller, from).await;
    }
    if !is_media_type(headers, &["application/zip", "application/x-zip-compressed", "application/octet-stream"]) {
        return Err(ApiError::media_type("application/zip, multipart/form-data or application/json"));
    }
    let (file, sha256, size) = receive(app, whole(request.into_body()), limit).await?;
    Ok(Brought::Package(Received { file, sha256, size, upload: None, passphrase: None }))
}

/// Brings the pieces of an upload together.
pub(in crate::api) async fn uploaded(app: &AppState, caller: &Caller, from: FromUpload) -> Result<Brought, ApiError> {
    let FromUpload { upload_id, passphrase } = from;
    let (upload, body) = content(app, caller, upload_id).await?;
    if let Some(record_id) = upload.record_id {
        return Ok(Brought::Import(record_id));
    }
    let received = receive(app, whole(body), upload.size).await;
    let Some((file, sha256, size)) = received.ok().filter(|(_, _, size)| *size == upload.size) else {
        // Its pieces go once it has become an import.
        return match content(app, caller, upload_id).await?.0.record_id {
            Some(record_id) => Ok(Brought::Import(record_id)),
            None => Err(ApiError::busy()),
        };
    };
    Ok(Brought::Package(Received { file, sha256, size, upload: Some(upload_id), passphrase }))
}

async fn from_form(app: &AppState, request: Request, limit: u64) -> Result<Received, ApiError> {
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| ApiError::body(error.body_text()))?;
    let unread = |error: MultipartError| match broken(&error) {
        other if other.is_client_body() => ApiError::body(format!("The form cannot be read: {error}.")),
        other => other,
    };
    let (mut received, mut passphrase) = (None, None);
    while let Some(field) = form.next_field().await.map_err(unread)? {
        if field.name() == Some("package") {
            let pieces = field.map_err(|error| broken(&error));
            let (file, sha256, size) = receive(app, pieces, limit).await?;
            received = Some(Received { file, sha256, size, upload: None, passphrase: None });
        } else if field.name() == Some("passphrase") {
            passphrase = Some(text(field).await?);
        }
    }
    let received = received.ok_or_else(|| ApiError::field("package", "is missing from the form"))?;
    // A form sends what was left empty too.
    Ok(Received { passphrase: passphrase.filter(|text| !text.expose_secret().is_empty()), ..received })
}

/// A short text of a form.
async fn text(mut field: Field<'_>) -> Result<SecretString, ApiError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_TEXT));
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        if bytes.len() + piece.len() > LONGEST_TEXT {
            return Err(ApiError::field("passphrase", "is too long"));
        }
        bytes.extend_from_slice(&piece);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| ApiError::field("passphrase", "must be UTF-8"))?;
    Ok(SecretString::from(text))
}
