//! Imports: receive a package, plan, execute.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode};
use futures_util::TryStreamExt;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::config::Trust;
use crate::db::record_items::NewChunk;
use crate::db::records::{Change, NewRecord};
use crate::db::{self, Acquire, PgConnection, jobs};
use crate::domain::import_plan::Resolution;
use crate::domain::manifest::Manifest;
use crate::domain::record::{RecordKind, RecordStatus};
use crate::package::reader::Package;
use crate::planning::{self, Planning};
use crate::secrets;
use crate::store::package_key;
use crate::wire::FieldProblem;
use crate::wire::record::{Item, PackageInfo, PlanRequest, Record};

use super::Shared;
use super::attachments::{receive, whole};
use super::auth::Caller;
use super::error::ApiError;
use super::extract::{JsonBody, MaybeJson, Path, is_media_type, parse};
use super::openapi::{Binary, PackageForm};
use super::records::{Accepted, find, line, lock};

/// A package as it was received.
struct Received {
    file: tempfile::NamedTempFile,
    sha256: String,
    size: u64,
}

/// Receives a package.
///
/// What can be told from its table of contents is refused at once and leaves nothing behind; its contents are
/// checked while they are parsed. The record then stops at `awaiting_confirmation`.
#[utoipa::path(
    post, path = "/api/v1/imports",
    request_body(content((Binary = "application/zip"), (PackageForm = "multipart/form-data"))),
    responses((status = 202, body = Record), (status = 507, description = "The store is full"))
)]
pub async fn create(State(app): State<Shared>, caller: Caller, request: Request) -> Result<Accepted<Record>, ApiError> {
    let repeat = idempotency_key(request.headers())?;
    let received = package(&app, request).await?;
    let mut connection = app.pool.acquire().await?;
    if let Some(record) = earlier(&mut connection, &caller, repeat.as_deref(), &received).await? {
        return Accepted::record(record);
    }
    drop(connection);
    let file = received.file.reopen()?;
    let limits = app.limits();
    let opened = tokio::task::spawn_blocking(move || Package::open(file, limits, secrets::verify)).await??;
    let manifest = opened.manifest;
    let mut connection = app.pool.acquire().await?;
    check_origin(&app, &mut connection, &manifest).await?;

    let id = Uuid::now_v7();
    let key = package_key(id);
    app.store.put_file(&key, received.file.path()).await?;
    let queued = queue(&mut connection, &caller, id, &manifest, &received, &key, repeat.as_deref()).await;
    let Err(error) = queued else { return Accepted::record(queued?) };
    app.store.delete(&key).await?;
    // The same request was answered at the same time.
    match earlier(&mut connection, &caller, repeat.as_deref(), &received).await? {
        Some(record) => Accepted::record(record),
        None => Err(error),
    }
}

/// `Idempotency-Key`: 1 to 255 visible ASCII characters.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(|key| Some(key.to_owned()))
        .ok_or_else(|| ApiError::field("Idempotency-Key", "must have 1 to 255 ASCII characters"))
}

/// The record that the same request has made before.
async fn earlier(
    connection: &mut PgConnection,
    caller: &Caller,
    key: Option<&str>,
    received: &Received,
) -> Result<Option<db::records::Record>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    let found = db::records::by_key(connection, caller.domain_id(), caller.username(), RecordKind::Import, key).await?;
    let Some(id) = found else { return Ok(None) };
    let record = find(connection, caller, id).await?;
    if record.package.as_ref().is_some_and(|package| package["sha256"] == received.sha256) {
        return Ok(Some(record));
    }
    let detail = "The Idempotency-Key was used for another package. Use a new key for a new request.";
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail))
}

async fn queue(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
    manifest: &Manifest,
    received: &Received,
    key: &str,
    key_of_request: Option<&str>,
) -> Result<db::records::Record, ApiError> {
    let new = NewRecord {
        id,
        domain_id: caller.domain_id(),
        kind: RecordKind::Import,
        name: &manifest.name,
        requested_by: caller.username(),
        options: serde_json::json!(PlanRequest::default()),
        roots: serde_json::json!([]),
        target: None,
        idempotency_key: key_of_request,
    };
    let resources: u64 = manifest.counts.values().sum();
    let package = PackageInfo {
        size: received.size,
        sha256: received.sha256.clone(),
        file_name: format!("{}.zip", manifest.name),
        resources,
    };
    let mut transaction = connection.begin().await?;
    db::records::insert(&mut transaction, &new).await?;
    let change = Change {
        progress: Some((0, resources, "resources")),
        package: Some(serde_json::json!(package)),
        package_key: Some(key.to_owned()),
        source_environment: Some(manifest.environment.name.clone()),
        ..Change::default()
    };
    db::records::update(&mut transaction, id, change).await?;
    jobs::queue(&mut transaction, jobs::PARSE, id, caller.domain_id()).await?;
    let record = find(&mut transaction, caller, id).await?;
    transaction.commit().await?;
    Ok(record)
}

