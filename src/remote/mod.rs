//! The HTTP client of another environment: used by jobs, by the check of a target, by the commands. Every
//! request has a deadline, every answer a limit; no redirect, no proxy, no address out of an answer is followed.

mod allowed;
mod error;
mod memory;
pub mod plain;
mod resolver;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Body, Client, Method, RequestBuilder, Response, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, watch};
use uuid::Uuid;

use crate::domain::json;
use crate::domain::resource::ResourceId;
use crate::wire::List;
use crate::wire::difference::{ChangedItem, ItemDifference};
use crate::wire::environment::Environment;
use crate::wire::impact::Affected;
use crate::wire::import::{Lacking, REQUESTED_BY};
use crate::wire::record::{Item, PlanRequest, Record};
use crate::wire::resource::TargetResource;
use crate::wire::user::{Token, Whoami};

pub use allowed::Allowed;
pub use error::RemoteError;
pub use memory::Memory;
use memory::SMALL;

/// Longest list of what is lacking that is read, in bytes.
const MAX_LIST: usize = 32 * 1024 * 1024;
/// Longest page of a list.
const MAX_PAGE: usize = 16 * 1024 * 1024;
/// Longest answer about one thing: read, it takes many times the memory.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// A connection on which nothing moves for so long is given up, where nothing else is said.
const IDLE: Duration = Duration::from_secs(30);
/// How often one looks whether something moves.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a body that are handed to the connection at a time.
const CHUNK: usize = 64 * 1024;
/// Bytes of a package that are sent, and committed at the target, at a time;
pub const PIECE: usize = 5 * 1024 * 1024;
/// as few as this on a slow way, where more do not arrive in time.
pub const SMALLEST_PIECE: usize = 64 * 1024;

/// Another environment, as one of its users.
pub struct Remote {
    client: Client,
    place: watch::Sender<Place>,
    memory: Memory,
    /// A connection on which nothing moves for so long is given up.
    idle: Duration,
}

/// Where an environment is, checked, and a token there.
pub struct Place {
    /// Its address.
    pub base: Url,
    /// A token there.
    pub token: String,
}

impl Remote {
    /// For a checked address and a token there.
    pub fn new(base: Url, token: &str) -> Result<Self, RemoteError> {
        Self::at(Place { base, token: token.to_owned() }, Memory::default(), IDLE)
    }

    /// For a place, sharing what memory answers may take; a connection on which nothing moves for so long is given up.
    pub fn at(place: Place, memory: Memory, idle: Duration) -> Result<Self, RemoteError> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(resolver::Guarded)
            .connect_timeout(Duration::from_secs(5))
            // Servers close what is idle for longer.
            .pool_idle_timeout(Duration::from_secs(20))
            .user_agent(concat!("ferry/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RemoteError::unreachable(&error.to_string()))?;
        Ok(Self { client, place: watch::Sender::new(place), memory, idle })
    }

    /// It is elsewhere from the next call on.
    pub fn move_to(&self, place: Place) {
        self.place.send_replace(place);
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let place = self.place.borrow();
        let mut url = place.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}{path}", place.base.path().trim_end_matches('/')));
        url.set_query(query);
        self.client.request(method, url).bearer_auth(&place.token)
    }

