//! Who is asking, and whether the route is open to him.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::db::users::{self, User};
use crate::domain::permission::{Permission, of_role};
use crate::secrets::token_hash;
use crate::wire::user::Whoami;

use super::Shared;
use super::client::ClientAddress;
use super::error::ApiError;

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it tells nobody anything.
    Nothing,
    /// A valid token.
    Token,
    /// A valid token with a permission.
    Permission(Permission),
}

/// Who is asking. There is one in every request to a route that needs a token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user.
    pub user: User,
    /// What he may do with these credentials.
    pub permissions: Vec<Permission>,
    /// The name of the token that he gave, or `session`.
    pub token: String,
    /// Where he asks from.
    pub address: Option<IpAddr>,
}

impl Caller {
    /// He may.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// # Errors
    /// 403: he may not.
    pub fn require(&self, permission: Permission) -> Result<(), ApiError> {
        if self.may(permission) {
            return Ok(());
        }
        Err(ApiError::forbidden(format!("This needs the permission {}.", permission.as_str())))
    }

    /// He sees every resource of his domain, not only his own.
    pub fn sees_all(&self) -> bool {
        !matches!(self.user.role.as_str(), "developer" | "viewer")
    }

    /// He may read a resource of this owner.
    pub fn may_read(&self, owner: &str) -> bool {
        self.sees_all() || owner == self.user.username
    }

    /// His domain, inside the database.
    pub fn domain_id(&self) -> i32 {
        self.user.domain_id
    }

    /// His name.
    pub fn username(&self) -> &str {
        &self.user.username
    }

    /// How he sees himself.
    pub fn whoami(&self) -> Whoami {
        Whoami {
            user_id: self.user.id,
            username: self.user.username.clone(),
            domain: self.user.domain.clone(),
            role: self.user.role.clone(),
            permissions: self.permissions.iter().map(|permission| permission.as_str().to_owned()).collect(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthorized)
    }
}

fn unauthorized() -> ApiError {
    let detail = "A valid token is needed: `Authorization: Bearer …`. It may have expired or been revoked.";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

/// Lets a request through to its route, or not.
///
/// # Errors
/// 401 without a valid token, 403 without the permission.
pub async fn authorize(
    State((app, needs)): State<(Shared, Needs)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if needs != Needs::Nothing {
        let address = request.extensions().get().copied().unwrap_or_default();
        let caller = caller(&app, request.headers(), address).await?;
        if let Needs::Permission(permission) = needs {
            caller.require(permission)?;
        }
        request.extensions_mut().insert(caller);
    }
    Ok(next.run(request).await)
}

async fn caller(app: &Shared, headers: &HeaderMap, ClientAddress(address): ClientAddress) -> Result<Caller, ApiError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, token) = given.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(unauthorized());
    }
    let mut connection = app.pool.acquire().await?;
    let found = users::by_token(&mut connection, &token_hash(token.trim()).0).await?;
    let (user, token, narrowed) = found.ok_or_else(unauthorized)?;
    let mut permissions = of_role(&user.role, &user.domain).unwrap_or_default();
    if let Some(narrowed) = narrowed {
        permissions.retain(|permission| narrowed.iter().any(|word| word == permission.as_str()));
    }
    Ok(Caller { user, permissions, token, address })
}
