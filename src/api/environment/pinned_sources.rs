//! Pinned sources: the environments whose key an executed import has made known to the domain.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::db::pinned_sources as rows;
use crate::wire::List;
use crate::wire::trust::PinnedSource;

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{Page, from_cursor, page, page_size};

/// The pinned sources of the caller's domain, by their environment's ID.
#[utoipa::path(
    get, path = "/api/v1/pinned-sources",
    params(Page),
    responses((status = 200, body = List<PinnedSource>))
)]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Json<List<PinnedSource>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, caller.domain_id(), &after, limit + 1).await?;
    Ok(Json(page(found, limit, |row| row.environment_id.clone(), to_wire)))
}

/// Forgets the key of a source: the next import of it that is executed pins the key that it has then.
#[utoipa::path(delete, path = "/api/v1/pinned-sources/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let gone = rows::delete(&mut transaction, caller.domain_id(), id).await?;
    let gone = gone.ok_or_else(|| ApiError::not_found("pinned source"))?;
    let details = serde_json::json!({"name": gone.name, "public_key": gone.public_key});
    note(&mut transaction, &caller, "key.unpin", ("source_environment", &gone.environment_id), details).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn to_wire(row: rows::PinnedSource) -> PinnedSource {
    let rows::PinnedSource { id, environment_id, name, kind, public_key, record_id, pinned_at } = row;
    PinnedSource { id, environment_id, name, kind, public_key, record_id, pinned_at }
}
