//! What may happen to a record, and which facts that takes: each is one statement.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Encode, PgConnection, Postgres, QueryBuilder, Type};
use uuid::Uuid;

use crate::db::DbError;
use crate::db::record_notes::{Notes, replace_rest, shown};
use crate::domain::approval::Approval;
use crate::domain::checklist::ChecklistEntry;
use crate::domain::failure::Warning;
use crate::domain::outcome::Counts;
use crate::domain::record::{Final, Phase, Progress, RecordStatus};
use crate::domain::transfer::Transfer;

/// What a job says of its record while it goes on.
#[derive(Debug)]
pub enum Note {
    /// What it is doing.
    Doing(Phase),
    /// And how far it is.
    Progress(Phase, Progress),
    /// What it needs to go on.
    Transfer(Transfer),
    /// The target is told to write.
    HandingOver(Transfer),
    /// The import at the target.
    Import(Uuid),
    /// The package for the target, which is sent now.
    Sending(Packed, Transfer),
    /// What others at the target decide of it, or did.
    Others(Others),
}

/// What others decide of an import, and until when it waits for a window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// The second person.
    pub approval: Option<Approval>,
    /// When the window begins.
    pub waits_until: Option<DateTime<Utc>>,
}

impl Others {
    /// It waits, for whom or for what it may be.
    pub fn is_waiting(&self) -> bool {
        self.waits_until.is_some() || self.approval.as_ref().is_some_and(Approval::is_waiting)
    }
}

/// A package in the store.
#[derive(Debug)]
pub struct Packed {
    /// `{size, sha256, file_name, resources}`.
    pub package: Value,
    /// Where it rests.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// How many it is about.
    pub resources: u64,
    /// All that should be known of it.
    pub warnings: Vec<Warning>,
}

/// A package that was received.
#[derive(Debug)]
pub struct Arrived {
    /// `{size, sha256, file_name, resources}`.
    pub package: Value,
    /// Where it rests.
    pub key: String,
    /// How many it holds.
    pub resources: u64,
    /// Who signed it.
    pub signature: Value,
}

/// Where a package comes from.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The environment's name.
    pub environment: &'a str,
    /// Who asked for it there, where that is told.
    pub requested_by: Option<&'a str>,
}

/// The plan of an import.
#[derive(Debug)]
pub struct Plan {
    /// Over its items.
    pub counts: Counts,
    /// What stops all of it.
    pub error: Option<Value>,
    /// All that should be known.
    pub warnings: Vec<Warning>,
    /// It changes with the plan.
    pub digest: String,
}

/// A package that was parsed and planned.
#[derive(Debug)]
pub struct Parsed {
    /// Entries apart.
    pub manifest: Value,
    /// Who signed it.
    pub signature: Value,
    /// What the user chose.
    pub options: Value,
    /// How many it holds.
    pub resources: u64,
    /// What its import would do.
    pub plan: Plan,
    /// How long its package is kept.
    pub kept: Kept,
    /// What comes then.
    pub next: Next,
}

/// How long the package of an import is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// As long as any.
    Long,
    /// Until the record ends: it may hold in clear what is secret here.
    UntilEnd,
}

/// What comes after parsing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It waits for the user.
    Confirm,
    /// It was executed before, and waits for a second person.
    Approve(Approval),
    /// It was executed before, and goes on by itself.
    Execute,
    /// The plan that somebody asked for meanwhile.
    Plan,
}

/// The plan at a target, shown here.
#[derive(Debug)]
pub struct Shown {
    /// Over its items.
    pub counts: Counts,
    /// How many these are.
    pub resources: u64,
    /// What stops all of it, or why it is shown again.
    pub error: Option<Value>,
    /// Of the plan, where the target says it.
    pub plan_digest: Option<String>,
    /// What the record needs to go on.
    pub transfer: Transfer,
}

/// An import that was executed, here or at a target.
#[derive(Debug)]
pub struct Executed {
    /// How it ended.
    pub status: Final,
    /// Over its items.
    pub counts: Counts,
    /// How many these are.
    pub resources: u64,
    /// Why nothing was written.
    pub error: Option<Value>,
    /// All that should be known.
    pub warnings: Vec<Warning>,
    /// All that is left to do by hand.
    pub checklist: Vec<ChecklistEntry>,
}

