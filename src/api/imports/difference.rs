//! What an import changes in each resource: before it is executed, and after.

use axum::Json;
use axum::extract::State;
use uuid::Uuid;

use crate::db::records::Record as Row;
use crate::db::{self, PgConnection};
use crate::domain::import_plan::{Entry, Fresh};
use crate::domain::outcome::Method;
use crate::domain::resource::ResourceId;
use crate::planning::difference::{Both, Seen, Side, changes, sides};
use crate::planning::{FreshFrom, Planning};
use crate::wire::List;
use crate::wire::difference::{ChangedItem, ItemDifference};
use crate::wire::record::PlanRequest;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{Page, cursor, from_cursor, page_size};
use crate::api::imports::planned::{Planned, import_of, sees};

/// Whole definitions that are in memory at once.
const TOGETHER: usize = 8;
/// The first changes of each resource in a list.
const FIRST: usize = 10;

/// What an import does, or did, to a resource: the target's definition and the incoming one, and the JSON Patch between.
#[utoipa::path(
    get, path = "/api/v1/imports/{id}/items/{resource_id}/diff",
    responses(
        (status = 200, body = ItemDifference),
        (status = 409, description = "Its package is not parsed yet"),
    )
)]
pub async fn item(
    State(app): State<AppState>,
    caller: Caller,
    Path((id, resource_id)): Path<(Uuid, String)>,
) -> Result<Json<ItemDifference>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let record = import_of(&mut connection, &caller, id).await?;
    if record.status.is_final() {
        return written(&mut connection, &caller, &record, &ResourceId::parse(&resource_id)?).await.map(Json);
    }
    let planned = Planned::load(&app, &mut connection, record).await?;
    let at = planned.entries.iter().position(|entry| entry.id.as_str() == resource_id);
    let at = at.ok_or_else(|| ApiError::not_found("resource in the package"))?;
    let import = planned.import(&app);
    let planning = Planning::make(import, &mut connection).await?;
    let both = sides(import, &planning, &mut connection, &[at]).await?.pop();
    let both = both.ok_or_else(|| ApiError::not_found("content: the package leaves it out"))?;
    if both.target.as_ref().is_some_and(|(_, seen)| !sees(&caller, &planned.record, &seen.owner, &seen.directory)) {
        return Err(ApiError::forbidden("You may not read what the target has under this ID."));
    }
    let (entry, item) = (&planned.entries[at], &planning.plan.items[at]);
    let sides = (both.target.map(|(side, _)| side), both.incoming);
    Ok(Json(difference((&entry.id, &item.new_id), entry.type_key.clone(), item.method, sides)))
}

fn difference(
    (id, new_id): (&ResourceId, &ResourceId),
    kind: String,
    method: Method,
    (before, after): (Option<Side>, Side),
) -> ItemDifference {
    let changes = changes(before.as_ref(), &after);
    ItemDifference {
        resource_id: id.to_string(),
        new_id: Some(new_id.to_string()),
        kind,
        method: Some(method),
        target: before.map(|side| side.definition),
        incoming: after.definition,
        changes,
    }
}

/// What an import that has ended did to a resource.
async fn written(
    connection: &mut PgConnection,
    caller: &Caller,
    record: &Row,
    id: &ResourceId,
) -> Result<ItemDifference, ApiError> {
    let request = PlanRequest::of(&record.options).unwrap_or_default();
    let new_id = if request.change_ids { FreshFrom(record.id).id(id) } else { id.clone() };
    let found = db::contents::written(connection, record.domain_id, record.id, new_id.as_str()).await?;
    let unwritten = || ApiError::not_found("difference: the import did not write this resource");
    let (last, before) = found.ok_or_else(unwritten)?;
    let mut versions = Vec::new();
    for revision in before.into_iter().chain([last]) {
        let version = db::contents::version(connection, record.domain_id, new_id.as_str(), revision).await?;
        let version = version.ok_or_else(unwritten)?;
        if !caller.may_read(&version.owner, &version.directory) {
            return Err(ApiError::forbidden("You may not read this resource."));
        }
        versions.push(version);
    }
    let method = if before.is_some() { Method::Update } else { Method::Create };
    let after = versions.pop().ok_or_else(unwritten)?;
    let old = versions.pop().map(|version| Side::of(&version)).transpose()?;
    let sides = (old, Side::of(&after)?);
    Ok(difference((id, &new_id), after.kind, method, sides))
}

/// The resources that an import that was not executed yet would change, in the order of the package, each with its
/// first changes.
#[utoipa::path(
    get, path = "/api/v1/imports/{id}/diff", params(Page),
    responses(
        (status = 200, body = List<ChangedItem>),
        (status = 409, description = "Its package is not parsed yet, or it has ended"),
    )
)]
pub async fn all(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<Page>,
) -> Result<Json<List<ChangedItem>>, ApiError> {
    let limit = page_size(query.limit)? as usize;
    let from: usize = from_cursor(query.cursor.as_deref())?.unwrap_or(0);
    let mut connection = app.pool.acquire().await?;
    let record = import_of(&mut connection, &caller, id).await?;
    let planned = Planned::load(&app, &mut connection, record).await?;
    let import = planned.import(&app);
    let planning = Planning::make(import, &mut connection).await?;
    let items = planning.plan.items.iter().enumerate().skip(from);
    let mut places: Vec<usize> =
        items.filter(|(_, item)| item.method == Method::Update).map(|(at, _)| at).take(limit + 1).collect();
    let next_cursor = places.get(limit).map(cursor);
    places.truncate(limit);
    let mut items = Vec::with_capacity(places.len());
    for portion in places.chunks(TOGETHER) {
        for both in sides(import, &planning, &mut connection, portion).await? {
            let seen = |at: &Seen| sees(&caller, &planned.record, &at.owner, &at.directory);
            let seen = both.target.as_ref().is_none_or(|(_, at)| seen(at));
            items.extend(seen.then(|| changed(&planned.entries[both.at], both)));
        }
    }
    Ok(Json(List { items, next_cursor }))
}

fn changed(entry: &Entry, both: Both) -> ChangedItem {
    let changes = changes(both.target.as_ref().map(|(side, _)| side), &both.incoming);
    ChangedItem {
        resource_id: entry.id.to_string(),
        kind: entry.type_key.clone(),
        name: changes.name,
        directory: changes.directory,
        attachments: changes.attachments.len() as u64,
        changes: changes.changes.into_iter().take(FIRST).collect(),
        changes_total: changes.changes_total,
    }
}
