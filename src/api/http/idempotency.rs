//! `Idempotency-Key`: the same request again gets the first answer, and makes nothing twice. The answer is
//! kept in the transaction of what the request makes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tracing::Instrument;
use uuid::Uuid;

use crate::db::idempotency_keys::{self as rows, Answered, Claimed, Key};
use crate::db::{DbError, PgConnection};
use crate::domain::resource::Hash;

use super::AppState;
use super::auth::Caller;
use super::bounds::broken;
use super::error::ApiError;

/// Where what counts is not the body byte by byte: a form's boundary differs at each try, so an import
/// compares the package; an upload is what its headers say.
const COMPARED_BY_THE_HANDLER: [&str; 2] = ["/api/v1/imports", "/api/v1/uploads"];

/// The key of a request, if it has one, claimed for it.
#[derive(Clone, Default)]
pub struct Once(Option<Arc<Claim>>);

struct Claim {
    app: AppState,
    key: Key,
    id: Uuid,
    /// Of the body as far as it was read.
    body: Arc<Mutex<Sha256>>,
    /// What was answered before; only for handlers that compare themselves.
    before: Option<Answered>,
    kept: AtomicBool,
}

impl Claim {
    /// Gives it up. One that was kept after all stays: its row has an answer.
    async fn release(&self) {
        if self.before.is_none()
            && let Ok(mut connection) = self.app.pool.acquire().await
        {
            let _ = rows::release(&mut connection, self.id, &self.key).await;
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Once {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl Once {
    /// The first answer to the request that this one repeats, given a hash of what counts of it.
    ///
    /// # Errors
    /// 422: the key was used for another request.
    pub(in crate::api) fn answered(&self, hash: &Hash) -> Result<Option<Response>, ApiError> {
        let Some((claim, before)) = self.0.as_ref().and_then(|claim| Some((claim, claim.before.as_ref()?))) else {
            return Ok(None);
        };
        claim.key.replay(&claim.app, before, &hash.0).map(Some)
    }

    /// Keeps an answer in the transaction of what the request made; `hash` of what counts of the request,
    /// unless that is its body.
    ///
    /// # Errors
    /// 409: the same request is being answered by another.
    pub(in crate::api) async fn keep(
        &self,
        connection: &mut PgConnection,
        status: StatusCode,
        location: Option<&str>,
        answer: &impl Serialize,
        hash: Option<&Hash>,
    ) -> Result<(), ApiError> {
        let Some(claim) = &self.0 else { return Ok(()) };
        let request_hash = claim.app.sealer.fingerprint(&match hash {
            Some(hash) => hash.0.to_vec(),
            None => digest(&claim.body),
        });
        let text = serde_json::to_vec(answer).map_err(|_| DbError::Corrupt("idempotency_keys.answer"))?;
        let answer = claim.app.sealer.seal(&claim.key.place(), &text)?;
        let status = status.as_u16() as i16;
        let answered = Answered { request_hash, status, location: location.map(str::to_owned), answer };
        rows::keep(connection, claim.id, &claim.key, &answered).await.map_err(|error| match error {
            DbError::Fenced => busy(),
            other => other.into(),
        })?;
        claim.kept.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// 201 with what was made, kept in the transaction that made it.
    ///
    /// # Errors
    /// As [`Once::keep`].
    pub(in crate::api) async fn created<T: Serialize>(
        &self,
        connection: &mut PgConnection,
        made: T,
    ) -> Result<(StatusCode, Json<T>), ApiError> {
        self.keep(connection, StatusCode::CREATED, None, &made, None).await?;
        Ok((StatusCode::CREATED, Json(made)))
    }
}

impl Key {
    /// What its sealed answer belongs to.
    fn place(&self) -> String {
        format!("idempotency/{}/{}/{}", hex::encode(&self.credential), self.path, self.key)
    }

    fn replay(&self, app: &AppState, before: &Answered, hash: &[u8]) -> Result<Response, ApiError> {
        if before.request_hash != app.sealer.fingerprint(hash) {
            let detail = "The Idempotency-Key was used for another request. Use a new key for a new request.";
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail));
        }
        let body = app.sealer.open(&self.place(), &before.answer)?.to_vec();
        let status =
            StatusCode::from_u16(before.status as u16).map_err(|_| DbError::Corrupt("idempotency_keys.answer"))?;
        let body = if body == b"null" { Body::empty() } else { Body::from(body) };
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(location) = before.location.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    }
}

fn digest(hasher: &Mutex<Sha256>) -> Vec<u8> {
    hasher.lock().map_or_else(|_| Vec::new(), |hasher| hasher.clone().finalize().to_vec())
}

fn busy() -> ApiError {
    ApiError::conflict("The first request with this Idempotency-Key is still being received. Try again in a moment.")
}

/// Claims the key of a POST for its handler, or answers as before.
///
/// # Errors
/// 409 while the first request is being received, 422 for a key that is none or was used for another request.
pub async fn once(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let (Some(caller), &Method::POST) = (caller, request.method()) else { return next.run(request).await };
    match claimed(app, &caller, request).await {
        Ok(Step::Answer(response)) => response,
        Ok(Step::Plain(request)) => next.run(request).await,
        // On its own, so that what was begun comes to its end when the caller goes away: he finds it when he comes again,
        // and not a beginning each time. Where he goes in the middle of his body, it ends with that.
        Ok(Step::Claimed(request, once)) => match tokio::spawn(once.run(request, next).in_current_span()).await {
            Ok(response) => response,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(stopped) => ApiError::from(stopped).into_response(),
            },
        },
        Err(error) => error.into_response(),
    }
}

enum Step {
    Answer(Response),
    Plain(Request),
    Claimed(Request, Once),
}

async fn claimed(app: AppState, caller: &Caller, request: Request) -> Result<Step, ApiError> {
    let Some(key) = given(request.headers())? else { return Ok(Step::Plain(request)) };
    let path = request.uri().path().to_owned();
    let by_handler = COMPARED_BY_THE_HANDLER.contains(&path.as_str());
    let key = Key { user_id: caller.user.id, credential: caller.credentials.hash().0.to_vec(), path, key };
    let id = Uuid::new_v4();
    let mut connection = app.pool.acquire().await?;
    let claimed = rows::claim(&mut connection, &key, id, app.config.jobs.lease_seconds).await?;
    drop(connection);
    let body = Arc::new(Mutex::new(Sha256::new()));
    let before = match claimed {
        Claimed::Busy => return Err(busy()),
        Claimed::Answered(before) if !by_handler => {
            let hash = drained(request.into_body(), app.config.limits.max_package_bytes).await?;
            return Ok(Step::Answer(key.replay(&app, &before, &hash)?));
        }
        Claimed::Answered(before) => Some(before),
        Claimed::Fresh => None,
    };
    let once = Once(Some(Arc::new(Claim { app, key, id, body: body.clone(), before, kept: AtomicBool::new(false) })));
    let (parts, whole) = request.into_parts();
    let counted = whole.into_data_stream().inspect_ok(move |piece| {
        if let Ok(mut hasher) = body.lock() {
            hasher.update(piece);
        }
    });
    let mut request = Request::from_parts(parts, Body::from_stream(counted));
    request.extensions_mut().insert(once.clone());
    Ok(Step::Claimed(request, once))
}

impl Once {
    /// Runs the handler; keeps the claim while it does, gives it up when nothing was made.
    async fn run(self, request: Request, next: Next) -> Response {
        let Some(claim) = self.0 else { return next.run(request).await };
        let pause = Duration::from_millis(u64::from(claim.app.config.jobs.lease_seconds) * 1000 / 3);
        let renewed = async {
            loop {
                tokio::time::sleep(pause).await;
                if let Ok(mut connection) = claim.app.pool.acquire().await {
                    let _ =
                        rows::renew(&mut connection, claim.id, &claim.key, claim.app.config.jobs.lease_seconds).await;
                }
            }
        };
        // What panics drops this; another try need not wait for the claim to run out.
        let guard = Guard(Some(claim.clone()));
        let response = tokio::select! {
            response = next.run(request) => response,
            () = renewed => return busy().into_response(),
        };
        guard.disarm();
        if !claim.kept.load(Ordering::Relaxed) || !response.status().is_success() {
            claim.release().await;
        }
        response
    }
}

/// Gives a claim up when its request is dropped.
struct Guard(Option<Arc<Claim>>);

impl Guard {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(claim) = self.0.take() {
            tokio::spawn(async move { claim.release().await });
        }
    }
}

/// 1 to 255 visible ASCII characters.
fn given(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(|key| Some(key.to_owned()))
        .ok_or_else(|| ApiError::field("Idempotency-Key", "must have 1 to 255 ASCII characters"))
}

/// The hash of a body that is not wanted otherwise.
async fn drained(body: Body, limit: u64) -> Result<Vec<u8>, ApiError> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| broken(&error))?;
        size += piece.len() as u64;
        if size > limit {
            return Err(ApiError::too_large(limit));
        }
        hasher.update(&piece);
    }
    Ok(hasher.finalize().to_vec())
}
