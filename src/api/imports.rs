//! Imports: receive a package, or another one in its place.

pub mod difference;
pub mod impact;
pub mod lacking;
pub mod packages;
pub mod planned;
pub mod plans;
pub mod roll_back;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tracing::Instrument;
use uuid::Uuid;

use crate::db::records::{Arrived, NewRecord, Origin, Queued};
use crate::db::{self, PgConnection, jobs};
use crate::domain::manifest::Manifest;
use crate::domain::record::{JobKind, RecordKind};
use crate::domain::resource::parse_name;
use crate::domain::trust::Signature;
use crate::package::PackageError;
use crate::package::reader::Package;
use crate::planning;
use crate::planning::carried::{self, keep_passphrase};
use crate::secrets;
use crate::store::package_key;
use crate::trust;
use crate::wire::import::{FromUpload, REQUESTED_BY};
use crate::wire::record::{PackageInfo, PlanRequest, Record};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path};
use crate::api::http::idempotency::Once;
use crate::api::http::openapi::{Binary, PackageForm};
use crate::api::imports::packages::{Brought, Received, brought, uploaded};
use crate::api::imports::plans::import;
use crate::api::records::{Accepted, find};
use crate::api::uploads::clear;
use crate::api::uploads::held::held;

/// Receives a package.
///
/// What can be told from its table of contents is refused at once and leaves nothing behind; its contents are
/// checked while they are parsed. The record then stops at `awaiting_confirmation`.
#[utoipa::path(
    post, path = "/api/v1/imports",
    params((
        "Ferry-Requested-By" = Option<String>, Header,
        description = "Who asked for it at its source: a user name there, percent-encoded. He does not approve it",
    )),
    request_body(content((Binary = "application/zip"), (PackageForm = "multipart/form-data"), (FromUpload = "application/json"))),
    responses(
        (status = 202, body = Record),
        (status = 404, description = "There is no such upload of the caller"),
        (status = 409, description = "The upload is not whole, or the first request with the Idempotency-Key is still being received"),
        (status = 410, description = "The upload has expired"),
        (status = 507, description = "The store is full"),
    )
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    request: Request,
) -> Result<Response, ApiError> {
    let asked_by = request.headers().get(REQUESTED_BY).map(source_name).transpose()?;
    let mut received = match brought(&app, &caller, request).await? {
        Brought::Package(received) => received,
        Brought::Import(id) => {
            let mut connection = app.pool.acquire().await?;
            return Ok(Accepted::record(find(&mut connection, &caller, id).await?)?.into_response());
        }
    };
    if let Some(answer) = once.answered(&received.sha256)? {
        return Ok(answer);
    }
    let (manifest, signature, by_passphrase) =
        checked(&app, caller.domain_id(), &received, received.passphrase.clone()).await?;
    received.passphrase = received.passphrase.filter(|_| by_passphrase);
    let id = Uuid::now_v7();
    let key = package_key(id);
    app.store.put_file(&key, received.file.path()).await?;
    let queued = async {
        let mut transaction = app.pool.begin().await?;
        let accepted = queue(
            &app,
            &mut transaction,
            &caller,
            (id, &key),
            (&manifest, &signature),
            (&received, asked_by.as_deref()),
        );
        let accepted = accepted.await?;
        accepted.keep(&once, &mut transaction, Some(&received.sha256)).await?;
        transaction.commit().await.map_err(Undone::unknown)?;
        Ok::<_, Undone>(accepted)
    };
    let accepted = match queued.await {
        Ok(accepted) => accepted,
        Err(undone) => done_after_all(&app, &caller, (id, &key), undone).await?,
    };
    if let Some(upload) = received.upload {
        // What fails from here on, cleaning does later.
        let _ = clear(&app, upload).await;
    }
    Ok(accepted.into_response())
}

/// The name of a user of the source.
fn source_name(given: &HeaderValue) -> Result<String, ApiError> {
    let text = percent_decode(given.as_bytes()).decode_utf8();
    let text = text.map_err(|_| ApiError::field(REQUESTED_BY, "must be UTF-8, percent-encoded"))?;
    parse_name(&text).map_err(|refused| ApiError::field(REQUESTED_BY, refused.reason))
}

