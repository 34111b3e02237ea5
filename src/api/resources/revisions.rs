//! The versions of a resource, and what differs between two.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::db::contents::{self, Version};
use crate::db::{PgConnection, resources};
use crate::domain::resource::Hash;
use crate::planning::difference::{Side, changes};
use crate::wire::List;
use crate::wire::difference::RevisionDifference;
use crate::wire::resource::{Revision, WholeRevision};

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{Page, from_cursor, page, page_size};
use crate::api::resources::readable;

/// The versions of a resource, newest first.
#[utoipa::path(get, path = "/api/v1/resources/{id}/revisions", params(Page), responses((status = 200, body = List<Revision>)))]
pub async fn revisions(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
) -> Result<Json<List<Revision>>, ApiError> {
    let limit = page_size(query.limit)?;
    let before: i64 = from_cursor(query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let mut connection = app.pool.acquire().await?;
    let row = readable(&mut connection, &caller, &id).await?;
    let rows = resources::revisions(&mut connection, caller.domain_id(), &row.id, before, limit + 1).await?;
    Ok(Json(page(
        rows,
        limit,
        |row| row.revision,
        |row| Revision {
            revision: row.revision,
            updated_by: row.updated_by,
            updated_at: row.updated_at,
            record_id: row.record_id,
            content_hash: Hash::from_slice(&row.content_hash).map(|hash| hash.to_string()).unwrap_or_default(),
        },
    )))
}

/// A version of a resource of which the caller may read what stands now, and might have read what stood then.
async fn version(connection: &mut PgConnection, caller: &Caller, id: &str, revision: i64) -> Result<Version, ApiError> {
    let found = contents::version(connection, caller.domain_id(), id, revision).await?;
    let seen = found.filter(|version| caller.may_read(&version.owner, &version.directory));
    seen.ok_or_else(|| ApiError::not_found("revision"))
}

/// A resource as it was in a revision.
#[utoipa::path(get, path = "/api/v1/resources/{id}/revisions/{revision}", responses((status = 200, body = WholeRevision)))]
pub async fn revision(
    State(app): State<AppState>,
    caller: Caller,
    Path((id, revision)): Path<(String, i64)>,
) -> Result<Json<WholeRevision>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let row = readable(&mut connection, &caller, &id).await?;
    let found = version(&mut connection, &caller, &row.id, revision).await?;
    let side = Side::of(&found)?;
    Ok(Json(WholeRevision {
        revision,
        name: side.name,
        directory: side.directory,
        definition: side.definition,
        updated_by: found.updated_by,
        updated_at: found.updated_at,
        record_id: found.record_id,
        content_hash: Hash::from_slice(&found.content_hash).map(|hash| hash.to_string()).unwrap_or_default(),
    }))
}

/// Which revisions.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Between {
    /// The earlier one; the one before the later one unless given.
    from: Option<i64>,
    /// The later one; the current one unless given.
    to: Option<i64>,
}

/// What differs between two revisions of a resource.
#[utoipa::path(get, path = "/api/v1/resources/{id}/diff", params(Between), responses((status = 200, body = RevisionDifference)))]
pub async fn difference(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Between>,
) -> Result<Json<RevisionDifference>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let row = readable(&mut connection, &caller, &id).await?;
    let to = query.to.unwrap_or(row.revision);
    let from = query.from.unwrap_or_else(|| to.saturating_sub(1));
    let before = Side::of(&version(&mut connection, &caller, &row.id, from).await?)?;
    let after = Side::of(&version(&mut connection, &caller, &row.id, to).await?)?;
    let changes = changes(Some(&before), &after);
    Ok(Json(RevisionDifference { from, to, before: before.definition, after: after.definition, changes }))
}
