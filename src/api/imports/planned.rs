//! An import that was parsed, with what its plan is made of.

use axum::http::StatusCode;
use uuid::Uuid;

use crate::db::PgConnection;
use crate::db::records::Record as Row;
use crate::domain::import_plan::Entry;
use crate::domain::manifest::Manifest;
use crate::domain::record::RecordKind;
use crate::planning::{self, Import};
use crate::wire::record::PlanRequest;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::records::{decides, find};

/// An import and what its plan is made of.
pub(in crate::api) struct Planned {
    pub(in crate::api) record: Row,
    manifest: Manifest,
    request: PlanRequest,
    pub(in crate::api) entries: Vec<Entry>,
}

impl Planned {
    /// # Errors
    /// It is not parsed yet, or has ended.
    pub(in crate::api) async fn load(
        app: &AppState,
        connection: &mut PgConnection,
        record: Row,
    ) -> Result<Self, ApiError> {
        if record.status.is_final() {
            let detail = "The import has ended. Its items say what it did, and each has a difference of its own.";
            return Err(ApiError::new(StatusCode::CONFLICT, "wrong_state", detail));
        }
        let entries = planning::entries(app, connection, record.id).await?;
        if record.plan_digest.is_none() {
            let detail = "The package is not parsed yet. Ask again when the import awaits confirmation.";
            return Err(ApiError::new(StatusCode::CONFLICT, "wrong_state", detail));
        }
        let manifest = planning::manifest(connection, record.id).await?;
        let request = PlanRequest::of(&record.options).unwrap_or_default();
        Ok(Self { record, manifest, request, entries })
    }

    pub(in crate::api) fn import<'a>(&'a self, app: &'a AppState) -> Import<'a> {
        Import { app, record: &self.record, manifest: &self.manifest, request: &self.request, entries: &self.entries }
    }
}

/// He may read what an import changes here: the resource, or all of what he may approve.
pub(in crate::api) fn sees(caller: &Caller, record: &Row, owner: &str, directory: &str) -> bool {
    caller.may_read(owner, directory) || decides(caller, record)
}

/// An import that the caller may see.
pub(in crate::api) async fn import_of(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
) -> Result<Row, ApiError> {
    an_import(find(connection, caller, id).await?)
}

/// # Errors
/// 404: the record is none.
pub(in crate::api) fn an_import(record: Row) -> Result<Row, ApiError> {
    if record.kind == RecordKind::Import { Ok(record) } else { Err(ApiError::not_found("import")) }
}
