//! What can be done with any record: cancel it, try again what failed.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::db::records::{Queued, Record as Row, Rest};
use crate::db::{self, Acquire, jobs};
use crate::domain::approval::Approval;
use crate::domain::permission::Permission;
use crate::domain::record::{JobKind, Phase, RecordKind, RecordStatus};
use crate::domain::transfer::{LastWord, Run};
use crate::planning;
use crate::planning::carried::{self, keep_passphrase};
use crate::remote::RemoteError;
use crate::wire::passphrase::weakness;
use crate::wire::record::{Record, RetryRequest};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{MaybeJson, Path};
use crate::api::http::idempotency::Once;
use crate::api::records::{Accepted, find, lock, to_wire};

/// How often a cancel looks again, when a migration moves on meanwhile.
const TRIES: usize = 3;

/// How long a cancel waits for its target; less than a job does before it asks too.
const PATIENCE: Duration = Duration::from_secs(5);

/// What made a record, and so may end it or begin it again.
fn needed(kind: RecordKind) -> Permission {
    match kind {
        RecordKind::Export => Permission::MigrationExport,
        RecordKind::Import => Permission::MigrationImport,
        RecordKind::Online => Permission::MigrationOnline,
    }
}

/// Ends a record that has not ended: nothing changes in any catalogue once this is answered. Where the target
/// of a migration may be writing already, it is asked first, and has the last word.
#[utoipa::path(
    post, path = "/api/v1/records/{id}/cancel",
    responses((status = 200, body = Record), (status = 409, description = "It has ended"))
)]
pub async fn cancel(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<Record>, ApiError> {
    for _ in 0..TRIES {
        if let Some(cancelled) = try_to_cancel(&app, &caller, id).await? {
            return Ok(Json(to_wire(cancelled)?));
        }
    }
    Err(ApiError::busy())
}

/// `None`: the target was told to write just now.
async fn try_to_cancel(app: &AppState, caller: &Caller, id: Uuid) -> Result<Option<Row>, ApiError> {
    let record = {
        let mut connection = app.pool.acquire().await?;
        find(&mut connection, caller, id).await?
    };
    caller.require(needed(record.kind))?;
    record.cancellable()?;
    let writing = is_writing_there(&record);
    if writing && let Err(error) = cancel_there(app, &record).await {
        // What it does not hear of now it is told again and again.
        if error.is_passing() {
            let mut transaction = app.pool.begin().await?;
            lock(&mut transaction, caller, id).await?.cancellable()?;
            note(&mut transaction, caller, "record.cancel", ("record", id), audit_details(&record)).await?;
            jobs::queue_recall(&mut transaction, id, record.domain_id).await?;
            jobs::recall_now(&mut transaction, id).await?;
            transaction.commit().await?;
        }
        return Err(error);
    }
    let mut connection = app.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let record = lock(&mut transaction, caller, id).await?;
    if writing && record.status == RecordStatus::Cancelled {
        // Its worker has seen already that the target has cancelled it.
        return Ok(Some(record));
    }
    record.cancellable()?;
    if !writing && is_writing_there(&record) {
        return Ok(None);
    }
    jobs::stop(&mut transaction, id).await?;
    let cancelled = Rest::Cancelled(planning::items::finalise_items(&mut transaction, id).await?.counts);
    note(&mut transaction, caller, "record.cancel", ("record", id), audit_details(&record)).await?;
    db::records::rest(&mut transaction, id, cancelled).await?;
    let recall = !writing && record.kind == RecordKind::Online && record.package_key.is_some();
    if recall {
        jobs::queue_recall(&mut transaction, id, record.domain_id).await?;
    }
    let cancelled = find(&mut transaction, caller, id).await?;
    let committed = transaction.commit().await;
    drop(connection);
    if let Err(unknown) = committed {
        // Perhaps only the answer to the commit is lost.
        let mut connection = app.pool.acquire().await?;
        if find(&mut connection, caller, id).await?.status != RecordStatus::Cancelled {
            return Err(unknown.into());
        }
    }
    if recall {
        recall_at_once(app, &record).await?;
    }
    Ok(Some(cancelled))
}

/// Has the target cancel what waits there while the caller waits, if that takes no time; else a job does it.
async fn recall_at_once(app: &AppState, record: &Row) -> Result<(), ApiError> {
    let asked = match record.remote_record_id {
        Some(_) => tokio::time::timeout(PATIENCE, cancel_there(app, record)).await.is_ok_and(|asked| asked.is_ok()),
        None => false,
    };
    let mut connection = app.pool.acquire().await?;
    match asked {
        true => jobs::recalled(&mut connection, record.id).await?,
        false => jobs::recall_now(&mut connection, record.id).await?,
    }
    Ok(())
}

/// What the audit says of a record.
fn audit_details(record: &Row) -> serde_json::Value {
    serde_json::json!({"kind": record.kind, "name": record.name})
}

/// The target of a migration was told to execute, or is just being told.
fn is_writing_there(record: &Row) -> bool {
    record.remote_record_id.is_some() && record.transfer.last_word == LastWord::There
}

async fn cancel_there(app: &AppState, record: &Row) -> Result<(), ApiError> {
    let mut connection = app.pool.acquire().await?;
    let target = match record.target_id {
        Some(id) => db::targets::by_id(&mut connection, record.domain_id, id).await?,
        None => None,
    };
    drop(connection);
    let (Some(target), Some(there)) = (target, record.remote_record_id) else {
        return Err(ApiError::conflict("The target was removed from the settings, so it cannot be asked to cancel."));
    };
    let answer = match app.remote(&target) {
        Ok(remote) => remote.cancel(there).await.map(|_| ()),
        Err(error) => Err(error),
    };
    answer.map_err(|error: RemoteError| match error.is("wrong_state") {
        true => {
            let detail = "The target has ended the import already; this record will say so in a moment.";
            ApiError::new(StatusCode::CONFLICT, "wrong_state", detail)
        }
        false => ApiError::new(
            if error.transient { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT },
            &error.code,
            format!(
                "The target is writing and could not be asked to stop; it is asked again. {} {}",
                error.message, error.hint
            ),
        ),
    })
}

/// Does again what failed, or was never done, of a record that has ended; what succeeded stays as it is.
#[utoipa::path(
    post, path = "/api/v1/records/{id}/retry", request_body = Option<RetryRequest>,
    responses(
        (status = 202, body = Record),
        (status = 409, description = "It has not ended, or nothing of it failed"),
        (status = 410, description = "Its package is no longer kept"),
    )
)]
pub async fn retry(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
    MaybeJson(request): MaybeJson<RetryRequest>,
) -> Result<Accepted<Record>, ApiError> {
    let passphrase = request.unwrap_or_default().passphrase;
    let mut connection = app.pool.acquire().await?;
    let record = find(&mut connection, &caller, id).await?;
    // The disk may take its time.
    drop(connection);
    caller.require(needed(record.kind))?;
    if record.options["with_secrets"] == true || record.options["carry_secrets"] == true {
        caller.require(Permission::SecretCarry)?;
    }
    record.status.retryable()?;
    let job = match record.kind {
        RecordKind::Export => JobKind::Export,
        RecordKind::Import => {
            let kept = match &record.package_key {
                Some(key) => app.store.has(key).await?,
                None => false,
            };
            if !kept {
                let detail = "The record's package is no longer kept. Upload it again.";
                return Err(ApiError::new(StatusCode::GONE, "gone", detail));
            }
            JobKind::Parse
        }
        RecordKind::Online => JobKind::Migrate,
    };
    let passphrase = opens_again(&app, &record, passphrase).await?;
    let mut transaction = app.pool.begin().await?;
    let rules = db::environment::hold_import_rules(&mut transaction).await?;
    let package = record.package_key;
    let record = lock(&mut transaction, &caller, id).await?;
    record.status.retryable()?;
    if record.package_key != package {
        return Err(ApiError::busy());
    }
    let executed = match record.kind {
        RecordKind::Export => false,
        RecordKind::Import => {
            record.transfer.run == Run::Again || matches!(record.phase, Some(Phase::Applying | Phase::Finishing))
        }
        RecordKind::Online => record.remote_record_id.is_some(),
    };
    let run = if executed { Run::Again } else { Run::First };
    // What goes on without a word goes by a second person all the same.
    let asks = record.kind == RecordKind::Import && run == Run::Again && rules.approval_required;
    let asked = asks.then(|| Approval::asked(caller.username(), rules.now, None));
    let retried = Queued::Retried(record.transfer.clone().tried_again(run), asked);
    note(&mut transaction, &caller, "record.retry", ("record", id), audit_details(&record)).await?;
    // Nobody has the target cancel any more what goes on now.
    jobs::stop(&mut transaction, id).await?;
    db::records::queue(&mut transaction, id, retried).await?;
    if let Some(passphrase) = &passphrase {
        keep_passphrase(&app, &mut transaction, id, passphrase).await?;
    }
    jobs::queue(&mut transaction, job, id, record.domain_id).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// The passphrase that a record needs when it is tried again: it was forgotten when the record ended.
async fn opens_again(
    app: &AppState,
    record: &Row,
    passphrase: Option<SecretString>,
) -> Result<Option<SecretString>, ApiError> {
    match record.kind {
        RecordKind::Export if record.options["with_secrets"] == true => {
            let passphrase = passphrase.ok_or_else(|| {
                let detail = "The export was sealed with a passphrase, which is not kept. Give one, or export again.";
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "passphrase_required", detail)
            })?;
            match weakness(&passphrase) {
                Some(weakness) => Err(ApiError::field("passphrase", weakness)),
                None => Ok(Some(passphrase)),
            }
        }
        RecordKind::Import => {
            let (app, record) = (app.clone(), record.clone());
            let opened = tokio::task::spawn_blocking(move || {
                let mut package = planning::open_package(&app, &record)?;
                let given = passphrase.as_ref().map(SecretString::expose_secret);
                let opened = carried::open(&app, &mut package, given).map_err(planning::PlanningError::from)?;
                Ok::<_, ApiError>(passphrase.filter(|_| opened.is_some_and(|opened| opened.by_passphrase)))
            });
            opened.await?
        }
        _ => Ok(None),
    }
}
