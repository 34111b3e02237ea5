//! From the decided work to the plan that people see: errors in their order, causes of the package.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::domain::definition::{Reference, Target};
use crate::domain::failure::{self, Failure, Unmatched, Warning};
use crate::domain::manifest::SharedPart;
use crate::domain::outcome::Method;
use crate::domain::resource::ResourceId;
use crate::domain::resource_type::{Kind, Rule};

use super::{Entry, IdMode, Plan, Planned, Slot, Work};

/// The order of own errors: that of the failure table, then the others.
const ORDER: [&str; 11] = [
    "duplicate_name",
    "attachment_invalid",
    "deleted_in_target",
    "exists_in_other_domain",
    "duplicate_child",
    "type_unknown",
    "type_mismatch",
    "resource_invalid",
    "reference_not_writable",
    "changed_in_target",
    "subprocess_cycle",
];

impl Work<'_> {
    pub(super) fn report(mut self, shared_parts: &[SharedPart]) -> Plan {
        let errors: Vec<Vec<Failure>> = (0..self.entries.len()).map(|at| self.errors(at)).collect();
        let lacking = self.lacking();
        let incomplete = || (!lacking.is_empty()).then(|| failure::package_incomplete(lacking.len()));
        let error = self.package_error().or_else(incomplete);
        let mut warnings = self.shared(shared_parts);
        warnings.extend(self.shared_pictures());
        let ids: Vec<_> = (0..self.entries.len()).map(|at| self.target_id(at).clone()).collect();
        let items = std::mem::take(&mut self.slots).into_iter().zip(errors).zip(ids);
        let items = items
            .map(|((slot, errors), new_id)| Planned {
                method: if slot.selected && !slot.alive { Method::Blocked } else { slot.method },
                new_id,
                new_name: slot.name,
                new_directory: slot.directory,
                errors,
                warnings: slot.warnings,
                drifted: slot.drifted,
                source_changed: slot.source_changed,
                remapping: slot.remapping,
                clash: slot.clash,
            })
            .collect();
        Plan { items, id_map: self.id_map, error, warnings, lacking }
    }

    /// What would be written, but has no contents.
    fn lacking(&self) -> Vec<ResourceId> {
        let written = |slot: &Slot| slot.alive && matches!(slot.method, Method::Create | Method::Update);
        let lacking = |(entry, slot): &(&Entry, &Slot)| !entry.contents.are_sent() && written(slot);
        self.entries.iter().zip(&self.slots).filter(lacking).map(|(entry, _)| entry.id.clone()).collect()
    }

    fn errors(&self, at: usize) -> Vec<Failure> {
        let slot = &self.slots[at];
        if !slot.selected || slot.alive {
            return Vec::new();
        }
        let mut errors = slot.own_errors.clone();
        if let (Some(holder), Some(message)) = (&slot.clash, self.duplicate_name(at)) {
            errors.push(failure::duplicate_name(message).about(holder.as_str()));
        }
        errors.sort_by_key(|error| ORDER.iter().position(|code| *code == error.code));
        for found in &self.entries[at].references {
            if let (Some(why), Some(rule)) = (self.unmatched(at, found), self.rule(at, found))
                && !self.said_by_clash(rule, found)
                && !(why == Unmatched::Failed && self.inside(rule, &found.target) == Some(at))
            {
                let (name, id) = self.named(rule, &found.target);
                let error = failure::reference_not_matched(rule.unmatched.as_deref(), &rule.role, &name, why);
                errors.push(match id {
                    Some(id) => error.about(id),
                    None => error,
                });
            }
        }
        errors
    }

    /// An output that lost its name is already told by `duplicate_name`.
    fn said_by_clash(&self, rule: &Rule, found: &Reference) -> bool {
        rule.kind == Kind::Output
            && self.inside(rule, &found.target).is_some_and(|other| self.slots[other].clash.is_some())
    }

    /// The name that the package or the target's domain knows, else the ID; and the ID.
    fn named(&self, rule: &Rule, target: &Target) -> (String, Option<String>) {
        match target {
            Target::Name(name) => (name.clone(), None),
            Target::Id(id) => {
                let inside = self.inside(rule, target).map(|other| self.entries[other].name.clone());
                let outside =
                    || self.facts.resources.get(id).filter(|found| found.here).map(|found| found.name.clone());
                (inside.or_else(outside).unwrap_or_else(|| id.to_string()), Some(id.to_string()))
            }
        }
    }

    /// Feature switches of the selected types, then the licence over used plus surviving creates.
    fn package_error(&self) -> Option<Failure> {
        let label = |key: &str, plural: bool| {
            let label = self.types.get(key).map(|kind| if plural { &kind.label.plural_en } else { &kind.label.en });
            label.map_or_else(|| key.to_owned(), Clone::clone)
        };
        let selected: BTreeSet<&str> = (0..self.entries.len())
            .filter(|at| self.slots[*at].selected)
            .map(|at| self.entries[at].type_key.as_str())
            .collect();
        if let Some(key) = selected.iter().find(|key| self.facts.disabled.contains(**key)) {
            return Some(failure::feature_disabled(&label(key, false)));
        }
        let mut creates: BTreeMap<&str, u64> = BTreeMap::new();
        for (at, slot) in self.slots.iter().enumerate() {
            if slot.alive && slot.method == Method::Create {
                *creates.entry(self.entries[at].type_key.as_str()).or_default() += 1;
            }
        }
        creates.iter().find_map(|(key, new)| {
            let (limit, used) = self.facts.license.get(*key)?;
            (used + new > *limit).then(|| failure::license_limit_exceeded(&label(key, true)))
        })
    }

    /// With changed IDs, whoever uses a part from outside the package keeps using the old one.
    fn shared(&mut self, shared_parts: &[SharedPart]) -> Vec<Warning> {
        if self.options.ids == IdMode::Keep {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        let mut named = HashSet::new();
        for shared in shared_parts {
            let Some(at) = self.by_id.get(shared.resource_id.as_str()).copied().filter(|at| self.slots[*at].alive)
            else {
                continue;
            };
            let name = &self.entries[at].name;
            let message = format!(
                "{name} is also used by {}, which is not in the package. With changed IDs a later import of that one brings {name} again \
                 under another ID. Keep IDs unchanged, or export all that use it together.",
                shared.used_by_name
            );
            let warning = Warning::new("shared_part", message).about(shared.resource_id.as_str());
            if named.insert(at) {
                self.slots[at].warnings.push(warning.clone());
            }
            warnings.push(warning);
        }
        warnings
    }
}
