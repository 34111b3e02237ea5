//! Source → target: IDs, names and attachment paths. Both ID modes, `map`, `rename` fill it; all later
//! code reads only it.

use std::collections::HashMap;

use serde_json::Value;

use super::definition::{self, Reference, Target};
use super::resource::ResourceId;
use super::resource_type::{Place, ResourceType, Rule};

/// What changes its ID, its name or its path on the way. What is not in it stays as it is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// Source ID → target ID.
    pub ids: HashMap<ResourceId, ResourceId>,
    /// (type, source name) → target name.
    pub names: HashMap<(String, String), String>,
    /// Source path → target path.
    pub attachments: HashMap<String, String>,
}

impl IdMap {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.names.is_empty() && self.attachments.is_empty()
    }

    /// The ID in the target.
    pub fn id<'a>(&'a self, source: &'a ResourceId) -> &'a ResourceId {
        self.ids.get(source).unwrap_or(source)
    }

    /// The attachment path in the target.
    pub fn path<'a>(&'a self, source: &'a str) -> &'a str {
        self.attachments.get(source).map_or(source, String::as_str)
    }

    /// What a reference names in the target, if that differs.
    pub fn moved(&self, rule: &Rule, target: &Target) -> Option<Target> {
        match target {
            Target::Id(id) => self.ids.get(id).filter(|new| *new != id).cloned().map(Target::Id),
            Target::Name(name) => {
                let key = (rule.to.first()?.clone(), name.clone());
                self.names.get(&key).cloned().map(Target::Name)
            }
        }
    }

    /// A definition with these references and paths would come out changed.
    pub fn touches(&self, kind: &ResourceType, references: &[Reference], attachments: &[String]) -> bool {
        references.iter().any(|found| {
            kind.rules.get(found.rule as usize).is_some_and(|rule| self.moved(rule, &found.target).is_some())
        }) || attachments.iter().any(|path| self.attachments.contains_key(path))
    }

    /// Rewrites every declared reference and attachment path; nothing else is touched.
    pub fn rewrite(&self, kind: &ResourceType, definition: &mut Value) {
        if self.is_empty() {
            return;
        }
        let renamed = |rule: &Rule, text: &str| {
            let by_text = matches!(rule.place, Place::Text(..)) && rule.by_name;
            if by_text {
                let name = super::resource::parse_name(text).ok()?;
                return self.names.get(&(rule.to.first()?.clone(), name)).cloned();
            }
            self.ids.get(text).map(|id| id.as_str().to_owned())
        };
        definition::rewrite(kind, definition, &renamed, &|path| self.attachments.get(path).cloned());
    }
}
