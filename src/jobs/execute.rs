//! Executing an import: stage without a lock, then plan once more and merge, alone in the domain, in one
//! transaction. Killed at any instant, the target holds all of it or none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::db::attachments::Cause;
use crate::db::definitions;
use crate::db::mappings::Choice;
use crate::db::merge::{self, Writer};
use crate::db::record_items::CHUNK;
use crate::db::records::{Executed, Queued, Rest};
use crate::db::{self, Acquire, DbError, PgConnection};
use crate::domain::approval::Approval;
use crate::domain::checklist::numbered;
use crate::domain::import_plan::{Entry, IdMode, OnFailure};
use crate::domain::outcome::{Counts, Method, status_of};
use crate::domain::record::{Final, JobKind};
use crate::domain::resource::Hash;
use crate::domain::transfer::{Run, Transfer};
use crate::planning::{self, Import, Planning};
use crate::trust;
use crate::wire::record::{PlanRequest, RecordError};

use super::stage;
use super::staging::{Outcome, Staging};
use super::{Context, JobError, left, rewrite, standing};

/// How often staging is done again because the target moved meanwhile.
const TRIES: usize = 3;

/// Executes an import.
pub async fn run(context: Context) -> Result<(), JobError> {
    let record = context.record().await?;
    let request = PlanRequest::of(&record.options).ok_or(JobError::Corrupt("records.options"))?;
    let mut connection = context.connection().await?;
    if let Some(until) = db::environment::import_rules(&mut connection).await?.closed_until() {
        let mut transaction = connection.begin().await?;
        db::windows::postpone(&mut transaction, &context.job, until).await?;
        transaction.commit().await?;
        return Ok(());
    }
    if standing::done(&context, &mut connection, &record, &request).await? {
        return Ok(());
    }
    let entries = Arc::new(planning::entries(&context.app, &mut connection, record.id).await?);
    let manifest = planning::manifest(&mut connection, record.id).await?;
    trust::check(&context.app, &mut connection, record.domain_id, &manifest.environment).await?;
    let blocks: HashSet<i64> =
        entries.iter().filter_map(|entry| entry.definition_id).map(definitions::block_of).collect();
    let blocks: Vec<i64> = blocks.into_iter().collect();
    let import =
        Import { app: &context.app, record: &record, manifest: &manifest, request: &request, entries: &entries };
    let attempted = Attempt { context: &context, import, entries: &entries };
    for _ in 0..TRIES {
        // What an earlier try has rewritten is not used any more.
        definitions::drop_other_runs(&mut connection, record.id, &blocks).await?;
        match attempted.once(&mut connection).await? {
            Attempted::Done => return Ok(()),
            // The target moved between staging and the lock, or another domain took an ID.
            Attempted::Moved => {}
        }
    }
    Err(JobError::Moved)
}

/// How a try ended.
enum Attempted {
    Done,
    /// Nothing was written: the target is not as it was planned for.
    Moved,
}

struct Attempt<'a> {
    context: &'a Context,
    import: Import<'a>,
    /// The same as those of the import.
    entries: &'a Arc<Vec<Entry>>,
}

