//! Online migrations.

use axum::extract::State;
use uuid::Uuid;

use crate::db::records::NewRecord;
use crate::db::{self, Acquire, jobs};
use crate::domain::record::RecordKind;
use crate::planning;
use crate::wire::record::Record;
use crate::wire::selection::MigrationRequest;

use super::Shared;
use super::auth::Caller;
use super::error::ApiError;
use super::extract::JsonBody;
use super::records::{Accepted, find};
use super::selections;

/// Starts an online migration: one record here, one import record at the target.
#[utoipa::path(
    post, path = "/api/v1/migrations",
    request_body = MigrationRequest,
    responses((status = 202, body = Record))
)]
pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    JsonBody(request): JsonBody<MigrationRequest>,
) -> Result<Accepted<Record>, ApiError> {
    for (field, asked) in [("confirm", request.confirm), ("carry_secrets", request.carry_secrets)] {
        if asked {
            return Err(ApiError::field(field, "is not supported by this version"));
        }
    }
    let name = match &request.name {
        Some(name) => selections::package_name(Some(name))?,
        None => chrono::Utc::now().format("online %m-%d %H:%M").to_string(),
    };
    let mut plan = request.plan();
    planning::options(&plan).map_err(|(field, message)| ApiError::field(&field, message))?;
    let mut connection = app.pool.acquire().await?;
    let target = db::targets::by_id(&mut connection, caller.domain_id(), request.target_id).await?;
    let target = target.ok_or_else(|| ApiError::field("target_id", "names no target of this domain"))?;
    plan.owner = plan.owner.or_else(|| target.owner.clone());
    let roots = selections::allowed_roots(&app, &mut connection, &caller, &request.export()).await?;
    let id = Uuid::now_v7();
    let new = NewRecord {
        id,
        domain_id: caller.domain_id(),
        kind: RecordKind::Online,
        name: &name,
        requested_by: caller.username(),
        options: serde_json::json!({
            "export_upstream": request.export_upstream,
            "plan": plan,
            "own_only": !caller.sees_all(),
        }),
        roots: serde_json::json!(roots),
        target: Some((target.id, &target.name)),
        idempotency_key: None,
    };
    let mut transaction = connection.begin().await?;
    db::records::insert(&mut transaction, &new).await?;
    jobs::queue(&mut transaction, jobs::MIGRATE, id, caller.domain_id()).await?;
    let record = find(&mut transaction, &caller, id).await?;
    transaction.commit().await?;
    Accepted::record(record)
}