    /// Sends a request and reads its answer of so many bytes at most.
    async fn answer(&self, request: RequestBuilder, most: usize) -> Result<Answer, RemoteError> {
        let mut response = request.send().await.map_err(|error| RemoteError::of_transport(&error))?;
        let (mut bytes, mut held) = (Vec::new(), None);
        while let Some(piece) = moving(self.idle, response.chunk()).await? {
            if bytes.len() + piece.len() > most {
                return Err(RemoteError::foreign("The target's answer does not end."));
            }
            if held.is_none() && bytes.len() + piece.len() > SMALL {
                held = self.memory.hold(most).await;
            }
            bytes.extend_from_slice(&piece);
        }
        match response.status().is_success() {
            true => Ok(Answer { response, bytes, _held: held }),
            false => Err(RemoteError::of_status(response.status(), response.headers(), &bytes)),
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder, most: usize) -> Result<T, RemoteError> {
        read(&self.answer(request, most).await?)
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, RemoteError> {
        self.json(self.request(method, path).timeout(self.idle).json(body), MAX_ANSWER).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, most: usize) -> Result<T, RemoteError> {
        self.json(self.request(Method::GET, path).timeout(self.idle), most).await
    }

    /// What arrives within this leaves room for twice as much.
    pub fn quick(&self) -> Duration {
        self.idle / 6
    }

    /// Whether it is ready.
    pub async fn ready(&self) -> Result<(), RemoteError> {
        self.answer(self.request(Method::GET, "/readyz").timeout(Duration::from_secs(5)), MAX_ANSWER).await.map(|_| ())
    }

    /// Who the target is.
    ///
    /// # Errors
    /// As every call here: why the target did not do it.
    pub async fn environment(&self) -> Result<Environment, RemoteError> {
        self.get("/api/v1/environment", MAX_ANSWER).await
    }

    /// Who we are there.
    pub async fn whoami(&self) -> Result<Whoami, RemoteError> {
        self.get("/api/v1/session", MAX_ANSWER).await
    }

    /// Asks which of some contents the target lacks; the lines are those of `POST /imports/lacking`, in gzip.
    pub async fn lacking(&self, lines: Bytes) -> Result<Lacking, RemoteError> {
        let request = self.request(Method::POST, "/api/v1/imports/lacking");
        let request = request.header("content-type", "application/x-ndjson").header("content-encoding", "gzip");
        read(&self.answer_to(request, lines, MAX_LIST).await?)
    }

    /// Begins an upload of so many bytes; returns its ID. The same key begins it once.
    pub async fn begin_upload(&self, size: u64, key: &str) -> Result<String, RemoteError> {
        let request = self.tus(Method::POST, "/api/v1/uploads").header("upload-length", size);
        let answer = self.answer(request.header("idempotency-key", key), MAX_ANSWER).await;
        let answer = answer.map_err(RemoteError::once_more)?;
        let location = answer.response.headers().get("location").and_then(|value| value.to_str().ok());
        // Only the last word of it: no address out of an answer is followed.
        let id = location.and_then(|location| Uuid::parse_str(location.rsplit('/').next()?).ok());
        id.map(|id| id.to_string()).ok_or_else(|| RemoteError::foreign("The target did not say where to upload to."))
    }

    /// How many bytes of an upload the target has.
    pub async fn upload_offset(&self, id: &str) -> Result<u64, RemoteError> {
        offset(&self.answer(self.tus(Method::HEAD, &format!("/api/v1/uploads/{id}")), MAX_ANSWER).await?)
    }

    /// Sends a piece of an upload with its checksum; returns how much the target has then.
    ///
    /// # Errors
    /// As [`Remote::environment`]; also when nothing of it moves for a while.
    pub async fn send_piece(&self, id: &str, at: u64, piece: Bytes) -> Result<u64, RemoteError> {
        let checksum = format!("sha256 {}", BASE64.encode(Sha256::digest(&piece)));
        let request = self
            .request(Method::PATCH, &format!("/api/v1/uploads/{id}"))
            .header("tus-resumable", "1.0.0")
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", at)
            .header("upload-checksum", checksum);
        // What the connection has taken says nothing of what has arrived: only the answer does.
        offset(&self.answer_to(request.timeout(self.idle), piece, MAX_ANSWER).await?)
    }

    /// Sends a request with a body; gives it up when nothing of it moves for a while, or no answer comes then.
    async fn answer_to(&self, request: RequestBuilder, body: Bytes, most: usize) -> Result<Answer, RemoteError> {
        let length = body.len();
        let moved = Arc::new(AtomicU64::new(0));
        let sent = moved.clone();
        let chunks = (0..length).step_by(CHUNK).map(move |from| {
            sent.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(body.slice(from..length.min(from + CHUNK)))
        });
        let request =
            request.header("content-length", length).body(Body::wrap_stream(futures_util::stream::iter(chunks)));
        // There is no time-out for writing: a target that stops reading would hold the connection for ever.
        let stalled = async {
            let (mut seen, mut since) = (0, Instant::now());
            while since.elapsed() < self.idle {
                tokio::time::sleep(LOOK).await;
                let now = moved.load(Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, Instant::now());
                }
            }
            RemoteError::unreachable("it stopped reading, or did not answer in time")
        };
        tokio::select! {
            answer = self.answer(request, most) => answer,
            error = stalled => Err(error),
        }
    }

    fn tus(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).timeout(self.idle).header("tus-resumable", "1.0.0")
    }

