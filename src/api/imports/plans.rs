//! The plan of an import: made anew with other options, and executed.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::db::record_items::NewChunk;
use crate::db::records::{Plan, Queued};
use crate::db::{self, DbError, PgConnection};
use crate::domain::approval::Approval;
use crate::domain::import_plan::{Entry, Facts, Options, Resolution};
use crate::domain::record::RecordKind;
use crate::domain::resource::ResourceId;
use crate::planning::{self, Import, Planning};
use crate::trust;
use crate::wire::FieldProblem;
use crate::wire::record::{Item, PlanRequest, Record};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, MaybeJson, Path, parse};
use crate::api::http::idempotency::Once;
use crate::api::records::{Accepted, find, lock, to_wire};

/// Sets the options and plans anew. An approval that the plan before waits for falls.
#[utoipa::path(
    put, path = "/api/v1/imports/{id}/plan",
    request_body = PlanRequest,
    responses(
        (status = 200, body = Record),
        (status = 409, description = "It does not await confirmation"),
        (status = 410, description = "The package is no longer kept"),
    )
)]
pub async fn plan(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<Json<Record>, ApiError> {
    let mut transaction = app.pool.begin().await?;
    db::locks::take_time(&mut transaction).await?;
    let record = lock_import(&mut transaction, &caller, id).await?;
    record.status.plannable("planned")?;
    let draft = Draft::make(&app, &mut transaction, &record, &request).await?.fitting()?;
    let details = serde_json::json!({"plan_digest": draft.plan.digest, "resolutions": request.resolutions.len()});
    note(&mut transaction, &caller, "import.plan", ("record", id), details).await?;
    draft.save(&mut transaction, &record, &request).await?;
    let record = find(&mut transaction, &caller, id).await?;
    transaction.commit().await?;
    Ok(Json(to_wire(record)?))
}

/// An import that awaits confirmation, held until the transaction ends.
pub(in crate::api) async fn import(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
    attempt: &'static str,
) -> Result<db::records::Record, ApiError> {
    let record = lock_import(connection, caller, id).await?;
    record.status.confirmable(attempt)?;
    Ok(record)
}

/// An import, held until the transaction ends.
async fn lock_import(
    connection: &mut PgConnection,
    caller: &Caller,
    id: Uuid,
) -> Result<db::records::Record, ApiError> {
    let record = lock(connection, caller, id).await?;
    if record.kind == RecordKind::Import { Ok(record) } else { Err(ApiError::not_found("import")) }
}

/// A plan as it would be saved.
struct Draft {
    plan: Plan,
    items: Vec<NewChunk>,
    /// Contents that were left out and are not here: nothing can be executed without them.
    lacking: Vec<ResourceId>,
    /// Resolutions for what is not in the package, or to what is not here: (ID, what is wrong).
    misfits: Vec<(ResourceId, String)>,
}

fn misfits(options: &Options, entries: &[Entry], facts: &Facts) -> Vec<(ResourceId, String)> {
    let types: HashMap<&ResourceId, &str> = entries.iter().map(|entry| (&entry.id, entry.type_key.as_str())).collect();
    let misfit = |(id, resolution): (&ResourceId, &Resolution)| {
        let Some(resource_type) = types.get(id) else {
            return Some((id.clone(), "names a resource that is not in the package".to_owned()));
        };
        let Resolution::Map(target) = resolution else { return None };
        let fits = facts.resources.get(target).is_some_and(|found| found.here && found.type_key == *resource_type);
        (!fits).then(|| (id.clone(), format!("maps to {target}, which is not a {resource_type} of this domain")))
    };
    options.resolutions.iter().filter_map(misfit).collect()
}

/// The options of a request, whatever the package has.
async fn checked(
    connection: &mut PgConnection,
    record: &db::records::Record,
    request: &PlanRequest,
) -> Result<Options, ApiError> {
    let options = planning::options(request).map_err(|(field, message)| ApiError::field(&field, message))?;
    if let Some(owner) = &request.owner
        && db::users::by_name(connection, record.domain_id, owner).await?.is_none()
    {
        return Err(ApiError::field("owner", format!("names {owner}, who is not a user of this domain")));
    }
    Ok(options)
}

impl Draft {
    async fn make(
        app: &AppState,
        connection: &mut PgConnection,
        record: &db::records::Record,
        request: &PlanRequest,
    ) -> Result<Self, ApiError> {
        let options = checked(connection, record, request).await?;
        let entries = planning::entries(app, connection, record.id).await?;
        let manifest = planning::manifest(connection, record.id).await?;
        let import = Import { app, record, manifest: &manifest, request, entries: &entries };
        let planning = Planning::make(import, connection).await?;
        let misfits = misfits(&options, &entries, &planning.facts);
        let (plan, items) = planning.preview(&entries)?;
        let incomplete = planning.plan.error.as_ref().is_some_and(|error| error.code == "package_incomplete");
        let lacking = if incomplete { planning.plan.lacking } else { Vec::new() };
        Ok(Self { plan, items, lacking, misfits })
    }

    /// Refuses resolutions that do not fit.
    fn fitting(self) -> Result<Self, ApiError> {
        match self.misfits.first() {
            Some((id, message)) => Err(ApiError::field(&format!("resolutions.{id}"), message)),
            None => Ok(self),
        }
    }

    async fn save(
        self,
        connection: &mut PgConnection,
        record: &db::records::Record,
        request: &PlanRequest,
    ) -> Result<(), ApiError> {
        let stored = PlanRequest { plan_digest: None, ..request.clone() };
        db::record_items::replace(connection, record.id, &self.items).await?;
        Ok(db::records::save_plan(connection, record.id, serde_json::json!(stored), self.plan).await?)
    }
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
    let mut transaction = app.pool.begin().await?;
    db::locks::take_time(&mut transaction).await?;
    let rules = db::environment::hold_import_rules(&mut transaction).await?;
    let record = import(&mut transaction, &caller, id, "executed").await?;
    // What is chosen already is planned already.
    let chosen = PlanRequest { plan_digest: None, ..request.clone() };
    let has_options =
        body.keys().any(|key| key != "plan_digest") && PlanRequest::of(&record.options).as_ref() != Some(&chosen);
    let manifest = planning::manifest(&mut transaction, id).await?;
    trust::check(&app, &mut transaction, caller.domain_id(), &manifest.environment).await?;
    let lacks = record.error.as_ref().is_some_and(|error| error["code"] == "package_incomplete");
    // Execution plans by itself; here only what may be refused for what a plan says, or is shown to a second person.
    let shown = rules.approval_required;
    let may_misfit = has_options && (!request.resolutions.is_empty() || manifest.thin.is_some());
    let (mut options, mut asked) = (None, None);
    if has_options && !may_misfit && !lacks && !shown && request.plan_digest.is_none() {
        checked(&mut transaction, &record, &request).await?;
        options = Some(serde_json::json!(request));
    } else if has_options || request.plan_digest.is_some() || lacks || shown {
        let digest = request.plan_digest.clone();
        let request = if has_options { request } else { PlanRequest::of(&record.options).unwrap_or_default() };
        let mut draft = Draft::make(&app, &mut transaction, &record, &request).await?;
        if has_options || digest.is_none() {
            draft = draft.fitting()?;
        }
        // A map of the stored plan fitted when it was stored.
        if digest.is_some_and(|digest| digest != draft.plan.digest || !draft.misfits.is_empty()) {
            return Err(stale(&mut transaction, &record, &draft).await?);
        }
        if !draft.lacking.is_empty() {
            return Err(incomplete(&draft.lacking));
        }
        let digest = draft.plan.digest.clone();
        asked = shown.then(|| Approval::asked(caller.username(), rules.now, Some(digest)));
        draft.save(&mut transaction, &record, &request).await?;
    }
    note(&mut transaction, &caller, "import.execute", ("record", id), serde_json::json!({"name": record.name})).await?;
    match asked {
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

/// 409 `plan_stale`, with what is another now: resolutions, resources, the cause that stops the package; if nothing is,
/// the digest is that of another plan.
async fn stale(
    connection: &mut PgConnection,
    record: &db::records::Record,
    draft: &Draft,
) -> Result<ApiError, ApiError> {
    let problem =
        |field: &str, message: String| FieldProblem { code: "plan_stale".to_owned(), field: field.to_owned(), message };
    let misfits = draft.misfits.iter();
    let mut moved: Vec<FieldProblem> =
        misfits.map(|(id, message)| problem(&format!("resolutions.{id}"), message.clone())).collect();
    let before: HashMap<String, Item> = planning::items::all_items(connection, record.id)
        .await?
        .into_iter()
        .map(|item| (item.resource_id.clone(), item))
        .collect();
    for chunk in &draft.items {
        let now: Vec<Item> = serde_json::from_str(&chunk.items).map_err(|_| DbError::Corrupt("record_items.items"))?;
        let other = now.iter().filter(|now| before.get(&now.resource_id) != Some(now));
        let message = |now: &Item| format!("{} moved in the target since it was planned.", now.name);
        moved.extend(other.map(|now| problem(&now.resource_id, message(now))));
    }
    let cause = |error: Option<&Value>| error.and_then(|error| error["message"].as_str()).map(str::to_owned);
    let (was, is) = (cause(record.error.as_ref()), cause(draft.plan.error.as_ref()));
    if was != is {
        let message = is.unwrap_or_else(|| "What stopped the package is gone.".to_owned());
        moved.push(problem("error", message));
    }
    if moved.is_empty() {
        moved.push(problem("plan_digest", "It is that of another plan than the one that is stored.".to_owned()));
    }
    let detail = "The target is not as it was when this was planned. Look at the plan again, then execute with its new plan_digest.";
    Ok(ApiError::new(StatusCode::CONFLICT, "plan_stale", detail).with_all(moved))
}
