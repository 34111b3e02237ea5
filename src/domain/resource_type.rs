//! What a type file says. Types are data: nothing else in the engine names one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jsonschema::Validator;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json_path::{Path, Steps};
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
    /// References, text references last.
    pub rules: Vec<Rule>,
    /// Children.
    pub children: Vec<Child>,
    /// Paths whose strings are attachment paths.
    pub attachments: Vec<Path>,
    /// Slots of secrets.
    pub secrets: Vec<Steps>,
    /// Slots of environment-specific values, secrets not among them.
    pub environment_specific: Vec<Steps>,
    /// Values set when a resource is new in the target.
    pub on_create: Vec<(Steps, Value)>,
    /// The schema as written.
    pub schema: Value,
    /// Of the file's meaning: comments and order do not count.
    pub digest: Hash,
    duplicate_name: String,
    validator: Validator,
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

    /// The definition can hold what must be left out or kept apart.
    pub fn has_slots(&self) -> bool {
        !self.secrets.is_empty() || !self.environment_specific.is_empty()
    }
}

/// All types of an environment.
#[derive(Debug, Default)]
pub struct Types {
    by_key: HashMap<Arc<str>, Arc<ResourceType>>,
}

impl Types {
    /// Compiles type files given as (file name, text); a later file replaces an earlier one of its key.
    ///
    /// # Errors
    /// The file, the key and the reason of the first thing that is wrong.
    pub fn compile<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, TypeError> {
        let mut types = Self::default();
        let mut named: Vec<(String, Arc<ResourceType>)> = Vec::new();
        for (file, text) in files {
            let compiled = Arc::new(compile(file, text)?);
            types.by_key.insert(compiled.key.clone(), compiled.clone());
            named.push((file.to_owned(), compiled));
        }
        for (file, compiled) in &named {
            let unknown = compiled.rules.iter().flat_map(|rule| &rule.to).find(|key| types.get(key).is_none());
            if let Some(key) = unknown {
                return Err(TypeError::new(
                    file,
                    "reference.to",
                    format!("names the type {key}, which no file describes"),
                ));
            }
        }
        Ok(types)
    }

    /// The type of a key.
    pub fn get(&self, key: &str) -> Option<&Arc<ResourceType>> {
        self.by_key.get(key)
    }

    /// All types, in their order.
    pub fn all(&self) -> Vec<&Arc<ResourceType>> {
        let mut all: Vec<_> = self.by_key.values().collect();
        all.sort_by(|a, b| (a.order, &a.key).cmp(&(b.order, &b.key)));
        all
    }

    /// The digest of each type file.
    pub fn digests(&self) -> BTreeMap<String, Hash> {
        self.by_key.values().map(|found| (found.key.to_string(), found.digest)).collect()
    }
}

