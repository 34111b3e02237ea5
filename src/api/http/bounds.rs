//! How much a request's body may hold, how long it may pause, and how long it may go on once the server stops: for
//! every route, whatever its handler reads.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::{LengthLimitError, Limited};
use tokio::sync::watch;
use tower_http::timeout::{TimeoutBody, TimeoutError};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Content, RefOr};
use utoipa_axum::router::UtoipaMethodRouter;

use crate::app::LAST_CALL;
use crate::config::Limits;

use super::AppState;
use super::auth::Needs;
use super::error::ApiError;

/// What a route takes that says nothing of a body.
const NO_BODY: u64 = 64 * 1024;
/// What JSON has besides a definition, and a form besides its package.
const SLACK: u64 = 64 * 1024;
/// What a stranger may send.
const STRANGERS: u64 = 16 * 1024;
/// The schemas of bodies that hold a definition, or a list of resources; others hold some fields.
const LARGE: [&str; 7] = [
    "PutResource",
    "ExportRequest",
    "MigrationRequest",
    "PlanRequest",
    "ConfirmRequest",
    "NewSelection",
    "SelectionChange",
];

/// The bounds of a route's bodies.
#[derive(Clone)]
pub struct Bounds {
    most: Arc<HashMap<Method, u64>>,
    idle: Duration,
    stopping: watch::Receiver<bool>,
    /// For the whole body of a stranger.
    whole: Option<Duration>,
}

/// The server stops before the body is there.
#[derive(Debug, thiserror::Error)]
#[error("the server is stopping")]
struct Stopping;

impl Bounds {
    /// Those that follow from the media types that a route's operations take.
    pub fn of(needs: Needs, route: &UtoipaMethodRouter<AppState>, app: &AppState) -> Self {
        let limits = &app.config.limits;
        let most = move |found: &Operation| match needs {
            Needs::Nothing => STRANGERS,
            _ => most(found, limits),
        };
        let items = route.1.paths.values();
        let most = items.flat_map(|item| operations(item).map(move |(method, found)| (method, most(found))));
        let server = &app.config.server;
        Self {
            most: Arc::new(most.collect()),
            idle: Duration::from_secs(server.idle_seconds.into()),
            stopping: app.stopping.subscribe(),
            whole: (needs == Needs::Nothing).then(|| Duration::from_secs(server.head_seconds.into())),
        }
    }
}

fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

/// The most that one of an operation's media types may hold, in bytes.
fn most(operation: &Operation, limits: &Limits) -> u64 {
    let Some(RefOr::T(body)) = &operation.request_body else { return NO_BODY };
    let of = |(media, content): (&String, &RefOr<Content>)| match media.as_str() {
        "application/json" if is_large(content) => limits.max_definition_bytes.saturating_add(SLACK),
        "application/json" => NO_BODY,
        "application/octet-stream" => limits.max_attachment_bytes,
        "multipart/form-data" => limits.max_package_bytes.saturating_add(SLACK),
        _ => limits.max_package_bytes,
    };
    body.content.iter().map(of).max().unwrap_or(NO_BODY)
}

fn is_large(content: &RefOr<Content>) -> bool {
    let schema = serde_json::to_string(content).unwrap_or_default();
    LARGE.iter().any(|name| schema.contains(&format!("/{name}\"")))
}

/// Refuses a body that is announced as too large, cuts one off that turns out to be, that stops coming, or that is still
/// arriving when the server stops. That of a stranger has to be there within a time, however steadily it comes.
pub async fn bounded(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let most = bounds.most.get(request.method()).copied().unwrap_or(NO_BODY);
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > most) {
        return ApiError::too_large(most).into_response();
    }
    let limit = usize::try_from(most).unwrap_or(usize::MAX);
    let (idle, stopping) = (bounds.idle, bounds.stopping);
    let bounded = |body: Body| until_last_call(Body::new(TimeoutBody::new(idle, Limited::new(body, limit))), stopping);
    let request = request.map(bounded);
    let Some(time) = bounds.whole else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(time, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(error)) => broken(&error).into_response(),
        Err(_) => slow("The body did not arrive in time. Send it again.").into_response(),
    }
}

fn slow(detail: &str) -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
}

/// Whoever sends a body has asked for nothing yet: he may come again, and does not hold the server up.
fn until_last_call(body: Body, mut stopping: watch::Receiver<bool>) -> Body {
    let last_call = async move {
        // It is told as long as there is somebody to answer.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(LAST_CALL).await;
    };
    let (mut pieces, mut last_call) = (body.into_data_stream(), Box::pin(last_call.fuse()));
    Body::from_stream(stream::poll_fn(move |cx| match last_call.poll_unpin(cx) {
        Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(Stopping)))),
        Poll::Pending => pieces.poll_next_unpin(cx),
    }))
}

/// Why a body could not be read to its end.
pub fn broken(error: &(dyn Error + 'static)) -> ApiError {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if inner.is::<LengthLimitError>() {
            let detail = "The body has more bytes than this address takes.";
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail);
        }
        if inner.is::<TimeoutError>() {
            return slow("Nothing of the body arrived for a while. Send it again.");
        }
        if inner.is::<Stopping>() {
            let detail = "The server is stopping. Send it again in a moment.";
            return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
        }
        cause = inner.source();
    }
    ApiError::body("The body was cut off.")
}
