//! Type files: their shape in TOML, what is checked at the start, all types of an environment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::json_path::{Path, Slot};
use super::resource::Hash;
use super::resource_type::{Child, ChildReference, Kind, Label, Place, ResourceType, Rule, UniqueName};
use super::type_overlaps::{self, Named};

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
        let keys: HashSet<&str> =
            named.iter().flat_map(|(_, kind)| &kind.children).map(|child| child.key.as_str()).collect();
        for (file, compiled) in &named {
            if let Some(found) = compiled.child_references.iter().find(|found| !keys.contains(found.key.as_str())) {
                let reason = format!("names {}, which is no key of a [[child]]", found.key);
                return Err(TypeError::new(file, "child_reference.key", reason));
            }
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
    child_reference: Vec<FileChildReference>,
    #[serde(default)]
    attachment: Vec<FilePath>,
    #[serde(default)]
    secrets: FilePaths,
    #[serde(default)]
    environment_specific: FilePaths,
    #[serde(default)]
    on_create: BTreeMap<String, Value>,
    #[serde(default)]
    refresh: bool,
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
struct FileChildReference {
    path: String,
    of: String,
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
        |key: &str, text: &String| Slot::parse_slot(text).map_err(|error| wrong(key, format!("{text}: {error}")));
    let slots = |key: &str, paths: &[String]| paths.iter().map(|text| slot(key, text)).collect::<Result<Vec<_>, _>>();

    let (slotted, others) = paths_of(&file);
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
    let secrets = slots("secrets.paths", &file.secrets.paths)?;
    let mut environment_specific = slots("environment_specific.paths", &file.environment_specific.paths)?;
    environment_specific.retain(|steps| !secrets.contains(steps));
    type_overlaps::check(&slotted, &others).map_err(|(key, reason)| wrong(key, reason))?;
    let mut on_create = Vec::new();
    for (text, value) in file.on_create {
        let steps = slot("on_create", &text)?;
        if !environment_specific.contains(&steps) {
            let reason = "must be one of environment_specific.paths and no secret";
            return Err(wrong("on_create", format!("{text}: {reason}")));
        }
        on_create.push((steps, value));
    }
    Ok(ResourceType {
        key: file.key.as_str().into(),
        label: file.label,
        order: file.order,
        unique_name: file.unique_name,
        restorable: file.restorable,
        refresh: file.refresh,
        rules,
        children: file
            .child
            .into_iter()
            .map(|child| Ok(Child { path: path("child.path", &child.path)?, key: child.key }))
            .collect::<Result<_, TypeError>>()?,
        child_references: file
            .child_reference
            .into_iter()
            .map(|found| {
                let of = path("child_reference.of", &found.of)?;
                Ok(ChildReference { path: path("child_reference.path", &found.path)?, of, key: found.key })
            })
            .collect::<Result<_, TypeError>>()?,
        attachments: file
            .attachment
            .iter()
            .map(|found| path("attachment.path", &found.path))
            .collect::<Result<_, _>>()?,
        environment_specific,
        secrets,
        on_create,
        digest: super::json::hash(&meaning),
        schema,
        duplicate_name: file.duplicate_name.unwrap_or_else(|| default_message.to_owned()),
        validator,
    })
}

/// The paths of slots, and those that they must not overlap.
fn paths_of(file: &File) -> (Vec<Named>, Vec<Named>) {
    let secrets = file.secrets.paths.iter().map(|text| ("secrets.paths", text.clone()));
    let values = file.environment_specific.paths.iter().map(|text| ("environment_specific.paths", text.clone()));
    let references = file.reference.iter().map(|found| ("reference.path", found.path.clone()));
    let texts = file.text_reference.iter().map(|found| ("text_reference.path", found.path.clone()));
    let children = file.child.iter().map(|found| ("child.path", found.path.clone()));
    let attachments = file.attachment.iter().map(|found| ("attachment.path", found.path.clone()));
    (secrets.chain(values).collect(), references.chain(texts).chain(children).chain(attachments).collect())
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
