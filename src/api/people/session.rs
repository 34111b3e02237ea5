//! Sessions of the page: signing in, who is asking, signing out.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use axum_extra::extract::cookie::{Cookie, CookieJar};

use crate::app::App;
use crate::db;
use crate::db::sessions::{self as rows, Account, NewSession};
use crate::domain::resource::parse_name;
use crate::secrets;
use crate::wire::user::{SignIn, Whoami};

use crate::api::http::auth::{Caller, Credentials};
use crate::api::http::client::ClientAddress;
use crate::api::http::error::ApiError;
use crate::api::http::extract::JsonBody;
use crate::api::http::refusals::Refusals;
use crate::api::http::{AppState, audited, cookie};
use crate::api::people::passwords::{self, Attempt};

/// Who is asking, and what he may do with these credentials.
#[utoipa::path(get, path = "/api/v1/session", operation_id = "show", responses((status = 200, body = Whoami)))]
pub async fn whoami(caller: Caller) -> Json<Whoami> {
    Json(caller.whoami())
}

/// Signs a user in: the answer sets the cookie of his session. It ends after 12 hours without a request, and
/// after 7 days at the latest.
#[utoipa::path(
    post, path = "/api/v1/session", operation_id = "create", request_body = SignIn,
    responses(
        (status = 200, body = Whoami, headers(("Set-Cookie" = String))),
        (status = 401, description = "Domain, user name or password is wrong"),
        (status = 429, description = "Too many attempts; `Retry-After` says for how many seconds"),
    )
)]
pub async fn sign_in(
    State(app): State<AppState>,
    Extension(refusals): Extension<Arc<Refusals>>,
    ClientAddress(client): ClientAddress,
    headers: HeaderMap,
    JsonBody(asked): JsonBody<SignIn>,
) -> Result<Response, ApiError> {
    let username = parse_name(&asked.username).unwrap_or(asked.username);
    let (attempt, found) = {
        let mut connection = app.pool.acquire().await?;
        let attempt = Attempt::begin(&mut connection, client, &asked.domain, &username).await?;
        (attempt, rows::account(&mut connection, &asked.domain, &username).await?)
    };
    let kept = found.as_ref().and_then(|account| account.password_hash.clone());
    let fits = passwords::fits(asked.password, kept).await?;
    if !fits && refusals.may_tell(client) {
        let mut connection = app.pool.acquire().await?;
        // Only one who exists is named: what else was typed as a name may be a password.
        let user = found.as_ref().map(|_| username.as_str());
        let domain_id = found.as_ref().map(|account| account.domain_id);
        audited::sign_in(&mut connection, "session.sign_in_failed", domain_id, user, client).await?;
    }
    let account = found.filter(|_| fits).ok_or_else(wrong)?;
    let (cookie, caller) = begin(&app, &headers, &account, &attempt, client).await?;
    let jar = CookieJar::new().add(cookie);
    Ok((jar, Json(caller.whoami())).into_response())
}

/// Begins a session in place of the one that the browser had.
async fn begin(
    app: &App,
    headers: &HeaderMap,
    account: &Account,
    attempt: &Attempt,
    client: Option<IpAddr>,
) -> Result<(Cookie<'static>, Caller), ApiError> {
    let key = hex::encode(*secrets::random::<32>()?);
    let hash = secrets::token_hash(&key);
    let mut transaction = app.pool.begin().await?;
    attempt.succeeded(&mut transaction).await?;
    if let Some(before) = cookie::key_of(app, headers) {
        rows::delete(&mut transaction, &secrets::token_hash(&before).0).await?;
    }
    let new = NewSession { hash: &hash.0, address: client.map(|client| client.to_string()) };
    if !rows::insert(&mut transaction, account, &new).await? {
        return Err(wrong());
    }
    let signed = db::callers::by_session(&mut transaction, &hash.0).await?.ok_or_else(wrong)?;
    let user = Some(signed.user.username.as_str());
    audited::sign_in(&mut transaction, "session.sign_in", Some(signed.user.domain_id), user, client).await?;
    transaction.commit().await?;
    Ok((cookie::of(app, key), Caller::of(signed, Credentials::Session(hash), client)))
}

/// Signs out: ends the session and clears its cookie.
#[utoipa::path(
    delete, path = "/api/v1/session", operation_id = "delete",
    responses(
        (status = 204, headers(("Set-Cookie" = String))),
        (status = 409, description = "A token is no session; it is revoked under its user"),
    )
)]
pub async fn sign_out(State(app): State<AppState>, caller: Caller, headers: HeaderMap) -> Result<Response, ApiError> {
    let Credentials::Session(hash) = caller.credentials else {
        let detail = "A token is no session. Revoke it with DELETE /api/v1/users/{id}/tokens/{token_id}.";
        return Err(ApiError::conflict(detail));
    };
    let mut transaction = app.pool.begin().await?;
    rows::delete(&mut transaction, &hash.0).await?;
    audited::note(&mut transaction, &caller, "session.sign_out", ("user", caller.username()), serde_json::json!({}))
        .await?;
    transaction.commit().await?;
    let jar = CookieJar::from_headers(&headers).remove(cookie::of(&app, String::new()));
    Ok((StatusCode::NO_CONTENT, jar).into_response())
}

/// The same for an unknown user, one without a password and a wrong password.
fn wrong() -> ApiError {
    let detail = "The domain, the user name or the password is wrong.";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}
