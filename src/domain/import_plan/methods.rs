//! What each selected resource would do by itself: create, update, unchanged; and its own errors but
//! for its name.

use serde_json::json;

use crate::domain::failure::{self, Warning};
use crate::domain::outcome::Method;
use crate::domain::resource::{Hash, MAX_PATH_BYTES, ResourceId, content_hash};
use crate::domain::resource_type::ResourceType;

use super::{Entry, Existing, IdMode, OnDrift, Resolution, Work};

impl Work<'_> {
    pub(super) fn decide_methods(&mut self) {
        for at in 0..self.entries.len() {
            if self.slots[at].selected {
                self.decide(at);
            }
        }
    }

    pub(super) fn decide(&mut self, at: usize) {
        let entry = &self.entries[at];
        let Some(kind) = self.types.get(&entry.type_key).cloned() else {
            return self.fail(at, failure::type_unknown(&entry.type_key));
        };
        self.slots[at].remapping = self.remapping(at, &kind);
        self.slots[at].drifted = false;
        self.slots[at].source_changed = false;
        if let Some(reason) = &entry.invalid {
            self.fail(at, failure::resource_invalid(reason));
        }
        if self.slots[at].directory.len() > MAX_PATH_BYTES {
            self.fail(at, failure::resource_invalid("below the chosen directory its path is longer than 1024 bytes"));
        }
        if let Some(Err(refused)) = self.rewritten.get(&entry.id) {
            self.fail(at, failure::reference_not_writable(&refused.to_string()));
        }
        self.check_attachments(at);
        if self.options.ids == IdMode::Change {
            return;
        }
        let restore = matches!(self.options.resolutions.get(&entry.id), Some(Resolution::Restore)) && kind.restorable;
        let existing = self.facts.resources.get(&entry.id);
        match existing {
            None if self.facts.tombstones.contains(&entry.id) && !restore => {
                self.fail(at, failure::deleted_in_target(&kind));
            }
            None => {}
            Some(other) if !other.here => self.fail(at, failure::exists_in_other_domain(&kind.label.en)),
            Some(other) if other.type_key != entry.type_key => {
                let label = self.types.get(&other.type_key).map_or(other.type_key.as_str(), |kind| &kind.label.en);
                self.fail(at, failure::type_mismatch(&kind.label.en, label).about(entry.id.as_str()));
            }
            Some(existing) => self.compare(at, &kind, existing),
        }
        self.compare_pictures(at);
        if !restore && !self.facts.child_tombstones.is_empty() {
            self.check_children(at, &kind);
        }
    }

    /// Update or unchanged, and whether the target's copy was changed since the last import.
    fn compare(&mut self, at: usize, kind: &ResourceType, existing: &Existing) {
        let entry = &self.entries[at];
        let base = self.facts.bases.get(&(entry.id.clone(), entry.id.clone()));
        let drifted = base.is_some_and(|base| base.result_hash != existing.content_hash);
        let same_again = base.is_some_and(|base| {
            !drifted && base.source_hash == entry.content_hash && base.remapping == self.slots[at].remapping
        });
        let unchanged = same_again || self.result_hash(at, kind) == Some(existing.content_hash);
        let overwrite = matches!(self.options.resolutions.get(&entry.id), Some(Resolution::Overwrite));
        let slot = &mut self.slots[at];
        slot.method = if unchanged { Method::Unchanged } else { Method::Update };
        slot.drifted = drifted;
        if unchanged {
            return;
        }
        slot.source_changed = base.is_some_and(|base| base.source_hash != entry.content_hash);
        if base.is_none() {
            let message =
                "A resource with this ID exists in the target, but was not imported before; it will be overwritten.";
            slot.warnings.push(Warning::new("not_imported_before", message));
        } else if drifted && self.options.on_drift == OnDrift::Block && !overwrite {
            self.fail(at, failure::changed_in_target());
        } else if drifted {
            let message = "It was changed in the target since it was last imported; that change will be overwritten.";
            slot.warnings.push(Warning::new("changed_in_target", message));
        }
    }

    /// The content hash that the resource would have in the target, if it can be told without its definition.
    fn result_hash(&self, at: usize, kind: &ResourceType) -> Option<Hash> {
        let (entry, slot) = (&self.entries[at], &self.slots[at]);
        let paths: Vec<String> = entry.attachments.iter().map(|(path, _)| path.clone()).collect();
        let definition = if self.id_map.touches(kind, &entry.references, &paths) {
            *self.rewritten.get(&entry.id)?.as_ref().ok()?
        } else {
            entry.definition_hash
        };
        let attachments = entry.attachments.iter().map(|(path, bytes)| {
            (self.id_map.path(path).to_owned(), bytes.or_else(|| self.facts.attachments.get(path).copied()))
        });
        Some(content_hash(&entry.type_key, &slot.name, &slot.directory, &definition, &attachments.collect::<Vec<_>>()))
    }

    /// How the resource is changed on the way, in one text that is equal for equal changes.
    pub(super) fn remapping(&self, at: usize, kind: &ResourceType) -> String {
        let (entry, slot) = (&self.entries[at], &self.slots[at]);
        let moved: Vec<_> = entry
            .references
            .iter()
            .filter_map(|found| {
                let rule = kind.rules.get(found.rule as usize)?;
                Some((&found.target, self.id_map.moved(rule, &found.target)?))
            })
            .collect();
        let renamed = (slot.name != entry.name).then_some(&slot.name);
        let rerooted = (slot.directory != entry.directory).then_some(&slot.directory);
        if moved.is_empty() && renamed.is_none() && rerooted.is_none() && self.options.ids == IdMode::Keep {
            return String::new();
        }
        json!({"name": renamed, "directory": rerooted, "references": moved, "change_ids": self.options.ids == IdMode::Change})
            .to_string()
    }

    fn check_attachments(&mut self, at: usize) {
        let entry = &self.entries[at];
        for (path, bytes) in &entry.attachments {
            let there = self.options.ids == IdMode::Keep && self.facts.attachments.contains_key(path);
            if bytes.is_none() && !there {
                self.fail(at, failure::attachment_invalid(path, entry.id.as_str()));
            }
        }
    }

    fn check_children(&mut self, at: usize, kind: &ResourceType) {
        let entry: &Entry = &self.entries[at];
        for (rule, child) in &entry.children {
            let Some(rule) = kind.children.get(*rule as usize) else {
                continue;
            };
            let deleted = (entry.id.clone(), rule.key.clone(), child.clone());
            if self.facts.child_tombstones.contains(&deleted) {
                self.fail(at, failure::duplicate_child(entry.id.as_str(), child, &rule.key));
            }
        }
    }

    pub(super) fn fail(&mut self, at: usize, failure: failure::Failure) {
        self.slots[at].own_errors.push(failure);
        self.slots[at].alive = false;
    }

    /// The ID of an entry in the target.
    pub(super) fn target_id(&self, at: usize) -> &ResourceId {
        self.id_map.id(&self.entries[at].id)
    }
}
