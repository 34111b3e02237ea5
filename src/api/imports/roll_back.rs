//! Undoing an import.

use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::db::records::Queued;
use crate::db::roll_back::Touched;
use crate::db::{self, jobs};
use crate::domain::record::JobKind;
use crate::domain::transfer::Transfer;
use crate::planning::touched::{problem, touched};
use crate::wire::record::Record;

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::Path;
use crate::api::http::idempotency::Once;
use crate::api::imports::planned::an_import;
use crate::api::records::{Accepted, find, lock};

/// So many of what stands in the way are named in the problem's own text.
const NAMED: usize = 5;

/// Undoes an import, all of it or nothing: what it made goes, what it changed is as it was before. Refused while
/// something was touched since: what it wrote was changed or deleted, or something else now refers to what would go.
/// Secrets and environment-specific values that were filled in since stay. Another import of the same package is a
/// record of its own.
#[utoipa::path(
    post, path = "/api/v1/imports/{id}/rollback",
    responses(
        (status = 202, body = Record),
        (status = 409, description = "It has not ended, wrote nothing, or something was touched since: `errors` names it"),
    )
)]
pub async fn roll_back(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
) -> Result<Accepted<Record>, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let record = an_import(lock(&mut transaction, &caller, id).await?)?;
    let undo = record.status.undoable()?;
    let touched = touched(&mut transaction, &record).await?;
    if !touched.is_empty() {
        return Err(refused(&caller, &touched));
    }
    let details = serde_json::json!({"name": record.name});
    note(&mut transaction, &caller, "import.rollback", ("record", id), details).await?;
    let transfer = Transfer { undo, ..record.transfer };
    db::records::queue(&mut transaction, id, Queued::RolledBack(caller.username().to_owned(), transfer)).await?;
    jobs::queue(&mut transaction, JobKind::RollBack, id, caller.domain_id()).await?;
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// 409, with what the caller may know of what was touched.
fn refused(caller: &Caller, touched: &[Touched]) -> ApiError {
    let seen = touched.iter().filter(|found| caller.may_read(&found.owner, &found.directory));
    let seen: Vec<_> = seen.map(problem).collect();
    let named: Vec<&str> = seen.iter().take(NAMED).map(|found| found.message.as_str()).collect();
    let more = seen.len() - named.len();
    let mut detail = format!("The import cannot be rolled back. {}", named.join(" "));
    if more > 0 {
        detail.push_str(&format!(" And {more} more."));
    }
    if seen.len() < touched.len() {
        detail.push_str(" Something that you may not see was touched since.");
    }
    ApiError::new(StatusCode::CONFLICT, "touched_since", detail).with_all(seen)
}
