//! What an import changes in a resource, before and after it is executed.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::db::contents::Version;
use crate::db::resources::definition;
use crate::db::{self, DbError, PgConnection};
use crate::domain::content::{Content, set_on_create};
use crate::domain::difference;
use crate::domain::import_plan::{Entry, Existing, Planned};
use crate::domain::outcome::Method;
use crate::domain::resource::Hash;
use crate::wire::difference::{AttachmentSides, Changes, Sides};

use super::{Import, Planning, PlanningError, load_bodies};

/// Most changes that are told of one resource.
const MOST: usize = 1_000;

/// One side of a difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// The whole definition, secrets as markers.
    pub definition: Value,
    /// The hashes of its attachments, by path.
    pub attachments: Vec<(String, Option<Hash>)>,
}

impl Side {
    /// A version as it was written.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn of(version: &Version) -> Result<Self, DbError> {
        Ok(Self {
            name: version.name.clone(),
            directory: version.directory.clone(),
            definition: definition(&version.body, version.overlay.as_deref())?,
            attachments: serde_json::from_str(&version.attachments)
                .map_err(|_| DbError::Corrupt("resource_versions.attachments"))?,
        })
    }
}

/// What differs; nothing before: the resource is new.
pub fn changes(before: Option<&Side>, after: &Side) -> Changes {
    let none = Value::Object(serde_json::Map::new());
    let old = before.map_or(&none, |side| &side.definition);
    let all = difference::changes(old, &after.definition);
    let patch = serde_json::json!(json_patch::diff(old, &after.definition));
    let sides = |of: fn(&Side) -> &String| Sides { before: before.map(of).cloned(), after: Some(of(after).clone()) };
    let mut hashes: BTreeMap<&String, Sides> = BTreeMap::new();
    let hex = |hash: &Option<Hash>| hash.map(|hash| hash.hex());
    for (path, hash) in before.iter().flat_map(|side| &side.attachments) {
        hashes.entry(path).or_default().before = hex(hash);
    }
    for (path, hash) in &after.attachments {
        hashes.entry(path).or_default().after = hex(hash);
    }
    let attachments = hashes.into_iter().filter(|(_, sides)| sides.before != sides.after);
    Changes {
        name: sides(|side| &side.name),
        directory: sides(|side| &side.directory),
        attachments: attachments.map(|(path, sha256)| AttachmentSides { path: path.clone(), sha256 }).collect(),
        patch,
        changes_total: all.len() as u64,
        changes: all.into_iter().take(MOST).collect(),
    }
}

/// Both sides of a resource of a planned import; none: there is nothing under its ID in the target.
pub struct Both {
    /// Its place in the package.
    pub at: usize,
    /// What the target has.
    pub target: Option<(Side, Seen)>,
    /// What arrives.
    pub incoming: Side,
}

/// Who may see a resource of the target.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its owner.
    pub owner: String,
    /// Its directory.
    pub directory: String,
}

/// Both sides of some resources of a planned import, by their places; those whose contents are not here are left out.
pub async fn sides(
    import: Import<'_>,
    planning: &Planning,
    connection: &mut PgConnection,
    places: &[usize],
) -> Result<Vec<Both>, PlanningError> {
    let here = |planned: &Planned| planning.facts.resources.get(&planned.new_id).filter(|found| found.here);
    let ids = places.iter().filter_map(|at| {
        let planned = &planning.plan.items[*at];
        here(planned).map(|_| planned.new_id.to_string())
    });
    let ids: Vec<String> = ids.collect();
    let versions: HashMap<String, Version> = db::contents::current(connection, import.record.domain_id, &ids).await?;
    let wanted = places.iter().filter_map(|at| import.entries[*at].definition_id);
    let bodies = load_bodies(connection, wanted.collect()).await?;
    let mut both = Vec::with_capacity(places.len());
    for at in places.iter().copied() {
        let (entry, planned) = (&import.entries[at], &planning.plan.items[at]);
        let version = versions.get(planned.new_id.as_str());
        let target = version.map(|version| {
            let seen = Seen { owner: version.owner.clone(), directory: version.directory.clone() };
            Ok::<_, DbError>((Side::of(version)?, seen))
        });
        let target = target.transpose()?;
        // What is unchanged, or was left out as it is here already, is what the target has.
        let same = matches!(planned.method, Method::Unchanged) || entry.definition_id.is_none();
        let incoming = match (&target, entry.definition_id.and_then(|id| bodies.get(&id))) {
            (Some((side, _)), _) if same => side.clone(),
            (_, Some(body)) => incoming(import, planning, (entry, planned), here(planned), version, body)?,
            _ => continue,
        };
        both.push(Both { at, target, incoming });
    }
    Ok(both)
}

/// A resource as it will be in the target.
fn incoming(
    import: Import<'_>,
    planning: &Planning,
    (entry, planned): (&Entry, &Planned),
    existing: Option<&Existing>,
    version: Option<&Version>,
    body: &str,
) -> Result<Side, PlanningError> {
    let mut value: Value = serde_json::from_str(body).map_err(|_| DbError::Corrupt("definitions.body"))?;
    let map = &planning.plan.id_map;
    let theirs = version.map(|version| db::resources::overlay(version.overlay.as_deref())).transpose()?;
    let (mut own, _) = entry.own.arriving(theirs.as_ref());
    if let Some(kind) = import.app.types.get(&entry.type_key) {
        // What cannot be rewritten is an error of the item: it is shown as it came.
        let mut rewritten = value.clone();
        if map.rewrite(kind, &mut rewritten).is_ok() {
            value = rewritten;
        }
        if existing.is_none() {
            let mut whole = value.clone();
            entry.own.show(&mut whole);
            set_on_create(kind, &Content::openings(kind, &whole), &mut own);
        }
    }
    own.show(&mut value);
    let there = |path: &str| planning.facts.attachments.get(path).copied();
    let attachments = entry.attachments.iter();
    Ok(Side {
        name: planned.new_name.clone(),
        directory: planned.new_directory.clone(),
        definition: value,
        attachments: attachments
            .map(|(path, bytes)| (map.path(path).to_owned(), bytes.or_else(|| there(path))))
            .collect(),
    })
}
