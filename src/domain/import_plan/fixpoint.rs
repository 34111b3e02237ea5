//! Start with all selected; remove what has errors of its own or needs a removed one; repeat.
//!
//! A worklist: each resource is removed at most once, each reference looked at once.

use std::collections::{HashMap, HashSet};

use crate::domain::closure::on_cycles;
use crate::domain::definition::{Reference, Target};
use crate::domain::failure::{self, Unmatched};
use crate::domain::outcome::Method;
use crate::domain::resource::ResourceId;
use crate::domain::resource_type::{Kind, Rule};

use super::{IdMode, Work};

impl Work<'_> {
    pub(super) fn reach_fixpoint(&mut self) {
        let dependents = self.dependents();
        let mut waiting = self.waiting_for_names();
        let mut counted = HashSet::new();
        let mut queue: Vec<usize> =
            (0..self.entries.len()).filter(|at| self.slots[*at].selected && !self.slots[*at].alive).collect();
        for at in 0..self.entries.len() {
            if self.slots[at].alive && !self.references_hold(at) {
                self.slots[at].alive = false;
                queue.push(at);
            }
        }
        loop {
            while let Some(removed) = queue.pop() {
                for (dependent, kind) in &dependents[removed] {
                    if *kind == Kind::Output && counted.insert((*dependent, removed)) {
                        self.inherit_clash(*dependent, removed);
                    }
                    if std::mem::take(&mut self.slots[*dependent].alive) {
                        queue.push(*dependent);
                    }
                }
                for claimant in waiting.remove(&removed).unwrap_or_default() {
                    let holder = self.entries[removed].id.clone();
                    if self.slots[claimant].alive {
                        self.lose_name(claimant, holder);
                        queue.extend((!self.slots[claimant].alive).then_some(claimant));
                    }
                }
            }
            queue.extend(self.decide_again());
            queue.extend(self.break_cycles());
            if queue.is_empty() {
                return;
            }
        }
    }

    /// For each entry, the selected ones that refer to it, and how.
    fn dependents(&self) -> Vec<Vec<(usize, Kind)>> {
        let mut dependents = vec![Vec::new(); self.entries.len()];
        for (at, entry) in self.entries.iter().enumerate() {
            for found in entry.references.iter().filter(|_| self.slots[at].selected) {
                if let Some((rule, other)) =
                    self.rule(at, found).and_then(|rule| Some((rule, self.inside(rule, &found.target)?)))
                    && self.slots[other].selected
                    && other != at
                    && rule.to.contains(&self.entries[other].type_key)
                {
                    dependents[other].push((at, rule.kind));
                }
            }
        }
        dependents
    }

    /// Entries whose name is free only because another entry moves its holder away, by that other entry.
    fn waiting_for_names(&self) -> HashMap<usize, Vec<usize>> {
        let mut waiting: HashMap<usize, Vec<usize>> = HashMap::new();
        for at in 0..self.entries.len() {
            if self.slots[at].alive
                && let Some(mover) = self.holder(at).and_then(|holder| self.mover(&holder))
            {
                waiting.entry(mover).or_default().push(at);
            }
        }
        waiting
    }

    /// A task or ETL carries the name clash of the dataset that it outputs.
    fn inherit_clash(&mut self, at: usize, removed: usize) {
        if self.slots[removed].clash.is_none() {
            return;
        }
        let related = self.entries[removed].id.as_str();
        if let Some(message) = self.duplicate_name(removed) {
            self.slots[at].own_errors.push(failure::duplicate_name(message).about(related));
        }
    }

    /// The message that a name is taken, in the words of the entry's type.
    pub(super) fn duplicate_name(&self, at: usize) -> Option<String> {
        let kind = self.types.get(&self.entries[at].type_key)?;
        Some(kind.duplicate_name(&self.slots[at].name))
    }

    pub(super) fn references_hold(&self, at: usize) -> bool {
        self.entries[at].references.iter().all(|found| self.unmatched(at, found).is_none())
    }

    pub(super) fn rule(&self, at: usize, found: &Reference) -> Option<&Rule> {
        self.types.get(&self.entries[at].type_key)?.rules.get(found.rule as usize)
    }

    /// The entry of the package that a reference names.
    pub(super) fn inside(&self, rule: &Rule, target: &Target) -> Option<usize> {
        match target {
            Target::Id(id) => self.by_id.get(id.as_str()).copied(),
            Target::Name(name) => self.by_name.get(&(rule.to.first()?.as_str(), name.as_str())).copied(),
        }
    }

    /// Why a reference has nothing to point to; `None`: it has.
    pub(super) fn unmatched(&self, at: usize, found: &Reference) -> Option<Unmatched> {
        let rule = self.rule(at, found)?;
        let Some(other) = self.inside(rule, &found.target) else {
            return (!self.in_target(rule, &found.target)).then_some(Unmatched::Nowhere);
        };
        let slot = &self.slots[other];
        let fits = rule.to.contains(&self.entries[other].type_key);
        match slot.method {
            _ if !fits => Some(Unmatched::Nowhere),
            Method::Skip => (!self.in_target(rule, &found.target)).then_some(Unmatched::LeftOut),
            Method::Map => {
                let mapped = Target::Id(self.target_id(other).clone());
                (!self.in_target(rule, &mapped)).then_some(Unmatched::LeftOut)
            }
            _ if slot.alive => None,
            _ => Some(Unmatched::Failed),
        }
    }

    /// The importing domain has what a reference names, and of a type that it may have.
    fn in_target(&self, rule: &Rule, target: &Target) -> bool {
        match target {
            Target::Id(id) => {
                self.facts.resources.get(id).is_some_and(|found| found.here && rule.to.contains(&found.type_key))
            }
            Target::Name(name) => rule.to.iter().any(|key| {
                let holders = self.facts.named.get(&(key.clone(), name.clone()));
                holders.is_some_and(|holders| holders.iter().any(|holder| !self.takes_away(holder, name)))
            }),
        }
    }

    /// This import gives a resource of the target another name.
    fn takes_away(&self, holder: &ResourceId, name: &str) -> bool {
        let mover = self.by_id.get(holder.as_str()).map(|at| &self.slots[*at]);
        self.options.ids == IdMode::Keep && mover.is_some_and(|slot| slot.selected && slot.name != name)
    }

    /// Removes what would become its own subprocess; returns what it removed.
    fn break_cycles(&mut self) -> Vec<usize> {
        let mut written: HashMap<ResourceId, usize> = HashMap::new();
        let mut edges: Vec<(ResourceId, ResourceId)> = Vec::new();
        for at in (0..self.entries.len()).filter(|at| self.slots[*at].alive) {
            written.insert(self.target_id(at).clone(), at);
            for found in &self.entries[at].references {
                if let (Some(rule), Target::Id(id)) = (self.rule(at, found), &found.target)
                    && rule.acyclic
                {
                    edges.push((self.target_id(at).clone(), self.id_map.id(id).clone()));
                }
            }
        }
        if edges.is_empty() {
            return Vec::new();
        }
        edges.extend(self.facts.acyclic.iter().filter(|(from, _)| !written.contains_key(from)).cloned());
        let mut fallen: Vec<usize> = on_cycles(&edges).iter().filter_map(|id| written.get(id).copied()).collect();
        fallen.sort_unstable();
        for at in &fallen {
            let role =
                self.entries[*at].references.iter().filter_map(|found| self.rule(*at, found)).find(|rule| rule.acyclic);
            let role = role.map_or_else(String::new, |rule| rule.role.clone());
            self.fail(*at, failure::subprocess_cycle(&role));
        }
        fallen
    }
}
