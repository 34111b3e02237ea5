//! An upload while something is done with it.

use axum::http::StatusCode;
use uuid::Uuid;

use crate::db::PgConnection;
use crate::db::uploads::{self as rows, Upload};

use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;

/// An upload of the caller, held until the transaction ends.
pub(in crate::api) async fn held(connection: &mut PgConnection, caller: &Caller, id: Uuid) -> Result<Upload, ApiError> {
    let upload = rows::lock(connection, caller.user.id, id).await?.ok_or_else(|| ApiError::not_found("upload"))?;
    if upload.expired {
        return Err(ApiError::new(StatusCode::GONE, "gone", "The upload has expired. Begin a new one."));
    }
    Ok(upload)
}
