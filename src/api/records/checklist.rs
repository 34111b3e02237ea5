//! What is left to do by hand: of one record, and across imports; what of it is done by now; ticking it off.

use std::collections::{HashMap, HashSet};

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::db::record_notes::{self, Notes};
use crate::db::resources::{self as catalogue, overlays};
use crate::db::{self, DbError, PgConnection, records as rows};
use crate::domain::checklist::{By, ChecklistEntry, Task};
use crate::domain::record::RecordKind;
use crate::wire::List;
use crate::wire::record::{ChecklistLine, TickRequest};
use crate::wire::resource::{BatchLine, BatchResult};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::paging::{Page, cursor, from_cursor, page_size};
use crate::api::records::{find, lock, notes};
use crate::api::resources::writes::Write;

/// Entries of the list across imports that are looked at together,
const PORTION: i64 = 500;
/// and how many portions for one page: of those that hold nothing that is wanted.
const PORTIONS: usize = 20;
/// Resources that are switched on together.
const WRITTEN: usize = 1_000;

/// All that is left to do by hand, with what is done of it by now.
#[utoipa::path(get, path = "/api/v1/records/{id}/checklist", params(Page), responses((status = 200, body = List<ChecklistEntry>)))]
pub async fn checklist(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<Page>,
) -> Result<Json<List<ChecklistEntry>>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let record = find(&mut connection, &caller, id).await?;
    let total = record.checklist_total;
    let mut list = notes::page(&mut connection, &record, Notes::Checklist, total, &query).await?;
    if record.kind == RecordKind::Import {
        tick(&mut connection, record.domain_id, list.items.iter_mut().map(|entry| (id, entry)).collect()).await?;
    }
    Ok(Json(list))
}

/// Ticks an entry of an import off that does not tick itself off, or has it be done again.
#[utoipa::path(
    patch, path = "/api/v1/records/{id}/checklist/{entry}", request_body = TickRequest,
    responses((status = 200, body = ChecklistEntry), (status = 409, description = "It is to be done at the target"))
)]
pub async fn change(
    State(app): State<AppState>,
    caller: Caller,
    Path((id, place)): Path<(Uuid, u32)>,
    JsonBody(request): JsonBody<TickRequest>,
) -> Result<Json<ChecklistEntry>, ApiError> {
    let place = i32::try_from(place).map_err(|_| ApiError::not_found("entry"))?;
    let mut transaction = app.pool.begin().await?;
    let record = of_import(lock(&mut transaction, &caller, id).await?)?;
    let found = record_notes::page(&mut transaction, &record, Notes::Checklist, place, 1).await?;
    let mut entry: ChecklistEntry = found.into_iter().next().ok_or_else(|| ApiError::not_found("entry"))?;
    if entry.task().is_some_and(Task::ticks_itself) {
        return Err(ApiError::field("done", "cannot be said of this entry: it ticks itself off once it is done"));
    }
    let details = json!({"entry": place, "code": entry.code, "resource_id": entry.resource_id, "done": request.done});
    note(&mut transaction, &caller, "checklist.tick", ("record", id), details).await?;
    match request.done {
        true => db::checklist::tick(&mut transaction, id, place, caller.username()).await?,
        false => db::checklist::untick(&mut transaction, id, place).await?,
    }
    tick(&mut transaction, record.domain_id, vec![(id, &mut entry)]).await?;
    transaction.commit().await?;
    Ok(Json(entry))
}

/// What a migration left to do is to be done at its target.
fn of_import(record: rows::Record) -> Result<rows::Record, ApiError> {
    match record.kind {
        RecordKind::Import => Ok(record),
        RecordKind::Online => Err(ApiError::conflict("What a migration left to do is to be done at its target.")),
        RecordKind::Export => Err(ApiError::not_found("import")),
    }
}

/// Switches on, all or none, what arrived paused with an import: each value is put as it came.
#[utoipa::path(
    post, path = "/api/v1/records/{id}/checklist/schedules",
    responses(
        (status = 200, body = BatchResult),
        (status = 409, description = "It is to be done at the target, or a resource cannot be written"),
    )
)]
pub async fn switch_on(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<BatchResult>, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let record = of_import(find(&mut transaction, &caller, id).await?)?;
    let entries: Vec<ChecklistEntry> = record_notes::all(&mut transaction, &record, Notes::Checklist).await?;
    let paused: HashMap<String, ChecklistEntry> = entries
        .into_iter()
        .filter(|entry| !entry.paused().is_empty())
        .map(|entry| (entry.resource_id.clone(), entry))
        .collect();
    let mut ids: Vec<String> = paused.keys().cloned().collect();
    ids.sort_unstable();
    let mut write = Write::begin(&app, &caller, &mut transaction).await?;
    let refused = |(_, error): (usize, ApiError)| error;
    for ids in ids.chunks(WRITTEN) {
        // Held first: what is read then is what is replaced.
        catalogue::lock(&mut transaction, ids).await?;
        let own = overlays(&mut transaction, record.domain_id, ids).await?;
        let still = |id: &str| own.get(id).is_some_and(|own| paused[id].paused().iter().any(|one| one.still(own)));
        let mut lines = Vec::new();
        for row in catalogue::by_ids(&mut transaction, record.domain_id, ids).await? {
            if !still(&row.id) {
                continue;
            }
            let definition = row.definition_with(|own| {
                let paused = paused[&row.id].paused().iter().filter(|one| one.still(own)).collect::<Vec<_>>();
                paused.into_iter().for_each(|one| one.switch_on(own));
            })?;
            let (id, kind, name, directory) = (row.id, row.kind, row.name, row.directory);
            lines.push((lines.len(), BatchLine { id, kind, name, directory, definition }));
        }
        write.portion(&mut transaction, lines).await.map_err(refused)?;
    }
    let done = write.finish(&mut transaction).await.map_err(refused)?;
    note(&mut transaction, &caller, "checklist.switch_on", ("record", id), json!(done)).await?;
    transaction.commit().await?;
    Ok(Json(done))
}

