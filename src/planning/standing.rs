//! Imports of which all stands as it comes: their plan, and what their entries leave out.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::db::record_items::{CHUNK, NewChunk};
use crate::db::records::{Plan as SavedPlan, Record};
use crate::db::{self, DbError, PgConnection};
use crate::domain::definition::{self, Parts};
use crate::domain::failure::Warning;
use crate::domain::import_plan::Entry;
use crate::domain::manifest::Manifest;
use crate::domain::outcome::{Method, Status};
use crate::domain::resource::Hash;
use crate::domain::transfer::Run;
use crate::wire::record::{Item, PlanRequest};

use super::{PORTION, PlanningError, differences, load_bodies, saved};

/// Whether an import with these options, if all of it stands as it comes, has nothing to do.
pub fn may_stand(record: &Record, request: &PlanRequest) -> bool {
    record.transfer.run == Run::First && request.is_plain()
}

/// What is to be known of such an import.
pub fn warnings(app: &App, manifest: &Manifest) -> Vec<Warning> {
    differences(app, manifest)
}

/// Its plan as its record has it, and its items: those of [`super::Planning::preview`], where all are unchanged.
///
/// # Errors
/// Never for items of ours.
pub fn preview(app: &App, manifest: &Manifest, entries: &[Entry]) -> Result<(SavedPlan, Vec<NewChunk>), DbError> {
    let items = entries.chunks(CHUNK).map(|entries| entries.iter().map(item).collect());
    saved(items, None, warnings(app, manifest))
}

fn item(entry: &Entry) -> Item {
    Item {
        resource_id: entry.id.to_string(),
        kind: entry.type_key.clone(),
        name: entry.name.clone(),
        directory: entry.directory.clone(),
        selected: true,
        reason: entry.reason,
        method: Some(Method::Unchanged),
        status: Status::Pending,
        new_id: Some(entry.id.to_string()),
        new_directory: Some(entry.directory.clone()),
        new_name: None,
        errors: Vec::new(),
        warnings: Vec::new(),
        drifted: false,
        drift: None,
        remembered: false,
        suggestion: None,
        target_changed: None,
        target_content_hash: Some(entry.content_hash.to_string()),
        as_sent: true,
        arrives: None,
    }
}

/// The entries of a record, whole.
pub async fn entries(app: &App, connection: &mut PgConnection, record_id: Uuid) -> Result<Vec<Entry>, PlanningError> {
    let mut entries = db::import_entries::load(connection, record_id).await?;
    if !db::standing::is_noted(connection, record_id).await? {
        return Ok(entries);
    }
    for portion in entries.chunks_mut(PORTION) {
        let bodies = load_bodies(connection, portion.iter().filter_map(|entry| entry.definition_id).collect()).await?;
        for entry in portion {
            complete(app, entry, &bodies)?;
        }
    }
    Ok(entries)
}

/// Reads in its body what an entry has left out.
fn complete(app: &App, entry: &mut Entry, bodies: &HashMap<i64, String>) -> Result<(), DbError> {
    // Without it, changed type files are on their way: the package is parsed again then.
    let body = entry.definition_id.and_then(|id| bodies.get(&id)).ok_or(DbError::Busy)?;
    let kind = app.types.get(&entry.type_key).ok_or(DbError::Busy)?;
    let corrupt = DbError::Corrupt("definitions.body");
    let mut value: Value = serde_json::from_str(body).map_err(|_| DbError::Corrupt("definitions.body"))?;
    let Parts { references, children, attachments } = definition::find(kind, &mut value).map_err(|_| corrupt)?;
    let bytes: HashMap<String, Option<Hash>> = entry.attachments.drain(..).collect();
    entry.attachments =
        attachments.into_iter().map(|path| (path.clone(), bytes.get(&path).copied().flatten())).collect();
    (entry.references, entry.children) = (references, children);
    Ok(())
}
