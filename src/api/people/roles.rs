//! Roles: those that every domain has, and those that a domain makes for itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;

use crate::db::{PgConnection, roles};
use crate::domain::permission::{BUILT_IN, DEFAULT_DOMAIN, Permission, held, of_role};
use crate::domain::resource::ResourceId;
use crate::wire::List;
use crate::wire::user::{NewRole, Role};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, from_cursor, page, page_size};

/// The roles of the caller's domain, built-in ones too, by name.
#[utoipa::path(get, path = "/api/v1/roles", params(Page), responses((status = 200, body = List<Role>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Json<List<Role>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let own = roles::list(&mut connection, caller.domain_id(), &after, limit + 1).await?;
    let own = own.into_iter().map(|role| {
        let permissions = held(&role.name, &caller.user.domain, Some(&role.permissions));
        Role { name: role.name, permissions: words(&permissions), built_in: false }
    });
    let built_in = BUILT_IN.into_iter().filter(|name| *name > after.as_str()).map(|name| Role {
        name: name.to_owned(),
        permissions: words(&held(name, &caller.user.domain, None)),
        built_in: true,
    });
    let mut all: Vec<Role> = own.chain(built_in).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(page(all, limit, |role| role.name.clone(), |role| role)))
}

/// Makes a role of the caller's domain. Nobody gives what he does not have.
#[utoipa::path(
    post, path = "/api/v1/roles",
    request_body = NewRole,
    responses((status = 201, body = Role), (status = 409, description = "A role of this name exists already"))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(new): JsonBody<NewRole>,
) -> Result<(StatusCode, Json<Role>), ApiError> {
    // A role's name stands in addresses, so it follows the rule of IDs.
    let name = ResourceId::parse(new.name.trim()).map_err(|refused| ApiError::field("name", refused.reason))?;
    let mut permissions = Vec::new();
    for word in &new.permissions {
        let known = Permission::parse(word);
        permissions.push(known.ok_or_else(|| ApiError::field("permissions", format!("names {word}, which is none")))?);
    }
    permissions.sort_by_key(|permission| permission.as_str());
    permissions.dedup();
    if permissions.is_empty() {
        return Err(ApiError::field("permissions", "must name at least one"));
    }
    if permissions.contains(&Permission::EnvironmentManage) && caller.user.domain != DEFAULT_DOMAIN {
        let reason = format!("may hold environment.manage in the domain {DEFAULT_DOMAIN} alone");
        return Err(ApiError::field("permissions", reason));
    }
    within(&caller, &permissions)?;
    if BUILT_IN.contains(&name.as_str()) {
        return Err(ApiError::conflict("A role of this name is built in."));
    }
    let role = roles::Role { name: name.to_string(), permissions: words(&permissions) };
    let mut transaction = app.pool.begin().await?;
    roles::insert(&mut transaction, caller.domain_id(), &role).await?;
    let details = json!({"permissions": role.permissions});
    note(&mut transaction, &caller, "role.create", ("role", &role.name), details).await?;
    let made = Role { name: role.name, permissions: role.permissions, built_in: false };
    let created = once.created(&mut transaction, made).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Removes a role that nobody has.
#[utoipa::path(
    delete, path = "/api/v1/roles/{name}",
    responses((status = 204), (status = 409, description = "It is built in, or users have it"))
)]
pub async fn delete(
    State(app): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    if BUILT_IN.contains(&name.as_str()) {
        return Err(ApiError::conflict("A built-in role stays."));
    }
    let mut transaction = app.pool.begin().await?;
    if let Some(kept) = roles::keep(&mut transaction, caller.domain_id(), &name).await? {
        within(&caller, &held(&name, &caller.user.domain, Some(&kept)))?;
    }
    match roles::delete(&mut transaction, caller.domain_id(), &name).await? {
        None => Err(ApiError::not_found("role")),
        Some(0) => {
            note(&mut transaction, &caller, "role.delete", ("role", &name), json!({})).await?;
            transaction.commit().await?;
            Ok(StatusCode::NO_CONTENT)
        }
        Some(users) => Err(ApiError::conflict(format!(
            "The number of users who have this role is {users}. Give them another first."
        ))),
    }
}

/// What a role of a domain holds, if there is one of this name; it stays until the transaction ends.
pub(in crate::api) async fn of(
    connection: &mut PgConnection,
    (domain_id, domain): (i32, &str),
    name: &str,
) -> Result<Vec<Permission>, ApiError> {
    if let Some(permissions) = of_role(name, domain) {
        return Ok(permissions);
    }
    match roles::keep(connection, domain_id, name).await? {
        Some(kept) => Ok(held(name, domain, Some(&kept))),
        None => Err(ApiError::field("role", "must be admin, developer, operator, viewer or a role of the domain")),
    }
}

/// Nobody gives, changes or takes away what goes beyond his own rights; whoever manages a domain says who approves.
pub(in crate::api) fn within(caller: &Caller, permissions: &[Permission]) -> Result<(), ApiError> {
    let his = |permission: Permission| {
        caller.may(permission) || (permission == Permission::MigrationApprove && caller.may(Permission::DomainManage))
    };
    match permissions.iter().find(|permission| !his(**permission)) {
        None => Ok(()),
        Some(lacking) => {
            let detail = format!("This goes beyond your own rights: it takes the permission {}.", lacking.as_str());
            Err(ApiError::forbidden(detail))
        }
    }
}

fn words(permissions: &[Permission]) -> Vec<String> {
    permissions.iter().map(|permission| permission.as_str().to_owned()).collect()
}
