//! `plan(entries, target, options)` → a method and errors for each resource.
//!
//! A pure function over compact rows, linear in resources and references. Preview and execution call
//! it, so the preview cannot lie.

mod entry;
mod facts;
mod fixpoint;
mod methods;
mod names;
mod options;
mod pictures;
mod report;

use std::collections::{HashMap, HashSet};

use super::failure::{Failure, Warning};
use super::id_map::{IdMap, Unwritable};
use super::manifest::SharedPart;
use super::outcome::Method;
use super::resource::{Hash, ResourceId};
use super::type_file::Types;

pub use entry::{Contents, Entry};
pub use facts::{Base, Existing, Facts, NameKey, Sharers};
pub use options::{IdMode, OnDrift, OnFailure, OnNameClash, Options, Resolution};

/// What an import would do with one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Create, update, …
    pub method: Method,
    /// Its ID in the target.
    pub new_id: ResourceId,
    /// Its name in the target.
    pub new_name: String,
    /// Its directory in the target.
    pub new_directory: String,
    /// Own errors in the order of the failure table, then references in the order of the definition.
    pub errors: Vec<Failure>,
    /// Its warnings.
    pub warnings: Vec<Warning>,
    /// The target's copy was changed since the last import.
    pub drifted: bool,
    /// The source's was changed since then, where it would be written.
    pub source_changed: bool,
    /// How it was changed on the way; empty: not at all.
    pub remapping: String,
    /// Who holds the name that it wants.
    pub clash: Option<ResourceId>,
}

/// What an import would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each entry, in their order.
    pub items: Vec<Planned>,
    /// Source → target.
    pub id_map: IdMap,
    /// A cause that stops the whole package.
    pub error: Option<Failure>,
    /// About the package as a whole.
    pub warnings: Vec<Warning>,
    /// What would be written, but was left out of the package.
    pub lacking: Vec<ResourceId>,
}

/// New names for IDs and attachment paths, from a seed that belongs to the import.
pub trait Fresh {
    /// The new ID of a resource; the same at every call.
    fn id(&self, source: &ResourceId) -> ResourceId;
    /// The new path of an attachment; the same at every call.
    fn path(&self, source: &str) -> String;
}

/// The mapping of IDs, names and paths that the options alone decide. [`plan`] adds to it the names
/// that clashes change.
pub fn id_map(entries: &[Entry], options: &Options, facts: &Facts, fresh: &dyn Fresh) -> IdMap {
    let mut map = IdMap::default();
    let named = if options.resolutions.is_empty() { HashMap::new() } else { by_name(entries) };
    for (at, entry) in entries.iter().enumerate() {
        // Of several that share a name, a text names one alone.
        let is_named = || named.get(&(entry.type_key.as_str(), entry.name.as_str())) == Some(&at);
        match options.resolutions.get(&entry.id) {
            Some(Resolution::Skip) => continue,
            Some(Resolution::Map(target)) => {
                map.ids.insert(entry.id.clone(), target.clone());
                if let Some(existing) = facts.resources.get(target).filter(|_| is_named()) {
                    map.names.insert((entry.type_key.clone(), entry.name.clone()), existing.name.clone());
                }
                continue;
            }
            Some(Resolution::Rename(name)) if *name != entry.name && is_named() => {
                map.names.insert((entry.type_key.clone(), entry.name.clone()), name.clone());
            }
            _ => {}
        }
        if options.ids == IdMode::Change {
            map.ids.insert(entry.id.clone(), fresh.id(&entry.id));
            for (path, _) in &entry.attachments {
                map.attachments.entry(path.clone()).or_insert_with(|| fresh.path(path));
            }
        }
    }
    map.names.retain(|(_, old), new| old != new);
    map
}

/// Which entry a name means, by type and name: the one with the lowest ID.
fn by_name(entries: &[Entry]) -> HashMap<(&str, &str), usize> {
    let mut named: HashMap<(&str, &str), usize> = HashMap::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let first = named.entry((entry.type_key.as_str(), entry.name.as_str())).or_insert(at);
        if entry.id < entries[*first].id {
            *first = at;
        }
    }
    named
}

/// How each entry would be changed on its way under some options, in the texts of [`Planned::remapping`].
pub fn remappings(
    entries: &[Entry],
    types: &Types,
    facts: &Facts,
    options: &Options,
    fresh: &dyn Fresh,
) -> Vec<String> {
    let (mut id_map, rewritten) = (id_map(entries, options, facts, fresh), HashMap::new());
    // What is mapped is not among what was imported before.
    for (id, resolution) in &options.resolutions {
        if let Resolution::Map(target) = resolution {
            id_map.ids.entry(id.clone()).or_insert_with(|| target.clone());
        }
    }
    let work = Work::new(entries, types, facts, options, id_map, &rewritten);
    let remapping = |at: usize| types.get(&entries[at].type_key).map(|kind| work.remapping(at, kind));
    (0..entries.len()).map(|at| remapping(at).unwrap_or_default()).collect()
}

