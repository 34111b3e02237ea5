//! What an earlier try of a record has done already.

use std::collections::HashMap;

use crate::db::PgConnection;
use crate::db::records::Record;
use crate::domain::import_plan::{Facts, Options, Resolution};
use crate::domain::outcome::Status;
use crate::domain::resource::ResourceId;
use crate::domain::transfer::Run;
use crate::wire::record::Item;

use super::PlanningError;
use super::items::all_items;

/// What an earlier try of a record has done already: it is used as it stands in the target, and not written
/// again.
pub(super) async fn done_before(
    connection: &mut PgConnection,
    record: &Record,
    options: &mut Options,
) -> Result<HashMap<ResourceId, Item>, PlanningError> {
    let mut done = HashMap::new();
    if record.transfer.run == Run::First {
        return Ok(done);
    }
    for item in all_items(connection, record.id).await? {
        let is_done = matches!(item.status, Status::Succeeded | Status::Unchanged);
        let new_id = item.new_id.as_deref().filter(|_| is_done).and_then(|id| ResourceId::parse(id).ok());
        if let (Some(new_id), Ok(id)) = (new_id, ResourceId::parse(&item.resource_id)) {
            options.resolutions.insert(id.clone(), Resolution::Map(new_id));
            done.insert(id, item);
        }
    }
    Ok(done)
}

/// Whether all that an earlier try has done is in the target still; what is not will be done again.
pub(super) fn still_there(done: &mut HashMap<ResourceId, Item>, options: &mut Options, facts: &Facts) -> bool {
    let before = done.len();
    done.retain(|id, item| {
        let there = matches!(options.resolutions.get(id), Some(Resolution::Map(target))
            if facts.resources.get(target).is_some_and(|found| found.here && found.type_key == item.kind));
        if !there {
            options.resolutions.remove(id);
        }
        there
    });
    done.len() == before
}
