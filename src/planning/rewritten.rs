//! What the mapping of an import makes of bodies: their hashes, before anything is written.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use serde_json::Value;

use crate::app::App;
use crate::db::{self, DbError, PgConnection};
use crate::domain::definition::{self, Reference};
use crate::domain::id_map::{IdMap, Unwritable};
use crate::domain::import_plan::{Entry, Facts, IdMode, Options};
use crate::domain::json;
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::resource_type::ResourceType;
use crate::domain::value_rule::Effect;

use super::PlanningError;

/// Bodies that are read together.
pub const PORTION: usize = 1_000;

/// What the mapping makes of definitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Rewritten {
    /// Their hashes, or why they cannot be rewritten.
    pub(super) hashes: HashMap<ResourceId, Result<Hash, Unwritable>>,
    /// What each rule of the type did to them.
    pub(super) effects: HashMap<ResourceId, Vec<Effect>>,
}

/// What becomes of definitions that the mapping rewrites: of those that the target has already, as only these are
/// to be compared as rewritten, of those that it may not be able to rewrite, and of all that rules change.
pub(super) async fn rewritten_hashes(
    app: &App,
    connection: &mut PgConnection,
    entries: &[Entry],
    options: &Options,
    facts: &Facts,
    id_map: &IdMap,
) -> Result<Rewritten, PlanningError> {
    let mut rewritten = Rewritten::default();
    if id_map.is_empty() {
        return Ok(rewritten);
    }
    // New IDs look alike: a text of each rule is tried, and all of a type only where one cannot take them.
    let mut tried = HashSet::new();
    let wanted = entries.iter().filter(|entry| {
        let Some(kind) = app.types.get(&entry.type_key) else { return false };
        let here = facts.resources.get(&entry.id).is_some_and(|existing| existing.here) && options.ids == IdMode::Keep;
        let paths: Vec<String> = entry.attachments.iter().filter(|_| here).map(|(path, _)| path.clone()).collect();
        let mut doubted = |rule: u16| options.ids == IdMode::Keep || tried.insert((entry.type_key.as_str(), rule));
        here && id_map.touches(kind, &entry.references, &paths)
            || id_map.may_fail(kind, &entry.references, &mut doubted)
            || !id_map.rules.of(&entry.type_key).is_empty()
    });
    rewrite_some(app, connection, wanted.collect(), id_map, &mut rewritten).await?;
    if options.ids == IdMode::Change && rewritten.hashes.values().any(Result::is_err) {
        let refused = entries.iter().filter(|entry| matches!(rewritten.hashes.get(&entry.id), Some(Err(_))));
        let unable: HashSet<&str> = refused.map(|entry| entry.type_key.as_str()).collect();
        let others = entries.iter().filter(|entry| {
            let kind = app.types.get(&entry.type_key).filter(|_| unable.contains(entry.type_key.as_str()));
            let in_doubt = kind.is_some_and(|kind| id_map.may_fail(kind, &entry.references, &mut |_| true));
            in_doubt && !rewritten.hashes.contains_key(&entry.id)
        });
        let others: Vec<&Entry> = others.collect();
        rewrite_some(app, connection, others, id_map, &mut rewritten).await?;
    }
    Ok(rewritten)
}

async fn rewrite_some(
    app: &App,
    connection: &mut PgConnection,
    entries: Vec<&Entry>,
    id_map: &IdMap,
    rewritten: &mut Rewritten,
) -> Result<(), PlanningError> {
    let wanted = entries.into_iter().filter_map(|entry| Some((entry, entry.definition_id?)));
    let wanted: Vec<(&Entry, i64)> = wanted.collect();
    for portion in wanted.chunks(PORTION) {
        let bodies = load_bodies(connection, portion.iter().map(|(_, id)| *id).collect()).await?;
        let work = portion.iter().filter_map(|(entry, id)| {
            let kind = app.types.get(&entry.type_key)?.clone();
            // Several may have the same body.
            let body = bodies.get(id)?.clone();
            Some((entry.id.clone(), kind, entry.references.clone(), body))
        });
        let work: Vec<_> = work.collect();
        let id_map = id_map.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let hashed = work.into_iter().map(|(id, kind, references, body)| {
                let mut value: Value = serde_json::from_str(&body).map_err(|_| DbError::Corrupt("definitions.body"))?;
                Ok((id, rewritten_hash(&id_map, &kind, &references, &mut value)))
            });
            hashed.collect::<Result<Vec<_>, DbError>>()
        });
        for (id, hashed) in hashed.await.map_err(|_| PlanningError::Stopped)?? {
            let hash = hashed.map(|(hash, effects)| {
                if !effects.is_empty() {
                    rewritten.effects.insert(id.clone(), effects);
                }
                hash
            });
            rewritten.hashes.insert(id, hash);
        }
    }
    Ok(())
}

fn rewritten_hash(
    id_map: &IdMap,
    kind: &ResourceType,
    references: &[Reference],
    value: &mut Value,
) -> Result<(Hash, Vec<Effect>), Unwritable> {
    let effects = id_map.rewrite(kind, value)?;
    let parts = definition::find(kind, value).map_err(|invalid| Unwritable::Invalid(invalid.to_string()))?;
    id_map.check(kind, references, &parts.references)?;
    Ok((json::hash(value), effects))
}

/// Some bodies by their IDs.
pub async fn load_bodies(connection: &mut PgConnection, ids: Vec<i64>) -> Result<HashMap<i64, String>, DbError> {
    db::definitions::bodies(connection, &ids).try_collect().await
}