async fn package(app: &Shared, request: Request) -> Result<Received, ApiError> {
    let limit = app.config.limits.max_package_bytes;
    let headers = request.headers();
    if is_media_type(headers, &["multipart/form-data"]) {
        return from_form(app, request, limit).await;
    }
    if !is_media_type(headers, &["application/zip", "application/x-zip-compressed", "application/octet-stream"]) {
        return Err(ApiError::media_type("application/zip or multipart/form-data"));
    }
    let (file, hash, size) = receive(app, whole(request.into_body()), limit).await?;
    Ok(Received { file, sha256: hash.hex(), size })
}

async fn from_form(app: &Shared, request: Request, limit: u64) -> Result<Received, ApiError> {
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| ApiError::body(error.body_text()))?;
    let broken =
        |error: axum::extract::multipart::MultipartError| ApiError::body(format!("The form cannot be read: {error}."));
    let mut received = None;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() == Some("package") {
            let pieces = field.map_err(|_| ApiError::body("The body was cut off."));
            let (file, hash, size) = receive(app, pieces, limit).await?;
            received = Some(Received { file, sha256: hash.hex(), size });
        }
    }
    received.ok_or_else(|| ApiError::field("package", "is missing from the form"))
}

/// The key is the one that the environment's packages were signed with so far.
async fn check_origin(app: &Shared, connection: &mut PgConnection, manifest: &Manifest) -> Result<(), ApiError> {
    if app.config.security.trust == Trust::Trusted {
        let detail = "This environment accepts packages of trusted sources only, and the one that signed this is none.";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "package_untrusted", detail));
    }
    let origin = &manifest.environment;
    let pinned = match origin.id == app.identity.id {
        true => Some(app.identity.public_key.clone()),
        false => db::environment::pinned_key(connection, &origin.id).await?,
    };
    if pinned.is_none_or(|key| key == origin.public_key) {
        return Ok(());
    }
    let detail = "The package claims to come from an environment whose packages were signed with another key so far. \
        Make sure where it comes from.";
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "package_untrusted", detail))
}

/// Sets the options and plans anew.
#[utoipa::path(
    put, path = "/api/v1/imports/{id}/plan",
    request_body = PlanRequest,
    responses(
        (status = 200, body = Record),
        (status = 409, description = "It does not await confirmation"),
        (status = 410, description = "The package is no longer kept"),
    )
)]
pub async fn plan(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<Json<Record>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let record = import(&mut transaction, &caller, id, "planned").await?;
    let planned = Planned::make(&app, &mut transaction, &record, &request).await?;
    planned.save(&mut transaction, &record, &request).await?;
    let record = find(&mut transaction, &caller, id).await?;
    transaction.commit().await?;
    Ok(Json(line(record)?))
}

/// An import that awaits confirmation, held until the transaction ends.
async fn import(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
    attempt: &'static str,
) -> Result<db::records::Record, ApiError> {
    let record = lock(connection, caller, id).await?;
    if record.kind()? != RecordKind::Import {
        return Err(ApiError::not_found("import"));
    }
    record.status()?.confirmable(attempt)?;
    Ok(record)
}

/// A plan as it would be saved.
struct Planned {
    change: Change,
    items: Vec<NewChunk>,
    digest: String,
}

