//! Sessions of the page: signing in, who is asking, signing out.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::db;
use crate::db::sessions::{self as rows, Account, Allowed};
use crate::domain::resource::{Hash, parse_name};
use crate::secrets;
use crate::wire::user::{SignIn, Whoami};

use crate::api::http::auth::{Caller, Credentials};
use crate::api::http::client::ClientAddress;
use crate::api::http::error::ApiError;
use crate::api::http::extract::JsonBody;
use crate::api::http::{AppState, audited, cookie};

/// From one address, whoever is meant: a minute's worth. Those that succeed do not count.
const PER_ADDRESS: Allowed = Allowed { attempts: 30, seconds: 60, from_last: false };
/// For one account, whoever tries: then it is locked for five minutes.
const PER_ACCOUNT: Allowed = Allowed { attempts: 5, seconds: 300, from_last: true };
/// Checking a password takes a processor and 19 MiB; the others wait.
static CHECKS: Semaphore = Semaphore::const_new(4);

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
    ClientAddress(client): ClientAddress,
    headers: HeaderMap,
    JsonBody(asked): JsonBody<SignIn>,
) -> Result<Response, ApiError> {
    let username = parse_name(&asked.username).unwrap_or(asked.username);
    let address = client.map(|client| place("address", &[&network(client)]));
    let account_place = place("account", &[asked.domain.as_bytes(), username.as_bytes()]);
    let found = {
        let mut connection = app.pool.acquire().await?;
        let places = address.iter().map(|place| (place, PER_ADDRESS)).chain([(&account_place, PER_ACCOUNT)]);
        for (place, allowed) in places {
            if let Some(seconds) = rows::attempt(&mut connection, &place.0, allowed).await? {
                return Err(ApiError::rate_limited(seconds));
            }
        }
        rows::account(&mut connection, &asked.domain, &username).await?
    };
    let kept = found.as_ref().and_then(|account| account.password_hash.clone());
    let fits = {
        let _turn = CHECKS.acquire().await.map_err(|_| ApiError::busy())?;
        let password = asked.password;
        tokio::task::spawn_blocking(move || secrets::password_fits(&password, kept.as_deref())).await?
    };
    if !fits {
        let mut connection = app.pool.acquire().await?;
        let known = found.as_ref().map(|account| account.domain_id);
        let named = found.as_ref().map(|_| username.as_str());
        audited::sign_in(&mut connection, (known, named), client, false).await?;
    }
    let account = found.filter(|_| fits).ok_or_else(wrong)?;
    let places = (address.as_ref(), &account_place);
    let (cookie, caller) = begin(&app, &headers, &account, places, client).await?;
    let jar = CookieJar::new().add(cookie);
    Ok((jar, Json(caller.whoami())).into_response())
}

/// Begins a session in place of the one that the browser had.
async fn begin(
    app: &App,
    headers: &HeaderMap,
    account: &Account,
    (address, account_place): (Option<&Hash>, &Hash),
    client: Option<IpAddr>,
) -> Result<(Cookie<'static>, Caller), ApiError> {
    let key = hex::encode(*secrets::random::<32>()?);
    let hash = secrets::token_hash(&key);
    let mut transaction = app.pool.begin().await?;
    rows::forgive(&mut transaction, &account_place.0).await?;
    if let Some(address) = address {
        rows::take_back(&mut transaction, &address.0).await?;
    }
    if let Some(before) = cookie::key_of(app, headers) {
        rows::delete(&mut transaction, &secrets::token_hash(&before).0).await?;
    }
    if !rows::insert(&mut transaction, account, &hash.0).await? {
        return Err(wrong());
    }
    let signed = db::callers::by_session(&mut transaction, &hash.0).await?.ok_or_else(wrong)?;
    let user = (Some(signed.user.domain_id), Some(signed.user.username.as_str()));
    audited::sign_in(&mut transaction, user, client, true).await?;
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

/// Where attempts are counted.
fn place(kind: &str, parts: &[&[u8]]) -> Hash {
    let mut bytes = kind.as_bytes().to_vec();
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(*part);
    }
    Hash::of(&bytes)
}

/// What one client has for its own: an address, in IPv6 the 64 bits of its network.
fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}
