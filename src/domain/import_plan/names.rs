//! Unique names: who wants which, who holds it, who frees it.
//!
//! Two resources may swap names inside one import: a name is free if its holder is moved away by the
//! same import. Who loses a name is removed, or takes another with `on_name_clash: rename`.

use std::collections::{HashMap, HashSet};

use crate::domain::outcome::Method;
use crate::domain::resource::{MAX_NAME_CHARS, ResourceId};

use super::{IdMode, NameKey, OnNameClash, Work};

impl Work<'_> {
    /// The key under which the entry's name must be unique in the target.
    pub(super) fn name_key(&self, at: usize) -> Option<NameKey> {
        let (entry, slot) = (&self.entries[at], &self.slots[at]);
        let scope = self.types.get(&entry.type_key)?.name_scope(&slot.directory)?;
        Some((entry.type_key.clone(), scope.to_owned(), slot.name.clone()))
    }

    /// Names wanted twice inside the package, and names held by what this import does not move.
    pub(super) fn claim_names(&mut self) {
        let mut claims: HashMap<NameKey, Vec<usize>> = HashMap::new();
        for at in 0..self.entries.len() {
            if self.slots[at].alive
                && let Some(key) = self.name_key(at)
            {
                claims.entry(key).or_default().push(at);
            }
        }
        let mut twice: Vec<(NameKey, Vec<usize>)> =
            claims.into_iter().filter(|(_, wanted_by)| wanted_by.len() > 1).collect();
        twice.sort();
        for (key, wanted_by) in twice {
            let holder = self.facts.names.get(&key);
            let first = wanted_by.iter().copied().find(|at| holder == Some(self.target_id(*at)));
            let keeps = first.or_else(|| (self.options.on_name_clash == OnNameClash::Rename).then(|| wanted_by[0]));
            for at in wanted_by.iter().copied().filter(|at| Some(*at) != keeps) {
                let other = keeps.unwrap_or_else(|| if at == wanted_by[0] { wanted_by[1] } else { wanted_by[0] });
                self.lose_name(at, self.entries[other].id.clone());
            }
        }
        let selected: Vec<usize> = (0..self.entries.len()).filter(|at| self.slots[*at].selected).collect();
        for at in selected {
            match self.blocking_holder(at) {
                Some(holder) if self.slots[at].alive => self.lose_name(at, holder),
                // It fails already, but whoever cures that would meet this next.
                Some(holder) if self.options.on_name_clash == OnNameClash::Block && self.slots[at].clash.is_none() => {
                    self.slots[at].clash = Some(holder);
                }
                _ => {}
            }
        }
    }

    /// Who holds the entry's name in the target and keeps it.
    fn blocking_holder(&self, at: usize) -> Option<ResourceId> {
        let holder = self.holder(at)?;
        if self.mover(&holder).is_some_and(|mover| self.slots[mover].alive) { None } else { Some(holder) }
    }

    /// Who holds the entry's name in the target, other than itself.
    pub(super) fn holder(&self, at: usize) -> Option<ResourceId> {
        let holder = self.facts.names.get(&self.name_key(at)?)?;
        (holder != self.target_id(at)).then(|| holder.clone())
    }

    /// The entry that would move a resource of the target to another name.
    pub(super) fn mover(&self, holder: &ResourceId) -> Option<usize> {
        if self.options.ids == IdMode::Change {
            return None;
        }
        let at = *self.by_id.get(holder.as_str())?;
        let slot = &self.slots[at];
        let existing = self.facts.resources.get(holder)?;
        let moves = slot.name != existing.name || slot.directory != existing.directory;
        (slot.method == Method::Update && moves).then_some(at)
    }

    /// The entry's name is taken: it takes another, or is removed.
    pub(super) fn lose_name(&mut self, at: usize, holder: ResourceId) {
        if self.options.on_name_clash == OnNameClash::Block {
            self.slots[at].clash = Some(holder);
            self.slots[at].alive = false;
            return;
        }
        let original = self.slots[at].name.clone();
        let mut wanted = self.wanted.take().unwrap_or_else(|| self.wanted_names());
        for number in 2.. {
            let suffix = format!(" ({number})");
            let kept: String = original.chars().take(MAX_NAME_CHARS - suffix.len()).collect();
            self.slots[at].name = kept + &suffix;
            let Some(key) = self.name_key(at) else { break };
            let free = self.facts.names.get(&key).is_none_or(|holder| holder == self.target_id(at));
            if free && wanted.insert(key) {
                break;
            }
        }
        self.wanted = Some(wanted);
        let entry = &self.entries[at];
        if self.by_name.get(&(entry.type_key.as_str(), entry.name.as_str())) == Some(&at) {
            self.id_map.names.insert((entry.type_key.clone(), entry.name.clone()), self.slots[at].name.clone());
        }
        self.renamed = true;
    }

    /// Every name that the package wants.
    fn wanted_names(&self) -> HashSet<NameKey> {
        (0..self.entries.len()).filter(|at| self.slots[*at].selected).filter_map(|at| self.name_key(at)).collect()
    }

    /// New names change what an entry and those that refer to it by name come out as: decides again
    /// for all that are still in, and returns those that fall by it.
    pub(super) fn decide_again(&mut self) -> Vec<usize> {
        if !std::mem::take(&mut self.renamed) {
            return Vec::new();
        }
        let alive: Vec<usize> = (0..self.entries.len()).filter(|at| self.slots[*at].alive).collect();
        for at in &alive {
            self.slots[*at].warnings.clear();
            self.decide(*at);
        }
        // A text may name what has another name now.
        for at in &alive {
            self.slots[*at].alive = self.slots[*at].alive && self.references_hold(*at);
        }
        alive.into_iter().filter(|at| !self.slots[*at].alive).collect()
    }
}
