//! The items of an import at the target, as those of the migration here. What is as it was sent does not travel back.

use uuid::Uuid;

use crate::db::closure::Node;
use crate::db::exports::Named;
use crate::db::records::Record;
use crate::domain::outcome::{Method, Status};
use crate::domain::resource::{below, content_hash};
use crate::planning;
use crate::remote::RemoteError;
use crate::wire;
use crate::wire::record::{Item, PackageInfo};

use super::courier::Courier;
use super::migration_options::MigrationOptions;
use super::{JobError, lines};

/// The content hash that a resource has in the target where it need not be changed.
pub(super) fn arrives(node: &Node, named: &[Named], prefix: Option<&str>) -> String {
    let directory = below(prefix, &node.directory);
    content_hash(&node.kind, &node.name, &directory, &node.definition_hash, &lines::hashes_of(named, node)).to_string()
}

/// The directory below which all resources of a migration are in the target as they were sent, once its import has
/// ended; none where one is not.
pub(super) async fn all_as_sent(
    courier: &Courier,
    record: &Record,
    there: &wire::record::Record,
) -> Result<Option<String>, JobError> {
    let package = record.package.clone().map(serde_json::from_value::<PackageInfo>);
    let sent = package.and_then(Result::ok).map_or(0, |package| package.resources);
    if sent == 0 || there.counts.unchanged != sent {
        return Ok(None);
    }
    let others = courier.tried(|| courier.remote.items(there.id, Some("unchanged"), None)).await??;
    let none = others.items.is_empty() && others.next_cursor.is_none();
    let prefix = planning::options(&MigrationOptions::of(record)?.plan).ok().and_then(|plan| plan.directory_prefix);
    Ok(none.then(|| prefix.unwrap_or_default()))
}

/// All items of the import there; those that are as they were sent have this status.
pub(super) async fn items(
    courier: &Courier,
    record: &Record,
    there: &wire::record::Record,
    status: Status,
) -> Result<Vec<Item>, JobError> {
    let mut connection = courier.context.app.pool.acquire().await?;
    let own = planning::items::all_items(&mut connection, record.id).await?;
    drop(connection);
    let prefix = planning::options(&MigrationOptions::of(record)?.plan).ok().and_then(|plan| plan.directory_prefix);
    let word = if status == Status::Pending { "pending" } else { "unchanged" };
    let fetched = fetch(courier, there.id, Some(word), own.len()).await?;
    let unchanged = fetched.iter().filter(|item| item.method == Some(Method::Unchanged)).count();
    // An import that has no items leaves none out.
    if own.len() - fetched.len() == (there.counts.unchanged as usize).saturating_sub(unchanged)
        && let Some(items) = fill(&own, fetched, |own| planning::items::as_sent(own, status, prefix.as_deref()))
    {
        return Ok(items);
    }
    let fetched = fetch(courier, there.id, None, own.len()).await?;
    let mut arrives =
        own.into_iter().map(|item| (item.resource_id, item.arrives)).collect::<std::collections::HashMap<_, _>>();
    Ok(fetched.into_iter().map(|item| Item { arrives: arrives.remove(&item.resource_id).flatten(), ..item }).collect())
}

/// The items that the target tells, at most so many.
async fn fetch(courier: &Courier, there: Uuid, but: Option<&str>, most: usize) -> Result<Vec<Item>, JobError> {
    let mut items: Vec<Item> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = courier.tried(|| courier.remote.items(there, but, cursor.as_deref())).await??;
        let empty = page.items.is_empty() && page.next_cursor.is_some();
        items.extend(page.items);
        if empty || items.len() > most {
            let message = "The target reports more resources than were sent.";
            return Err(
                RemoteError::settings(message, "Check that the target's address is that of a Ferry server.").into()
            );
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(items);
        }
    }
}

/// Own items in their order, each as it was fetched, or else made; none where something else was fetched.
fn fill(own: &[Item], fetched: Vec<Item>, made: impl Fn(&Item) -> Item) -> Option<Vec<Item>> {
    let mut fetched = fetched.into_iter().peekable();
    let items = own.iter().map(|own| match fetched.next_if(|item| item.resource_id == own.resource_id) {
        Some(item) => Item { arrives: own.arrives.clone(), ..item },
        None => made(own),
    });
    let items = items.collect();
    fetched.next().is_none().then_some(items)
}
