//! Staging an import: for each resource that is written a row that points at its body, and what it has of its own in
//! this environment. No lock is held.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::app::App;
use crate::db::copy::Rows;
use crate::db::staging::{self, Replaced, Staged, StagedResource};
use crate::db::{self, DbError, PgConnection};
use crate::domain::content::set_on_create;
use crate::domain::definition::Parts;
use crate::domain::import_plan::{Entry, IdMode, Planned};
use crate::domain::outcome::Method;
use crate::domain::overlay::{Overlay, Own};
use crate::domain::resource::{Hash, content_hash};
use crate::store::attachment_key;

use super::left::Arrived;
use super::staging::{Outcome, Rewritten, Staging};
use super::{JobError, left};

/// Rows are sent when this many bytes are gathered.
const SEND_BYTES: usize = 2 * 1024 * 1024;

/// Stages everything that the plan writes.
pub(super) async fn stage(
    staging: &Staging,
    connection: &mut PgConnection,
    rewritten: HashMap<usize, Rewritten>,
) -> Result<Outcome, JobError> {
    let mut outcome = Outcome::default();
    let all = 0..staging.entries.len();
    let places: Vec<usize> = all.filter(|at| staging.is_written(*at) || staging.may_be_filled(*at)).collect();
    if !places.is_empty() {
        resources(staging, connection, &places, rewritten, &mut outcome).await?;
        attachments(staging, connection).await?;
    }
    bases(staging, connection, &outcome).await?;
    if !places.is_empty() {
        staging::analyze(connection).await?;
    }
    Ok(outcome)
}

async fn resources(
    staging: &Staging,
    connection: &mut PgConnection,
    places: &[usize],
    mut rewritten: HashMap<usize, Rewritten>,
    outcome: &mut Outcome,
) -> Result<(), JobError> {
    let replaced = places.iter().filter(|at| staging.planned(**at).method != Method::Create);
    let ids: Vec<String> = replaced.map(|at| staging.planned(*at).new_id.to_string()).collect();
    let old = db::resources::overlays(connection, staging.record.domain_id, &ids).await?;
    let mut staged = Staged::default();
    for at in places.iter().copied() {
        let (entry, planned) = (&staging.entries[at], staging.planned(at));
        let Some(kind) = staging.kind(at) else { continue };
        let existing =
            staging.planning.facts.resources.get(&planned.new_id).filter(|_| planned.method != Method::Create);
        let mine = existing.and_then(|_| old.get(planned.new_id.as_str()));
        let (mut own, missing) = entry.own.arriving(mine);
        if planned.new_id != entry.id {
            seal_anew(&staging.app, entry, planned, &mut own)?;
        }
        if planned.method == Method::Unchanged {
            let secrets = |own: Option<&Overlay>| own.map_or(0, |own| own.sealed().count());
            if secrets(Some(&own)) == secrets(mine) {
                continue;
            }
            outcome.filled += 1;
        }
        let new = match rewritten.remove(&at) {
            Some(new) => new,
            None => as_it_came(staging, at).ok_or_else(JobError::bodies_gone)?,
        };
        let paused = if existing.is_none() { set_on_create(kind, &new.openings, &mut own) } else { Vec::new() };
        let how = Arrived { lacks_secrets: missing, paused };
        outcome.checklist.extend(left::of_resource(kind, planned, how));
        let attachments = arrived(staging, entry);
        let hash = content_hash(&entry.type_key, &planned.new_name, &planned.new_directory, &new.hash, &attachments);
        if planned.method != Method::Unchanged {
            outcome.written.insert(at, hash);
        }
        outcome.bodies.insert(new.definition_id);
        staged.add(&StagedResource {
            ordinal: at as i32,
            id: &planned.new_id,
            kind,
            name: &planned.new_name,
            directory: &planned.new_directory,
            owner: staging.owners.of(entry),
            definition_id: new.definition_id,
            definition_hash: new.hash,
            content_hash: hash,
            overlay: &own,
            parts: &new.parts,
            attachments: &attachments,
            base: existing.map(|found| Replaced { revision: found.revision, parts_hash: found.parts_hash }),
        });
        staged.send(connection, SEND_BYTES).await?;
    }
    Ok(staged.send(connection, 1).await?)
}

/// A body that is taken as it is: that of the package, or of the target where nothing else changes.
fn as_it_came(staging: &Staging, at: usize) -> Option<Rewritten> {
    let entry = &staging.entries[at];
    let (definition_id, hash) = match staging.planned(at).method {
        Method::Unchanged => {
            let existing = staging.planning.facts.resources.get(&staging.planned(at).new_id)?;
            (existing.definition_id, existing.definition_hash)
        }
        _ => (entry.definition_id?, entry.definition_hash),
    };
    let parts = Parts {
        references: entry.references.clone(),
        children: entry.children.clone(),
        attachments: entry.attachments.iter().map(|(path, _)| path.clone()).collect(),
    };
    Some(Rewritten { definition_id, hash, parts, openings: entry.openings.clone().unwrap_or_default() })
}

