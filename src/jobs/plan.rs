//! Planning an import anew for a user who was not kept waiting: what a request would have answered, the record says.

use crate::db::records::{Queued, Rest};
use crate::db::{self, Acquire, DbError, PgConnection};
use crate::domain::approval::Approval;
use crate::domain::transfer::{Asked, Then};
use crate::planning::draft::{Draft, Stale};
use crate::wire::record::{PlanRequest, RecordError};

use super::{Context, JobError};

/// Plans an import with the options that were asked for, and has it executed where that was asked too.
pub(super) async fn run(context: Context) -> Result<(), JobError> {
    let record = context.record().await?;
    let corrupt = JobError::Corrupt("records.transfer");
    let Some(asked) = &record.transfer.asked else { return Err(corrupt) };
    let Some(request) = PlanRequest::of(&asked.options) else { return Err(corrupt) };
    let mut connection = context.connection().await?;
    let draft = Draft::make(&context.app, &mut connection, &record, &request).await?;
    let refused = refused(&mut connection, &record, asked, &draft).await?;
    let resources = draft.resources();
    let mut transaction = connection.begin().await?;
    let rules = db::environment::hold_import_rules(&mut transaction).await?;
    match (refused, &asked.then) {
        (Some(error), _) => {
            db::records::rest(&mut transaction, record.id, Rest::Refused(serde_json::json!(error), resources)).await?;
        }
        (None, Then::Execute { .. }) if draft.lacking.is_empty() => {
            let digest = draft.plan.digest.clone();
            draft.save(&mut transaction, record.id, &request).await?;
            if rules.approval_required {
                let waits = Approval::asked(&asked.by, rules.now, Some(digest));
                db::records::await_approval(&mut transaction, record.id, waits).await?;
            } else {
                db::records::queue(&mut transaction, record.id, Queued::Execute(None)).await?;
                let until = rules.closed_until();
                db::windows::queue_import(&mut transaction, record.id, record.domain_id, until).await?;
            }
        }
        (None, _) => draft.save(&mut transaction, record.id, &request).await?,
    }
    db::jobs::end(&mut transaction, &context.job).await?;
    Ok(transaction.commit().await?)
}

/// Why the plan that waits stays as it was.
async fn refused(
    connection: &mut PgConnection,
    record: &db::records::Record,
    asked: &Asked,
    draft: &Draft,
) -> Result<Option<RecordError>, DbError> {
    let wanted = match &asked.then {
        Then::Confirm => None,
        Then::Execute { plan_digest } => plan_digest.as_ref(),
    };
    // What was chosen anew is refused as it is without a plan.
    if let Some(misfit) = draft.misfits.first()
        && (wanted.is_none() || asked.options != record.options)
    {
        return Ok(Some(RecordError {
            code: "invalid_field".to_owned(),
            message: format!("{} {}", misfit.field, misfit.message),
            hint: "Choose again: the plan is still the one that was made before.".to_owned(),
        }));
    }
    if wanted.is_none_or(|digest| *digest == draft.plan.digest && draft.misfits.is_empty()) {
        return Ok(None);
    }
    let moved = draft.moved(connection, record).await?;
    Ok(Some(RecordError {
        code: "plan_stale".to_owned(),
        message: Stale(&moved).to_string(),
        hint: "Look at the plan again, then execute with its new plan_digest.".to_owned(),
    }))
}
