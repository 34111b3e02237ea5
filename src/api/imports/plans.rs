//! The plan of an import: made anew with other options, and executed. Who asks is not kept waiting for long: a job goes on
//! then, and the record says what a request would have answered.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::db::records::Queued;
use crate::db::{self, PgConnection, jobs};
use crate::domain::approval::Approval;
use crate::domain::record::JobKind;
use crate::domain::resource::ResourceId;
use crate::domain::transfer::{Asked, Then, Transfer};
use crate::planning;
use crate::planning::draft::Draft;
use crate::trust;
use crate::wire::FieldProblem;
use crate::wire::record::{PlanRequest, Record};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, MaybeJson, Path, parse};
use crate::api::http::idempotency::Once;
use crate::api::http::patience::{patience, within};
use crate::api::imports::planned::an_import;
use crate::api::records::{Accepted, find, lock, to_wire};

/// Sets the options and plans anew. An approval that the plan before waits for falls.
#[utoipa::path(
    put, path = "/api/v1/imports/{id}/plan",
    request_body = PlanRequest,
    responses(
        (status = 200, body = Record),
        (status = 202, body = Record, description = "It takes long: the record is `running`, then awaits confirmation again"),
        (status = 409, description = "It does not await confirmation"),
        (status = 410, description = "The package is no longer kept"),
    )
)]
pub async fn plan(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<Response, ApiError> {
    let details = serde_json::json!({"resolutions": request.resolutions.len()});
    let Some((planned, draft)) = drafted(&app, &caller, (id, Attempt::Plan), &request).await? else {
        let later = Later { action: "import.plan", details, asked: asked(&caller, &request, Then::Confirm) };
        return Ok(later.queue(&app, &caller, (id, Attempt::Plan), &once).await?.into_response());
    };
    fitting(&draft)?;
    let details = serde_json::json!({"plan_digest": draft.plan.digest, "resolutions": request.resolutions.len()});
    let mut transaction = app.pool.begin().await?;
    same(&planned, &Attempt::Plan.with(lock(&mut transaction, &caller, id).await?)?)?;
    note(&mut transaction, &caller, "import.plan", ("record", id), details).await?;
    draft.save(&mut transaction, id, &request).await?;
    let record = find(&mut transaction, &caller, id).await?;
    transaction.commit().await?;
    Ok(Json(to_wire(record)?).into_response())
}

/// An import that awaits confirmation, held until the transaction ends.
pub(in crate::api) async fn import(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
    attempt: &'static str,
) -> Result<db::records::Record, ApiError> {
    let record = an_import(lock(connection, caller, id).await?)?;
    record.status.confirmable(attempt)?;
    Ok(record)
}

/// What is tried with an import.
#[derive(Debug, Clone, Copy)]
enum Attempt {
    /// To plan it anew, also where its plan waits for a second person.
    Plan,
    /// To execute it.
    Execute,
}

impl Attempt {
    /// # Errors
    /// It is none, or is not in a state for it.
    fn with(self, record: db::records::Record) -> Result<db::records::Record, ApiError> {
        let record = an_import(record)?;
        match self {
            Self::Plan => record.status.plannable("planned")?,
            Self::Execute => record.status.confirmable("executed")?,
        }
        Ok(record)
    }
}

/// Plans an import as it waits, which nobody is kept from changing meanwhile; none: that takes long.
async fn drafted(
    app: &AppState,
    caller: &Caller,
    (id, attempt): (Uuid, Attempt),
    request: &PlanRequest,
) -> Result<Option<(db::records::Record, Draft)>, ApiError> {
    within(app, draft(app.clone(), caller.clone(), (id, attempt), request.clone())).await
}

async fn draft(
    app: AppState,
    caller: Caller,
    (id, attempt): (Uuid, Attempt),
    request: PlanRequest,
) -> Result<(db::records::Record, Draft), ApiError> {
    let mut transaction = app.pool.begin().await?;
    // A little longer than anybody waits, who is told first then.
    db::locks::take_time(&mut transaction, patience(&app) * 3 / 2).await?;
    let record = attempt.with(find(&mut transaction, &caller, id).await?)?;
    checked(&mut transaction, &record, &request).await?;
    let draft = Draft::make(&app, &mut transaction, &record, &request).await?;
    Ok((record, draft))
}

/// A plan is of the package that it was made of.
fn same(planned: &db::records::Record, now: &db::records::Record) -> Result<(), ApiError> {
    if planned.package_key == now.package_key { Ok(()) } else { Err(ApiError::busy()) }
}

/// Refuses resolutions that do not fit.
fn fitting(draft: &Draft) -> Result<(), ApiError> {
    match draft.misfits.first() {
        Some(misfit) => Err(ApiError::field(&misfit.field, &misfit.message)),
        None => Ok(()),
    }
}

fn asked(caller: &Caller, request: &PlanRequest, then: Then) -> Asked {
    let stored = PlanRequest { plan_digest: None, ..request.clone() };
    Asked { by: caller.username().to_owned(), options: serde_json::json!(stored), then }
}

/// What goes on behind a request.
struct Later {
    action: &'static str,
    details: Value,
    asked: Asked,
}

impl Later {
    async fn queue(
        self,
        app: &AppState,
        caller: &Caller,
        (id, attempt): (Uuid, Attempt),
        once: &Once,
    ) -> Result<Accepted<Record>, ApiError> {
        let mut transaction = app.pool.begin().await?;
        let record = attempt.with(lock(&mut transaction, caller, id).await?)?;
        note(&mut transaction, caller, self.action, ("record", id), self.details).await?;
        let transfer = Transfer { asked: Some(self.asked), ..record.transfer };
        db::records::queue(&mut transaction, id, Queued::Plan(transfer)).await?;
        jobs::queue(&mut transaction, JobKind::Plan, id, caller.domain_id()).await?;
        let accepted = Accepted::record(find(&mut transaction, caller, id).await?)?;
        accepted.keep(once, &mut transaction, None).await?;
        transaction.commit().await?;
        Ok(accepted)
    }
}

/// The options of a request, whatever the package has.
async fn checked(
    connection: &mut PgConnection,
    record: &db::records::Record,
    request: &PlanRequest,
) -> Result<(), ApiError> {
    planning::options(request).map_err(|(field, message)| ApiError::field(&field, message))?;
    if let Some(owner) = &request.owner
        && db::users::by_name(connection, record.domain_id, owner).await?.is_none()
    {
        return Err(ApiError::field("owner", format!("names {owner}, who is not a user of this domain")));
    }
    Ok(())
}

/// Starts the import, or has it wait for a second person where the environment wants one.
///
/// A body with options replaces the stored ones; one of the digest alone, or none, leaves them.
#[utoipa::path(
    post, path = "/api/v1/imports/{id}/execute",
    request_body = Option<PlanRequest>,
    responses(
        (status = 202, body = Record),
        (
            status = 409,
            description = "It does not await confirmation, or the plan is another than that of `plan_digest`",
        ),
        (status = 410, description = "The package is no longer kept"),
        (status = 422, description = "The options are wrong, or the source of the package is not trusted any more"),
    )
)]
pub async fn execute(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    Path(id): Path<Uuid>,
    MaybeJson(body): MaybeJson<Map<String, Value>>,
) -> Result<Accepted<Record>, ApiError> {
    let body = body.unwrap_or_default();
    let request: PlanRequest = parse(&serde_json::to_vec(&body).unwrap_or_default())?;
    let mut connection = app.pool.acquire().await?;
    let shown = db::environment::import_rules(&mut connection).await?.approval_required;
    let record = Attempt::Execute.with(find(&mut connection, &caller, id).await?)?;
    // What is chosen already is planned already; resolutions are held against what is here now.
    let chosen = PlanRequest { plan_digest: None, ..request.clone() };
    let other = PlanRequest::of(&record.options).as_ref() != Some(&chosen) || !chosen.resolutions.is_empty();
    let has_options = other && body.keys().any(|key| key != "plan_digest");
    let manifest = planning::manifest(&mut connection, id).await?;
    trust::check(&app, &mut connection, caller.domain_id(), &manifest.environment).await?;
    let details = serde_json::json!({"name": record.name});
    let lacks = record.error.as_ref().is_some_and(|error| error["code"] == "package_incomplete");
    // Execution plans by itself; here only what may be refused for what a plan says, or is shown to a second person.
    let may_misfit = has_options && (!request.resolutions.is_empty() || manifest.thin.is_some());
    let unplanned = has_options && !may_misfit && !lacks && !shown && request.plan_digest.is_none();
    let (mut options, mut draft) = (None, None);
    if unplanned {
        checked(&mut connection, &record, &request).await?;
        options = Some(serde_json::json!(request));
    }
    drop(connection);
    let chosen = if has_options { request.clone() } else { PlanRequest::of(&record.options).unwrap_or_default() };
    if !unplanned && (has_options || request.plan_digest.is_some() || lacks || shown) {
        draft = drafted(&app, &caller, (id, Attempt::Execute), &chosen).await?;
        if draft.is_none() {
            let then = Then::Execute { plan_digest: request.plan_digest };
            let later = Later { action: "import.execute", details, asked: asked(&caller, &chosen, then) };
            return later.queue(&app, &caller, (id, Attempt::Execute), &once).await;
        }
    }
    let mut transaction = app.pool.begin().await?;
    let rules = db::environment::hold_import_rules(&mut transaction).await?;
    let record = import(&mut transaction, &caller, id, "executed").await?;
    if rules.approval_required != shown {
        // That was changed just now.
        return Err(ApiError::busy());
    }
    let mut waits = None;
    if let Some((planned, draft)) = draft {
        same(&planned, &record)?;
        if has_options || request.plan_digest.is_none() {
            fitting(&draft)?;
        }
        // A map of the stored plan fitted when it was stored.
        if request.plan_digest.is_some_and(|digest| digest != draft.plan.digest || !draft.misfits.is_empty()) {
            return Err(stale(draft.moved(&mut transaction, &record).await?));
        }
        if !draft.lacking.is_empty() {
            return Err(incomplete(&draft.lacking));
        }
        waits = shown.then(|| Approval::asked(caller.username(), rules.now, Some(draft.plan.digest.clone())));
        draft.save(&mut transaction, id, &chosen).await?;
    }
    note(&mut transaction, &caller, "import.execute", ("record", id), details).await?;
    match waits {
        Some(asked) => db::records::await_approval(&mut transaction, id, asked).await?,
        None => {
            db::records::queue(&mut transaction, id, Queued::Execute(options)).await?;
            db::windows::queue_import(&mut transaction, id, caller.domain_id(), rules.closed_until()).await?;
        }
    }
    let accepted = Accepted::record(find(&mut transaction, &caller, id).await?)?;
    accepted.keep(&once, &mut transaction, None).await?;
    transaction.commit().await?;
    Ok(accepted)
}

/// 409 `package_incomplete`, with the resources whose contents are to be sent.
fn incomplete(lacking: &[ResourceId]) -> ApiError {
    let part = |id: &ResourceId| FieldProblem {
        code: "package_incomplete".to_owned(),
        field: id.to_string(),
        message: "Its contents were left out of the package and are not here.".to_owned(),
    };
    let detail = "The package leaves out contents that this environment does not have as they were. Send them.";
    ApiError::new(StatusCode::CONFLICT, "package_incomplete", detail).with_all(lacking.iter().map(part).collect())
}

/// 409 `plan_stale`, with what is another now.
fn stale(moved: Vec<FieldProblem>) -> ApiError {
    let detail = "The target is not as it was when this was planned. Look at the plan again, then execute with its new plan_digest.";
    ApiError::new(StatusCode::CONFLICT, "plan_stale", detail).with_all(moved)
}
