//! Users and their tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use serde_json::json;
use uuid::Uuid;

use crate::db::{self, Acquire, PgConnection, users};
use crate::domain::permission::{DEFAULT_DOMAIN, Permission, held, narrowed};
use crate::domain::resource::parse_name;
use crate::secrets;
use crate::wire::List;
use crate::wire::user::{NewToken, NewUser, Token, User, UserChange};

use crate::api::http::AppState;
use crate::api::http::audited::{note, note_in};
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, from_cursor, page, page_size};
use crate::api::people::passwords::{self, Attempt, hashed};
use crate::api::people::roles::{self, within};

/// The role that must not die out in the domain that manages the environment.
const ADMIN: &str = "admin";

/// The users of the caller's domain, by name.
#[utoipa::path(get, path = "/api/v1/users", params(Page), responses((status = 200, body = List<User>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Json<List<User>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let rows = users::list(&mut connection, caller.domain_id(), &after, limit + 1).await?;
    Ok(Json(page(rows, limit, |row| row.username.clone(), to_wire)))
}

/// Makes a user, in another domain too where the caller manages the environment.
#[utoipa::path(
    post, path = "/api/v1/users",
    request_body = NewUser,
    responses((status = 201, body = User), (status = 409, description = "A user of this name exists already"))
)]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(new): JsonBody<NewUser>,
) -> Result<(StatusCode, Json<User>), ApiError> {
    let username = parse_name(&new.username).map_err(|refused| ApiError::field("username", refused.reason))?;
    let domain_name = new.domain.as_deref().unwrap_or(&caller.user.domain);
    let hash = match new.password {
        Some(password) => Some(hashed(password, &[&username, domain_name]).await?),
        None => None,
    };
    let mut connection = app.pool.acquire().await?;
    let domain = match &new.domain {
        Some(domain) if *domain != caller.user.domain => {
            caller.require(Permission::EnvironmentManage)?;
            let found = db::domains::by_name(&mut connection, domain).await?;
            found.ok_or_else(|| ApiError::field("domain", "is not a domain of this environment"))?.id
        }
        _ => caller.domain_id(),
    };
    let mut transaction = connection.begin().await?;
    within(&caller, &roles::of(&mut transaction, (domain, domain_name), &new.role).await?)?;
    if users::still_owns(&mut transaction, domain, &username).await? {
        let detail = "Something in this domain still belongs to an earlier user of this name. Choose another name.";
        return Err(ApiError::conflict(detail));
    }
    let id = users::insert(&mut transaction, domain, &username, &new.role, hash.as_deref()).await?;
    let made = users::by_id(&mut transaction, domain, id).await?.ok_or_else(|| ApiError::not_found("user"))?;
    let details = json!({"username": username, "role": new.role, "password_set": hash.is_some()});
    note_in(&mut transaction, &caller, Some(domain), "user.create", ("user", id), details).await?;
    let created = once.created(&mut transaction, to_wire(made)).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Changes a user's role or password: `domain.manage`, or one's own password with the present one.
///
/// A new password ends the user's sessions.
#[utoipa::path(
    patch, path = "/api/v1/users/{id}",
    request_body = UserChange,
    responses(
        (status = 200, body = User),
        (status = 409, description = "The environment would be left without an administrator"),
        (status = 429, description = "Too many attempts with a wrong password; `Retry-After` says for how many seconds"),
    )
)]
pub async fn change(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(change): JsonBody<UserChange>,
) -> Result<Json<User>, ApiError> {
    if change.role.is_some() && id == caller.user.id {
        caller.require(Permission::DomainManage)?;
    }
    let user = {
        let mut connection = app.pool.acquire().await?;
        owner(&mut connection, &caller, id).await?
    };
    within(&caller, &permissions(&user))?;
    let password_set = change.password.is_some();
    let hash = match change.password {
        Some(password) => {
            let hash = hashed(password, &[&user.username, &user.domain]).await?;
            if id == caller.user.id {
                confirm_own_password(&app, &caller, change.current_password).await?;
            }
            Some(hash)
        }
        None => None,
    };
    let mut transaction = app.pool.begin().await?;
    let user = owner(&mut transaction, &caller, id).await?;
    within(&caller, &permissions(&user))?;
    if let Some(role) = &change.role {
        let given = roles::of(&mut transaction, (user.domain_id, &user.domain), role).await?;
        within(&caller, &given)?;
        if id == caller.user.id && given.contains(&Permission::MigrationApprove) {
            caller.require(Permission::MigrationApprove)?;
        }
        if role != ADMIN {
            spare_last_administrator(&mut transaction, &user).await?;
        }
        users::set_role(&mut transaction, id, role).await?;
    }
    if let Some(hash) = &hash {
        users::set_password(&mut transaction, id, hash).await?;
    }
    let details = json!({"username": user.username, "role": change.role, "password_set": password_set});
    note_in(&mut transaction, &caller, Some(user.domain_id), "user.change", ("user", id), details).await?;
    let changed =
        users::by_id(&mut transaction, user.domain_id, id).await?.ok_or_else(|| ApiError::not_found("user"))?;
    transaction.commit().await?;
    Ok(Json(to_wire(changed)))
}

