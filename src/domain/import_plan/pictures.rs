//! Attachments that an import writes over: what was changed in the target since, and who else names them. With changed
//! IDs each gets a path of its own.

use std::collections::HashSet;

use crate::domain::failure::{self, Warning};
use crate::domain::outcome::Method;
use crate::domain::resource::Hash;

use super::{IdMode, OnDrift, Resolution, Work};

impl Work<'_> {
    /// Whether the resource brings other bytes in place of some that were changed in the target since the last import.
    pub(super) fn compare_pictures(&mut self, at: usize) {
        let entry = &self.entries[at];
        if self.slots[at].drifted || self.slots[at].method == Method::Unchanged {
            return;
        }
        let changed = entry.attachments.iter().find(|(path, bytes)| {
            let base = self.facts.attachment_bases.get(path);
            self.replaced(path, *bytes).is_some_and(|there| base.is_some_and(|base| *base != there))
        });
        let Some((path, _)) = changed else { return };
        self.slots[at].drifted = true;
        let overwrite = matches!(self.options.resolutions.get(&entry.id), Some(Resolution::Overwrite));
        if self.options.on_drift == OnDrift::Block && !overwrite {
            return self.fail(at, failure::changed_in_target());
        }
        let message = format!(
            "The attachment {path} was changed in the target since it was last imported; that change will be overwritten."
        );
        self.slots[at].warnings.push(Warning::new("changed_in_target", message));
    }

    /// The bytes in the target, where the package brings others.
    fn replaced(&self, path: &str, bytes: Option<Hash>) -> Option<Hash> {
        let there = self.facts.attachments.get(path).copied()?;
        bytes.filter(|bytes| *bytes != there && self.options.ids == IdMode::Keep).map(|_| there)
    }

    /// What resources outside the package look like changes with the bytes of an attachment that they share.
    pub(super) fn shared_pictures(&mut self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut named = HashSet::new();
        for at in 0..self.entries.len() {
            let slot = &self.slots[at];
            if !slot.alive || !matches!(slot.method, Method::Create | Method::Update) {
                continue;
            }
            let entry = &self.entries[at];
            for (path, bytes) in &entry.attachments {
                let Some(sharers) = self.facts.sharers.get(path) else { continue };
                if self.replaced(path, *bytes).is_none() || !named.insert(path) {
                    continue;
                }
                let others = sharers.count - sharers.names.len() as u64;
                let more = if others > 0 { format!(" and {others} more") } else { String::new() };
                let message = format!(
                    "The attachment {path} gets other bytes. It is also used by {}{more}, outside the package: they change with it.",
                    sharers.names.join(", ")
                );
                let warning = Warning::new("attachment_shared", message).about(entry.id.as_str());
                self.slots[at].warnings.push(warning.clone());
                warnings.push(warning);
            }
        }
        warnings
    }
}