impl Planned {
    async fn make(
        app: &Shared,
        connection: &mut PgConnection,
        record: &db::records::Record,
        request: &PlanRequest,
    ) -> Result<Self, ApiError> {
        let options = planning::options(request).map_err(|(field, message)| ApiError::field(&field, message))?;
        if let Some(owner) = &request.owner
            && db::users::by_name(connection, record.domain_id, owner).await?.is_none()
        {
            return Err(ApiError::field("owner", format!("names {owner}, who is not a user of this domain")));
        }
        let entries = db::import_entries::load(connection, record.id).await?;
        let manifest = planning::manifest(connection, record.id).await?;
        let planning = Planning::make(app, connection, record, &manifest, request, &entries, None).await?;
        let types: HashMap<&str, &str> =
            entries.iter().map(|entry| (entry.id.as_str(), entry.type_key.as_str())).collect();
        for (id, resolution) in &options.resolutions {
            let field = format!("resolutions.{id}");
            let Some(kind) = types.get(id.as_str()) else {
                return Err(ApiError::field(&field, "names a resource that is not in the package"));
            };
            if let Resolution::Map(target) = resolution {
                let there = planning.facts.resources.get(target);
                if !there.is_some_and(|found| found.here && found.type_key == *kind) {
                    return Err(ApiError::field(
                        &field,
                        format!("maps to {target}, which is not a {kind} of this domain"),
                    ));
                }
            }
        }
        let (change, items) = planning.preview(&entries)?;
        let digest = change.plan_digest.clone().unwrap_or_default();
        Ok(Self { change, items, digest })
    }

    async fn save(
        self,
        connection: &mut PgConnection,
        record: &db::records::Record,
        request: &PlanRequest,
    ) -> Result<(), ApiError> {
        let stored = PlanRequest { plan_digest: None, ..request.clone() };
        let change = Change { options: Some(serde_json::json!(stored)), ..self.change };
        db::record_items::replace(connection, record.id, &self.items).await?;
        db::records::update(connection, record.id, change).await?;
        Ok(())
    }
}

/// Starts the import.
///
/// A body with options replaces the stored ones; one of the digest alone, or none, leaves them.
#[utoipa::path(
    post, path = "/api/v1/imports/{id}/execute",
    request_body = Option<PlanRequest>,
    responses(
        (status = 202, body = Record),
        (
            status = 409,
            description = "It does not await confirmation, or the plan is another than that of `plan_digest`",
        ),
        (status = 410, description = "The package is no longer kept"),
    )
)]
pub async fn execute(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<Uuid>,
    MaybeJson(body): MaybeJson<Map<String, Value>>,
) -> Result<Accepted<Record>, ApiError> {
    let body = body.unwrap_or_default();
    let request: PlanRequest = parse(&serde_json::to_vec(&body).unwrap_or_default())?;
    let has_options = body.keys().any(|key| key != "plan_digest");
    let mut connection = app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let record = import(&mut transaction, &caller, id, "executed").await?;
    if has_options || request.plan_digest.is_some() {
        let digest = request.plan_digest.clone();
        let request =
            if has_options { request } else { serde_json::from_value(record.options.clone()).unwrap_or_default() };
        let planned = Planned::make(&app, &mut transaction, &record, &request).await?;
        if digest.is_some_and(|digest| digest != planned.digest) {
            return Err(stale(&mut transaction, &record, &planned).await?);
        }
        planned.save(&mut transaction, &record, &request).await?;
    }
    db::records::update(&mut transaction, id, Change { status: Some(RecordStatus::Queued), ..Change::default() })
        .await?;
    jobs::queue(&mut transaction, jobs::EXECUTE, id, caller.domain_id()).await?;
    let record = find(&mut transaction, &caller, id).await?;
    transaction.commit().await?;
    Accepted::record(record)
}

/// 409 `plan_stale`, with the resources whose plan or whose counterpart is another now.
async fn stale(
    connection: &mut PgConnection,
    record: &db::records::Record,
    planned: &Planned,
) -> Result<ApiError, ApiError> {
    let before = super::records::all_items(connection, record.id).await?;
    let mut now: Vec<Item> = Vec::with_capacity(before.len());
    for chunk in &planned.items {
        now.extend(serde_json::from_str::<Vec<Item>>(&chunk.items).map_err(|_| db::DbError::Corrupt("item"))?);
    }
    let moved = before.iter().zip(&now).filter(|(before, now)| before != now).map(|(_, now)| FieldProblem {
        code: "plan_stale".to_owned(),
        field: now.resource_id.clone(),
        message: format!("{} moved in the target since it was planned.", now.name),
    });
    let moved: Vec<FieldProblem> = moved.collect();
    let detail = "The target is not as it was when this was planned. Look at the plan again, then execute with its new plan_digest.";
    Ok(ApiError::new(StatusCode::CONFLICT, "plan_stale", detail).with_all(moved))
}
