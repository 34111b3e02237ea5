//! Saved selections: those of a domain, by name.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::selections as rows;
use crate::db::{self, DbError, PgConnection};
use crate::domain::permission::Permission;
use crate::domain::resource::parse_name;
use crate::wire::List;
use crate::wire::selection::{NewSelection, SavedSelection, Selection, SelectionChange};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, from_cursor, page, page_size};
use crate::api::selections::{checked, named};

/// The domain's selections, by name. Of resources that the caller may not read their number is told.
#[utoipa::path(get, path = "/api/v1/selections", params(Page), responses((status = 200, body = List<SavedSelection>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Json<List<SavedSelection>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, caller.domain_id(), &after, limit + 1).await?;
    let listed = page(found, limit, |row| row.name.clone(), |row| row);
    let items = to_wire(&mut connection, &caller, listed.items).await?;
    Ok(Json(List { items, next_cursor: listed.next_cursor }))
}

/// Saves a selection under a name.
#[utoipa::path(
    post, path = "/api/v1/selections", request_body = NewSelection,
    responses((status = 201, body = SavedSelection), (status = 409, description = "A selection of this name exists already"))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(new): JsonBody<NewSelection>,
) -> Result<(StatusCode, Json<SavedSelection>), ApiError> {
    let mut transaction = app.pool.begin().await?;
    let chosen = (new.resource_ids, new.selection);
    let (resource_ids, selection) = contents(&app, &mut transaction, &caller, chosen).await?;
    let now = chrono::Utc::now();
    let row = rows::Selection {
        id: Uuid::now_v7(),
        name: parse_name(&new.name)?,
        owner: caller.username().to_owned(),
        resource_ids,
        selection,
        export_upstream: new.export_upstream,
        created_at: now,
        updated_at: now,
    };
    rows::save(&mut transaction, caller.domain_id(), &row).await?;
    note(&mut transaction, &caller, "selection.create", ("selection", row.id), audit_details(&row)).await?;
    let made = shown(&mut transaction, &caller, row.id).await?;
    let created = once.created(&mut transaction, made).await?;
    transaction.commit().await?;
    Ok(created)
}

/// A saved selection.
#[utoipa::path(get, path = "/api/v1/selections/{id}", responses((status = 200, body = SavedSelection)))]
pub async fn show(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<SavedSelection>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    Ok(Json(shown(&mut connection, &caller, id).await?))
}

/// Changes a selection of one's own, or any with `domain.manage`; what is left out stays.
#[utoipa::path(
    patch, path = "/api/v1/selections/{id}", request_body = SelectionChange,
    responses((status = 200, body = SavedSelection), (status = 409, description = "A selection of this name exists already"))
)]
pub async fn change(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(change): JsonBody<SelectionChange>,
) -> Result<Json<SavedSelection>, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let mut row = own(&mut transaction, &caller, id).await?;
    if let Some(name) = &change.name {
        row.name = parse_name(name)?;
    }
    if change.resource_ids.is_some() || change.selection.is_some() {
        let chosen = (change.resource_ids, change.selection);
        (row.resource_ids, row.selection) = contents(&app, &mut transaction, &caller, chosen).await?;
    }
    row.export_upstream = change.export_upstream.unwrap_or(row.export_upstream);
    rows::save(&mut transaction, caller.domain_id(), &row).await?;
    note(&mut transaction, &caller, "selection.change", ("selection", id), audit_details(&row)).await?;
    let changed = shown(&mut transaction, &caller, id).await?;
    transaction.commit().await?;
    Ok(Json(changed))
}

/// Removes a selection of one's own, or any with `domain.manage`. What was made with it stays.
#[utoipa::path(delete, path = "/api/v1/selections/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let row = own(&mut transaction, &caller, id).await?;
    rows::delete(&mut transaction, caller.domain_id(), id).await?;
    note(&mut transaction, &caller, "selection.delete", ("selection", id), audit_details(&row)).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One that the caller may change, held until the transaction ends.
async fn own(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<rows::Selection, ApiError> {
    let row = rows::lock(connection, caller.domain_id(), id).await?.ok_or_else(|| ApiError::not_found("selection"))?;
    if row.owner != caller.username() && !caller.may(Permission::DomainManage) {
        let detail = format!("The selection belongs to {}: he, or who manages the domain, changes it.", row.owner);
        return Err(ApiError::forbidden(detail));
    }
    Ok(row)
}

/// What is selected, of which the caller may read all that he names.
async fn contents(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    chosen: (Option<Vec<String>>, Option<Selection>),
) -> Result<(Option<Vec<String>>, Option<Value>), ApiError> {
    match chosen {
        (Some(ids), None) => {
            let mut ids: Vec<String> =
                named(connection, caller, &ids).await?.iter().map(|id| id.as_str().to_owned()).collect();
            ids.sort_unstable();
            ids.dedup();
            Ok((Some(ids), None))
        }
        (None, Some(selection)) => {
            checked(app, &selection)?;
            Ok((None, Some(json!(selection))))
        }
        _ => Err(ApiError::field("resource_ids", "or selection must be given, and not both")),
    }
}

fn audit_details(row: &rows::Selection) -> Value {
    json!({
        "name": row.name, "owner": row.owner, "resources": row.resource_ids.as_ref().map(Vec::len),
        "selection": row.selection, "export_upstream": row.export_upstream,
    })
}

async fn shown(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<SavedSelection, ApiError> {
    let row = rows::by_id(connection, caller.domain_id(), id).await?;
    let shown = to_wire(connection, caller, row.into_iter().collect()).await?.pop();
    shown.ok_or_else(|| ApiError::not_found("selection"))
}

async fn to_wire(
    connection: &mut PgConnection,
    caller: &Caller,
    rows: Vec<rows::Selection>,
) -> Result<Vec<SavedSelection>, ApiError> {
    let mut hidden: Vec<String> = Vec::new();
    if !caller.sees_all() {
        let ids: Vec<String> = rows.iter().flat_map(|row| row.resource_ids.iter().flatten()).cloned().collect();
        let found = db::lineage::nodes(connection, caller.domain_id(), &ids).await?;
        let unseen = found.into_iter().filter(|node| !caller.may_read(&node.owner, &node.directory));
        hidden = unseen.map(|node| node.id).collect();
        hidden.sort_unstable();
    }
    let shape = |row: rows::Selection| {
        let total = row.resource_ids.as_ref().map_or(0, Vec::len);
        let ids = row.resource_ids.map(|mut ids| {
            ids.retain(|id| hidden.binary_search(id).is_err());
            ids
        });
        let selection = row.selection.map(serde_json::from_value).transpose();
        Ok(SavedSelection {
            id: row.id,
            name: row.name,
            owner: row.owner,
            hidden: (total - ids.as_ref().map_or(0, Vec::len)) as u64,
            resource_ids: ids,
            selection: selection.map_err(|_| DbError::Corrupt("selections.selection"))?,
            export_upstream: row.export_upstream,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    };
    rows.into_iter().map(shape).collect()
}
