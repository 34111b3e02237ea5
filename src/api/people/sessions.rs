//! The caller's sessions: where he is signed in, and ending one from afar.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::db::sessions as rows;
use crate::wire::List;
use crate::wire::user::Session;

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{Page, from_cursor, page, page_size};
use crate::api::people::roles::within;
use crate::api::people::users::permissions;

/// The caller's sessions of the page, oldest first.
#[utoipa::path(get, path = "/api/v1/sessions", params(Page), responses((status = 200, body = List<Session>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Json<List<Session>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: Uuid = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, caller.user.id, after, limit + 1).await?;
    let own = caller.credentials.hash();
    Ok(Json(page(
        found,
        limit,
        |row| row.id,
        |row| Session {
            id: row.id,
            current: row.hash == own.0,
            created_at: row.created_at,
            last_used_at: row.used_at,
            ends_at: row.ends_at,
            address: row.address,
        },
    )))
}

/// Ends a session of the caller, at once.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    if !rows::end(&mut transaction, caller.user.id, id).await? {
        return Err(ApiError::not_found("session"));
    }
    // A session may do all that its user may: a narrower token does not end it.
    within(&caller, &permissions(&caller.user))?;
    note(&mut transaction, &caller, "session.end", ("session", id), json!({})).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
