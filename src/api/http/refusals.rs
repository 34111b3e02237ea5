//! Refusals are told: a line of the log for each request that was let in by nothing (401), may not (403), or comes too
//! often (429). Not for every one: a stranger must not fill the disk, nor hide behind his own noise.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use metrics::counter;
use tracing::warn;

use super::client::{ClientAddress, network};

/// Lines of one address a minute.
const OF_ONE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// Lines of all together a minute: some 30 MB a day at most.
const OF_ALL: NonZeroU32 = NonZeroU32::new(120).unwrap();
/// So many addresses are remembered at once; past it those that were quiet for a minute are forgotten.
const REMEMBERED: usize = 10_000;

/// So much of a path is told, in characters.
const PATH: usize = 200;

/// How much was told lately.
pub struct Refusals {
    of_one: RateLimiter<Vec<u8>, HashMapStateStore<Vec<u8>>, DefaultClock>,
    of_all: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
}

/// Who was refused, on his answer.
#[derive(Clone)]
pub struct Known {
    /// His domain.
    pub domain: String,
    /// His name in it.
    pub username: String,
}

impl Refusals {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            of_one: RateLimiter::hashmap(Quota::per_minute(OF_ONE)),
            of_all: RateLimiter::direct(Quota::per_minute(OF_ALL)),
        })
    }

    /// One more may be told of a client.
    pub(in crate::api) fn may_tell(&self, client: Option<IpAddr>) -> bool {
        if self.of_one.len() > REMEMBERED {
            self.of_one.retain_recent();
        }
        // Past that number they are all one.
        let from = client.map(network).filter(|_| self.of_one.len() <= REMEMBERED).unwrap_or_default();
        self.of_one.check_key(&from).is_ok() && self.of_all.check().is_ok()
    }
}

/// Tells of refusals.
pub async fn told(State(refusals): State<Arc<Refusals>>, mut request: Request, next: Next) -> Response {
    let ClientAddress(client) = request.extensions().get().copied().unwrap_or_default();
    let (method, path) = (request.method().clone(), request.uri().path().chars().take(PATH).collect::<String>());
    request.extensions_mut().insert(refusals.clone());
    let response = next.run(request).await;
    let status = response.status();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        counter!("ferry_refused_requests_total", "status" => status.as_str().to_owned()).increment(1);
        if refusals.may_tell(client) {
            let known = response.extensions().get::<Known>();
            let (domain, user) = known.map(|known| (known.domain.as_str(), known.username.as_str())).unzip();
            let address = client.map(|client| client.to_string());
            warn!(status = status.as_u16(), %method, path, domain, user, address, "a request was refused");
        }
    }
    response
}
