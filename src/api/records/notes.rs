//! What a record says at length: all its warnings, page by page.

use axum::Json;
use axum::extract::State;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::db::record_notes::{self, Notes};
use crate::db::{PgConnection, records as rows};
use crate::domain::failure::Warning;
use crate::wire::List;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{Page, cursor, from_cursor, page_size};
use crate::api::records::find;

/// All warnings of a record.
#[utoipa::path(get, path = "/api/v1/records/{id}/warnings", params(Page), responses((status = 200, body = List<Warning>)))]
pub async fn warnings(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<Page>,
) -> Result<Json<List<Warning>>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let record = find(&mut connection, &caller, id).await?;
    let total = record.warnings_total;
    Ok(Json(page(&mut connection, &record, Notes::Warnings, total, &query).await?))
}

/// A page of one of the lists.
pub(super) async fn page<T: DeserializeOwned>(
    connection: &mut PgConnection,
    record: &rows::Record,
    notes: Notes,
    total: i32,
    query: &Page,
) -> Result<List<T>, ApiError> {
    let limit = page_size(query.limit)? as i32;
    let from: i32 = from_cursor(query.cursor.as_deref())?.unwrap_or(0);
    if !(0..=i32::MAX - limit).contains(&from) {
        return Err(ApiError::field("cursor", "is not one that this list gave"));
    }
    let items = record_notes::page(connection, record, notes, from, limit).await?;
    let next = from + limit;
    Ok(List { items, next_cursor: (next < total).then(|| cursor(&next)) })
}
