//! Who outside the package uses what an import changes.

use axum::Json;
use axum::extract::State;
use uuid::Uuid;

use crate::planning::Planning;
use crate::planning::impact::Impact;
use crate::wire::List;
use crate::wire::impact::Affected;

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query};
use crate::api::http::paging::{Page, cursor, from_cursor, page_size};
use crate::api::imports::planned::{Planned, import_of, sees};

/// Resources of the target outside the package that use what the import changes, by ID, with the children (fields) that
/// they use and that disappear. Those that the caller may not read are left out.
#[utoipa::path(
    get, path = "/api/v1/imports/{id}/impact", params(Page),
    responses(
        (status = 200, body = List<Affected>),
        (status = 409, description = "Its package is not parsed yet, or it has ended"),
    )
)]
pub async fn impact(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<Page>,
) -> Result<Json<List<Affected>>, ApiError> {
    let limit = page_size(query.limit)? as usize;
    let after: String = from_cursor(query.cursor.as_deref())?.unwrap_or_default();
    let mut connection = app.pool.acquire().await?;
    let record = import_of(&mut connection, &caller, id).await?;
    let planned = Planned::load(&app, &mut connection, record).await?;
    let import = planned.import(&app);
    let planning = Planning::make(import, &mut connection).await?;
    let impact = Impact::find(import, &planning, &mut connection).await?;
    let mut ids: Vec<String> = impact.ids().into_iter().filter(|id| *id > after).take(limit + 1).collect();
    let more = ids.len() > limit;
    ids.truncate(limit);
    let next_cursor = ids.last().filter(|_| more).map(cursor);
    let affected = impact.of(import, &mut connection, &ids).await?;
    let seen = affected.into_iter().filter(|(one, owner)| sees(&caller, &planned.record, owner, &one.directory));
    Ok(Json(List { items: seen.map(|(one, _)| one).collect(), next_cursor }))
}