/// A type file that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("resource type file {file}: {key}: {reason}")]
pub struct TypeError {
    /// The file.
    pub file: String,
    /// The key in it.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl TypeError {
    fn new(file: &str, key: &str, reason: impl ToString) -> Self {
        Self { file: file.to_owned(), key: key.to_owned(), reason: reason.to_string() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    key: String,
    label: Label,
    order: i64,
    unique_name: UniqueName,
    #[serde(default = "yes")]
    restorable: bool,
    duplicate_name: Option<String>,
    #[serde(default)]
    reference: Vec<FileReference>,
    #[serde(default)]
    text_reference: Vec<FileTextReference>,
    #[serde(default)]
    child: Vec<FileChild>,
    #[serde(default)]
    attachment: Vec<FilePath>,
    #[serde(default)]
    secrets: FilePaths,
    #[serde(default)]
    environment_specific: FilePaths,
    #[serde(default)]
    on_create: BTreeMap<String, Value>,
    #[serde(default)]
    schema: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileReference {
    path: String,
    role: String,
    to: Vec<String>,
    kind: Kind,
    unmatched: Option<String>,
    #[serde(default)]
    acyclic: bool,
    #[serde(default)]
    keys: bool,
    encoding: Option<Encoding>,
    r#in: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTextReference {
    path: String,
    pattern: String,
    to: String,
    by: By,
    role: String,
    kind: Kind,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum By {
    Id,
    Name,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileChild {
    path: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePath {
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FilePaths {
    paths: Vec<String>,
}

fn yes() -> bool {
    true
}

fn compile(name: &str, text: &str) -> Result<ResourceType, TypeError> {
    let wrong = |key: &str, reason: String| TypeError::new(name, key, reason);
    let file: File = toml::from_str(text).map_err(|error| wrong("syntax", error.to_string()))?;
    let meaning: Value = toml::from_str(text).map_err(|error| wrong("syntax", error.to_string()))?;
    if file.key.is_empty() || !file.key.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_') {
        return Err(wrong("key", "must consist of a-z 0-9 _".to_owned()));
    }
    let path = |key: &str, text: &str| Path::parse(text).map_err(|error| wrong(key, format!("{text}: {error}")));
    let slot =
        |key: &str, text: &String| Steps::parse_slot(text).map_err(|error| wrong(key, format!("{text}: {error}")));
    let slots = |key: &str, paths: &[String]| paths.iter().map(|text| slot(key, text)).collect::<Result<Vec<_>, _>>();

    let mut rules = Vec::new();
    for found in file.reference {
        rules.push(reference_rule(found, &path, &wrong)?);
    }
    for found in file.text_reference {
        let pattern =
            regex::Regex::new(&found.pattern).map_err(|error| wrong("text_reference.pattern", error.to_string()))?;
        if pattern.captures_len() != 2 {
            return Err(wrong("text_reference.pattern", format!("{} must have exactly one capture", found.pattern)));
        }
        rules.push(Rule {
            place: Place::Text(path("text_reference.path", &found.path)?, pattern),
            role: found.role,
            to: vec![found.to],
            kind: found.kind,
            by_name: found.by == By::Name,
            acyclic: false,
            unmatched: None,
        });
    }
    let schema = file.schema.unwrap_or_else(|| serde_json::json!({"type": "object"}));
    let validator = jsonschema::validator_for(&schema).map_err(|error| wrong("schema", error.to_string()))?;
    let default_message = match file.unique_name {
        UniqueName::Domain => "Duplicate {type} name",
        _ => "A file with the same name already exists in the {type} directory. Please modify it.",
    };
    Ok(ResourceType {
        key: file.key.as_str().into(),
        label: file.label,
        order: file.order,
        unique_name: file.unique_name,
        restorable: file.restorable,
        rules,
        children: file
            .child
            .into_iter()
            .map(|child| Ok(Child { path: path("child.path", &child.path)?, key: child.key }))
            .collect::<Result<_, TypeError>>()?,
        attachments: file
            .attachment
            .iter()
            .map(|found| path("attachment.path", &found.path))
            .collect::<Result<_, _>>()?,
        environment_specific: slots("environment_specific.paths", &file.environment_specific.paths)?
            .into_iter()
            .filter(|steps| slots("secrets.paths", &file.secrets.paths).is_ok_and(|secrets| !secrets.contains(steps)))
            .collect(),
        secrets: slots("secrets.paths", &file.secrets.paths)?,
        on_create: file
            .on_create
            .into_iter()
            .map(|(text, value)| Ok((slot("on_create", &text)?, value)))
            .collect::<Result<_, TypeError>>()?,
        digest: super::json::hash(&meaning),
        schema,
        duplicate_name: file.duplicate_name.unwrap_or_else(|| default_message.to_owned()),
        validator,
    })
}

fn reference_rule(
    found: FileReference,
    path: &dyn Fn(&str, &str) -> Result<Path, TypeError>,
    wrong: &dyn Fn(&str, String) -> TypeError,
) -> Result<Rule, TypeError> {
    let outer = path("reference.path", &found.path)?;
    let place = match (found.encoding, found.r#in, found.keys) {
        (None, None, false) => Place::Value(outer),
        (None, None, true) => Place::Keys(outer),
        (Some(Encoding::Json), Some(inner), false) => Place::Json(outer, path("reference.in", &inner)?),
        _ => {
            let reason = "encoding and in belong together, and go without keys";
            return Err(wrong("reference.encoding", format!("{}: {reason}", found.path)));
        }
    };
    Ok(Rule {
        place,
        role: found.role,
        to: found.to,
        kind: found.kind,
        by_name: false,
        acyclic: found.acyclic,
        unmatched: found.unmatched,
    })
}
