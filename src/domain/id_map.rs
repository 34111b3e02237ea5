//! Source → target: IDs, names and attachment paths. Both ID modes, `map`, `rename` fill it; all later
//! code reads only it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::definition::{self, Reference, Target};
use super::resource::ResourceId;
use super::resource_type::{Place, ResourceType, Rule};
use super::value_rule::{Effect, ValueRules};

/// What changes its ID, its name or its path on the way. What is not in it stays as it is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// Source ID → target ID.
    pub ids: HashMap<ResourceId, ResourceId>,
    /// (type, source name) → target name.
    pub names: HashMap<(String, String), String>,
    /// Source path → target path.
    pub attachments: HashMap<String, String>,
    /// What changes values besides.
    pub rules: Arc<ValueRules>,
}

impl IdMap {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.names.is_empty() && self.attachments.is_empty() && self.rules.is_empty()
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
    pub fn touches(&self, resource_type: &ResourceType, references: &[Reference], attachments: &[String]) -> bool {
        references.iter().any(|found| {
            resource_type.rules.get(found.rule as usize).is_some_and(|rule| self.moved(rule, &found.target).is_some())
        }) || attachments.iter().any(|path| self.attachments.contains_key(path))
            || !self.rules.of(&resource_type.key).is_empty()
    }

    /// Whether a definition must be rewritten to see that it can say what it has to: a text may read otherwise with
    /// a new name or ID in it, and keys of one object may become one. Whether a rule's texts may not take new IDs,
    /// `doubted` says.
    pub fn may_fail(
        &self,
        resource_type: &ResourceType,
        references: &[Reference],
        doubted: &mut dyn FnMut(u16) -> bool,
    ) -> bool {
        let mut keys = HashSet::new();
        references.iter().any(|found| {
            let Some(rule) = resource_type.rules.get(found.rule as usize) else { return false };
            match (&rule.place, &found.target) {
                (Place::Text(..), Target::Id(_)) => self.moved(rule, &found.target).is_some() && doubted(found.rule),
                (Place::Text(..), target) => self.moved(rule, target).is_some(),
                (Place::Keys(_), Target::Id(id)) => !keys.insert((found.rule, self.id(id))),
                _ => false,
            }
        })
    }

    /// Rewrites every declared reference and attachment path, and what rules say; nothing else is touched. Returns
    /// what each rule of the type did.
    ///
    /// # Errors
    /// Keys of one object that would become one; rules make what fits the schema unfit.
    pub fn rewrite(&self, resource_type: &ResourceType, definition: &mut Value) -> Result<Vec<Effect>, Unwritable> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let renamed = |rule: &Rule, text: &str| {
            let by_text = matches!(rule.place, Place::Text(..)) && rule.by_name;
            if by_text {
                let name = super::resource::parse_name(text).ok()?;
                return self.names.get(&(rule.to.first()?.clone(), name)).cloned();
            }
            self.ids.get(text).map(|id| id.as_str().to_owned())
        };
        let moved = |path: &str| self.attachments.get(path).cloned();
        let rewritten = definition::rewrite(resource_type, definition, &renamed, &moved);
        rewritten.map_err(|(rule, id)| Unwritable::Keys { role: rule.role.clone(), id })?;
        if self.rules.of(&resource_type.key).is_empty() {
            return Ok(Vec::new());
        }
        let was_fit = resource_type.schema_error(definition).is_none();
        let effects = self.rules.apply(&resource_type.key, definition);
        if effects.iter().any(|effect| effect.overlong > 0) {
            return Err(Unwritable::Invalid("a rule makes it too large".to_owned()));
        }
        match resource_type.schema_error(definition).filter(|_| was_fit) {
            Some(reason) => Err(Unwritable::Invalid(format!("a rule makes it unfit for its type: {reason}"))),
            None => Ok(effects),
        }
    }

    /// A definition that was rewritten, read anew, must name exactly what the mapping says.
    ///
    /// # Errors
    /// What it does not name, or names though it should not.
    pub fn check(
        &self,
        resource_type: &ResourceType,
        before: &[Reference],
        after: &[Reference],
    ) -> Result<(), Unwritable> {
        let wanted = before.iter().map(|found| {
            let moved = resource_type.rules.get(found.rule as usize).and_then(|rule| self.moved(rule, &found.target));
            (found.rule, moved.unwrap_or_else(|| found.target.clone()))
        });
        let wanted: HashSet<(u16, Target)> = wanted.collect();
        let there: HashSet<(u16, Target)> = after.iter().map(|found| (found.rule, found.target.clone())).collect();
        let lost = wanted.difference(&there).min().or_else(|| there.difference(&wanted).min());
        lost.map_or(Ok(()), |(rule, target)| {
            let role = resource_type.rules.get(*rule as usize).map_or_else(String::new, |rule| rule.role.clone());
            let name = match target {
                Target::Id(id) => id.to_string(),
                Target::Name(name) => name.clone(),
            };
            Err(Unwritable::Text { role, name })
        })
    }
}

/// Why a definition cannot be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Two keys of an object would become one.
    #[error("two keys of one object would become the {role} {id}")]
    Keys {
        /// What they name.
        role: String,
        /// What both would become.
        id: String,
    },
    /// A text would read otherwise.
    #[error("a text that should name the {role} {name} would read otherwise")]
    Text {
        /// What it names.
        role: String,
        /// The name or ID.
        name: String,
    },
    /// It would not be valid any more.
    #[error("{0}")]
    Invalid(String),
}
