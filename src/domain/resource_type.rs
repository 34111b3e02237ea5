//! What a type file says. Types are data: nothing else in the engine names one.

use std::sync::Arc;

use jsonschema::Validator;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json_path::{Path, Slot};
use super::resource::Hash;

/// How a reference binds, and so what an export takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The resource is not whole without it.
    Part,
    /// The resource reads it.
    Use,
    /// The resource writes it.
    Output,
}

impl Kind {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Part => "part",
            Kind::Use => "use",
            Kind::Output => "output",
        }
    }

    /// From the word of the contract.
    pub fn parse(text: &str) -> Option<Self> {
        [Kind::Part, Kind::Use, Kind::Output].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a name may stand only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UniqueName {
    /// In its directory.
    Directory,
    /// In its domain.
    Domain,
    /// Nowhere: names may repeat.
    None,
}

/// A type's names for people.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// English, one of them.
    pub en: String,
    /// Chinese.
    pub zh: String,
    /// English, several.
    pub plural_en: String,
}

/// Where a reference stands inside a definition.
#[derive(Debug, Clone)]
pub enum Place {
    /// The string at the path.
    Value(Path),
    /// The keys of the object at the path.
    Keys(Path),
    /// The string at the inner path of the JSON document that the string at the outer path holds.
    Json(Path, Path),
    /// The first capture of each match in the string at the path.
    Text(Path, regex::Regex),
}

/// One `[[reference]]` or `[[text_reference]]`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Where it stands.
    pub place: Place,
    /// As shown: `Data Account`.
    pub role: String,
    /// Keys of the types that it may point to.
    pub to: Vec<String>,
    /// How it binds.
    pub kind: Kind,
    /// The text names the resource, not its ID.
    pub by_name: bool,
    /// A chain of it may not come back.
    pub acyclic: bool,
    /// Replaces `{role} {name} not matched`.
    pub unmatched: Option<String>,
}

/// One `[[child]]`: a part of a resource with an ID of its own, such as a field.
#[derive(Debug, Clone)]
pub struct Child {
    /// Where its IDs stand.
    pub path: Path,
    /// The key that `Duplicate entry '…' for key '…'` names.
    pub key: String,
}

/// One `[[child_reference]]`: where a definition uses children of another resource.
#[derive(Debug, Clone)]
pub struct ChildReference {
    /// Where the IDs of the children stand.
    pub path: Path,
    /// Where the ID of the resource stands whose children are meant.
    pub of: Path,
    /// [`Child::key`] of these children.
    pub key: String,
}

/// A resource type.
#[derive(Debug)]
pub struct ResourceType {
    /// In the API and in packages.
    pub key: Arc<str>,
    /// For people.
    pub label: Label,
    /// Lower comes first where order is free.
    pub order: i64,
    /// Where names are unique.
    pub unique_name: UniqueName,
    /// A deleted one may be restored by an import.
    pub restorable: bool,
    /// One that was changed needs a refresh.
    pub refresh: bool,
    /// References, text references last.
    pub rules: Vec<Rule>,
    /// Children.
    pub children: Vec<Child>,
    /// Where children of other resources are used.
    pub child_references: Vec<ChildReference>,
    /// Paths whose strings are attachment paths.
    pub attachments: Vec<Path>,
    /// Slots of secrets.
    pub secrets: Vec<Slot>,
    /// Slots of environment-specific values, secrets not among them.
    pub environment_specific: Vec<Slot>,
    /// Values set when a resource is new in the target.
    pub on_create: Vec<(Slot, Value)>,
    /// The schema as written.
    pub schema: Value,
    /// Of the file's meaning: comments and order do not count.
    pub digest: Hash,
    pub(super) duplicate_name: String,
    pub(super) validator: Validator,
}

impl ResourceType {
    /// The message for a name that is taken.
    pub fn duplicate_name(&self, name: &str) -> String {
        self.duplicate_name.replace("{type}", &self.label.en).replace("{name}", name)
    }

    /// The first thing in a definition that does not fit the schema; values are never quoted.
    pub fn schema_error(&self, definition: &Value) -> Option<String> {
        if self.validator.is_valid(definition) {
            return None;
        }
        self.validator.iter_errors(definition).next().map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "definition".to_owned() } else { place };
            format!("{place}: {}", error.masked())
        })
    }

    /// The scope in which the name is unique: a directory, the whole domain (empty), or none.
    pub fn name_scope<'a>(&self, directory: &'a str) -> Option<&'a str> {
        match self.unique_name {
            UniqueName::Directory => Some(directory),
            UniqueName::Domain => Some(""),
            UniqueName::None => None,
        }
    }

    /// Children as `[key, id]` pairs, in JSON.
    pub fn child_pairs(&self, children: &[(u16, String)]) -> Vec<u8> {
        let pairs: Vec<(&str, &str)> = children
            .iter()
            .filter_map(|(rule, id)| Some((self.children.get(*rule as usize)?.key.as_str(), id.as_str())))
            .collect();
        serde_json::to_vec(&pairs).unwrap_or_default()
    }
}
