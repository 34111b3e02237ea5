//! What stands in a definition: references, children, attachments; finding them, rewriting them.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::json::{self, Unstorable};
use super::json_path::{Part, Place as At};
use super::overlay::{self, Overlay, Own};
use super::resource::{Hash, MAX_NAME_CHARS, ResourceId, parse_attachment_path, parse_name};
use super::resource_type::{Place, ResourceType, Rule};

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// A resource by its ID.
    #[serde(rename = "i")]
    Id(ResourceId),
    /// A resource of the rule's type by its name.
    #[serde(rename = "n")]
    Name(String),
}

/// A reference found in a definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// Which of the type's rules.
    pub rule: u16,
    /// What it names.
    pub target: Target,
}

/// All that a plan needs of a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// In the order of the definition, each once.
    pub references: Vec<Reference>,
    /// (which of the type's `[[child]]`, ID), each once.
    pub children: Vec<(u16, String)>,
    /// Attachment paths, each once.
    pub attachments: Vec<String>,
}

impl Parts {
    /// A hash that is equal where references, children and attachment paths are: such edges are left alone.
    pub fn hash(&self, resource_type: &ResourceType) -> Hash {
        let edges = self.references.iter().filter_map(|found| {
            let rule = resource_type.rules.get(found.rule as usize)?;
            Some((found.rule, rule.kind, rule.acyclic, &found.target))
        });
        let parts = (edges.collect::<Vec<_>>(), resource_type.child_pairs(&self.children), &self.attachments);
        Hash::of(&serde_json::to_vec(&parts).unwrap_or_default())
    }
}

/// Why a definition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is not an object.
    #[error("must be a JSON object")]
    NotAnObject,
    /// It holds what the database cannot.
    #[error("{0}")]
    Unstorable(#[from] Unstorable),
    /// It does not fit the type's schema.
    #[error("{0}")]
    Schema(String),
    /// Something that must be a resource ID is not.
    #[error("{place}: a {role} must be named by a resource ID: 1 to 64 characters of A-Z a-z 0-9 _ -")]
    Reference {
        /// Where it stands.
        place: String,
        /// What it should be.
        role: String,
    },
    /// An attachment path that cannot be one.
    #[error("{place}: an attachment path {reason}")]
    Attachment {
        /// Where it stands.
        place: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// An ID of a child that is too long.
    #[error("{0}: must not be longer than 255 characters")]
    Child(String),
    /// A secret that is neither a string nor a marker.
    #[error("{0}: a secret must be a string, or {{\"$secret\": \"set\"}} to keep what is there")]
    Secret(String),
    /// A marker where the type has no secret, and none rests.
    #[error("{0}: is no secret of this type, so {{\"$secret\": …}} cannot stand for one")]
    NoSecret(String),
}

/// Normalises a definition and checks it against its type.
///
/// # Errors
/// Says what is wrong; secrets are never quoted.
pub fn check(resource_type: &ResourceType, definition: &mut Value) -> Result<(), Invalid> {
    if !definition.is_object() {
        return Err(Invalid::NotAnObject);
    }
    json::normalise(definition)?;
    resource_type
        .schema_error(&without_markers(resource_type, definition))
        .map_or(Ok(()), |reason| Err(Invalid::Schema(reason)))
}

/// A definition as the schema sees it: markers of secrets are left out.
fn without_markers<'a>(resource_type: &ResourceType, definition: &'a Value) -> Cow<'a, Value> {
    if resource_type.secrets.is_empty() && !overlay::has_markers(definition) {
        return Cow::Borrowed(definition);
    }
    let mut bare = definition.clone();
    let taken = overlay::take(resource_type, &mut bare);
    overlay::take_markers(&mut bare);
    let own = taken.into_iter().filter_map(|taken| match taken.value {
        Some(value) if taken.secret && overlay::is_marker(&value) => None,
        Some(value) => Some((taken.location, Own::Value(value))),
        None => Some((taken.location, Own::Empty)),
    });
    Overlay(own.collect()).show(&mut bare);
    Cow::Owned(bare)
}

/// Finds references, children and attachments.
///
/// # Errors
/// A reference or a path that cannot be one.
pub fn find(resource_type: &ResourceType, definition: &mut Value) -> Result<Parts, Invalid> {
    let mut placed: Vec<(At, Reference)> = Vec::new();
    let mut invalid = None;
    for (index, rule) in resource_type.rules.iter().enumerate() {
        visit(rule, definition, &mut |at, text| {
            match target(rule, text) {
                Some(target) => placed.push((at.clone(), Reference { rule: index as u16, target })),
                None if rule.by_name || text.is_empty() => {}
                None => invalid = Some(Invalid::Reference { place: pointer(at), role: rule.role.clone() }),
            }
            None
        });
    }
    placed.sort_by(|a, b| (&a.0, a.1.rule).cmp(&(&b.0, b.1.rule)));
    let mut seen = HashSet::new();
    let references =
        placed.into_iter().map(|(_, reference)| reference).filter(|found| seen.insert(found.clone())).collect();

    let mut children = Vec::new();
    for (index, child) in resource_type.children.iter().enumerate() {
        child.path.for_each_mut(definition, &mut |at, value| match value {
            Value::String(id) if id.chars().count() <= MAX_NAME_CHARS => children.push((index as u16, id.clone())),
            Value::String(_) => invalid = Some(Invalid::Child(pointer(at))),
            _ => {}
        });
    }
    dedup(&mut children);
    let mut attachments = Vec::new();
    for path in &resource_type.attachments {
        path.for_each_mut(definition, &mut |at, value| match value.as_str().map(parse_attachment_path) {
            Some(Ok(path)) => attachments.push(path),
            Some(Err(refused)) if value != "" => {
                invalid = Some(Invalid::Attachment { place: pointer(at), reason: refused.reason });
            }
            _ => {}
        });
    }
    dedup(&mut attachments);
    invalid.map_or(Ok(Parts { references, children, attachments }), Err)
}