/// Secrets that came along are sealed for their source's ID.
fn seal_anew(app: &App, entry: &Entry, planned: &Planned, own: &mut Overlay) -> Result<(), JobError> {
    let retry = |error: crate::secrets::SecretError| JobError::Retry(error.to_string());
    let theirs = entry.own.places();
    for (location, own) in &mut own.0 {
        if let Own::Sealed(sealed) = own
            && theirs.at(location) == Some(&Own::Sealed(sealed.clone()))
        {
            let secret = app.sealer.open_value(entry.id.as_str(), sealed).map_err(retry)?;
            *sealed = app.sealer.seal_value(planned.new_id.as_str(), &secret).map_err(retry)?;
        }
    }
    Ok(())
}

/// The attachments of an entry as they will be in the target.
fn arrived(staging: &Staging, entry: &Entry) -> Vec<(String, Option<Hash>)> {
    let map = &staging.planning.plan.id_map;
    let there = |path: &str| staging.planning.facts.attachments.get(path).copied();
    entry.attachments.iter().map(|(path, bytes)| (map.path(path).to_owned(), bytes.or_else(|| there(path)))).collect()
}

/// Stages the paths of attachments; their bytes are in the store.
async fn attachments(staging: &Staging, connection: &mut PgConnection) -> Result<(), JobError> {
    let map = &staging.planning.plan.id_map;
    let mut paths: BTreeMap<String, Hash> = BTreeMap::new();
    for at in (0..staging.entries.len()).filter(|at| staging.is_written(*at)) {
        for (path, bytes) in &staging.entries[at].attachments {
            paths.extend(bytes.map(|bytes| (map.path(path).to_owned(), bytes)));
        }
    }
    if paths.is_empty() {
        return Ok(());
    }
    db::locks::share_bytes(connection, paths.values()).await?;
    let wanted: HashSet<Hash> = paths.values().copied().collect();
    let mut sizes = db::contents::sizes(connection, &wanted).await?;
    sizes.extend(db::attachment_bytes::staged(connection, staging.record.id).await?);
    for hash in &wanted {
        let size = staging.app.store.size(&attachment_key(hash)).await?.ok_or_else(JobError::bytes_gone)?;
        // Parsing puts anew what was cut short.
        if *sizes.entry(*hash).or_insert(size) != size {
            return Err(JobError::bytes_gone());
        }
    }
    let new: Vec<(String, Hash, u64)> =
        paths.into_iter().map(|(path, hash)| (path, hash, sizes.get(&hash).copied().unwrap_or_default())).collect();
    db::attachments::stage(connection, &new).await?;
    Ok(())
}

/// Stages what this import leaves behind for the next one.
async fn bases(staging: &Staging, connection: &mut PgConnection, outcome: &Outcome) -> Result<(), JobError> {
    let columns =
        ["source_id", "target_id", "source_hash", "result_hash", "remapping", "entry", "type_digest", "is_new"];
    let mut rows = Rows::new("staged_bases", &columns);
    for (at, entry) in staging.entries.iter().enumerate() {
        let planned = staging.planned(at);
        let result = match planned.method {
            Method::Unchanged => {
                staging.planning.facts.resources.get(&planned.new_id).map(|existing| existing.content_hash)
            }
            _ => outcome.written.get(&at).copied(),
        };
        let Some(result) = result else { continue };
        let known = staging.planning.facts.bases.get(&(entry.id.clone(), planned.new_id.clone()));
        let same = known.is_some_and(|base| {
            base.source_hash == entry.content_hash && base.result_hash == result && base.remapping == planned.remapping
        });
        if !same {
            let row = rows.row().text(entry.id.as_str()).text(planned.new_id.as_str());
            let row = row.bytes(&entry.content_hash.0).bytes(&result.0).text(&planned.remapping);
            // What was changed on its way cannot be read back from the target as it came; nor can what names
            // attachments of the target.
            let differs = !planned.remapping.is_empty() || result != entry.content_hash;
            let changed = differs && staging.planning.options.ids == IdMode::Keep;
            let bare = || Entry { definition_id: None, own: Overlay::default(), openings: None, ..entry.clone() };
            let kept = changed.then(|| serde_json::to_string(&bare())).transpose();
            let kept = kept.map_err(|_| DbError::Corrupt("import_bases.entry"))?;
            let digest = staging.kind(at).filter(|_| changed).map(|kind| kind.digest.0);
            let row = row.maybe(kept.as_deref()).maybe_bytes(digest.as_ref().map(|digest| &digest[..]));
            row.bool(known.is_none() && staging.planning.options.ids == IdMode::Keep);
            if rows.len() >= SEND_BYTES {
                rows.send(connection).await?;
            }
        }
    }
    Ok(rows.send(connection).await?)
}
