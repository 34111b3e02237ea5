//! Trusted sources: the environments whose packages are verified here by the key that they sign with.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::db::{PgConnection, trusted_sources as rows};
use crate::domain::resource::parse_name;
use crate::secrets;
use crate::wire::List;
use crate::wire::trust::{NewTrustedSource, TrustedSource};

use crate::api::http::AppState;
use crate::api::http::audited::note_in;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, from_cursor, page, page_size};

/// The trusted sources, by name.
#[utoipa::path(
    get, path = "/api/v1/trusted-sources",
    params(Page),
    responses((status = 200, body = List<TrustedSource>))
)]
pub async fn list(
    State(app): State<AppState>,
    Query(query): Query<Page>,
) -> Result<Json<List<TrustedSource>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, &after, limit + 1).await?;
    Ok(Json(page(found, limit, |row| row.name.clone(), to_wire)))
}

/// Trusts whoever holds the private half of a key.
#[utoipa::path(
    post, path = "/api/v1/trusted-sources",
    request_body = NewTrustedSource,
    responses(
        (status = 201, body = TrustedSource),
        (status = 409, description = "A source of this name or with this key exists already"),
    )
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(new): JsonBody<NewTrustedSource>,
) -> Result<(StatusCode, Json<TrustedSource>), ApiError> {
    let name = parse_name(&new.name)?;
    let key = secrets::public_key(&new.public_key)
        .ok_or_else(|| ApiError::field("public_key", "must be an ed25519 public key: 32 bytes in base64"))?;
    let mut transaction = app.pool.begin().await?;
    let made = rows::insert(&mut transaction, &name, &key).await?;
    tell(&mut transaction, &caller, "trusted_source.create", &made).await?;
    let created = once.created(&mut transaction, to_wire(made)).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Trusts a source no more: what it signed is not verified from here on, also what waits to be imported.
#[utoipa::path(delete, path = "/api/v1/trusted-sources/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let gone = rows::delete(&mut transaction, id).await?.ok_or_else(|| ApiError::not_found("trusted source"))?;
    tell(&mut transaction, &caller, "trusted_source.delete", &gone).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn tell(
    connection: &mut PgConnection,
    caller: &Caller,
    action: &str,
    source: &rows::TrustedSource,
) -> Result<(), ApiError> {
    let details = serde_json::json!({"name": source.name, "public_key": source.public_key});
    Ok(note_in(connection, caller, None, action, ("trusted_source", source.id), details).await?)
}

fn to_wire(row: rows::TrustedSource) -> TrustedSource {
    TrustedSource { id: row.id, name: row.name, public_key: row.public_key, created_at: row.created_at }
}