/// How a record comes to rest: it has ended, or waits for the user.
#[derive(Debug)]
pub enum Rest {
    /// Its package is there.
    Exported(Packed, Counts),
    /// Its import was executed.
    Executed(Executed),
    /// It ended without its work done, for this cause.
    Failed(Final, Value, Counts),
    /// The user ended it.
    Cancelled(Counts),
    /// An import of so many resources waits for the contents that it lacks.
    Planned(Plan, u64),
    /// What was asked for an import of so many resources is refused, for this cause: its plan waits as it was.
    Refused(Value, u64),
    /// A migration waits for its plan to be confirmed.
    Shown(Shown),
    /// What it did is undone; what should be known of that.
    RolledBack(Vec<Warning>, Transfer),
    /// It could not be undone for this cause, and stands as it ended.
    Stands(Final, Value, Transfer),
}

/// Why a record is queued.
#[derive(Debug)]
pub enum Queued {
    /// Another plan of it is to be made.
    Plan(Transfer),
    /// Its plan is to be executed, with other options if there are any.
    Execute(Option<Value>),
    /// A second person lets its plan be executed.
    Approved(Approval),
    /// Its package is to be parsed once more.
    ParseAgain(Transfer),
    /// It has another package.
    Replaced(Arrived),
    /// Its plan was confirmed, with these options.
    Confirmed(Value, Transfer),
    /// It is tried again; where that needs a second person, he is asked once it is planned.
    Retried(Transfer, Option<Approval>),
    /// It is undone, as this user asked for.
    RolledBack(String, Transfer),
}

/// Writes down what a job says of it.
pub async fn note(connection: &mut PgConnection, id: Uuid, note: Note) -> Result<(), DbError> {
    let update = Update::of(id);
    let update = match note {
        Note::Doing(phase) => update.phase(phase),
        Note::Progress(phase, progress) => update.phase(phase).progress(progress),
        Note::Transfer(transfer) => update.transfer(&transfer),
        Note::HandingOver(transfer) => update.phase(Phase::Applying).transfer(&transfer),
        Note::Import(there) => update.set("remote_record_id", there),
        Note::Sending(packed, transfer) => {
            let progress = Progress::bytes(0, packed.size);
            update.phase(Phase::Uploading).packed(packed).progress(progress).transfer(&transfer)
        }
        Note::Others(others) => {
            let waits = others.approval.as_ref().is_some_and(Approval::is_waiting);
            let status = if waits { RecordStatus::AwaitingApproval } else { RecordStatus::Running };
            update.status(status).approval(others.approval).set("waits_until", others.waits_until)
        }
    };
    update.write(connection).await
}

/// Notes that a record which has said nothing of what it does asks its target.
pub async fn note_negotiating(connection: &mut PgConnection, id: Uuid) -> Result<(), DbError> {
    let phase = Phase::Negotiating.as_str();
    sqlx::query!("update records set phase = $2 where id = $1 and phase is null and status = 'running'", id, phase)
        .execute(connection)
        .await?;
    Ok(())
}

/// The package of a new import has arrived.
pub async fn receive(
    connection: &mut PgConnection,
    id: Uuid,
    from: Origin<'_>,
    arrived: Arrived,
) -> Result<(), DbError> {
    let update = Update::of(id).set("source_environment", from.environment.to_owned()).arrived(arrived);
    update.set("source_requested_by", from.requested_by.map(str::to_owned)).write(connection).await
}

/// Its package was parsed, and its import planned.
pub async fn parsed(connection: &mut PgConnection, id: Uuid, parsed: Parsed) -> Result<(), DbError> {
    let update = Update::of(id);
    let update = match parsed.next {
        Next::Confirm => update.status(RecordStatus::AwaitingConfirmation).approval(None),
        Next::Approve(asked) => update.status(RecordStatus::AwaitingApproval).approval(Some(asked)),
        Next::Execute => update.status(RecordStatus::Queued),
        Next::Plan => update.status(RecordStatus::Running),
    };
    let update = update.phase(Phase::Planning).all(parsed.resources).plan(parsed.plan);
    let update = update.set("manifest", parsed.manifest).set("signature", parsed.signature);
    let update = update.set("package_until_end", parsed.kept == Kept::UntilEnd);
    update.set("options", parsed.options).write(connection).await
}

