//! Choices of earlier imports from the same environment, made again where the user says nothing else.

use std::collections::{BTreeMap, HashSet};

use crate::db::{self, DbError, PgConnection};
use crate::domain::failure::Warning;
use crate::domain::import_plan::{Entry, Facts, Options, Resolution};
use crate::domain::resource::ResourceId;
use crate::wire::record::PlanRequest;

/// The resources for which a remembered choice was made.
pub type Remembered = HashSet<ResourceId>;

/// Makes the remembered choices of some resources, where the request names none of them.
pub async fn choose(
    connection: &mut PgConnection,
    (domain_id, source_environment): (i32, &str),
    entries: &[Entry],
    request: &PlanRequest,
    options: &mut Options,
) -> Result<Remembered, DbError> {
    let mut remembered = HashSet::new();
    let found = db::mappings::of_source(connection, domain_id, source_environment).await?;
    if found.is_empty() {
        return Ok(remembered);
    }
    let listed: HashSet<&ResourceId> = entries.iter().map(|entry| &entry.id).collect();
    for (id, resolution) in found {
        if listed.contains(&id) && !request.resolutions.contains_key(id.as_str()) {
            options.resolutions.insert(id.clone(), resolution);
            remembered.insert(id);
        }
    }
    Ok(remembered)
}

/// Lets go of maps to what is not there any more: an unattended import goes on without them. Returns what is to be
/// known of that.
pub fn let_go(
    remembered: &mut Remembered,
    entries: &[Entry],
    options: &mut Options,
    facts: &Facts,
) -> BTreeMap<ResourceId, Warning> {
    let mut gone = BTreeMap::new();
    if remembered.is_empty() {
        return gone;
    }
    for entry in entries {
        let Some(Resolution::Map(target)) =
            options.resolutions.get(&entry.id).filter(|_| remembered.contains(&entry.id))
        else {
            continue;
        };
        if facts.resources.get(target).is_none_or(|found| !found.here || found.type_key != entry.type_key) {
            let message = format!("{} was to be mapped to {target} as before, which is not here any more.", entry.name);
            gone.insert(entry.id.clone(), Warning::new("mapping_gone", message).about(entry.id.as_str()));
            options.resolutions.remove(&entry.id);
            remembered.remove(&entry.id);
        }
    }
    gone
}