impl Attempt<'_> {
    async fn once(&self, connection: &mut PgConnection) -> Result<Attempted, JobError> {
        let planning = Arc::new(Planning::make(self.import, connection).await?);
        if !planning.plan.lacking.is_empty() {
            // The target moved since: what was left out as it had it must be sent now.
            let mut transaction = connection.begin().await?;
            self.give_back(&mut transaction, &planning, None).await?;
            transaction.commit().await?;
            return Ok(Attempted::Done);
        }
        if let Some(approved) = self.import.record.approval.as_ref().and_then(Approval::bound_to)
            && planning.digest(self.entries)? != approved
        {
            let mut transaction = connection.begin().await?;
            self.give_back(&mut transaction, &planning, Some(moved_since())).await?;
            transaction.commit().await?;
            return Ok(Attempted::Done);
        }
        let blocked = planning.plan.items.iter().any(|item| item.method == Method::Blocked);
        if planning.plan.error.is_some() || (planning.options.on_failure == OnFailure::Abort && blocked) {
            let mut transaction = connection.begin().await?;
            self.finish(&mut transaction, &planning, false, Outcome::default()).await?;
            transaction.commit().await?;
            return Ok(Attempted::Done);
        }
        let owner = self.import.request.owner.clone();
        let (record, entries) = (self.import.record.clone(), self.entries.clone());
        let staging = Staging::new(self.context.clone(), connection, record, entries, planning.clone(), owner).await?;
        let staging = Arc::new(staging);
        if !self.bodies_are_there(connection, &staging).await? {
            return self.parse_again(connection).await;
        }
        let rewritten = rewrite::rewrite(&staging, connection).await?;
        let mut transaction = connection.begin().await?;
        let outcome = stage::stage(&staging, &mut transaction, rewritten).await?;
        if outcome.written.is_empty() && outcome.filled == 0 {
            // Nothing of the catalogue changes, so nothing that others change meanwhile can matter.
            self.leave_behind(&mut transaction, &planning).await?;
            self.finish(&mut transaction, &planning, true, outcome).await?;
            transaction.commit().await?;
            return Ok(Attempted::Done);
        }
        db::locks::hold_catalogue(&mut transaction, self.import.record.domain_id).await?;
        db::locks::check_types(&mut transaction, &self.context.app.types_digest).await?;
        if !planning.facts.license.is_empty() {
            db::locks::hold_license(&mut transaction).await?;
        }
        if !planning.still_holds(self.import, &mut transaction).await? {
            transaction.rollback().await?;
            return Ok(Attempted::Moved);
        }
        match self.merge(&mut transaction, &planning).await {
            Ok(()) => {}
            Err(DbError::Constraint(_) | DbError::Busy) => {
                transaction.rollback().await?;
                return Ok(Attempted::Moved);
            }
            Err(error) => return Err(error.into()),
        }
        self.finish(&mut transaction, &planning, true, outcome).await?;
        transaction.commit().await?;
        Ok(Attempted::Done)
    }

    /// Staged bodies are only a cache: they may have been cleaned away while nobody confirmed, or with the database.
    async fn bodies_are_there(&self, connection: &mut PgConnection, staging: &Staging) -> Result<bool, JobError> {
        let written = (0..self.entries.len()).filter(|at| staging.is_written(*at));
        let ids: HashSet<i64> = written.filter_map(|at| self.entries[at].definition_id).collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        Ok(ids.is_empty() || definitions::count(connection, &ids).await? == ids.len() as i64)
    }

    /// Has the package parsed once more; the import goes on by itself then.
    async fn parse_again(&self, connection: &mut PgConnection) -> Result<Attempted, JobError> {
        let mut transaction = connection.begin().await?;
        let transfer = Transfer { run: Run::Again, ..self.import.record.transfer.clone() };
        db::records::queue(&mut transaction, self.import.record.id, Queued::ParseAgain(transfer)).await?;
        db::jobs::end(&mut transaction, &self.context.job).await?;
        db::jobs::queue(&mut transaction, JobKind::Parse, self.import.record.id, self.import.record.domain_id).await?;
        transaction.commit().await?;
        Ok(Attempted::Done)
    }

    async fn merge(&self, connection: &mut PgConnection, planning: &Planning) -> Result<(), DbError> {
        let writer = self.writer();
        merge::resources(connection, &writer).await?;
        db::tombstones::revive(connection, writer.domain_id, writer.record_id).await?;
        db::undo::attachments(connection, writer.domain_id, self.import.record.id).await?;
        let changed = merge::attachments(connection, writer.domain_id).await?;
        if !changed.is_empty() {
            db::attachments::refresh_hashes(connection, writer.domain_id, &changed, Cause::Import).await?;
        }
        merge::check_constraints(connection).await?;
        self.leave_behind(connection, planning).await
    }

    /// What the next import from this source compares with; what that replaces is kept for a roll back.
    async fn leave_behind(&self, connection: &mut PgConnection, planning: &Planning) -> Result<(), DbError> {
        let (writer, brought) = (self.writer(), self.brought(planning));
        if !planning.facts.bases.is_empty() {
            db::undo::bases(connection, &writer).await?;
        }
        self.remember(connection).await?;
        merge::bases(connection, &writer).await?;
        db::undo::attachment_bases(connection, &writer, &brought).await?;
        db::attachment_bases::note(connection, &writer, &brought).await
    }

    /// What the user chose is chosen again at the next import from this source.
    async fn remember(&self, connection: &mut PgConnection) -> Result<(), DbError> {
        let request = self.import.request;
        let Ok(options) = planning::options(request) else { return Ok(()) };
        let chosen = self.entries.iter().filter_map(|entry| {
            let resolution = match request.resolutions.get(entry.id.as_str())?.action.as_str() {
                "map" | "rename" => options.resolutions.get(&entry.id).filter(|chosen| !chosen.is_name(&entry.name)),
                "import" => None,
                _ => return None,
            };
            Some(Choice { source_id: &entry.id, kind: &entry.type_key, name: &entry.name, resolution })
        });
        let chosen: Vec<Choice<'_>> = chosen.collect();
        db::mappings::remember(connection, &self.writer(), &self.import.manifest.environment, &chosen).await
    }

    /// The attachment bytes that this import leaves behind under their own paths, where an earlier one left others.
    fn brought(&self, planning: &Planning) -> HashMap<&str, Hash> {
        let (plan, facts) = (&planning.plan, &planning.facts);
        let mut brought = HashMap::new();
        if planning.options.ids == IdMode::Change {
            return brought;
        }
        for (entry, planned) in self.entries.iter().zip(&plan.items) {
            for (path, bytes) in &entry.attachments {
                let Some(bytes) = bytes else { continue };
                let here = match planned.method {
                    Method::Create | Method::Update => true,
                    Method::Unchanged => facts.attachments.get(path) == Some(bytes),
                    _ => false,
                };
                if here && facts.attachment_bases.get(path) != Some(bytes) {
                    brought.insert(path.as_str(), *bytes);
                }
            }
        }
        brought
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            domain_id: self.import.record.domain_id,
            username: &self.import.record.requested_by,
            record_id: Some(self.import.record.id),
            source_environment: Some(&self.import.manifest.environment.id),
        }
    }

    /// Has the record wait for the contents that it lacks, or (with a cause) for another word on its plan.
    async fn give_back(
        &self,
        connection: &mut PgConnection,
        planning: &Planning,
        cause: Option<RecordError>,
    ) -> Result<(), JobError> {
        let (mut plan, items) = planning.preview(self.entries)?;
        plan.error = cause.map(|cause| serde_json::json!(cause)).or(plan.error);
        db::record_items::replace(connection, self.import.record.id, &items).await?;
        db::records::rest(connection, self.import.record.id, Rest::Planned(plan, self.entries.len() as u64)).await?;
        Ok(db::jobs::end(connection, &self.context.job).await?)
    }

    /// Ends the items. Where they are those of the plan that the record has, they are not written again.
    async fn end_items(
        &self,
        connection: &mut PgConnection,
        planning: &Planning,
        applied: bool,
    ) -> Result<Counts, JobError> {
        let record = self.import.record;
        let mut counts = Counts::default();
        if record.transfer.run == Run::First && record.plan_digest == Some(planning.digest(self.entries)?) {
            planning::items::settle(connection, record.id, applied).await?;
            planning.plan.items.iter().for_each(|item| counts.add(Some(item.method), status_of(item.method, applied)));
            return Ok(counts);
        }
        db::record_items::clear(connection, record.id).await?;
        for (number, items) in planning.executed(self.entries, applied).enumerate() {
            items.iter().for_each(|item| counts.add(item.method, item.status));
            let chunk = planning::items::chunk(number * CHUNK, &items)?;
            db::record_items::put(connection, record.id, &chunk).await?;
        }
        Ok(counts)
    }

    /// Items, counts and state, in the same transaction; the fence is its last statement.
    async fn finish(
        &self,
        connection: &mut PgConnection,
        planning: &Planning,
        applied: bool,
        outcome: Outcome,
    ) -> Result<(), JobError> {
        let counts = self.end_items(connection, planning, applied).await?;
        let mut checklist = outcome.checklist;
        checklist.extend(left::features(self.entries, &planning.facts.disabled));
        if applied {
            checklist.extend(left::permissions(planning.plan.items.iter()));
        }
        let executed = Executed {
            status: if applied { Final::of_import(&counts) } else { Final::FAILED },
            counts,
            resources: self.entries.len() as u64,
            error: error(planning, applied).map(|error| serde_json::json!(error)),
            warnings: planning.plan.warnings.clone(),
            checklist: numbered(checklist),
        };
        if applied {
            let bodies = self.entries.iter().filter_map(|entry| entry.definition_id);
            let unused: Vec<i64> = bodies.filter(|id| !outcome.bodies.contains(id)).collect();
            trust::pin(&self.context.app, connection, self.import.record, &self.import.manifest.environment).await?;
            let source = &self.import.manifest.environment.id;
            db::index_pages::keep_last(connection, self.import.record.domain_id, source, self.import.record.id).await?;
            definitions::use_runs(connection, self.import.record.id, &unused).await?;
        }
        db::records::rest(connection, self.import.record.id, Rest::Executed(executed)).await?;
        db::jobs::end(connection, &self.context.job).await?;
        Ok(())
    }
}

/// Why an import waits again whose plan was approved.
fn moved_since() -> RecordError {
    RecordError {
        code: "plan_stale".to_owned(),
        message: "The target is not as it was when the plan was approved, so nothing was applied.".to_owned(),
        hint: "Look at the plan again and execute it: it is approved anew.".to_owned(),
    }
}

/// The cause of a record that wrote nothing: the package's own, or `abort`.
fn error(planning: &Planning, applied: bool) -> Option<RecordError> {
    if let Some(failure) = &planning.plan.error {
        return Some(failure.clone().into());
    }
    if applied {
        return None;
    }
    let first = planning.plan.items.iter().find_map(|item| item.errors.first())?;
    Some(RecordError {
        code: first.code.clone(),
        message: format!(
            "Nothing was imported, as on_failure is abort and some resources are blocked: {}",
            first.message
        ),
        hint: first.hint.clone(),
    })
}
