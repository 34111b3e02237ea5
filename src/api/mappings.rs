//! Mappings: what was chosen for resources of other environments, and is chosen again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::db::mappings as rows;
use crate::wire::List;
use crate::wire::mapping::Mapping;

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{from_cursor, page, page_size};

/// Which mappings.
#[derive(Debug, Deserialize, IntoParams)]
pub struct MappingsQuery {
    /// Of the environment with this ID.
    source_environment: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// What the domain remembers, in the order in which it was chosen first. For who imports or migrates.
#[utoipa::path(get, path = "/api/v1/mappings", params(MappingsQuery), responses((status = 200, body = List<Mapping>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<MappingsQuery>,
) -> Result<Json<List<Mapping>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: Uuid = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let source = query.source_environment.as_deref();
    let found = rows::list(&mut connection, caller.domain_id(), source, after, limit + 1).await?;
    Ok(Json(page(found, limit, |row| row.id, to_wire)))
}

/// Forgets a choice: the next import decides anew.
#[utoipa::path(delete, path = "/api/v1/mappings/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let gone = rows::delete(&mut transaction, caller.domain_id(), id).await?;
    let gone = gone.ok_or_else(|| ApiError::not_found("mapping"))?;
    let details = serde_json::json!({"source_environment": gone.source_environment, "target_id": gone.target_id, "new_name": gone.new_name});
    note(&mut transaction, &caller, "mapping.delete", ("resource", &gone.source_id), details).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn to_wire(row: rows::Mapping) -> Mapping {
    Mapping {
        action: if row.target_id.is_some() { "map" } else { "rename" }.to_owned(),
        id: row.id,
        source_environment: row.source_environment,
        source_name: row.source_name,
        source_id: row.source_id,
        kind: row.kind,
        name: row.name,
        target_id: row.target_id,
        new_name: row.new_name,
        record_id: row.record_id,
        chosen_by: row.chosen_by,
        chosen_at: row.chosen_at,
    }
}