/// Its plan, which is shown, waits for a second person.
pub async fn await_approval(connection: &mut PgConnection, id: Uuid, asked: Approval) -> Result<(), DbError> {
    Update::of(id).status(RecordStatus::AwaitingApproval).approval(Some(asked)).write(connection).await
}

/// A second person does not let its plan be executed: it has ended.
pub async fn reject(
    connection: &mut PgConnection,
    id: Uuid,
    rejected: Approval,
    (status, error, counts): (Final, Value, Counts),
) -> Result<(), DbError> {
    let update = Update::of(id).ended(status).error(Some(error)).counts(counts);
    update.approval(Some(rejected)).write(connection).await
}

/// It has another plan, with other options: an approval was of the one before.
pub async fn save_plan(
    connection: &mut PgConnection,
    id: Uuid,
    options: Value,
    plan: Plan,
    resources: u64,
) -> Result<(), DbError> {
    let update = Update::of(id).status(RecordStatus::AwaitingConfirmation).approval(None).answered().all(resources);
    update.set("options", options).plan(plan).write(connection).await
}

/// It comes to rest.
pub async fn rest(connection: &mut PgConnection, id: Uuid, rest: Rest) -> Result<(), DbError> {
    let update = Update::of(id);
    let update = match rest {
        Rest::Exported(packed, counts) => {
            let update = update.ended(Final::SUCCEEDED).phase(Phase::Finishing).all(packed.resources);
            update.packed(packed).counts(counts)
        }
        Rest::Executed(done) => Update { checklist: Some(done.checklist), ..update }
            .ended(done.status)
            .phase(Phase::Finishing)
            .all(done.resources)
            .counts(done.counts)
            .error(done.error)
            .warnings(done.warnings),
        Rest::Failed(status, error, counts) => update.ended(status).error(Some(error)).counts(counts),
        Rest::Cancelled(counts) => update.ended(Final::CANCELLED).error(None).counts(counts),
        Rest::Planned(plan, resources) => update.awaiting().approval(None).answered().all(resources).plan(plan),
        Rest::Refused(error, resources) => {
            update.awaiting().approval(None).answered().all(resources).error(Some(error))
        }
        Rest::Shown(shown) => {
            let update = update.awaiting().all(shown.resources).counts(shown.counts).error(shown.error);
            let update = update.transfer(&shown.transfer);
            match shown.plan_digest {
                Some(digest) => update.set("plan_digest", digest),
                None => update,
            }
        }
        Rest::RolledBack(warnings, transfer) => {
            // Nothing of it is left to do.
            let update = Update { checklist: Some(Vec::new()), ..update };
            update.ended(Final::ROLLED_BACK).error(None).warnings(warnings).transfer(&transfer)
        }
        Rest::Stands(status, error, transfer) => {
            let update = update.ended(status).error(Some(error)).transfer(&transfer);
            update.set("rolled_back_by", None::<String>)
        }
    };
    update.write(connection).await
}

/// It waits for a worker.
pub async fn queue(connection: &mut PgConnection, id: Uuid, queued: Queued) -> Result<(), DbError> {
    let update = match queued {
        // To whoever asked it is what is being done already.
        Queued::Plan(_) => Update::of(id).status(RecordStatus::Running).phase(Phase::Planning),
        _ => Update::of(id).status(RecordStatus::Queued),
    };
    let update = match queued {
        Queued::Plan(transfer) => update.transfer(&transfer),
        Queued::Execute(None) => update,
        Queued::Execute(Some(options)) => update.set("options", options),
        Queued::Approved(approval) => update.approval(Some(approval)),
        Queued::ParseAgain(transfer) => update.transfer(&transfer),
        Queued::Replaced(arrived) => update.error(None).arrived(arrived),
        Queued::Confirmed(options, transfer) => update.error(None).set("options", options).transfer(&transfer),
        Queued::Retried(transfer, asked) => update.error(None).transfer(&transfer).approval(asked),
        Queued::RolledBack(by, transfer) => update.error(None).transfer(&transfer).set("rolled_back_by", by),
    };
    update.write(connection).await
}

