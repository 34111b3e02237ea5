//! The items of a record, page by page.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::db::record_items;
use crate::db::record_items::CHUNK;
use crate::domain::outcome::{Method, Status};
use crate::planning;
use crate::wire::List;
use crate::wire::record::Item;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{cursor, from_cursor, page_size};
use crate::api::records::find;

/// What a list of items is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ItemsQuery {
    /// In this status.
    #[param(value_type = Option<Status>)]
    status: Option<String>,
    /// With this method.
    #[param(value_type = Option<Method>)]
    method: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Leaves out those that are `as_sent` in this status, and have neither errors nor warnings: whoever sent the
    /// package knows all that they say.
    #[param(value_type = Option<Status>)]
    but: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// The statuses of items.
const STATUSES: [&str; 5] = ["pending", "succeeded", "failed", "skipped", "unchanged"];

/// The items of a record, in dependency order.
#[utoipa::path(get, path = "/api/v1/records/{id}/items", params(ItemsQuery), responses((status = 200, body = List<Item>)))]
pub async fn items(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<ItemsQuery>,
) -> Result<Json<List<Item>>, ApiError> {
    let limit = page_size(query.limit)? as usize;
    let word = |field: &str, value: &Option<String>, known: &[&str]| match value.as_deref() {
        Some(word) if !known.contains(&word) => {
            Err(ApiError::field(field, format!("must be one of {}", known.join(", "))))
        }
        _ => Ok(()),
    };
    word("status", &query.status, &STATUSES)?;
    word("but", &query.but, &STATUSES)?;
    let but = query.but.as_deref().and_then(Status::parse);
    word("method", &query.method, &["create", "update", "unchanged", "skip", "map", "delete", "blocked"])?;
    let mut place: i32 = from_cursor(query.cursor.as_deref())?.unwrap_or(0);
    if !(0..=i32::MAX - CHUNK as i32).contains(&place) {
        return Err(ApiError::field("cursor", "is not one that this list gave"));
    }
    let mut connection = app.pool.acquire().await?;
    find(&mut connection, &caller, id).await?;
    let wanted = |item: &Item| {
        let is = |word: Option<&str>, wanted: &Option<String>| wanted.is_none() || word == wanted.as_deref();
        is(Some(item.status.as_str()), &query.status)
            && is(item.method.map(Method::as_str), &query.method)
            && is(Some(&item.kind), &query.kind)
            && !but.is_some_and(|status| item.is_as_sent(status))
    };
    let filter = (query.status.as_deref(), query.method.as_deref(), query.kind.as_deref());
    let mut found: Vec<(i32, Item)> = Vec::new();
    while found.len() <= limit {
        let chunks = record_items::chunks(&mut connection, id, place, filter, 4).await?;
        let Some(last) = chunks.last().map(|chunk| chunk.first) else { break };
        for chunk in chunks {
            let items = planning::items::read(&chunk)?;
            let placed = items.into_iter().enumerate().map(|(at, item)| (chunk.first + at as i32, item));
            found.extend(placed.filter(|(at, item)| *at >= place && wanted(item)));
        }
        place = last + CHUNK as i32;
    }
    let next_cursor = found.get(limit).map(|(at, _)| cursor(at));
    found.truncate(limit);
    Ok(Json(List { items: found.into_iter().map(|(_, item)| Item { arrives: None, ..item }).collect(), next_cursor }))
}
