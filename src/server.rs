//! Builds the app, mounts the API and the pages, starts the runner, shuts down gracefully.

mod connections;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use tracing::info;

use crate::app::{App, StartError};
use crate::config::Config;
use crate::{api, jobs, page};

use connections::Connections;

/// How long requests that have arrived may take to end once the server stops.
const GRACE: Duration = Duration::from_secs(20);

/// Shorter answers are not compressed, in bytes.
const LEAST_COMPRESSED: u64 = 1_024;

/// A running server.
pub struct Server {
    /// Everything at hand.
    pub app: Arc<App>,
    /// Where it answers.
    pub address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on a database; returns once it answers.
    pub async fn start(config: Config, database_url: &str) -> Result<Self, StartError> {
        let listen = config.server.listen.clone();
        let tls = tls::acceptor(&config.server)?;
        let app = Arc::new(App::start(config, database_url).await?);
        jobs::rederive::run(&app).await?;
        let failed = |error| StartError::Io(format!("server.listen {listen}"), error);
        let listener = TcpListener::bind(&listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopped = app.stopping.subscribe();
        let connections = Connections {
            router: layered(api::router(app.clone()).merge(page::router()), tls.is_some()),
            tls,
            head: Duration::from_secs(app.config.server.head_seconds.into()),
            stopped: stopped.clone(),
        };
        let serve = tokio::spawn(connections.serve(listener));
        let cleaner = tokio::spawn(jobs::clean::run(app.clone(), stopped.clone()));
        let runner = tokio::spawn(jobs::runner::run(app.clone(), jobs::work, stopped));
        info!(%address, environment = app.config.environment.name, "the server answers");
        Ok(Self { app, address, tasks: vec![runner, cleaner, serve] })
    }

    /// The address for people and other environments.
    pub fn url(&self) -> String {
        self.app.config.server.public_url.clone().unwrap_or_else(|| format!("{}://{}", self.scheme(), self.address))
    }

    /// `https` where it has a certificate.
    pub fn scheme(&self) -> &'static str {
        if self.app.config.server.tls_cert.is_some() { "https" } else { "http" }
    }

    /// Takes no more work, hands back what runs, ends requests in flight.
    pub async fn stop(self) {
        self.app.stopping.send_replace(true);
        let end = tokio::time::Instant::now() + GRACE;
        for task in self.tasks {
            let _ = tokio::time::timeout_at(end, task).await;
        }
        // A statement that waits for a lock would keep its connection for as long as it waits.
        let closed = async { tokio::join!(self.app.pool.close(), self.app.workers.close()) };
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }
}

/// So much of what a client says is in the log, in characters.
const TOLD: usize = 200;

/// Browsers are to take no answer for a page of ours that does not say so itself.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// What is worth to be compressed: not packages and attachments, and not events, which must not be gathered.
fn is_text(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    length.is_none_or(|length: u64| length >= LEAST_COMPRESSED)
        && ["application/json", "application/x-ndjson"].iter().any(|text| kind.starts_with(text))
}

/// What every request goes through.
fn layered(router: Router, tls: bool) -> Router {
    let id = HeaderName::from_static("x-request-id");
    let span = |request: &Request<_>| {
        let id = request.headers().get("x-request-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let path: String = request.uri().path().chars().take(TOLD).collect();
        let id: String = id.chars().take(TOLD).collect();
        tracing::info_span!("request", method = %request.method(), path, id)
    };
    let strict = tls.then_some((header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    let mut router = router.layer(CatchPanicLayer::custom(api::on_panic));
    for (name, value) in HEADERS.into_iter().chain(strict) {
        router = router.layer(SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value)));
    }
    // Outside of what bounds bodies: their bytes count as they are unpacked.
    router
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(CompressionLayer::new().compress_when(is_text))
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid))
}
