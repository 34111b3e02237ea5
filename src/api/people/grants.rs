//! Grants: directories that are open to users beside their own resources.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::db::{self, grants};
use crate::domain::permission::Permission;
use crate::domain::resource::parse_directory;
use crate::wire::List;
use crate::wire::user::{Access, Grant, NewGrant};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{from_cursor, page, page_size};

/// What a list is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ListQuery {
    /// Of this user.
    user_id: Option<Uuid>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// The grants of the caller's domain, oldest first.
#[utoipa::path(get, path = "/api/v1/grants", params(ListQuery), responses((status = 200, body = List<Grant>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<Grant>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: Uuid = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let rows = grants::list(&mut connection, caller.domain_id(), query.user_id, after, limit + 1).await?;
    Ok(Json(page(rows, limit, |row| row.id, to_wire)))
}

/// Opens a directory, with all below it, to a user of the domain. It works from his next request on.
#[utoipa::path(
    post, path = "/api/v1/grants",
    request_body = NewGrant,
    responses((status = 201, body = Grant), (status = 409, description = "He has a grant on this directory already"))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(new): JsonBody<NewGrant>,
) -> Result<(StatusCode, Json<Grant>), ApiError> {
    let directory = parse_directory(&new.directory)?;
    caller.require(match new.access {
        Access::Read => Permission::ResourceRead,
        Access::Write => Permission::ResourceWrite,
    })?;
    let mut transaction = app.pool.begin().await?;
    let access = new.access.as_str();
    let made = grants::insert(&mut transaction, caller.domain_id(), new.user_id, &directory, access).await?;
    let made = made.ok_or_else(|| ApiError::field("user_id", "names no user of this domain"))?;
    let details = json!({"username": made.username, "directory": made.directory, "access": made.access});
    note(&mut transaction, &caller, "grant.create", ("grant", made.id), details).await?;
    let created = once.created(&mut transaction, to_wire(made)).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Takes a grant away, at once.
#[utoipa::path(delete, path = "/api/v1/grants/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    if !grants::delete(&mut transaction, caller.domain_id(), id).await? {
        return Err(ApiError::not_found("grant"));
    }
    note(&mut transaction, &caller, "grant.delete", ("grant", id), json!({})).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn to_wire(row: db::grants::Grant) -> Grant {
    let access = if row.access == Access::Write.as_str() { Access::Write } else { Access::Read };
    Grant {
        id: row.id,
        user_id: row.user_id,
        username: row.username,
        directory: row.directory,
        access,
        created_at: row.created_at,
    }
}
