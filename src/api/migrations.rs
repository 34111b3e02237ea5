//! Online migrations.

pub mod relay;

use std::collections::HashSet;

use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::db::records::{NewRecord, Queued};
use crate::db::{self, Acquire, jobs};
use crate::domain::permission::Permission;
use crate::domain::record::{JobKind, RecordKind};
use crate::planning;
use crate::wire::record::{PlanRequest, Record};
use crate::wire::selection::{ConfirmRequest, MigrationRequest};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, MaybeJson, Path};
use crate::api::http::idempotency::Once;
use crate::api::records::{Accepted, find, lock};
use crate::api::selections::{self, Since};

/// Starts an online migration: one record here, one import record at the target.
#[utoipa::path(
    post, path = "/api/v1/migrations",
    request_body = MigrationRequest,
    responses((status = 202, body = Record))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(request): JsonBody<MigrationRequest>,
) -> Result<Accepted<Record>, ApiError> {
    let name = match &request.name {
        Some(name) => selections::package_name(Some(name))?,
        None => chrono::Utc::now().format("online %m-%d %H:%M").to_string(),
    };
    let mut plan = request.plan();
    planning::options(&plan).map_err(|(field, message)| ApiError::field(&field, message))?;
    if request.carry_secrets {
        caller.require(Permission::SecretCarry)?;
    }
    let mut connection = app.pool.acquire().await?;
    let target = db::targets::by_id(&mut connection, caller.domain_id(), request.target_id).await?;
    let target = target.ok_or_else(|| ApiError::field("target_id", "names no target of this domain"))?;
    plan.owner = plan.owner.or_else(|| target.owner.clone());
    let export = request.export();
    let since = Since::of(&export, Some(target.id))?;
    let selected = selections::allowed(&app, &mut connection, &caller, &export, since).await?;
    let id = Uuid::now_v7();
    let new = NewRecord {
        id,
        domain_id: caller.domain_id(),
        kind: RecordKind::Online,
        name: &name,
        requested_by: caller.username(),
        options: serde_json::json!({
            "export_upstream": selected.upstream,
            "plan": plan,
            "confirm": request.confirm,
            "carry_secrets": request.carry_secrets,
            "by_selection": selected.found,
            "selection_id": request.selection_id,
            "changed_since_last": request.changed_since_last,
        }),
        roots: serde_json::json!(selected.roots),
        target: Some((target.id, &target.name)),
        selected: Some((&selected.digest, selected.seen_from)),
    };
    let mut transaction = connection.begin().await?;
    let details = serde_json::json!({
        "name": name, "target": target.name, "roots": selected.roots.len(), "carry_secrets": request.carry_secrets,
    });
    note(&mut transaction, &caller, "migration.create", ("record", id), details).await?;
    db::records::insert(&mut transaction, &new).await?;
    jobs::queue(&mut transaction, JobKind::Migrate, id, caller.domain_id()).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// Goes on with a migration whose plan was shown: as it is, or with other resolutions.
#[utoipa::path(
    post, path = "/api/v1/migrations/{id}/confirm", request_body = Option<ConfirmRequest>,
    responses(
        (status = 202, body = Record),
        (status = 409, description = "It does not await confirmation, or its plan is another one now"),
    )
)]
pub async fn confirm(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
    MaybeJson(request): MaybeJson<ConfirmRequest>,
) -> Result<Accepted<Record>, ApiError> {
    let request = request.unwrap_or_default();
    let mut transaction = app.pool.begin().await?;
    let record = lock(&mut transaction, &caller, id).await?;
    if record.kind != RecordKind::Online {
        return Err(ApiError::not_found("migration"));
    }
    if record.options["carry_secrets"] == true {
        caller.require(Permission::SecretCarry)?;
    }
    record.status.confirmable("confirmed")?;
    if request.plan_digest.is_some() && request.plan_digest != record.plan_digest {
        let detail = "The plan is another one now. Look at it again, then confirm with its plan_digest.";
        return Err(ApiError::new(StatusCode::CONFLICT, "plan_stale", detail));
    }
    let mut options = record.options.clone();
    if !request.resolutions.is_empty() {
        let changed = PlanRequest { resolutions: request.resolutions.clone(), ..PlanRequest::default() };
        planning::options(&changed).map_err(|(field, message)| ApiError::field(&field, message))?;
        let items = planning::items::all_items(&mut transaction, id).await?;
        let known: HashSet<&str> = items.iter().map(|item| item.resource_id.as_str()).collect();
        for (resource_id, resolution) in &request.resolutions {
            if !known.contains(resource_id.as_str()) {
                let field = format!("resolutions.{resource_id}");
                return Err(ApiError::field(&field, "names a resource that is not in the package"));
            }
            options["plan"]["resolutions"][resource_id] = serde_json::json!(resolution);
        }
    }
    // The digest is of the plan that was shown: other resolutions make another one.
    let plan_digest = request.plan_digest.filter(|_| request.resolutions.is_empty());
    let confirmed = Queued::Confirmed(options, record.transfer.confirmed(plan_digest));
    let details = serde_json::json!({"name": record.name, "target": record.target_name});
    note(&mut transaction, &caller, "migration.confirm", ("record", id), details).await?;
    db::records::queue(&mut transaction, id, confirmed).await?;
    jobs::queue(&mut transaction, JobKind::Migrate, id, caller.domain_id()).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}
