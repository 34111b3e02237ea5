//! Rules that change values of definitions on their way from one environment to another: schema names in SQL, paths,
//! addresses. Never secrets, references, children or attachments; what belongs to the environment stays there anyway.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::json_path::{Path, Slot};
use super::resource::Hash;
use super::resource_type::{Place, ResourceType};

/// What a rule does with a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Puts another in its place.
    Set {
        /// It.
        value: Value,
    },
    /// Replaces a text within it, wherever it stands there; of values that are texts.
    Replace {
        /// What is replaced.
        find: String,
        /// What takes its place.
        with: String,
    },
    /// Looks it up; what the table does not have stays.
    Map {
        /// Texts → values.
        table: BTreeMap<String, Value>,
    },
}

/// A rule.
#[derive(Debug, Clone)]
pub struct ValueRule {
    /// Its ID.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// Counts up with each change.
    pub revision: i32,
    /// Of resources of this type.
    pub type_key: String,
    /// Which values.
    pub path: Path,
    /// What becomes of them.
    pub action: Action,
}

/// What a rule did to a definition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effect {
    /// So many values are at its path.
    pub found: usize,
    /// So many of them are others now.
    pub changed: usize,
    /// So many stayed, for there is no room for what would take their places.
    pub overlong: usize,
}

/// Most bytes that a rule may put into a definition: as many as a whole one may have by default.
const ROOM: usize = 16 * 1024 * 1024;

/// How many bytes a value takes, about.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        other => serde_json::to_string(other).map_or(0, |text| text.len()),
    }
}

impl ValueRule {
    /// Changes the values at its path.
    pub fn apply(&self, definition: &mut Value) -> Effect {
        let mut effect = Effect::default();
        let mut room = ROOM;
        let set = if let Action::Set { value } = &self.action { weight(value) } else { 0 };
        self.path.for_each_mut(definition, &mut |_, value| {
            effect.found += 1;
            let needs = match (&self.action, &*value) {
                (Action::Set { value: new }, old) if new != old => set,
                (Action::Replace { find, with }, Value::String(text)) => match text.matches(find.as_str()).count() {
                    0 => return,
                    count => text.len().saturating_add(count.saturating_mul(with.len())),
                },
                (Action::Map { table }, Value::String(text)) => match table.get(text) {
                    Some(new) => weight(new),
                    None => return,
                },
                _ => return,
            };
            let Some(left) = room.checked_sub(needs) else {
                effect.overlong += 1;
                return;
            };
            room = left;
            let new = match (&self.action, &*value) {
                (Action::Set { value }, _) => value.clone(),
                (Action::Replace { find, with }, Value::String(text)) => Value::String(text.replace(find, with)),
                (Action::Map { table }, Value::String(text)) => table.get(text).cloned().unwrap_or_default(),
                _ => return,
            };
            if new != *value {
                *value = new;
                effect.changed += 1;
            }
        });
        effect
    }
}

/// Why a rule must not be.
///
/// # Errors
/// What its path could meet.
pub fn check(kind: &ResourceType, path: &str) -> Result<Path, String> {
    let parsed = Path::parse(path)?;
    let leading = parsed.leading();
    if leading.steps().is_empty() {
        return Err("must begin with a key: $.key…".to_owned());
    }
    let meets = |slot: &Slot| leading.overlaps(slot);
    let references = kind.rules.iter().filter_map(|rule| match &rule.place {
        Place::Value(path) | Place::Keys(path) | Place::Json(path, _) => Some(path),
        // A text may be changed around what it names.
        Place::Text(..) => None,
    });
    let what = if kind.secrets.iter().any(meets) {
        "a secret"
    } else if kind.environment_specific.iter().any(meets) {
        "a value that belongs to each environment: it stays there as it is"
    } else if references.map(Path::leading).any(meets) {
        "a reference: map the resource instead"
    } else if kind.children.iter().map(|child| child.path.leading()).any(meets) {
        "the ID of a child"
    } else if kind.attachments.iter().map(Path::leading).any(meets) {
        "the path of an attachment"
    } else {
        return Ok(parsed);
    };
    Err(format!("could meet {what}"))
}

/// The rules for one source environment, by type and in their order.
#[derive(Debug, Clone, Default)]
pub struct ValueRules {
    by_type: HashMap<String, (Vec<Arc<ValueRule>>, Hash)>,
}

/// The same rules change the same.
impl PartialEq for ValueRules {
    fn eq(&self, other: &Self) -> bool {
        let digests = |rules: &Self| -> BTreeMap<String, Hash> {
            rules.by_type.iter().map(|(key, (_, digest))| (key.clone(), *digest)).collect()
        };
        digests(self) == digests(other)
    }
}

impl Eq for ValueRules {}

impl ValueRules {
    /// Of rules in their order.
    pub fn new(rules: Vec<ValueRule>) -> Self {
        let mut grouped: HashMap<String, Vec<Arc<ValueRule>>> = HashMap::new();
        for rule in rules {
            grouped.entry(rule.type_key.clone()).or_default().push(Arc::new(rule));
        }
        let digest = |rules: &[Arc<ValueRule>]| {
            let mut hasher = Sha256::new();
            for rule in rules {
                hasher.update(rule.id.as_bytes());
                hasher.update(rule.revision.to_be_bytes());
            }
            Hash(hasher.finalize().into())
        };
        let by_type = grouped.into_iter().map(|(key, rules)| {
            let digest = digest(&rules);
            (key, (rules, digest))
        });
        Self { by_type: by_type.collect() }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_type.is_empty()
    }

    /// Those of a type.
    pub fn of(&self, type_key: &str) -> &[Arc<ValueRule>] {
        self.by_type.get(type_key).map_or(&[], |(rules, _)| rules)
    }

    /// Of those of a type: another where one of them is another.
    pub fn digest(&self, type_key: &str) -> Option<Hash> {
        self.by_type.get(type_key).map(|(_, digest)| *digest)
    }

    /// Changes a definition by those of its type, in their order; what each did.
    pub fn apply(&self, type_key: &str, definition: &mut Value) -> Vec<Effect> {
        self.of(type_key).iter().map(|rule| rule.apply(definition)).collect()
    }
}
