//! What an import leaves to do by hand: its checklist.

use std::collections::{BTreeMap, HashSet};

use crate::domain::checklist::{By, ChecklistEntry, Paused, Task};
use crate::domain::import_plan::{Entry, Planned};
use crate::domain::outcome::Method;
use crate::domain::resource_type::ResourceType;

/// How a resource has arrived.
pub(super) struct Arrived {
    /// It lacks a secret that it has at its source.
    pub(super) lacks_secrets: bool,
    /// What was set as it is new here.
    pub(super) paused: Vec<Paused>,
}

/// What one resource leaves to do.
pub(super) fn of_resource(kind: &ResourceType, planned: &Planned, arrived: Arrived) -> Vec<ChecklistEntry> {
    let what = format!("{} {}", kind.label.en, planned.new_name);
    let entry = |task, message| ChecklistEntry::open(task, planned.new_id.as_str(), message);
    let mut entries = Vec::new();
    if arrived.lacks_secrets {
        let message = format!("{what} needs its secrets: packages never carry them in clear.");
        entries.push(entry(Task::SecretMissing, message));
    }
    if !arrived.paused.is_empty() {
        let message = format!("{what} is new here and arrived paused; switch it on when all is ready.");
        entries.push(entry(Task::ArrivedPaused, message).seen_by(By::Paused(arrived.paused)));
    }
    if kind.refresh && planned.method != Method::Unchanged {
        let message = format!("{what} needs a refresh: until then it shows what it held before, or nothing.");
        entries.push(entry(Task::RefreshNeeded, message));
    }
    entries
}

/// What all of an import leaves to do, besides each of its resources: permissions never travel.
pub(super) fn permissions<'a>(planned: impl Iterator<Item = &'a Planned>) -> Vec<ChecklistEntry> {
    let mut new: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for planned in planned.filter(|planned| planned.method == Method::Create) {
        new.entry(&planned.new_directory).or_insert((planned.new_id.as_str(), 0)).1 += 1;
    }
    let entry = |(directory, (first, count)): (&str, (&str, usize))| {
        let message = match count {
            1 => {
                format!("A resource is new in {directory}. Permissions are never migrated: grant those that it needs.")
            }
            _ => format!(
                "{count} resources are new in {directory}. Permissions are never migrated: grant those that they need."
            ),
        };
        ChecklistEntry::open(Task::PermissionsToGrant, first, message)
    };
    new.into_iter().map(entry).collect()
}

/// Types that the source uses and whose switch is off here.
pub(super) fn features(entries: &[Entry], off: &HashSet<String>) -> Vec<ChecklistEntry> {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| off.contains(&entry.type_key)) {
        first.entry(&entry.type_key).or_insert(entry.id.as_str());
    }
    let entry = |(kind, first): (&str, &str)| {
        let message = format!("The feature {kind} is used where this comes from and is off here: switch it on.");
        ChecklistEntry::open(Task::FeatureDiffers, first, message).seen_by(By::Feature(kind.to_owned()))
    };
    first.into_iter().map(entry).collect()
}
