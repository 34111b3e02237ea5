//! Approvals: imports that wait for a second person, and what he says of them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::db::records::{self as rows, Filter, Queued};
use crate::db::{self, PgConnection};
use crate::domain::approval::Approval;
use crate::domain::record::{Final, RecordKind, RecordStatus};
use crate::planning::items::finalise_items;
use crate::wire::List;
use crate::wire::record::{DecisionRequest, Record, RecordError};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{MaybeJson, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{Page, from_cursor, page, page_size};
use crate::api::records::{Accepted, find, to_wire};

/// The longest comment, in characters.
const MOST: usize = 1_000;

/// The imports that wait for a second person, newest first.
#[utoipa::path(get, path = "/api/v1/approvals", params(Page), responses((status = 200, body = List<Record>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Json<List<Record>>, ApiError> {
    let limit = page_size(query.limit)?;
    let before: Option<Uuid> = from_cursor(query.cursor.as_deref())?;
    let (kind, status) = (Some(RecordKind::Import), Some(RecordStatus::AwaitingApproval));
    let filter = Filter { kind, status, ..Filter::default() };
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, caller.domain_id(), &filter, before, limit + 1).await?;
    let listed = page(found, limit, |row| row.id, to_wire);
    let items = listed.items.into_iter().collect::<Result<_, _>>()?;
    Ok(Json(List { items, next_cursor: listed.next_cursor }))
}

/// Lets the plan that is shown be applied, and no other. Nobody approves what he asked for himself, here or at the source.
#[utoipa::path(
    post, path = "/api/v1/approvals/{id}/approve", request_body = Option<DecisionRequest>,
    responses(
        (status = 202, body = Record),
        (status = 409, description = "It does not await approval, or its plan is another than that of `plan_digest`"),
    )
)]
pub async fn approve(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
    MaybeJson(request): MaybeJson<DecisionRequest>,
) -> Result<Accepted<Record>, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let rules = db::environment::hold_import_rules(&mut transaction).await?;
    let (record, asked) = waiting(&mut transaction, &caller, id, "approved").await?;
    let comment = said(&record, request.unwrap_or_default())?;
    let details = json!({"name": record.name, "requested_by": asked.requested_by, "plan_digest": record.plan_digest, "comment": comment});
    note(&mut transaction, &caller, "import.approve", ("record", id), details).await?;
    let approved = asked.approved(caller.username(), rules.now, comment);
    rows::queue(&mut transaction, id, Queued::Approved(approved)).await?;
    db::windows::queue_import(&mut transaction, id, caller.domain_id(), rules.closed_until()).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// Ends an import that waits for a second person: nothing of it is applied.
#[utoipa::path(
    post, path = "/api/v1/approvals/{id}/reject", request_body = Option<DecisionRequest>,
    responses(
        (status = 200, body = Record),
        (status = 409, description = "It does not await approval, or its plan is another than that of `plan_digest`"),
    )
)]
pub async fn reject(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    MaybeJson(request): MaybeJson<DecisionRequest>,
) -> Result<Json<Record>, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let rules = db::environment::hold_import_rules(&mut transaction).await?;
    let (record, asked) = waiting(&mut transaction, &caller, id, "rejected").await?;
    let comment = said(&record, request.unwrap_or_default())?;
    let details = json!({"name": record.name, "requested_by": asked.requested_by, "comment": comment});
    note(&mut transaction, &caller, "import.reject", ("record", id), details).await?;
    let counts = finalise_items(&mut transaction, id).await?.counts;
    let because = json!(cause(caller.username(), comment.as_deref()));
    let rejected = asked.rejected(caller.username(), rules.now, comment);
    rows::reject(&mut transaction, id, rejected, (Final::FAILED, because, counts)).await?;
    let record = find(&mut transaction, &caller, id).await?;
    transaction.commit().await?;
    Ok(Json(to_wire(record)?))
}

/// An import that waits for a second person, who the caller is; held until the transaction ends.
async fn waiting(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
    attempt: &'static str,
) -> Result<(rows::Record, Approval), ApiError> {
    let found = rows::lock(connection, caller.domain_id(), id).await?;
    // Of others he may not know: `find` says so.
    find(connection, caller, id).await?;
    let record = found.filter(|record| record.kind == RecordKind::Import);
    let record = record.ok_or_else(|| ApiError::not_found("import"))?;
    record.status.approvable(attempt)?;
    let asked = record.approval.clone().ok_or(db::DbError::Corrupt("records.approval"))?;
    let asking = [Some(&record.requested_by), Some(&asked.requested_by), record.source_requested_by.as_ref()];
    if asking.into_iter().flatten().any(|name| name == caller.username()) {
        let detail = "Nobody decides about what he asked for himself. Ask somebody else, or cancel the import.";
        return Err(ApiError::forbidden(detail));
    }
    Ok((record, asked))
}

/// The comment; the plan is the one that the caller has seen.
fn said(record: &rows::Record, request: DecisionRequest) -> Result<Option<String>, ApiError> {
    if request.plan_digest.is_some() && request.plan_digest != record.plan_digest {
        let detail = "The plan is another one now. Look at it again, then decide with its plan_digest.";
        return Err(ApiError::new(StatusCode::CONFLICT, "plan_stale", detail));
    }
    let comment = request.comment.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match &comment {
        Some(text) if text.chars().count() > MOST => {
            Err(ApiError::field("comment", format!("must have at most {MOST} characters")))
        }
        _ => Ok(comment),
    }
}

/// Why a rejected import has ended.
fn cause(by: &str, comment: Option<&str>) -> RecordError {
    let message = match comment {
        Some(comment) => format!("{by} rejected the import: {comment}"),
        None => format!("{by} rejected the import."),
    };
    let hint = "Nothing was applied. Try again with another plan, or ask who rejected it.".to_owned();
    RecordError { code: "approval_rejected".to_owned(), message, hint }
}
