//! Every error becomes a problem (RFC 9457). A 5xx body never carries internals.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::error;

use crate::db::DbError;
use crate::domain::definition::Invalid;
use crate::domain::record::WrongState;
use crate::domain::resource::Refused;
use crate::package::PackageError;
use crate::planning::PlanningError;
use crate::planning::carried::CarriedError;
use crate::secrets::SecretError;
use crate::store::{StoreError, is_full};
use crate::trust::TrustError;
use crate::wire::{FieldProblem, Problem};

/// An answer that is not the one that was asked for.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: String,
    detail: String,
    errors: Vec<FieldProblem>,
    retry_after: Option<u64>,
}

impl ApiError {
    /// Any status, code and detail.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// 404: it is not there, or not for the caller to know of.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}."))
    }

    /// 403: the caller may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 409: it exists already, or something stands in the way.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 422: the body cannot be read.
    pub fn body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail)
    }

    /// 422: a field is wrong.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let detail = format!("{field} {message}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail).with("invalid_field", field, message)
    }

    /// 415: another media type is needed.
    pub fn media_type(wanted: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", format!("Send the body as {wanted}."))
    }

    /// 413: over a limit of so many bytes.
    pub fn too_large(limit: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("The body has more than {limit} bytes."))
    }

    /// It is about a body that cannot be read.
    pub fn is_client_body(&self) -> bool {
        self.code == "invalid_body"
    }

    /// Adds a part.
    #[must_use]
    pub fn with(mut self, code: &str, field: &str, message: impl Into<String>) -> Self {
        self.errors.push(FieldProblem { code: code.to_owned(), field: field.to_owned(), message: message.into() });
        self
    }

    /// Adds parts.
    #[must_use]
    pub fn with_all(mut self, errors: Vec<FieldProblem>) -> Self {
        self.errors.extend(errors);
        self
    }

    /// Puts words before the detail: `line 7: `.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.detail = format!("{place}: {}", self.detail);
        for error in &mut self.errors {
            error.field = format!("{place}: {}", error.field);
        }
        self
    }

    /// The same may be possible later.
    pub fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// It is the server's own fault, or that of what it needs.
    pub fn is_ours(&self) -> bool {
        self.status.is_server_error()
    }

    fn internal(cause: &dyn std::fmt::Display) -> Self {
        error!(%cause, "a request failed");
        let detail = "Something went wrong on the server; its log says what. Try again, or ask the administrator.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// 429: try again after so many seconds.
    pub fn rate_limited(seconds: u64) -> Self {
        let detail = format!("Too many attempts to sign in. Try again in {seconds} seconds.");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        Self { retry_after: Some(seconds), ..error }
    }

    /// 503: try again in a moment.
    pub fn busy() -> Self {
        let detail = "Another piece of work holds what this request needs. Try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("urn:ferry:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
            errors: self.errors,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2")),
            StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            _ => None,
        };
        response
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Busy | DbError::Outdated => Self::busy(),
            DbError::Full => StoreError::Full.into(),
            DbError::Constraint(name) => match name.as_str() {
                "domains_unique_name" => Self::conflict("A domain of this name exists already."),
                "users_unique_name" => Self::conflict("A user of this name exists already in the domain."),
                "roles_unique_name" => Self::conflict("A role of this name exists already."),
                "grants_unique_directory" => {
                    Self::conflict("The user has a grant on this directory already. Delete it to give another.")
                }
                "targets_unique_name" => Self::conflict("A target of this name exists already."),
                "selections_unique_name" => Self::conflict("A selection of this name exists already."),
                "trusted_sources_unique_name" => Self::conflict("A trusted source of this name exists already."),
                "trusted_sources_unique_key" => Self::conflict("A trusted source with this key exists already."),
                "resources_unique_name" => Self::new(
                    StatusCode::CONFLICT,
                    "duplicate_name",
                    "A resource of this name was written at the same time.",
                ),
                "resources_pkey" => Self::busy(),
                _ => Self::internal(&format!("the constraint {name} was violated")),
            },
            other => Self::internal(&other),
        }
    }
}

impl From<crate::db::Error> for ApiError {
    fn from(error: crate::db::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::field(refused.field, refused.reason)
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        let detail = format!("The definition is not valid: {invalid}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "resource_invalid", detail).with(
            "resource_invalid",
            "definition",
            invalid.to_string(),
        )
    }
}

impl From<WrongState> for ApiError {
    fn from(wrong: WrongState) -> Self {
        Self::new(StatusCode::CONFLICT, "wrong_state", format!("This is not possible now: {wrong}."))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                let detail = "No space is left in the environment's store. Ask the administrator to free space.";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", detail)
            }
            other => Self::internal(&other),
        }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        if is_full(&error) { StoreError::Full.into() } else { Self::internal(&error) }
    }
}

impl From<PackageError> for ApiError {
    fn from(error: PackageError) -> Self {
        match (error.code(), error) {
            (Some(code), error @ PackageError::Limit(_)) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, format!("{error}. {}", error.hint()))
            }
            (Some(code), error) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, format!("{error}. {}", error.hint()))
            }
            (None, PackageError::Io(error)) => error.into(),
            (None, error) => Self::internal(&error),
        }
    }
}

impl From<PlanningError> for ApiError {
    fn from(error: PlanningError) -> Self {
        match error {
            PlanningError::Db(error) => error.into(),
            PlanningError::Package(error) => error.into(),
            PlanningError::Store(StoreError::Missing) => {
                Self::new(StatusCode::GONE, "gone", "The record's package is no longer kept. Upload it again.")
            }
            PlanningError::Store(error) => error.into(),
            PlanningError::Carried(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<CarriedError> for ApiError {
    fn from(error: CarriedError) -> Self {
        let refused = |code: &str| {
            let detail = format!("{error} {}", error.hint());
            let message = if code == "passphrase_required" { "is missing" } else { "is another one" };
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).with(code, "passphrase", message)
        };
        match error {
            CarriedError::Required => refused("passphrase_required"),
            CarriedError::Wrong => refused("passphrase_wrong"),
            CarriedError::Package(error) => error.into(),
            CarriedError::Secret(error) => error.into(),
        }
    }
}

impl From<TrustError> for ApiError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Db(error) => error.into(),
            TrustError::Untrusted(reason) => {
                let detail = format!("{reason} {}", reason.hint());
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "package_untrusted", detail)
            }
        }
    }
}

impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> Self {
        Self::internal(&error)
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(&error)
    }
}
