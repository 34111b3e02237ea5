//! Domains: the tenants of the environment.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::db::{self, domains};
use crate::domain::resource::ResourceId;
use crate::wire::List;
use crate::wire::environment::{Domain, NewDomain};

use crate::api::http::AppState;
use crate::api::http::audited::note_in;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, from_cursor, page, page_size};

/// The domains, by name.
#[utoipa::path(get, path = "/api/v1/domains", params(Page), responses((status = 200, body = List<Domain>)))]
pub async fn list(State(app): State<AppState>, Query(query): Query<Page>) -> Result<Json<List<Domain>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let rows = domains::list(&mut connection, &after, limit + 1).await?;
    Ok(Json(page(rows, limit, |row| row.name.clone(), to_wire)))
}

/// Makes a domain.
#[utoipa::path(
    post, path = "/api/v1/domains",
    request_body = NewDomain,
    responses((status = 201, body = Domain), (status = 409, description = "A domain of this name exists already"))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(new): JsonBody<NewDomain>,
) -> Result<(StatusCode, Json<Domain>), ApiError> {
    // A domain's name stands in addresses and settings, so it follows the rule of IDs.
    let name = ResourceId::parse(new.name.trim()).map_err(|refused| ApiError::field("name", refused.reason))?;
    let mut transaction = app.pool.begin().await?;
    let made = domains::insert(&mut transaction, name.as_str()).await?;
    note_in(&mut transaction, &caller, None, "domain.create", ("domain", &made.name), serde_json::json!({})).await?;
    let created = once.created(&mut transaction, to_wire(made)).await?;
    transaction.commit().await?;
    Ok(created)
}

fn to_wire(row: db::domains::Domain) -> Domain {
    Domain { name: row.name, created_at: row.created_at }
}