/// What a list is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ListQuery {
    /// Only what is done, or what is not.
    done: Option<bool>,
    /// Only this.
    code: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// What the imports that the caller sees left to do, newest import first. A page may hold less than there is room for.
#[utoipa::path(get, path = "/api/v1/checklist", params(ListQuery), responses((status = 200, body = List<ChecklistLine>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<ChecklistLine>>, ApiError> {
    let limit = page_size(query.limit)? as usize;
    if query.code.as_deref().is_some_and(|code| Task::parse(code).is_none()) {
        return Err(ApiError::field("code", "is not one of checklists"));
    }
    let mut place: (Uuid, i32) = from_cursor(query.cursor.as_deref())?.unwrap_or((Uuid::max(), -1));
    let requested_by = (!caller.sees_all_records()).then(|| caller.username());
    let mut connection = app.pool.acquire().await?;
    let (mut items, mut more) = (Vec::new(), true);
    for _ in 0..PORTIONS {
        let code = query.code.as_deref();
        let across = db::checklist::across(&mut connection, caller.domain_id(), requested_by, code, place, PORTION);
        let mut found = across.await?;
        more = found.len() as i64 == PORTION;
        let entries = found.iter_mut().map(|line| (line.record_id, &mut line.entry)).collect();
        tick(&mut connection, caller.domain_id(), entries).await?;
        for line in found {
            if items.len() == limit {
                more = true;
                break;
            }
            place = (line.record_id, line.entry.id as i32);
            if query.done.is_none_or(|done| done == line.entry.done) {
                let (record_id, record_name) = (line.record_id, line.record_name);
                items.push(ChecklistLine { record_id, record_name, entry: line.entry });
            }
        }
        if items.len() == limit || !more {
            break;
        }
    }
    Ok(Json(List { items, next_cursor: more.then(|| cursor(&place)) }))
}

/// Says of entries of imports, each with its record, what is done by now. By what that is seen is not told.
pub(in crate::api) async fn tick(
    connection: &mut PgConnection,
    domain_id: i32,
    mut entries: Vec<(Uuid, &mut ChecklistEntry)>,
) -> Result<(), DbError> {
    let mut seen_by: Vec<Option<By>> = entries.iter_mut().map(|(_, entry)| entry.by.take()).collect();
    let of_itself = |entry: &ChecklistEntry| entry.task().is_some_and(Task::ticks_itself);
    let by_hand: Vec<(Uuid, i32)> = entries
        .iter()
        .filter(|(_, entry)| !of_itself(entry))
        .map(|(record, entry)| (*record, entry.id as i32))
        .collect();
    if let (Some(from), Some(to)) = (by_hand.iter().map(|one| one.1).min(), by_hand.iter().map(|one| one.1).max()) {
        let records: HashSet<Uuid> = by_hand.iter().map(|one| one.0).collect();
        let records: Vec<Uuid> = records.into_iter().collect();
        let ticks = db::checklist::ticks(connection, &records, from, to).await?;
        let mut ticks: HashMap<(Uuid, i32), db::checklist::Tick> =
            ticks.into_iter().map(|tick| ((tick.record_id, tick.entry), tick)).collect();
        for (record, entry) in &mut entries {
            if let Some(tick) = ticks.remove(&(*record, entry.id as i32)).filter(|_| !of_itself(entry)) {
                (entry.done, entry.done_by, entry.done_at) = (true, Some(tick.done_by), Some(tick.done_at));
            }
        }
    }
    let ids: HashSet<&String> =
        entries.iter().filter(|(_, entry)| of_itself(entry)).map(|(_, entry)| &entry.resource_id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = ids.into_iter().cloned().collect();
    let own = overlays(connection, domain_id, &ids).await?;
    let off = match seen_by.iter().flatten().any(|by| matches!(by, By::Feature(_))) {
        true => db::environment::disabled_features(connection).await?,
        false => HashSet::new(),
    };
    for ((_, entry), by) in entries.iter_mut().zip(&mut seen_by).filter(|((_, entry), _)| of_itself(entry)) {
        let own = own.get(&entry.resource_id);
        entry.done = match by {
            Some(By::Feature(kind)) => !off.contains(kind),
            // What is not there any more needs nothing.
            Some(By::Paused(paused)) => !own.is_some_and(|own| paused.iter().any(|one| one.still(own))),
            None => !own.is_some_and(|own| own.lacks_secrets()),
        };
    }
    Ok(())
}