/// Whoever came by somebody's session or token does not take his account over: it needs the present password, where
/// there is one. Tries count as those to sign in.
async fn confirm_own_password(app: &AppState, caller: &Caller, given: Option<String>) -> Result<(), ApiError> {
    let wrong = |reason: &str| ApiError::field("current_password", reason);
    let mut connection = app.pool.acquire().await?;
    let Some(kept) = users::password_hash(&mut connection, caller.user.id).await? else { return Ok(()) };
    let given = given.ok_or_else(|| wrong("is needed to change your own password"))?;
    let attempt = Attempt::begin(&mut connection, caller.address, &caller.user.domain, caller.username()).await?;
    drop(connection);
    let fits = passwords::fits(given, Some(kept)).await?;
    let mut connection = app.pool.acquire().await?;
    if fits {
        return attempt.succeeded(&mut connection).await;
    }
    note(&mut connection, caller, "user.change_refused", ("user", caller.user.id), json!({})).await?;
    Err(wrong("is not your present password"))
}

/// Removes a user with his tokens, sessions and grants. What he owns stays.
#[utoipa::path(
    delete, path = "/api/v1/users/{id}",
    responses((status = 204), (status = 409, description = "Nobody removes himself, nor the last administrator of the environment"))
)]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    if id == caller.user.id {
        return Err(ApiError::conflict("Nobody removes himself."));
    }
    let mut transaction = app.pool.begin().await?;
    let user = find(&mut transaction, &caller, id).await?;
    within(&caller, &permissions(&user))?;
    spare_last_administrator(&mut transaction, &user).await?;
    users::delete(&mut transaction, user.domain_id, id).await?;
    let details = json!({"username": user.username, "role": user.role});
    note_in(&mut transaction, &caller, Some(user.domain_id), "user.delete", ("user", id), details).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A user's tokens, without the tokens themselves.
#[utoipa::path(get, path = "/api/v1/users/{id}/tokens", params(Page), responses((status = 200, body = List<Token>)))]
pub async fn tokens(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<Page>,
) -> Result<Json<List<Token>>, ApiError> {
    let limit = page_size(query.limit)?;
    let after: Uuid = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let user = owner(&mut connection, &caller, id).await?;
    let rows = users::tokens(&mut connection, user.id, after, limit + 1).await?;
    Ok(Json(page(rows, limit, |row| row.id, |row| token_line(row, None))))
}