    /// A request that makes an import, which somebody asked for here.
    fn imports(&self, asked_by: &str) -> RequestBuilder {
        let request = self.request(Method::POST, "/api/v1/imports").timeout(self.idle);
        request.header(REQUESTED_BY, utf8_percent_encode(asked_by, NON_ALPHANUMERIC).to_string())
    }

    /// Makes an import of an upload, which somebody asked for here; the same key makes one.
    pub async fn import(&self, upload_id: &str, key: &str, asked_by: &str) -> Result<Record, RemoteError> {
        let request = self.imports(asked_by);
        let request = request.header("idempotency-key", key).json(&serde_json::json!({"upload_id": upload_id}));
        self.json(request, MAX_ANSWER).await.map_err(RemoteError::once_more)
    }

    /// Makes an import of a package of a piece at most, which somebody asked for here; the same key makes one.
    ///
    /// # Errors
    /// As [`Remote::environment`]; also when nothing of it moves for a while.
    pub async fn import_package(&self, package: Bytes, key: &str, asked_by: &str) -> Result<Record, RemoteError> {
        let request = self.imports(asked_by);
        let request = request.header("idempotency-key", key).header("content-type", "application/zip");
        read(&self.answer_to(request, package, MAX_ANSWER).await.map_err(RemoteError::once_more)?)
    }

    /// Gives an import another package, which holds what the first one left out.
    pub async fn replace_package(&self, id: Uuid, upload_id: &str) -> Result<Record, RemoteError> {
        let path = format!("/api/v1/imports/{id}/package");
        let request = self.request(Method::PUT, &path).timeout(self.idle);
        self.json(request.json(&serde_json::json!({"upload_id": upload_id})), MAX_ANSWER).await
    }

    /// A record there.
    pub async fn record(&self, id: Uuid) -> Result<Record, RemoteError> {
        self.get(&format!("/api/v1/records/{id}"), MAX_ANSWER).await
    }

    /// A record there, once it is neither queued nor running, or after so long; some targets do not wait.
    pub async fn wait_for_record(&self, id: Uuid, most: Duration) -> Result<Record, RemoteError> {
        self.get(&format!("/api/v1/records/{id}?wait_seconds={}", most.as_secs()), MAX_ANSWER).await
    }

    /// A page of a record's items there, but for those that are as they were sent, in some status.
    pub async fn items(&self, id: Uuid, but: Option<&str>, cursor: Option<&str>) -> Result<List<Item>, RemoteError> {
        let query = |name: &str, value: Option<&str>| value.map_or(String::new(), |value| format!("&{name}={value}"));
        let (but, cursor) = (query("but", but), query("cursor", cursor));
        self.get(&format!("/api/v1/records/{id}/items?limit=500{but}{cursor}"), MAX_PAGE).await
    }

    /// A page of one of a record's long lists there: `warnings`, `checklist`.
    pub async fn notes<T: DeserializeOwned>(
        &self,
        id: Uuid,
        list: &str,
        cursor: Option<&str>,
    ) -> Result<List<T>, RemoteError> {
        let cursor = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        self.get(&format!("/api/v1/records/{id}/{list}?limit=500{cursor}"), MAX_PAGE).await
    }

