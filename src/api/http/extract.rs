//! What handlers take from a request. Whatever is wrong with it becomes a problem with a code.

use std::any::TypeId;

use axum::body::{Body, to_bytes};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum_extra::headers::{HeaderMapExt, IfNoneMatch};
use bytes::Bytes;
use chrono::{DateTime, Datelike, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::json::{self, Refused, Unread};

use super::AppState;
use super::bounds::broken;
use super::error::ApiError;

/// A JSON body.
pub struct JsonBody<T>(pub T);

/// A JSON body, or none.
pub struct MaybeJson<T>(pub Option<T>);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        if !is_media_type(request.headers(), &["application/json"]) {
            return Err(ApiError::media_type("application/json"));
        }
        let limit = app.config.limits.max_definition_bytes + 64 * 1024;
        Ok(Self(parse(&read(request.into_body(), limit).await?)?))
    }
}

impl<T: DeserializeOwned> FromRequest<AppState> for MaybeJson<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let json = is_media_type(request.headers(), &["application/json"]);
        let limit = app.config.limits.max_definition_bytes;
        let bytes = read(request.into_body(), limit).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(None));
        }
        if json { Ok(Self(Some(parse(&bytes)?))) } else { Err(ApiError::media_type("application/json")) }
    }
}

/// Reads a body of up to so many bytes.
pub async fn read(body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let read = to_bytes(body, usize::try_from(limit).unwrap_or(usize::MAX)).await;
    read.map_err(|error| broken(&error))
}

/// Parses JSON: 422 `invalid_body` where it is none, 422 `invalid_field` where a field is wrong.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let value: Value = json::outside(bytes).map_err(|error| match error {
        Unread::Refused(Refused::Many) => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("The body is too large: {error}."))
        }
        _ => ApiError::body(format!("The body is not valid JSON: {error}.")),
    })?;
    if holds_nul(&value) {
        return Err(ApiError::field("body", "must not contain the character U+0000"));
    }
    if !value.is_object() {
        return Err(ApiError::body("The body must be a JSON object."));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        // A missing field is named by the message alone.
        let missing =
            message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')).map(str::to_owned);
        match missing {
            Some(field) => ApiError::field(&if path == "." { field } else { format!("{path}.{field}") }, "is missing"),
            None => ApiError::field(&path, message),
        }
    })
}

pub(super) fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(key, item)| key.contains('\0') || holds_nul(item)),
        _ => false,
    }
}

/// Whether the request's body has one of some media types.
pub fn is_media_type(headers: &HeaderMap, wanted: &[&str]) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    wanted.iter().any(|one| essence.eq_ignore_ascii_case(one))
}

/// The caller has this version already (`If-None-Match`).
pub(in crate::api) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.typed_get::<IfNoneMatch>();
    given.zip(etag.parse().ok()).is_some_and(|(given, etag)| !given.precondition_passes(&etag))
}

/// Query parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = parts.uri.query().unwrap_or_default();
        if text.contains("%00") {
            return Err(ApiError::field("query", "must not contain the character U+0000"));
        }
        let found = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        found.map(|query| Self(query.0)).map_err(|error| ApiError::field("query", error.body_text()))
    }
}

/// Path parameters.
pub struct Path<T>(pub T);

/// A text that cannot be one is 422, as any ID that breaks the rules; a UUID that is none names nothing.
impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(PathRejection::FailedToDeserializePathParams(error))
                if TypeId::of::<T>() == TypeId::of::<String>()
                    && matches!(error.kind(), ErrorKind::InvalidUtf8InPathParam { .. }) =>
            {
                Err(ApiError::field("path", "must be UTF-8"))
            }
            Err(_) => Err(ApiError::not_found("thing: its ID is not one")),
        }
    }
}

/// A time that the database knows too: of the years 1 to 9999.
pub fn time(field: &str, given: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, ApiError> {
    match given {
        Some(time) if !(1..=9999).contains(&time.year()) => {
            Err(ApiError::field(field, "must be of the years 1 to 9999"))
        }
        other => Ok(other),
    }
}
