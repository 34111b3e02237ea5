//! Who is asking, by a token or by the cookie of a session, and whether the route is open to him.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use crate::db::callers::{self, Signed};
use crate::db::users::User;
use crate::db::{PgConnection, locks};
use crate::domain::permission::{Permission, held, narrowed};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::sight::Sight;
use crate::secrets::token_hash;
use crate::wire::user::Whoami;

use super::AppState;
use super::client::ClientAddress;
use super::cookie;
use super::error::ApiError;
use super::refusals::Known;

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it tells nobody anything.
    Nothing,
    /// A valid token, or a session.
    Token,
    /// The same, with a permission.
    Permission(Permission),
    /// The same, with one of two; the first is what most have who ask.
    Either(Permission, Permission),
}

/// Who is asking. There is one in every request to a route that needs a token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user.
    pub user: User,
    /// What he may do with these credentials.
    pub permissions: Vec<Permission>,
    /// What of his domain he may see.
    pub sight: Sight,
    /// By what he is known.
    pub credentials: Credentials,
    /// The name of the token that he gave, or `session`.
    pub token: String,
    /// When that token ends, if it does.
    pub until: Option<DateTime<Utc>>,
    /// Where he asks from.
    pub address: Option<IpAddr>,
}

/// By what a caller is known: the hash of his token, or of the key of his session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Bearer …`.
    Token(Hash),
    /// The cookie of the page.
    Session(Hash),
}

impl Credentials {
    /// What they are kept as.
    pub fn hash(&self) -> &Hash {
        match self {
            Self::Token(hash) | Self::Session(hash) => hash,
        }
    }
}

impl Caller {
    /// The user of some credentials, with what they are good for.
    pub(in crate::api) fn of(signed: Signed, credentials: Credentials, address: Option<IpAddr>) -> Self {
        let Signed { user, token, narrowed: words, sight, until } = signed;
        let permissions = held(&user.role, &user.domain, user.role_permissions.as_deref());
        let permissions = narrowed(permissions, words.as_deref());
        Self { user, permissions, sight, credentials, token, until, address }
    }

    /// Whoever has these credentials by now.
    ///
    /// # Errors
    /// 401: they are not good any more.
    pub(in crate::api) async fn by(
        connection: &mut PgConnection,
        credentials: Credentials,
        address: Option<IpAddr>,
    ) -> Result<Self, ApiError> {
        let found = match credentials {
            Credentials::Token(hash) => callers::by_token(connection, &hash.0).await?,
            Credentials::Session(hash) => callers::by_session(connection, &hash.0).await?,
        };
        Ok(Self::of(found.ok_or_else(unauthorized)?, credentials, address))
    }

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

    /// He sees every resource of his domain, not only his own and those granted to him.
    pub fn sees_all(&self) -> bool {
        self.sight.all
    }

    /// He sees every record of his domain, not only his own: its items tell of resources, so these credentials
    /// must be good for reading those.
    pub fn sees_all_records(&self) -> bool {
        self.sight.all && self.may(Permission::ResourceRead)
    }

    /// He may read a resource of this owner in this directory.
    pub fn may_read(&self, owner: &str, directory: &str) -> bool {
        self.sight.reads(owner, directory)
    }

    /// # Errors
    /// 403: he may read the resource, but not write one of this owner in this directory.
    pub fn require_write(&self, id: &ResourceId, owner: &str, directory: &str) -> Result<(), ApiError> {
        if self.sight.writes(owner, directory) {
            return Ok(());
        }
        let detail = format!(
            "The resource {id} belongs to {owner}; to write it in {directory} you need a grant with access write."
        );
        Err(ApiError::forbidden(detail))
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
    let detail = "A valid token (`Authorization: Bearer …`) or a session is needed. It may have ended or been revoked.";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

/// Lets a request through to its route, or not. Its answer says who asked, for what tells of refusals.
pub async fn authorize(State((app, needs)): State<(AppState, Needs)>, request: Request, next: Next) -> Response {
    if needs == Needs::Nothing {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let caller = match caller(&app, &parts).await {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    let known = Known { domain: caller.user.domain.clone(), username: caller.user.username.clone() };
    let mut response = match admit(&app, needs, &caller, &parts) {
        Ok(()) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(known);
    response
}

/// # Errors
/// 401 without a valid token or session.
async fn caller(app: &AppState, parts: &Parts) -> Result<Caller, ApiError> {
    let ClientAddress(address) = parts.extensions.get().copied().unwrap_or_default();
    let credentials = credentials(app, &parts.headers)?;
    let mut connection = app.pool.acquire().await?;
    let caller = Caller::by(&mut connection, credentials, address).await?;
    if !parts.method.is_safe() {
        locks::check_types(&mut connection, &app.types_digest).await?;
    }
    Ok(caller)
}

/// # Errors
/// 403 without the permission, or where another page asks by the cookie.
fn admit(app: &AppState, needs: Needs, caller: &Caller, parts: &Parts) -> Result<(), ApiError> {
    let by_cookie = matches!(caller.credentials, Credentials::Session(_));
    if by_cookie && !parts.method.is_safe() && !cookie::is_own_page(app, &parts.headers) {
        let detail = "This request does not come from this server's own page. Programs use a token.";
        return Err(ApiError::forbidden(detail));
    }
    match needs {
        Needs::Permission(permission) => caller.require(permission),
        Needs::Either(one, other) if !caller.may(one) && !caller.may(other) => {
            let detail = format!("This needs the permission {} or {}.", one.as_str(), other.as_str());
            Err(ApiError::forbidden(detail))
        }
        Needs::Nothing | Needs::Token | Needs::Either(..) => Ok(()),
    }
}

/// A header that is there decides: a wrong one does not fall back to the cookie.
fn credentials(app: &AppState, headers: &HeaderMap) -> Result<Credentials, ApiError> {
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        let key = cookie::key_of(app, headers).ok_or_else(unauthorized)?;
        return Ok(Credentials::Session(token_hash(&key)));
    };
    let (scheme, token) = given.to_str().ok().and_then(|given| given.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(unauthorized());
    }
    Ok(Credentials::Token(token_hash(token.trim())))
}