/// Decides what an import would do.
///
/// `rewritten` holds the definition hash of entries whose definitions the ID map changes and whose
/// counterpart in the target is to be compared, and why some cannot be rewritten; where it is missing they count as
/// changed.
pub fn plan(
    entries: &[Entry],
    types: &Types,
    facts: &Facts,
    options: &Options,
    fresh: &dyn Fresh,
    rewritten: &HashMap<ResourceId, Result<Hash, Unwritable>>,
    shared_parts: &[SharedPart],
) -> Plan {
    let id_map = id_map(entries, options, facts, fresh);
    let mut work = Work::new(entries, types, facts, options, id_map, rewritten);
    work.decide_methods();
    work.claim_names();
    work.reach_fixpoint();
    work.report(shared_parts)
}

/// The plan in the making: one slot per entry.
struct Work<'a> {
    entries: &'a [Entry],
    types: &'a Types,
    facts: &'a Facts,
    options: &'a Options,
    rewritten: &'a HashMap<ResourceId, Result<Hash, Unwritable>>,
    id_map: IdMap,
    slots: Vec<Slot>,
    by_id: HashMap<&'a str, usize>,
    by_name: HashMap<(&'a str, &'a str), usize>,
    /// Names that the package wants; made when a clash first asks for another.
    wanted: Option<HashSet<NameKey>>,
    /// A name was chosen since the last decision.
    renamed: bool,
}

/// What is known of one entry so far.
#[derive(Debug, Clone)]
struct Slot {
    /// Chosen, and not mapped.
    selected: bool,
    /// Not removed so far.
    alive: bool,
    method: Method,
    name: String,
    directory: String,
    drifted: bool,
    source_changed: bool,
    remapping: String,
    own_errors: Vec<Failure>,
    /// Who holds the name that it wants; set once it has lost it.
    clash: Option<ResourceId>,
    warnings: Vec<Warning>,
}

impl<'a> Work<'a> {
    fn new(
        entries: &'a [Entry],
        types: &'a Types,
        facts: &'a Facts,
        options: &'a Options,
        id_map: IdMap,
        rewritten: &'a HashMap<ResourceId, Result<Hash, Unwritable>>,
    ) -> Self {
        let slots = entries.iter().map(|entry| Slot::new(entry, options)).collect();
        let by_id = entries.iter().enumerate().map(|(at, entry)| (entry.id.as_str(), at)).collect();
        let (by_name, wanted) = (by_name(entries), None);
        Self { entries, types, facts, options, rewritten, id_map, slots, by_id, by_name, wanted, renamed: false }
    }
}

impl Slot {
    fn new(entry: &Entry, options: &Options) -> Self {
        let resolution = options.resolutions.get(&entry.id);
        let method = match resolution {
            Some(Resolution::Skip) => Method::Skip,
            Some(Resolution::Map(_)) => Method::Map,
            _ => Method::Create,
        };
        let selected = method == Method::Create;
        Self {
            selected,
            alive: selected,
            method,
            name: match resolution {
                Some(Resolution::Rename(name)) => name.clone(),
                _ => entry.name.clone(),
            },
            directory: super::resource::below(options.directory_prefix.as_deref(), &entry.directory),
            drifted: false,
            source_changed: false,
            remapping: String::new(),
            own_errors: Vec::new(),
            clash: None,
            warnings: Vec::new(),
        }
    }
}

/// The name keys that a package may want in the target and does not hold there already, each once; what
/// [`Facts::names`] is loaded for.
pub fn wanted_names(
    entries: &[Entry],
    types: &Types,
    options: &Options,
    resources: &HashMap<ResourceId, Existing>,
) -> Vec<NameKey> {
    let keys: HashSet<NameKey> = entries
        .iter()
        .filter_map(|entry| {
            let slot = Slot::new(entry, options);
            let held = options.ids == IdMode::Keep
                && resources.get(&entry.id).is_some_and(|existing| {
                    let same = existing.name == slot.name && existing.directory == slot.directory;
                    same && existing.here && existing.type_key == entry.type_key
                });
            let kind = types.get(&entry.type_key)?;
            let scope = kind.name_scope(&slot.directory)?;
            (slot.selected && !held).then(|| (entry.type_key.clone(), scope.to_owned(), slot.name))
        })
        .collect();
    keys.into_iter().collect()
}