fn target(rule: &Rule, text: &str) -> Option<Target> {
    if rule.by_name { parse_name(text).ok().map(Target::Name) } else { ResourceId::parse(text).ok().map(Target::Id) }
}

fn dedup<T: Clone + Eq + std::hash::Hash>(items: &mut Vec<T>) {
    let mut seen = HashSet::new();
    items.retain(|item| seen.insert(item.clone()));
}

fn pointer(at: &At) -> String {
    at.iter().fold(String::new(), |text, part| match part {
        Part::Key(key) => format!("{text}/{key}"),
        Part::Index(index) => format!("{text}/{index}"),
    })
}

/// Replaces references and attachment paths: `renamed(rule, text)` and `moved(path)` give the new
/// text, or `None` to leave it.
///
/// # Errors
/// The rule and the key that two keys of one object would become; the object is left as it is.
pub fn rewrite<'a>(
    resource_type: &'a ResourceType,
    definition: &mut Value,
    renamed: &dyn Fn(&Rule, &str) -> Option<String>,
    moved: &dyn Fn(&str) -> Option<String>,
) -> Result<(), (&'a Rule, String)> {
    let mut lost = None;
    for rule in &resource_type.rules {
        let twice = visit(rule, definition, &mut |_, text| renamed(rule, text));
        lost = lost.or(twice.map(|key| (rule, key)));
    }
    for path in &resource_type.attachments {
        path.for_each_mut(definition, &mut |_, value| {
            if let Some(new) =
                value.as_str().and_then(|text| parse_attachment_path(text).ok()).and_then(|path| moved(&path))
            {
                *value = Value::String(new);
            }
        });
    }
    lost.map_or(Ok(()), Err)
}

/// Calls `slot` with each text that the rule finds; what it returns takes the text's place. Returns a key that two
/// keys of one object would become.
fn visit(rule: &Rule, definition: &mut Value, slot: &mut dyn FnMut(&At, &str) -> Option<String>) -> Option<String> {
    let mut twice = None;
    match &rule.place {
        Place::Value(path) => path.for_each_mut(definition, &mut |at, value| replace(at, value, slot)),
        Place::Keys(path) => path.for_each_mut(definition, &mut |at, value| {
            let Value::Object(map) = value else { return };
            let mut at = at.clone();
            let mut moved = Map::new();
            let mut lost = None;
            for (key, item) in &*map {
                at.push(Part::Key(key.clone()));
                let new = slot(&at, key).unwrap_or_else(|| key.clone());
                at.pop();
                if moved.contains_key(&new) {
                    lost = Some(new);
                } else {
                    moved.insert(new, item.clone());
                }
            }
            match lost {
                Some(key) => twice = Some(key),
                None => *map = moved,
            }
        }),
        Place::Json(outer, inner) => outer.for_each_mut(definition, &mut |at, value| {
            let Some(mut document) = value.as_str().and_then(|text| json::outside::<Value>(text.as_bytes()).ok())
            else {
                return;
            };
            let mut changed = false;
            inner.for_each_mut(&mut document, &mut |inside, item| {
                let whole: At = at.iter().chain(inside).cloned().collect();
                let before = item.clone();
                replace(&whole, item, slot);
                changed |= *item != before;
            });
            if changed {
                *value = Value::String(document.to_string());
            }
        }),
        Place::Text(path, pattern) => path.for_each_mut(definition, &mut |at, value| {
            let Value::String(text) = value else { return };
            let mut new = String::new();
            let mut kept = 0;
            for found in pattern.captures_iter(text).filter_map(|captures| captures.get(1)) {
                if let Some(replacement) = slot(at, found.as_str()) {
                    new.push_str(&text[kept..found.start()]);
                    new.push_str(&replacement);
                    kept = found.end();
                }
            }
            if kept > 0 {
                new.push_str(&text[kept..]);
                *text = new;
            }
        }),
    }
    twice
}

fn replace(at: &At, value: &mut Value, slot: &mut dyn FnMut(&At, &str) -> Option<String>) {
    if let Some(new) = value.as_str().and_then(|text| slot(at, text)) {
        *value = Value::String(new);
    }
}