/// Why a package in the store became no record's, as far as is known.
enum Undone {
    /// Nothing was committed.
    Refused(ApiError),
    /// The answer to the commit is lost.
    Unknown(ApiError),
}

impl Undone {
    fn unknown(error: db::Error) -> Self {
        Self::Unknown(error.into())
    }
}

impl<E: Into<ApiError>> From<E> for Undone {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// Looks up what became of a package whose commit was not answered; one that was refused is removed.
async fn done_after_all(
    app: &AppState,
    caller: &Caller,
    (id, key): (Uuid, &str),
    undone: Undone,
) -> Result<Accepted<Record>, ApiError> {
    match undone {
        Undone::Refused(error) => {
            app.store.delete(key).await?;
            Err(error)
        }
        Undone::Unknown(error) => {
            let mut connection = app.pool.acquire().await?;
            if db::records::known_packages(&mut connection, &[key.to_owned()]).await?.is_empty() {
                // The commit may still be on its way: the package stays, and cleaning finds it if it is nobody's.
                return Err(error);
            }
            Accepted::record(find(&mut connection, caller, id).await?)
        }
    }
}

/// Opens what was received, checks where it comes from, and that the secrets that it carries can be had; also
/// tells whether that took the passphrase.
async fn checked(
    app: &AppState,
    domain_id: i32,
    received: &Received,
    passphrase: Option<SecretString>,
) -> Result<(Manifest, Signature, bool), ApiError> {
    let (path, limits) = (received.file.path().to_owned(), app.limits());
    let opened = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(path).map_err(PackageError::Io)?;
        Package::open(file, limits, secrets::verify)
    });
    let mut package = opened.await??;
    let mut connection = app.pool.acquire().await?;
    let signature = trust::check(app, &mut connection, domain_id, &package.manifest.environment).await?;
    drop(connection);
    let app = app.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let passphrase = passphrase.as_ref().map(SecretString::expose_secret);
        let opened = carried::open(&app, &mut package, passphrase)?;
        Ok::<_, carried::CarriedError>((package.manifest, opened.is_some_and(|opened| opened.by_passphrase)))
    });
    let (manifest, by_passphrase) = opened.await??;
    Ok((manifest, signature, by_passphrase))
}

async fn queue(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    (id, key): (Uuid, &str),
    (manifest, signature): (&Manifest, &Signature),
    (received, asked_by): (&Received, Option<&str>),
) -> Result<Accepted<Record>, ApiError> {
    let new = NewRecord {
        id,
        domain_id: caller.domain_id(),
        kind: RecordKind::Import,
        name: &manifest.name,
        requested_by: caller.username(),
        options: serde_json::json!(PlanRequest::default()),
        roots: serde_json::json!([]),
        target: None,
        selected: None,
    };
    let details = received_as(manifest, signature, received);
    note(connection, caller, "import.receive", ("record", id), details).await?;
    db::records::insert(connection, &new).await?;
    let arrived = arrived(manifest, signature, received, key);
    let from = Origin { environment: &manifest.environment.name, requested_by: asked_by };
    db::records::receive(connection, id, from, arrived).await?;
    parse_next(app, connection, caller, id, received).await
}

/// Has what has arrived be parsed, with the passphrase that it takes and from the upload that it came by.
async fn parse_next(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
    received: &Received,
) -> Result<Accepted<Record>, ApiError> {
    if let Some(passphrase) = &received.passphrase {
        keep_passphrase(app, connection, id, passphrase).await?;
    }
    jobs::queue(connection, JobKind::Parse, id, caller.domain_id()).await?;
    use_upload(connection, caller, received, id).await?;
    Accepted::record(find(connection, caller, id).await?)
}

/// What the audit says of a package that has arrived.
fn received_as(manifest: &Manifest, signature: &Signature, received: &Received) -> Value {
    serde_json::json!({
        "name": manifest.name, "sha256": received.sha256.hex(), "size": received.size, "signature": signature,
    })
}