/// The statement of a change; what nobody sets stays.
struct Update {
    id: Uuid,
    query: QueryBuilder<'static, Postgres>,
    warnings: Option<Vec<Warning>>,
    checklist: Option<Vec<ChecklistEntry>>,
}

impl Update {
    fn of(id: Uuid) -> Self {
        Self { id, query: QueryBuilder::new("update records set id = id"), warnings: None, checklist: None }
    }

    fn set<T>(mut self, column: &str, value: T) -> Self
    where
        T: 'static + Encode<'static, Postgres> + Type<Postgres>,
    {
        self.query.push(format_args!(", {column} = ")).push_bind(value);
        self
    }

    fn status(mut self, status: RecordStatus) -> Self {
        // Only what is queued waits for a window.
        if status.is_final() {
            self.query.push(", waits_until = null");
        }
        self.query.push(match status {
            RecordStatus::AwaitingConfirmation | RecordStatus::AwaitingApproval => {
                ", waiting_since = clock_timestamp()"
            }
            _ => ", waiting_since = null",
        });
        // Only what is tried again goes back. Nobody needs the passphrase of a record that has ended.
        self.query.push(match status.is_final() {
            true => ", finished_at = clock_timestamp(), passphrase = null",
            false => ", finished_at = null",
        });
        self.set("status", status.as_str())
    }

    fn ended(self, status: Final) -> Self {
        self.status(status.status())
    }

    fn awaiting(self) -> Self {
        self.status(RecordStatus::AwaitingConfirmation).phase(Phase::Planning)
    }

    /// Nobody is to be answered any more who asked for a plan.
    fn answered(mut self) -> Self {
        self.query.push(", transfer = transfer - 'asked'");
        self
    }

    fn phase(self, phase: Phase) -> Self {
        self.set("phase", phase.as_str())
    }

    fn progress(self, progress: Progress) -> Self {
        self.set("progress_done", progress.done as i64)
            .set("progress_total", progress.total as i64)
            .set("progress_unit", progress.unit.as_str())
    }

    fn all(self, resources: u64) -> Self {
        self.progress(Progress::resources(resources, resources))
    }

    fn counts(self, counts: Counts) -> Self {
        self.set("counts", serde_json::json!(counts))
    }

    fn error(self, error: Option<Value>) -> Self {
        self.set("error", error)
    }

    fn transfer(self, transfer: &Transfer) -> Self {
        self.set("transfer", serde_json::json!(transfer))
    }

    fn approval(self, approval: Option<Approval>) -> Self {
        self.set("approval", approval.map(|approval| serde_json::json!(approval)))
    }

    fn warnings(self, warnings: Vec<Warning>) -> Self {
        Self { warnings: Some(warnings), ..self }
    }

    fn plan(self, plan: Plan) -> Self {
        self.counts(plan.counts).error(plan.error).warnings(plan.warnings).set("plan_digest", plan.digest)
    }

    fn packed(self, packed: Packed) -> Self {
        self.set("package", packed.package).set("package_key", packed.key).warnings(packed.warnings)
    }

    fn arrived(self, arrived: Arrived) -> Self {
        self.progress(Progress::resources(0, arrived.resources))
            .set("package", arrived.package)
            .set("package_key", arrived.key)
            .set("signature", arrived.signature)
    }

    async fn write(mut self, connection: &mut PgConnection) -> Result<(), DbError> {
        let (warnings, checklist) = (self.warnings.take(), self.checklist.take());
        if let Some(list) = &warnings {
            self = self.set("warnings", shown(list)).set("warnings_total", list.len() as i32);
        }
        if let Some(list) = &checklist {
            self = self.set("checklist", shown(list)).set("checklist_total", list.len() as i32);
        }
        self.query.push(" where id = ").push_bind(self.id);
        self.query.build().execute(&mut *connection).await?;
        if let Some(list) = &warnings {
            replace_rest(connection, self.id, Notes::Warnings, list).await?;
        }
        if let Some(list) = &checklist {
            replace_rest(connection, self.id, Notes::Checklist, list).await?;
        }
        Ok(())
    }
}
