//! A plan as it would be saved, and what speaks against it.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::db::record_items::NewChunk;
use crate::db::records::{Plan, Record};
use crate::db::{self, DbError, PgConnection};
use crate::domain::import_plan::{Entry, Facts, Options, Resolution};
use crate::domain::resource::ResourceId;
use crate::wire::FieldProblem;
use crate::wire::record::{Item, PlanRequest};

use super::{Import, Planning, PlanningError};

/// A plan as it would be saved.
pub struct Draft {
    /// As its record would have it.
    pub plan: Plan,
    /// Its items.
    items: Vec<NewChunk>,
    /// How many these are.
    resources: u64,
    /// Contents that were left out and are not here: nothing can be executed without them.
    pub lacking: Vec<ResourceId>,
    /// Resolutions for what is not in the package, or to what is not here.
    pub misfits: Vec<Misfit>,
}

/// An option that does not fit.
pub struct Misfit {
    /// Which.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Draft {
    /// Plans an import with options that were checked.
    ///
    /// # Errors
    /// As [`Planning::make`].
    pub async fn make(
        app: &App,
        connection: &mut PgConnection,
        record: &Record,
        request: &PlanRequest,
    ) -> Result<Self, PlanningError> {
        let entries = super::entries(app, connection, record.id).await?;
        let manifest = super::manifest(connection, record.id).await?;
        let import = Import { app, record, manifest: &manifest, request, entries: &entries };
        let planning = Planning::make(import, connection).await?;
        let misfits = misfits(&planning.options, &entries, &planning.facts);
        let (plan, items) = planning.preview(&entries)?;
        let incomplete = planning.plan.error.as_ref().is_some_and(|error| error.code == "package_incomplete");
        let lacking = if incomplete { planning.plan.lacking } else { Vec::new() };
        Ok(Self { plan, items, resources: entries.len() as u64, lacking, misfits })
    }

    /// How many resources it is about.
    pub fn resources(&self) -> u64 {
        self.resources
    }

    /// What is another now than in the plan that the record has: resolutions, resources, the cause that stops the
    /// package; if nothing is, the digest is that of another plan.
    ///
    /// # Errors
    /// The database fails.
    pub async fn moved(&self, connection: &mut PgConnection, record: &Record) -> Result<Vec<FieldProblem>, DbError> {
        let problem =
            |field: &str, message: String| FieldProblem { code: STALE.to_owned(), field: field.to_owned(), message };
        let misfits = self.misfits.iter();
        let mut moved: Vec<FieldProblem> =
            misfits.map(|misfit| problem(&misfit.field, misfit.message.clone())).collect();
        let before: HashMap<String, Item> = super::items::all_items(connection, record.id)
            .await?
            .into_iter()
            .map(|item| (item.resource_id.clone(), item))
            .collect();
        for chunk in &self.items {
            let now: Vec<Item> =
                serde_json::from_str(&chunk.items).map_err(|_| DbError::Corrupt("record_items.items"))?;
            let other = now.iter().filter(|now| before.get(&now.resource_id) != Some(now));
            let message = |now: &Item| format!("{} moved in the target since it was planned.", now.name);
            moved.extend(other.map(|now| problem(&now.resource_id, message(now))));
        }
        let (was, is) = (cause(record.error.as_ref()), cause(self.plan.error.as_ref()));
        if was != is {
            let message = is.unwrap_or_else(|| "What stopped the package is gone.".to_owned());
            moved.push(problem("error", message));
        }
        if moved.is_empty() {
            moved.push(problem("plan_digest", "It is that of another plan than the one that is stored.".to_owned()));
        }
        Ok(moved)
    }

    /// Makes it the record's plan, with the options that it was made with.
    ///
    /// # Errors
    /// The database fails.
    pub async fn save(
        self,
        connection: &mut PgConnection,
        record_id: Uuid,
        request: &PlanRequest,
    ) -> Result<(), DbError> {
        let stored = PlanRequest { plan_digest: None, ..request.clone() };
        db::record_items::replace(connection, record_id, &self.items).await?;
        db::records::save_plan(connection, record_id, serde_json::json!(stored), self.plan, self.resources).await
    }
}

/// The code of what moved since a plan was made.
const STALE: &str = "plan_stale";

/// What stops a whole package, as its record says it; why a plan was refused is no such cause.
fn cause(error: Option<&Value>) -> Option<String> {
    let error = error.filter(|error| error["code"] != STALE && error["code"] != "invalid_field")?;
    error["message"].as_str().map(str::to_owned)
}

fn misfits(options: &Options, entries: &[Entry], facts: &Facts) -> Vec<Misfit> {
    let types: HashMap<&ResourceId, &str> = entries.iter().map(|entry| (&entry.id, entry.type_key.as_str())).collect();
    let misfit = |(id, resolution): (&ResourceId, &Resolution)| {
        let field = format!("resolutions.{id}");
        let Some(resource_type) = types.get(id) else {
            return Some(Misfit { field, message: "names a resource that is not in the package".to_owned() });
        };
        let Resolution::Map(target) = resolution else { return None };
        let fits = facts.resources.get(target).is_some_and(|found| found.here && found.type_key == *resource_type);
        let message = || format!("maps to {target}, which is not a {resource_type} of this domain");
        (!fits).then(|| Misfit { field, message: message() })
    };
    options.resolutions.iter().filter_map(misfit).collect()
}

/// Some of what moved, for people.
pub struct Stale<'a>(pub &'a [FieldProblem]);

impl fmt::Display for Stale<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "The target is not as it was when this was planned.")?;
        for problem in self.0.iter().take(3) {
            write!(to, " {}: {}", problem.field, problem.message)?;
        }
        match self.0.len().saturating_sub(3) {
            0 => Ok(()),
            more => write!(to, " And {more} more."),
        }
    }
}
