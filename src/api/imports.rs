//! Imports: receive a package, plan, execute.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::db::record_items::NewChunk;
use crate::db::records::{Change, NewRecord};
use crate::db::{self, Acquire, PgConnection, jobs};
use crate::domain::import_plan::Resolution;
use crate::domain::manifest::Manifest;
use crate::domain::record::{RecordKind, RecordStatus};
use crate::domain::resource::ResourceId;
use crate::domain::trust::Signature;
use crate::package::reader::Package;
use crate::planning::carried::{self, keep_passphrase};
use crate::planning::{self, Planning};
use crate::secrets;
use crate::store::package_key;
use crate::trust;
use crate::wire::FieldProblem;
use crate::wire::import::FromUpload;
use crate::wire::record::{Item, PackageInfo, PlanRequest, Record};

use super::Shared;
use super::audit::note;
use super::auth::Caller;
use super::error::ApiError;
use super::extract::{JsonBody, MaybeJson, Path, parse};
use super::idempotency::Once;
use super::openapi::{Binary, PackageForm};
use super::packages::{Brought, Received, brought, uploaded};
use super::records::{Accepted, find, line, lock};
use super::uploads::{clear, held};

/// Receives a package.
///
/// What can be told from its table of contents is refused at once and leaves nothing behind; its contents are
/// checked while they are parsed. The record then stops at `awaiting_confirmation`.
#[utoipa::path(
    post, path = "/api/v1/imports",
    request_body(content((Binary = "application/zip"), (PackageForm = "multipart/form-data"), (FromUpload = "application/json"))),
    responses((status = 202, body = Record), (status = 507, description = "The store is full"))
)]
pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    once: Once,
    request: Request,
) -> Result<Response, ApiError> {
    let received = match brought(&app, &caller, request).await? {
        Brought::Package(received) => received,
        Brought::Import(id) => {
            let mut connection = app.pool.acquire().await?;
            return Ok(Accepted::record(find(&mut connection, &caller, id).await?)?.into_response());
        }
    };
    if let Some(answer) = once.answered(&received.sha256)? {
        return Ok(answer);
    }
    let (manifest, signature, by_passphrase) = checked(&app, &received, received.passphrase.clone()).await?;
    let passphrase = received.passphrase.as_ref().filter(|_| by_passphrase);
    let id = Uuid::now_v7();
    let key = package_key(id);
    app.store.put_file(&key, received.file.path()).await?;
    let mut connection = app.pool.acquire().await?;
    let queued = async {
        let mut transaction = connection.begin().await?;
        let accepted = queue(&mut transaction, &caller, (id, &key), (&manifest, &signature), &received).await?;
        if let Some(passphrase) = passphrase {
            keep_passphrase(&app, &mut transaction, id, passphrase).await?;
        }
        accepted.keep(&once, &mut transaction, Some(&received.sha256)).await?;
        transaction.commit().await?;
        Ok::<_, ApiError>(accepted)
    };
    match queued.await {
        Ok(accepted) => {
            drop(connection);
            if let Some(upload) = received.upload {
                // What fails from here on, cleaning does later.
                let _ = clear(&app, upload).await;
            }
            Ok(accepted.into_response())
        }
        Err(error) => {
            app.store.delete(&key).await?;
            Err(error)
        }
    }
}

/// Opens what was received, checks where it comes from, and that the secrets that it carries can be had; also
/// tells whether that took the passphrase.
async fn checked(
    app: &Shared,
    received: &Received,
    passphrase: Option<SecretString>,
) -> Result<(Manifest, Signature, bool), ApiError> {
    let (file, limits) = (received.file.reopen()?, app.limits());
    let mut package = tokio::task::spawn_blocking(move || Package::open(file, limits, secrets::verify)).await??;
    let mut connection = app.pool.acquire().await?;
    let signature = trust::check(app, &mut connection, &package.manifest.environment).await?;
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
    connection: &mut PgConnection,
    caller: &Caller,
    (id, key): (Uuid, &str),
    (manifest, signature): (&Manifest, &Signature),
    received: &Received,
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
    };
    let details = received_as(manifest, signature, received);
    note(connection, caller, "import.receive", ("record", id), details).await?;
    db::records::insert(connection, &new).await?;
    let change = Change {
        package_key: Some(key.to_owned()),
        source_environment: Some(manifest.environment.name.clone()),
        ..arrived(manifest, signature, received)
    };
    db::records::update(connection, id, change).await?;
    jobs::queue(connection, jobs::PARSE, id, caller.domain_id()).await?;
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
fn arrived(manifest: &Manifest, signature: &Signature, received: &Received) -> Change {
    let resources: u64 = manifest.counts.values().fold(0, |sum, count| sum.saturating_add(*count));
    let package = PackageInfo {
        size: received.size,
        sha256: received.sha256.hex(),
        file_name: format!("{}.zip", manifest.name),
        resources,
    };
    Change {
        progress: Some((0, resources, "resources")),
        package: Some(serde_json::json!(package)),
        signature: Some(serde_json::json!(signature)),
        ..Change::default()
    }
}

