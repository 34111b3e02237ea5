//! Accepts connections and speaks HTTP/1.1 on them. Whoever sends no complete request head, or does not finish
//! the TLS hand-shake, within the time is disconnected; so is a connection that idles between two requests, and one
//! that has asked for nothing when the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::app::LAST_CALL;

/// Pause after a connection could not be accepted: there may be too many of them.
const PAUSE: Duration = Duration::from_millis(500);

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) router: Router,
    pub(super) tls: Option<TlsAcceptor>,
    /// For a request's head, and for the TLS hand-shake.
    pub(super) head: Duration,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Connections {
    /// Serves until the server stops; returns once requests in flight have ended.
    pub(super) async fn serve(mut self, listener: TcpListener) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
            };
            match accepted {
                Ok((stream, peer)) => drop(tokio::spawn(self.clone().greet(stream, peer, graceful.watcher()))),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        graceful.shutdown().await;
    }

    async fn greet(mut self, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.take() else { return self.talk(stream, peer, watcher).await };
        let greeted = tokio::select! {
            greeted = tokio::time::timeout(self.head, tls.accept(stream)) => greeted,
            _ = self.stopped.wait_for(|stopped| *stopped) => return,
        };
        match greeted {
            Ok(Ok(stream)) => self.talk(stream, peer, watcher).await,
            Ok(Err(error)) => debug!(%peer, %error, "no TLS hand-shake"),
            Err(_) => debug!(%peer, "the TLS hand-shake took too long"),
        }
    }

    async fn talk(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        watcher: Watcher,
    ) {
        let (router, mut stopped) = (self.router, self.stopped);
        let asked = Arc::new(AtomicBool::new(false));
        let noted = asked.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            noted.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.head);
        let served = watcher.watch(http.serve_connection(TokioIo::new(stream), service));
        // The first head of a connection may take its time, but not a server's that stops.
        let unheard = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            tokio::time::sleep(LAST_CALL).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // How a connection ends is its client's affair.
            ended = served => if let Err(error) = ended {
                debug!(%peer, %error, "a connection ended");
            },
            () = unheard => debug!(%peer, "a connection was closed that had asked for nothing"),
        }
    }
}
