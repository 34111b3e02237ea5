//! Builds the app, mounts the API and the pages, starts the runner, shuts down gracefully.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Request, header};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use tracing::info;

use crate::app::{App, StartError};
use crate::config::Config;
use crate::{api, jobs, page};

/// How long requests in flight may take to end once the server stops.
const GRACE: Duration = Duration::from_secs(20);

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
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn start(config: Config, database_url: &str) -> Result<Self, StartError> {
        let listen = config.server.listen.clone();
        let app = Arc::new(App::start(config, database_url).await?);
        jobs::rederive::run(&app).await?;
        let failed = |error| StartError::Io(format!("server.listen {listen}"), error);
        let listener = TcpListener::bind(&listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopped = app.stopping.subscribe();
        let mut until = stopped.clone();
        let serve = axum::serve(
            listener,
            layered(api::router(app.clone()).merge(page::router())).into_make_service_with_connect_info::<SocketAddr>(),
        )
        .with_graceful_shutdown(async move {
            let _ = until.wait_for(|stopped| *stopped).await;
        });
        let serve = tokio::spawn(async move {
            let _ = serve.await;
        });
        let cleaner = tokio::spawn(jobs::clean::run(app.clone(), stopped.clone()));
        let runner = tokio::spawn(jobs::runner::run(app.clone(), jobs::kinds(), stopped));
        info!(%address, environment = app.config.environment.name, "the server answers");
        Ok(Self { app, address, tasks: vec![runner, cleaner, serve] })
    }

    /// The address for people and other environments.
    pub fn url(&self) -> String {
        self.app.config.server.public_url.clone().unwrap_or_else(|| format!("http://{}", self.address))
    }

    /// Takes no more work, hands back what runs, ends requests in flight.
    pub async fn stop(self) {
        self.app.stopping.send_replace(true);
        let end = tokio::time::Instant::now() + GRACE;
        for task in self.tasks {
            let _ = tokio::time::timeout_at(end, task).await;
        }
        // A statement that waits for a lock would keep its connection for as long as it waits.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.app.pool.close()).await;
    }
}

/// What every request goes through.
fn layered(router: Router) -> Router {
    let id = HeaderName::from_static("x-request-id");
    let span = |request: &Request<_>| {
        let id = request.headers().get("x-request-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
        tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
    };
    router
        .layer(CatchPanicLayer::custom(api::on_panic))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid))
}
