//! The HTTP client of another environment: used by jobs, by the check of a target, by the commands.

pub mod plain;
mod resolver;

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::wire::environment::Environment;
use crate::wire::record::{Item, PlanRequest, Record, RecordError};
use crate::wire::user::{Token, Whoami};
use crate::wire::{List, Problem};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why a target did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// A code of the contract.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The same request may succeed later.
    pub transient: bool,
}

impl From<RemoteError> for RecordError {
    fn from(error: RemoteError) -> Self {
        Self { code: error.code, message: error.message, hint: error.hint }
    }
}

fn unreachable(reason: &str) -> RemoteError {
    RemoteError {
        code: "target_unreachable".to_owned(),
        message: format!("The target environment cannot be reached: {reason}."),
        hint:
            "Check the target's address, that it is running, and that the network between the two environments is open."
                .to_owned(),
        transient: true,
    }
}

/// Which addresses targets may have.
#[derive(Debug, Clone, Default)]
pub struct Allowed(pub Option<Vec<String>>);

impl Allowed {
    /// Checks an address before it is kept or used.
    ///
    /// # Errors
    /// What an address must be.
    pub fn check(&self, text: &str) -> Result<Url, String> {
        let url =
            Url::parse(text).map_err(|_| "must be an address such as https://production.example.com".to_owned())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("must begin with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password".to_owned());
        }
        if let Some(allowed) = &self.0 {
            let same = |one: &String| Url::parse(one).is_ok_and(|one| one.origin() == url.origin());
            if !allowed.iter().any(same) {
                return Err(
                    "is not among the addresses that the configuration allows (security.allowed_targets)".to_owned()
                );
            }
        }
        let literal = match url.host() {
            Some(url::Host::Ipv4(address)) => Some(address.into()),
            Some(url::Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        if literal.is_some_and(resolver::is_forbidden) {
            return Err("must not be a link-local or metadata address".to_owned());
        }
        Ok(url)
    }
}

/// Another environment, as one of its users.
pub struct Remote {
    client: Client,
    /// Without a limit on silence: the target answers an upload once it has stored all of it.
    uploads: Client,
    base: Url,
    token: String,
}

impl Remote {
    /// For a checked address and a token there.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(base: Url, token: &str) -> Result<Self, RemoteError> {
        let builder = || {
            Client::builder()
                .redirect(redirect::Policy::none())
                .no_proxy()
                .dns_resolver(resolver::Guarded)
                .connect_timeout(Duration::from_secs(5))
                .user_agent(concat!("ferry/", env!("CARGO_PKG_VERSION")))
        };
        let failed = |error: reqwest::Error| unreachable(&error.to_string());
        let client = builder().read_timeout(Duration::from_secs(30)).build().map_err(failed)?;
        let uploads = builder().build().map_err(failed)?;
        Ok(Self { client, uploads, base, token: token.to_owned() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(&self.token)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, RemoteError> {
        let response = request.send().await.map_err(|error| of_transport(&error))?;
        let status = response.status();
        let bytes = bounded(response).await?;
        if !status.is_success() {
            return Err(of_status(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|_| RemoteError {
            code: "target_refused".to_owned(),
            message: "The target's answer is not one of this product.".to_owned(),
            hint: "Check that the target's address is that of a Ferry server of about the same version.".to_owned(),
            transient: false,
        })
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, RemoteError> {
        self.json(self.request(method, path).timeout(Duration::from_secs(120)).json(body)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        self.json(self.request(Method::GET, path).timeout(Duration::from_secs(30))).await
    }

    /// Who the target is.
    ///
    /// # Errors
    /// As every call here: why the target did not do it.
    pub async fn environment(&self) -> Result<Environment, RemoteError> {
        self.get("/api/v1/environment").await
    }

    /// Who we are there.
    ///
    /// # Errors
    /// As [`Remote::environment`].
    pub async fn whoami(&self) -> Result<Whoami, RemoteError> {
        self.get("/api/v1/session").await
    }

    /// Posts a package to the target's ordinary import.
    ///
    /// # Errors
    /// As [`Remote::environment`].
    pub async fn import(&self, package: &Path, key: Uuid) -> Result<Record, RemoteError> {
        let read = |error: std::io::Error| unreachable(&format!("the package could not be read: {error}"));
        let file = tokio::fs::File::open(package).await.map_err(read)?;
        let length = file.metadata().await.map_err(read)?.len();
        let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024);
        let request = self
            .uploads
            .post(self.url("/api/v1/imports"))
            .bearer_auth(&self.token)
            .timeout(Duration::from_secs(6 * 3600))
            .header("content-type", "application/zip")
            .header("content-length", length)
            .header("idempotency-key", key.to_string())
            .body(reqwest::Body::wrap_stream(stream));
        self.json(request).await
    }

    /// A record there.
    ///
    /// # Errors
    /// As [`Remote::environment`].
    pub async fn record(&self, id: Uuid) -> Result<Record, RemoteError> {
        self.get(&format!("/api/v1/records/{id}")).await
    }

    /// A page of a record's items there.
    ///
    /// # Errors
    /// As [`Remote::environment`].
    pub async fn items(&self, id: Uuid, cursor: Option<&str>) -> Result<List<Item>, RemoteError> {
        let cursor = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        self.get(&format!("/api/v1/records/{id}/items?limit=500{cursor}")).await
    }

    /// Makes a token of a user there.
    ///
    /// # Errors
    /// As [`Remote::environment`].
    pub async fn create_token(&self, user: Uuid, body: &serde_json::Value) -> Result<Token, RemoteError> {
        self.send(Method::POST, &format!("/api/v1/users/{user}/tokens"), body).await
    }

    /// Executes an import there with some options.
    ///
    /// # Errors
    /// As [`Remote::environment`].
    pub async fn execute(&self, id: Uuid, options: &PlanRequest) -> Result<Record, RemoteError> {
        self.send(Method::POST, &format!("/api/v1/imports/{id}/execute"), options).await
    }
}

/// Reads an answer, up to a limit.
async fn bounded(mut response: Response) -> Result<Vec<u8>, RemoteError> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| of_transport(&error))? {
        if bytes.len() + piece.len() > MAX_ANSWER {
            return Err(RemoteError {
                code: "target_refused".to_owned(),
                message: "The target's answer does not end.".to_owned(),
                hint: "Check that the target's address is that of a Ferry server.".to_owned(),
                transient: false,
            });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// What went wrong below HTTP; names no address that the target gave.
fn of_transport(error: &reqwest::Error) -> RemoteError {
    let mut chain = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        chain = inner.to_string();
        if chain.contains("certificate") || chain.contains("InvalidCertificate") {
            return RemoteError {
                code: "target_tls".to_owned(),
                message: format!("The target's TLS certificate was not accepted: {chain}."),
                hint: "Renew the certificate, or use the host name that it was made for.".to_owned(),
                transient: false,
            };
        }
        cause = inner.source();
    }
    if error.is_timeout() { unreachable("it did not answer in time") } else { unreachable(&chain) }
}

fn of_status(status: StatusCode, body: &[u8]) -> RemoteError {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    if status == StatusCode::UNAUTHORIZED {
        return RemoteError {
            code: "target_unauthorized".to_owned(),
            message: "The target does not accept the token.".to_owned(),
            hint: "Make a new token at the target and enter it in this target's settings.".to_owned(),
            transient: false,
        };
    }
    if status == StatusCode::FORBIDDEN {
        return RemoteError {
            code: "target_unauthorized".to_owned(),
            message: "The target's token does not have the permission that is needed.".to_owned(),
            hint: "The token's user needs the permission migration.import at the target.".to_owned(),
            transient: false,
        };
    }
    let transient = matches!(status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504);
    match problem {
        Some(problem) => RemoteError {
            code: if problem.code.starts_with("package_") { problem.code } else { "target_refused".to_owned() },
            message: format!("The target answered {}: {}", status.as_u16(), problem.detail),
            hint: "Look at the target's records and its log.".to_owned(),
            transient,
        },
        None if transient => unreachable(&format!("it answered {}", status.as_u16())),
        None => RemoteError {
            code: "target_refused".to_owned(),
            message: format!("The target answered {}.", status.as_u16()),
            hint: "Check that the target's address is that of a Ferry server.".to_owned(),
            transient: false,
        },
    }
}
