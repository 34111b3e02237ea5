//! What the target of a migration says or does about its import there, with the rights of the target's token.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::db::records::{Queued, Record as Row};
use crate::db::{self, jobs};
use crate::domain::record::{JobKind, RecordKind};
use crate::domain::resource::ResourceId;
use crate::domain::transfer::Transfer;
use crate::remote::{Remote, RemoteError};
use crate::wire::List;
use crate::wire::difference::{ChangedItem, ItemDifference};
use crate::wire::impact::Affected;
use crate::wire::record::Record;
use crate::wire::resource::TargetResource;

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, page_size};
use crate::api::records::{Accepted, find, lock};

/// A migration, its target, and its import there.
async fn at_target(app: &AppState, caller: &Caller, id: Uuid) -> Result<(Row, Remote, Uuid), ApiError> {
    let mut connection = app.pool.acquire().await?;
    let record = find(&mut connection, caller, id).await?;
    if record.kind != RecordKind::Online {
        return Err(ApiError::not_found("migration"));
    }
    let (Some(there), Some(target)) = (record.remote_record_id, record.target_id) else {
        let detail = "The migration has not reached its target yet.";
        return Err(ApiError::new(StatusCode::CONFLICT, "wrong_state", detail));
    };
    let target = db::targets::by_id(&mut connection, record.domain_id, target).await?;
    let target = target.ok_or_else(|| ApiError::conflict("The target was removed from the settings."))?;
    let remote = app.remote(&target).map_err(refused_there)?;
    Ok((record, remote, there))
}

/// What the import of a migration does, or did, to a resource at its target: as
/// `GET /api/v1/imports/{id}/items/{resource_id}/diff` there.
#[utoipa::path(
    get, path = "/api/v1/migrations/{id}/items/{resource_id}/diff",
    responses(
        (status = 200, body = ItemDifference),
        (status = 409, description = "The target refuses, or its import is not parsed yet"),
        (status = 503, description = "The target does not answer now"),
    )
)]
pub async fn item(
    State(app): State<AppState>,
    caller: Caller,
    Path((id, resource_id)): Path<(Uuid, String)>,
) -> Result<Json<ItemDifference>, ApiError> {
    let resource_id = ResourceId::parse(&resource_id)?;
    let (_, remote, there) = at_target(&app, &caller, id).await?;
    remote.item_difference(there, &resource_id).await.map(Json).map_err(refused_there)
}

/// The resources that the import of a migration would change at its target: as `GET /api/v1/imports/{id}/diff` there.
#[utoipa::path(
    get, path = "/api/v1/migrations/{id}/diff", params(Page),
    responses(
        (status = 200, body = List<ChangedItem>),
        (status = 409, description = "The target refuses, or its import is not parsed yet, or has ended"),
        (status = 503, description = "The target does not answer now"),
    )
)]
pub async fn all(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<Page>,
) -> Result<Json<List<ChangedItem>>, ApiError> {
    page_size(query.limit)?;
    let (_, remote, there) = at_target(&app, &caller, id).await?;
    remote.differences(there, &query).await.map(Json).map_err(refused_there)
}

/// Who at the target uses what the import of a migration changes: as `GET /api/v1/imports/{id}/impact` there.
#[utoipa::path(
    get, path = "/api/v1/migrations/{id}/impact", params(Page),
    responses(
        (status = 200, body = List<Affected>),
        (status = 409, description = "The target refuses, or its import is not parsed yet, or has ended"),
        (status = 503, description = "The target does not answer now"),
    )
)]
pub async fn impact(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<Page>,
) -> Result<Json<List<Affected>>, ApiError> {
    page_size(query.limit)?;
    let (_, remote, there) = at_target(&app, &caller, id).await?;
    remote.impact(there, &query).await.map(Json).map_err(refused_there)
}

/// What to look for at a target.
#[derive(Debug, Serialize, Deserialize, IntoParams)]
pub struct SearchQuery {
    /// Of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Somewhere in the name or the ID, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    q: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

/// Resources of the target, to choose one for `map`: as `GET /api/v1/resources` there.
#[utoipa::path(
    get, path = "/api/v1/migrations/{id}/target-resources", params(SearchQuery),
    responses(
        (status = 200, body = List<TargetResource>),
        (status = 409, description = "The target refuses"),
        (status = 503, description = "The target does not answer now"),
    )
)]
pub async fn resources(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<SearchQuery>,
) -> Result<Json<List<TargetResource>>, ApiError> {
    page_size(query.limit)?;
    let (_, remote, _) = at_target(&app, &caller, id).await?;
    remote.resources(&query).await.map(Json).map_err(refused_there)
}

/// Has the target roll back the import of a migration, with the rights of the target's token there. As there, it is
/// refused while something was touched since.
#[utoipa::path(
    post, path = "/api/v1/migrations/{id}/rollback",
    responses(
        (status = 202, body = Record),
        (status = 409, description = "It has not ended, wrote nothing, or something was touched since at the target"),
        (status = 503, description = "The target does not answer now"),
    )
)]
pub async fn roll_back(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
) -> Result<Accepted<Record>, ApiError> {
    let (record, remote, there) = at_target(&app, &caller, id).await?;
    record.status.undoable()?;
    match remote.roll_back(there).await {
        Ok(_) => {}
        // An earlier try has arrived, or somebody there was faster.
        Err(error) if error.is("wrong_state") => {
            let status = remote.record(there).await.map_err(refused_there)?.status;
            if !matches!(status.as_str(), "rolled_back" | "queued" | "running") {
                return Err(refused_there(error));
            }
        }
        Err(error) => return Err(refused_there(error)),
    }
    let mut transaction = app.pool.begin().await?;
    let record = lock(&mut transaction, &caller, id).await?;
    let transfer = Transfer { undo: record.status.undoable()?, ..record.transfer };
    let details = serde_json::json!({"name": record.name, "target": record.target_name});
    note(&mut transaction, &caller, "migration.rollback", ("record", id), details).await?;
    db::records::queue(&mut transaction, id, Queued::RolledBack(caller.username().to_owned(), transfer)).await?;
    jobs::queue(&mut transaction, JobKind::RollBack, id, caller.domain_id()).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// What the target said, or that it says nothing.
fn refused_there(error: RemoteError) -> ApiError {
    let status = if error.transient { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT };
    let code = error.answered.as_deref().unwrap_or(&error.code);
    ApiError::new(status, code, format!("{} {}", error.message, error.hint))
}
