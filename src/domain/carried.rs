//! Secrets that travel beside a definition: where each of them stands, and putting it back there. What comes
//! from a package never stands in a definition in clear: it is sealed for its new resource at once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::{SEALED, is_sealed, marker};
use super::json_path::{Part, Place};
use super::resource::ResourceId;
use super::resource_type::ResourceType;

/// One step on the way to a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array: its position, and its `id` where it has one, which finds it after it moved.
    Element(usize, Option<String>),
}

/// The way to a secret from the top of a definition.
pub type Location = Vec<Step>;

/// A line of the payload of `secrets.sealed`: the secrets of one resource.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedLine<S> {
    /// Its ID in the package.
    pub id: ResourceId,
    /// Each secret with its place, in the order of the type file and the definition.
    pub secrets: Vec<(Location, S)>,
}

/// What rests sealed in a definition, with its places.
pub fn sealed(kind: &ResourceType, definition: &mut Value) -> Vec<(Location, String)> {
    let mut found = Vec::new();
    for slots in &kind.secrets {
        slots.for_each_value(definition, &mut |place, value| {
            if let Some(sealed) = value.get(SEALED).and_then(Value::as_str) {
                found.push((place.clone(), sealed.to_owned()));
            }
        });
    }
    let located = found.into_iter().filter_map(|(place, sealed)| Some((location(definition, &place)?, sealed)));
    located.collect()
}

/// Takes away what claims to rest sealed in a definition that came from elsewhere.
pub fn strip(kind: &ResourceType, definition: &mut Value) {
    for slots in &kind.secrets {
        slots.for_each_value(definition, &mut |_, value| {
            if is_sealed(value) {
                *value = marker(true);
            }
        });
    }
}

/// Fills the slot of a secret where the definition has none; false: there is one, or no such slot.
///
/// # Errors
/// What `seal` says.
pub fn fill<E>(
    kind: &ResourceType,
    definition: &mut Value,
    location: &[Step],
    seal: impl FnOnce() -> Result<String, E>,
) -> Result<bool, E> {
    let Some(place) = place(definition, location) else { return Ok(false) };
    let Some((Part::Key(key), above)) = place.split_last() else { return Ok(false) };
    if !kind.secrets.iter().any(|slots| slots.leads_to(&place)) {
        return Ok(false);
    }
    let parent = above.iter().try_fold(definition, |at, part| match part {
        Part::Key(key) => at.get_mut(key),
        Part::Index(index) => at.get_mut(*index),
    });
    let Some(Value::Object(parent)) = parent else { return Ok(false) };
    if parent.get(key).is_some_and(is_sealed) {
        return Ok(false);
    }
    parent.insert(key.clone(), serde_json::json!({ SEALED: seal()? }));
    Ok(true)
}

fn location(definition: &Value, place: &Place) -> Option<Location> {
    let mut at = definition;
    let steps = place.iter().map(|part| {
        let step = match part {
            Part::Key(key) => {
                at = at.get(key)?;
                Step::Key(key.clone())
            }
            Part::Index(index) => {
                at = at.get(*index)?;
                Step::Element(*index, id(at).map(str::to_owned))
            }
        };
        Some(step)
    });
    steps.collect()
}

/// Where a location leads in a definition, its last step apart, which need not be there.
fn place(definition: &Value, location: &[Step]) -> Option<Place> {
    let mut at = Some(definition);
    let parts = location.iter().map(|step| {
        let here = at?;
        match step {
            Step::Key(key) => {
                at = here.get(key);
                Some(Part::Key(key.clone()))
            }
            Step::Element(index, wanted) => {
                let same = |item: &Value| id(item) == wanted.as_deref();
                let items = here.as_array()?;
                let index = match items.get(*index).is_some_and(same) {
                    true => *index,
                    false => items.iter().position(|item| wanted.is_some() && same(item))?,
                };
                at = items.get(index);
                Some(Part::Index(index))
            }
        }
    });
    parts.collect()
}

fn id(element: &Value) -> Option<&str> {
    element.get("id").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::type_file::Types;

    fn kind() -> std::sync::Arc<ResourceType> {
        let text = "key = \"t\"\nlabel = { en = \"T\", zh = \"T\", plural_en = \"Ts\" }\norder = 1\nunique_name = \"none\"\n\
            [secrets]\npaths = [\"$.key\", \"$.all[*].login.key\"]";
        Types::compile([("t.toml", text)]).unwrap().get("t").unwrap().clone()
    }

    fn filled(definition: Value, carried: &[(Location, String)]) -> (Value, usize) {
        let (kind, mut definition) = (kind(), definition);
        let fill = |(location, secret): &(Location, String)| {
            fill(&kind, &mut definition, location, || Ok::<_, ()>(format!("new {secret}"))).unwrap()
        };
        let count = carried.iter().map(fill).filter(|filled| *filled).count();
        (definition, count)
    }

    #[test]
    fn secrets_find_their_elements_after_these_moved() {
        let sealed_as = |text: &str| json!({"$sealed": text});
        let mut source = json!({
            "key": sealed_as("k"), "other": sealed_as("no slot"),
            "all": [{"id": "a", "login": {"key": sealed_as("a")}}, {"login": {"key": sealed_as("1")}}, {"id": "c", "login": {}}],
        });
        let carried = sealed(&kind(), &mut source);
        assert_eq!(carried.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["k", "a", "1"]);
        let text = serde_json::to_string(&carried).unwrap();
        assert_eq!(serde_json::from_str::<Vec<(Location, String)>>(&text).unwrap(), carried);

        let target = json!({"all": [{"id": "b", "login": {}}, {"login": {"key": {"$secret": "missing"}}}, {"id": "a", "login": {}}]});
        let (now, count) = filled(target, &carried);
        assert_eq!(count, 3);
        assert_eq!(now["all"][2]["login"]["key"], sealed_as("new a"));
        assert_eq!(now["all"][1]["login"]["key"], sealed_as("new 1"));
        assert_eq!(now["all"][0]["login"], json!({}), "another element's secret is not its own");
    }

    #[test]
    fn only_empty_slots_are_filled() {
        let mine = json!({"key": {"$sealed": "mine"}, "all": "text"});
        let key = |name: &str| vec![Step::Key(name.to_owned())];
        let wrong = [key("key"), key("all"), key("new"), vec![], vec![Step::Element(0, None)]];
        let longer = vec![Step::Key("all".to_owned()), Step::Element(usize::MAX, None), Step::Key("login".to_owned())];
        let carried: Vec<_> = wrong.into_iter().chain([longer]).map(|at| (at, "x".to_owned())).collect();
        assert_eq!(filled(mine.clone(), &carried), (mine, 0));
        let mut hostile = json!({"key": {"$sealed": "forged"}});
        strip(&kind(), &mut hostile);
        assert_eq!(hostile, json!({"key": {"$secret": "set"}}));
    }
}