/// What a record says of a package that has arrived.
fn arrived(manifest: &Manifest, signature: &Signature, received: &Received, key: &str) -> Arrived {
    let resources: u64 = manifest.counts.values().fold(0, |sum, count| sum.saturating_add(*count));
    let package = PackageInfo {
        size: received.size,
        sha256: received.sha256.hex(),
        file_name: format!("{}.zip", manifest.name),
        resources,
    };
    Arrived {
        package: serde_json::json!(package),
        key: key.to_owned(),
        resources,
        signature: serde_json::json!(signature),
    }
}

/// Gives an import that awaits confirmation another package of the same export, which holds what the first
/// one left out; it is parsed anew.
#[utoipa::path(
    put, path = "/api/v1/imports/{id}/package", request_body = FromUpload,
    responses((status = 202, body = Record), (status = 409, description = "The import does not await confirmation"))
)]
pub async fn replace_package(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(from): JsonBody<FromUpload>,
) -> Result<Accepted<Record>, ApiError> {
    // It comes to its end though the caller goes away: he finds it when he comes again.
    tokio::spawn(replaced(app, caller, id, from).in_current_span()).await?
}

async fn replaced(app: AppState, caller: Caller, id: Uuid, from: FromUpload) -> Result<Accepted<Record>, ApiError> {
    let upload_id = from.upload_id;
    let mut received = match uploaded(&app, &caller, from).await? {
        Brought::Package(received) => received,
        // The same request again.
        Brought::Import(became) if became == id => {
            let mut connection = app.pool.acquire().await?;
            return Accepted::record(find(&mut connection, &caller, id).await?);
        }
        Brought::Import(_) => return Err(ApiError::conflict("The upload has become another import already.")),
    };
    let mut connection = app.pool.acquire().await?;
    let replaced = find(&mut connection, &caller, id).await?.package_key;
    let kept = carried::passphrase(&app, &mut connection, id).await?;
    drop(connection);
    let (manifest, signature, by_passphrase) =
        checked(&app, caller.domain_id(), &received, received.passphrase.clone().or(kept)).await?;
    received.passphrase = received.passphrase.filter(|_| by_passphrase);
    // Under a key of its own: until this is committed, the record is about the package that it had.
    let key = package_key(Uuid::now_v7());
    app.store.put_file(&key, received.file.path()).await?;
    let accepted = match replace(&app, &caller, (id, &key), (&manifest, &signature), &received).await {
        Ok(accepted) => accepted,
        Err(undone) => done_after_all(&app, &caller, (id, &key), undone).await?,
    };
    // It is about that package no more. What fails from here on, cleaning does later.
    if let Some(key) = replaced {
        let _ = app.store.delete(&key).await;
    }
    let _ = clear(&app, upload_id).await;
    Ok(accepted)
}

/// Has the record be about another package.
async fn replace(
    app: &AppState,
    caller: &Caller,
    (id, key): (Uuid, &str),
    (manifest, signature): (&Manifest, &Signature),
    received: &Received,
) -> Result<Accepted<Record>, Undone> {
    let mut transaction = app.pool.begin().await?;
    import(&mut transaction, caller, id, "given another package").await?;
    let before = planning::manifest(&mut transaction, id).await?;
    if before.environment.id != manifest.environment.id || before.record_id != manifest.record_id {
        return Err(ApiError::field("upload_id", "is not a package of the same export").into());
    }
    let details = received_as(manifest, signature, received);
    note(&mut transaction, caller, "import.replace_package", ("record", id), details).await?;
    let replaced = Queued::Replaced(arrived(manifest, signature, received, key));
    db::records::queue(&mut transaction, id, replaced).await?;
    let accepted = parse_next(app, &mut transaction, caller, id, received).await?;
    transaction.commit().await.map_err(Undone::unknown)?;
    Ok(accepted)
}

/// Notes the import that an upload becomes.
async fn use_upload(
    connection: &mut PgConnection,
    caller: &Caller,
    received: &Received,
    id: Uuid,
) -> Result<(), ApiError> {
    let Some(upload) = received.upload else { return Ok(()) };
    if held(connection, caller, upload).await?.record_id.is_some() {
        return Err(ApiError::conflict("The upload is becoming an import already."));
    }
    Ok(db::uploads::used(connection, upload, id).await?)
}