/// Makes a token; it is shown this once.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/tokens",
    request_body = NewToken,
    responses((status = 201, body = Token), (status = 403, description = "The new token could do more than yours"))
)]
pub async fn create_token(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    once: Once,
    JsonBody(new): JsonBody<NewToken>,
) -> Result<(StatusCode, Json<Token>), ApiError> {
    let name = parse_name(&new.name)?;
    if new.expires_at.is_some_and(|end| end <= Utc::now()) {
        return Err(ApiError::field("expires_at", "is over already"));
    }
    let mut connection = app.pool.acquire().await?;
    let user = owner(&mut connection, &caller, id).await?;
    let own = permissions(&user);
    for word in new.permissions.iter().flatten() {
        if !own.iter().any(|permission| permission.as_str() == word) {
            return Err(ApiError::field("permissions", format!("names {word}, which the user does not have")));
        }
    }
    // Whoever holds a narrowed token must not make a wider one; without a word it is as narrow as his.
    let held = |word: &str| caller.permissions.iter().any(|permission| permission.as_str() == word);
    let narrowed = match new.permissions {
        None if own.iter().all(|permission| caller.may(*permission)) => None,
        None => Some(
            own.iter().map(|permission| permission.as_str()).filter(|word| held(word)).map(str::to_owned).collect(),
        ),
        Some(asked) if asked.iter().all(|word| held(word)) => Some(asked),
        Some(_) => return Err(ApiError::forbidden("A token cannot make one that may do more than it may itself.")),
    };
    let expires_at = match (new.expires_at, caller.until) {
        (None, until) => until,
        (Some(end), Some(until)) if end > until => {
            return Err(ApiError::forbidden("A token cannot make one that lasts longer than it does itself."));
        }
        (end, _) => end,
    };
    let token = secrets::new_token()?;
    let hash = secrets::token_hash(&token);
    let mut transaction = connection.begin().await?;
    let new =
        users::NewToken { user_id: user.id, name: &name, hash: &hash.0, permissions: narrowed.as_deref(), expires_at };
    let made = users::insert_token(&mut transaction, &new).await?;
    let details = json!({
        "user": user.username, "name": made.name, "permissions": made.permissions, "expires_at": made.expires_at,
    });
    note_in(&mut transaction, &caller, Some(user.domain_id), "token.create", ("token", made.id), details).await?;
    let created = once.created(&mut transaction, token_line(made, Some(token.to_string()))).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Revokes a token, at once.
#[utoipa::path(delete, path = "/api/v1/users/{id}/tokens/{token_id}", responses((status = 204)))]
pub async fn delete_token(
    State(app): State<AppState>,
    caller: Caller,
    Path((id, token_id)): Path<(Uuid, Uuid)>,
) -> Result<StatusCode, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let user = owner(&mut connection, &caller, id).await?;
    let mut transaction = connection.begin().await?;
    let words = users::token_permissions(&mut transaction, user.id, token_id).await?;
    let words = words.ok_or_else(|| ApiError::not_found("token"))?;
    within(&caller, &narrowed(permissions(&user), words.as_deref()))?;
    if !users::delete_token(&mut transaction, user.id, token_id).await? {
        return Err(ApiError::not_found("token"));
    }
    let details = json!({"user": user.username});
    note_in(&mut transaction, &caller, Some(user.domain_id), "token.revoke", ("token", token_id), details).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A user of the caller's domain; of any where he manages the environment.
async fn find(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<users::User, ApiError> {
    let found = if caller.may(Permission::EnvironmentManage) {
        users::in_any_domain(connection, id).await?
    } else {
        users::by_id(connection, caller.domain_id(), id).await?
    };
    found.ok_or_else(|| ApiError::not_found("user"))
}

/// A user whose tokens the caller may see: himself, or one whom he manages.
async fn owner(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<users::User, ApiError> {
    if id == caller.user.id {
        return Ok(caller.user.clone());
    }
    if !caller.may(Permission::DomainManage) {
        return Err(ApiError::not_found("user"));
    }
    find(connection, caller, id).await
}

/// What a user's role holds.
pub(in crate::api) fn permissions(user: &users::User) -> Vec<Permission> {
    held(&user.role, &user.domain, user.role_permissions.as_deref())
}

/// 409 if without this user nobody would manage the environment.
async fn spare_last_administrator(connection: &mut PgConnection, user: &users::User) -> Result<(), ApiError> {
    if user.domain == DEFAULT_DOMAIN && users::lock_root_administrators(connection).await? == [user.id] {
        let detail = "This is the last administrator of the environment. Make another one first.";
        return Err(ApiError::conflict(detail));
    }
    Ok(())
}

fn to_wire(row: users::User) -> User {
    User { id: row.id, username: row.username, domain: row.domain, role: row.role, created_at: row.created_at }
}

fn token_line(row: users::Token, token: Option<String>) -> Token {
    Token {
        id: row.id,
        name: row.name,
        permissions: row.permissions,
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        token,
    }
}