    /// What an import there does to a resource.
    pub async fn item_difference(&self, id: Uuid, resource_id: &ResourceId) -> Result<ItemDifference, RemoteError> {
        self.get(&format!("/api/v1/imports/{id}/items/{resource_id}/diff"), MAX_PAGE).await
    }

    /// A page of what an import there changes.
    pub async fn differences(&self, id: Uuid, query: &impl Serialize) -> Result<List<ChangedItem>, RemoteError> {
        self.list(&format!("/api/v1/imports/{id}/diff"), query).await
    }

    /// A page of who there uses what an import changes.
    pub async fn impact(&self, id: Uuid, query: &impl Serialize) -> Result<List<Affected>, RemoteError> {
        self.list(&format!("/api/v1/imports/{id}/impact"), query).await
    }

    /// A page of resources there.
    pub async fn resources(&self, query: &impl Serialize) -> Result<List<TargetResource>, RemoteError> {
        self.list("/api/v1/resources", query).await
    }

    async fn list<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<List<T>, RemoteError> {
        let query = serde_urlencoded::to_string(query).map_err(|error| RemoteError::foreign(&error.to_string()))?;
        self.get(&format!("{path}?{query}"), MAX_PAGE).await
    }

    /// Makes a token of a user there.
    pub async fn create_token(&self, user: Uuid, body: &serde_json::Value) -> Result<Token, RemoteError> {
        self.send(Method::POST, &format!("/api/v1/users/{user}/tokens"), body).await
    }

    /// Plans an import there with some options.
    pub async fn plan(&self, id: Uuid, options: &PlanRequest) -> Result<Record, RemoteError> {
        self.send(Method::PUT, &format!("/api/v1/imports/{id}/plan"), options).await
    }

    /// Executes an import there with some options.
    pub async fn execute(&self, id: Uuid, options: &PlanRequest) -> Result<Record, RemoteError> {
        self.send(Method::POST, &format!("/api/v1/imports/{id}/execute"), options).await
    }

    /// Cancels a record there.
    pub async fn cancel(&self, id: Uuid) -> Result<Record, RemoteError> {
        self.json(self.request(Method::POST, &format!("/api/v1/records/{id}/cancel")).timeout(self.idle), MAX_ANSWER)
            .await
    }

    /// Has an import there rolled back.
    pub async fn roll_back(&self, id: Uuid) -> Result<Record, RemoteError> {
        self.json(self.request(Method::POST, &format!("/api/v1/imports/{id}/rollback")).timeout(self.idle), MAX_ANSWER)
            .await
    }

    /// Tries what failed of a record there again.
    pub async fn retry(&self, id: Uuid) -> Result<Record, RemoteError> {
        self.json(self.request(Method::POST, &format!("/api/v1/records/{id}/retry")).timeout(self.idle), MAX_ANSWER)
            .await
    }
}

/// An answer, and the memory that was set aside for it.
struct Answer {
    response: Response,
    bytes: Vec<u8>,
    _held: Option<OwnedSemaphorePermit>,
}

/// Waits for the next piece of an answer as long as answers move.
async fn moving<T>(idle: Duration, next: impl Future<Output = Result<T, reqwest::Error>>) -> Result<T, RemoteError> {
    let next = tokio::time::timeout(idle, next).await;
    let next = next.map_err(|_| RemoteError::unreachable("it stopped in the middle of its answer"))?;
    next.map_err(|error| RemoteError::of_transport(&error))
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, RemoteError> {
    let read = json::outside(&answer.bytes);
    read.map_err(|_| RemoteError::foreign("The target's answer is not one of this product."))
}

fn offset(answer: &Answer) -> Result<u64, RemoteError> {
    let value = answer.response.headers().get("upload-offset").and_then(|value| value.to_str().ok()?.parse().ok());
    value.ok_or_else(|| RemoteError::foreign("The target did not say how much of the upload it has."))
}
