//! Targets: the environments that the domain may migrate to. A token goes in and never comes out.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::db::{Acquire, PgConnection, targets as rows};
use crate::domain::resource::parse_name;
use crate::remote::{Allowed, RemoteError};
use crate::wire::List;
use crate::wire::environment::Environment;
use crate::wire::record::RecordError;
use crate::wire::target::{Difference, NewTarget, Target, TargetChange, TargetCheck};
use crate::wire::user::Whoami;

use crate::api::environment::environment;
use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, from_cursor, page, page_size};

/// The domain's targets, by name.
#[utoipa::path(get, path = "/api/v1/targets", params(Page), responses((status = 200, body = List<Target>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Json<List<Target>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, caller.domain_id(), &after, limit + 1).await?;
    Ok(Json(page(found, limit, |row| row.name.clone(), to_wire)))
}

/// One target.
#[utoipa::path(get, path = "/api/v1/targets/{id}", responses((status = 200, body = Target)))]
pub async fn show(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<Json<Target>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    Ok(Json(to_wire(find(&mut connection, &caller, id).await?)))
}

/// Makes a target.
#[utoipa::path(
    post, path = "/api/v1/targets",
    request_body = NewTarget,
    responses((status = 201, body = Target), (status = 409, description = "A target of this name exists already"))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(new): JsonBody<NewTarget>,
) -> Result<(StatusCode, Json<Target>), ApiError> {
    let id = Uuid::now_v7();
    let now = chrono::Utc::now();
    let target = rows::Target {
        id,
        name: parse_name(&new.name)?,
        url: address(&app, &new.url)?,
        token: sealed(&app, id, &new.token)?,
        owner: new.owner.as_deref().map(owner).transpose()?,
        created_at: now,
        updated_at: now,
    };
    let mut transaction = app.pool.begin().await?;
    rows::save(&mut transaction, caller.domain_id(), &target).await?;
    note(&mut transaction, &caller, "target.create", ("target", id), audit_details(&target, true)).await?;
    let made = to_wire(find(&mut transaction, &caller, id).await?);
    let created = once.created(&mut transaction, made).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Changes a target; what is left out stays.
#[utoipa::path(
    patch, path = "/api/v1/targets/{id}",
    request_body = TargetChange,
    responses((status = 200, body = Target), (status = 409, description = "A target of this name exists already"))
)]
pub async fn change(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(change): JsonBody<TargetChange>,
) -> Result<Json<Target>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let mut target = find(&mut connection, &caller, id).await?;
    if let Some(name) = &change.name {
        target.name = parse_name(name)?;
    }
    if let Some(url) = &change.url {
        let url = address(&app, url)?;
        // A token must not follow an address that someone else chose.
        if change.token.is_none()
            && url::Url::parse(&url).map(|new| new.origin()) != url::Url::parse(&target.url).map(|old| old.origin())
        {
            return Err(ApiError::field("token", "must be given again with another address"));
        }
        target.url = url;
    }
    if let Some(token) = &change.token {
        target.token = sealed(&app, id, token)?;
    }
    if let Some(given) = &change.owner {
        target.owner = given.as_deref().map(owner).transpose()?;
    }
    let mut transaction = connection.begin().await?;
    rows::save(&mut transaction, caller.domain_id(), &target).await?;
    note(&mut transaction, &caller, "target.change", ("target", id), audit_details(&target, change.token.is_some()))
        .await?;
    let changed = to_wire(find(&mut transaction, &caller, id).await?);
    transaction.commit().await?;
    Ok(Json(changed))
}

/// Removes a target.
#[utoipa::path(delete, path = "/api/v1/targets/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let target = find(&mut transaction, &caller, id).await?;
    rows::delete(&mut transaction, caller.domain_id(), id).await?;
    note(&mut transaction, &caller, "target.delete", ("target", id), audit_details(&target, false)).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the audit says of a target: of its token no more than that it was set.
fn audit_details(target: &rows::Target, token: bool) -> serde_json::Value {
    serde_json::json!({"name": target.name, "url": target.url, "owner": target.owner, "token_set": token})
}

pub(in crate::api) async fn find(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
) -> Result<rows::Target, ApiError> {
    rows::by_id(connection, caller.domain_id(), id).await?.ok_or_else(|| ApiError::not_found("target"))
}

fn address(app: &AppState, text: &str) -> Result<String, ApiError> {
    let allowed = Allowed(app.config.security.allowed_targets.clone());
    let url = allowed.check(text).map_err(|reason| ApiError::field("url", reason))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn sealed(app: &AppState, id: Uuid, token: &str) -> Result<String, ApiError> {
    let token = token.trim();
    if token.is_empty() || token.len() > 4096 || token.chars().any(char::is_control) {
        return Err(ApiError::field("token", "must not be empty, longer than 4096 bytes, or hold control characters"));
    }
    Ok(app.sealer.seal(&format!("target/{id}"), token.as_bytes())?)
}

fn owner(text: &str) -> Result<String, ApiError> {
    parse_name(text).map_err(|refused| ApiError::field("owner", refused.reason))
}

fn to_wire(row: rows::Target) -> Target {
    Target {
        id: row.id,
        name: row.name,
        url: row.url,
        owner: row.owner,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// Asks the target who it is and what the token may do there.
#[utoipa::path(post, path = "/api/v1/targets/{id}/check", responses((status = 200, body = TargetCheck)))]
pub async fn check(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<TargetCheck>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let target = find(&mut connection, &caller, id).await?;
    let here = environment(&app, &mut connection).await?;
    drop(connection);
    let begun = Instant::now();
    let answer = ask(&app, &target).await;
    let latency_ms = u64::try_from(begun.elapsed().as_millis()).ok();
    let mut connection = app.pool.acquire().await?;
    let code = answer.as_ref().err().map(|error| error.code.clone());
    let details = serde_json::json!({"name": target.name, "reachable": code.is_none(), "code": code});
    note(&mut connection, &caller, "target.check", ("target", id), details).await?;
    drop(connection);
    Ok(Json(match answer {
        Ok((there, whoami)) => TargetCheck {
            reachable: true,
            latency_ms,
            differences: differences(&here, &there),
            permissions: whoami.permissions,
            environment: Some(there),
            error: None,
        },
        Err(error) => TargetCheck {
            reachable: false,
            latency_ms: None,
            environment: None,
            permissions: Vec::new(),
            differences: Vec::new(),
            error: Some(RecordError::from(error)),
        },
    }))
}

async fn ask(app: &AppState, target: &rows::Target) -> Result<(Environment, Whoami), RemoteError> {
    let remote = app.remote(target)?;
    Ok((remote.environment().await?, remote.whoami().await?))
}

/// Version, features and types that differ.
fn differences(here: &Environment, there: &Environment) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |code: &str, message: String| found.push(Difference { code: code.to_owned(), message });
    if here.version != there.version {
        add(
            "version_differs",
            format!("This environment runs version {}, the target runs {}.", here.version, there.version),
        );
    }
    let word = |on: bool| if on { "on" } else { "off" };
    for (key, on) in &here.features {
        match there.features.get(key) {
            Some(other) if other != on => {
                add(
                    "feature_differs",
                    format!("The feature {key} is {} here and {} in the target.", word(*on), word(*other)),
                );
            }
            None => add("feature_differs", format!("The target does not know the resource type {key}.")),
            Some(_) => {}
        }
    }
    for (key, digest) in &here.types {
        if there.types.get(key).is_some_and(|other| other != digest) {
            add("type_differs", format!("The two environments describe the resource type {key} differently."));
        }
    }
    found
}