/// Gives an import that awaits confirmation another package of the same export, which holds what the first
/// one left out; it is parsed anew.
#[utoipa::path(
    put, path = "/api/v1/imports/{id}/package", request_body = FromUpload,
    responses((status = 202, body = Record), (status = 409, description = "The import does not await confirmation"))
)]
pub async fn replace_package(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(from): JsonBody<FromUpload>,
) -> Result<Accepted<Record>, ApiError> {
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
    find(&mut connection, &caller, id).await?;
    let kept = carried::passphrase(&app, &mut connection, id).await?;
    drop(connection);
    let (manifest, signature, by_passphrase) = checked(&app, &received, received.passphrase.clone().or(kept)).await?;
    received.passphrase = received.passphrase.filter(|_| by_passphrase);
    // Under a key of its own: until this is committed, the record is about the package that it had.
    let key = package_key(Uuid::now_v7());
    app.store.put_file(&key, received.file.path()).await?;
    match replace(&app, &caller, (id, &key), (&manifest, &signature), &received).await {
        Ok((accepted, replaced)) => {
            // What fails from here on, cleaning does later.
            if let Some(key) = replaced {
                let _ = app.store.delete(&key).await;
            }
            let _ = clear(&app, upload_id).await;
            Ok(accepted)
        }
        Err(error) => {
            app.store.delete(&key).await?;
            Err(error)
        }
    }
}

/// Has the record be about another package; returns where the one that it had rests.
async fn replace(
    app: &Shared,
    caller: &Caller,
    (id, key): (Uuid, &str),
    (manifest, signature): (&Manifest, &Signature),
    received: &Received,
) -> Result<(Accepted<Record>, Option<String>), ApiError> {
    let mut connection = app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let record = import(&mut transaction, caller, id, "given another package").await?;
    let before = planning::manifest(&mut transaction, id).await?;
    if before.environment.id != manifest.environment.id || before.record_id != manifest.record_id {
        return Err(ApiError::field("upload_id", "is not a package of the same export"));
    }
    let details = received_as(manifest, signature, received);
    note(&mut transaction, caller, "import.replace_package", ("record", id), details).await?;
    let change = Change {
        status: Some(RecordStatus::Queued),
        error: Some(None),
        package_key: Some(key.to_owned()),
        ..arrived(manifest, signature, received)
    };
    db::records::update(&mut transaction, id, change).await?;
    if let Some(passphrase) = &received.passphrase {
        keep_passphrase(app, &mut transaction, id, passphrase).await?;
    }
    jobs::queue(&mut transaction, jobs::PARSE, id, caller.domain_id()).await?;
    use_upload(&mut transaction, caller, received, id).await?;
    let accepted = Accepted::record(find(&mut transaction, caller, id).await?)?;
    transaction.commit().await?;
    Ok((accepted, record.package_key))
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
    let details = serde_json::json!({"plan_digest": planned.digest, "resolutions": request.resolutions.len()});
    note(&mut transaction, &caller, "import.plan", ("record", id), details).await?;
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
    /// Contents that were left out and are not here: nothing can be executed without them.
    lacking: Vec<ResourceId>,
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
        let incomplete = planning.plan.error.as_ref().is_some_and(|error| error.code == "package_incomplete");
        let lacking = if incomplete { planning.plan.lacking } else { Vec::new() };
        Ok(Self { change, items, digest, lacking })
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
        (status = 422, description = "The options are wrong, or the source of the package is not trusted any more"),
    )
)]
pub async fn execute(
    State(app): State<Shared>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
    MaybeJson(body): MaybeJson<Map<String, Value>>,
) -> Result<Accepted<Record>, ApiError> {
    let body = body.unwrap_or_default();
    let request: PlanRequest = parse(&serde_json::to_vec(&body).unwrap_or_default())?;
    let has_options = body.keys().any(|key| key != "plan_digest");
    let mut connection = app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let record = import(&mut transaction, &caller, id, "executed").await?;
    let origin = planning::manifest(&mut transaction, id).await?.environment;
    trust::check(&app, &mut transaction, &origin).await?;
    let lacks = record.error.as_ref().is_some_and(|error| error["code"] == "package_incomplete");
    if has_options || request.plan_digest.is_some() || lacks {
        let digest = request.plan_digest.clone();
        let request =
            if has_options { request } else { serde_json::from_value(record.options.clone()).unwrap_or_default() };
        let planned = Planned::make(&app, &mut transaction, &record, &request).await?;
        if digest.is_some_and(|digest| digest != planned.digest) {
            return Err(stale(&mut transaction, &record, &planned).await?);
        }
        if !planned.lacking.is_empty() {
            return Err(incomplete(&planned.lacking));
        }
        planned.save(&mut transaction, &record, &request).await?;
    }
    note(&mut transaction, &caller, "import.execute", ("record", id), serde_json::json!({"name": record.name})).await?;
    db::records::update(&mut transaction, id, Change { status: Some(RecordStatus::Queued), ..Change::default() })
        .await?;
    jobs::queue(&mut transaction, jobs::EXECUTE, id, caller.domain_id()).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// 409 `package_incomplete`, with the resources whose contents are to be sent.
fn incomplete(lacking: &[ResourceId]) -> ApiError {
    let part = |id: &ResourceId| FieldProblem {
        code: "package_incomplete".to_owned(),
        field: id.to_string(),
        message: "Its contents were left out of the package and are not here.".to_owned(),
    };
    let detail = "The package leaves out contents that this environment does not have as they were. Send them.";
    ApiError::new(StatusCode::CONFLICT, "package_incomplete", detail).with_all(lacking.iter().map(part).collect())
}

/// 409 `plan_stale`, with the resources whose plan or whose counterpart is another now.
async fn stale(
    connection: &mut PgConnection,
    record: &db::records::Record,
    planned: &Planned,
) -> Result<ApiError, ApiError> {
    let before = planning::all_items(connection, record.id).await?;
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
