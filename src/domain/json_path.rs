//! JSONPath (RFC 9535) as type files use it.
//!
//! Paths of keys and `[*]` are walked here, mutably, in one pass; anything else (filters, `..`,
//! slices) is located by `serde_json_path` and then taken by its JSON Pointer.

use serde_json::{Map, Value};
use serde_json_path::JsonPath;

/// One part of a place in a document; places sort in document order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An element of an array.
    Index(usize),
    /// A member of an object.
    Key(String),
}

/// Where something stands in a document.
pub type Place = Vec<Part>;

/// A path of a type file.
#[derive(Debug, Clone)]
pub struct Path {
    steps: Option<Steps>,
    query: JsonPath,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Each,
}

/// What is called with the parent of a slot, its key, and what stands at the same slot of another document.
type VisitSlot<'a> = dyn FnMut(&mut Map<String, Value>, &str, Option<&Value>) + 'a;

/// A path of keys and `[*]` alone that ends with a key: a *slot* that can be set where its parent exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(Vec<Step>);

impl Path {
    /// # Errors
    /// The text is not a JSONPath; the message says where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let query = JsonPath::parse(text).map_err(|error| error.to_string())?;
        Ok(Self { steps: Steps::of(text), query })
    }

    /// Calls `visit` with each value at the path and its place.
    pub fn for_each_mut(&self, document: &mut Value, visit: &mut dyn FnMut(&Place, &mut Value)) {
        if let Some(steps) = &self.steps {
            return walk(document, &steps.0, &mut Vec::new(), visit);
        }
        let places: Vec<(String, Place)> = self
            .query
            .query_located(document)
            .iter()
            .map(|node| (node.location().to_json_pointer(), place_of(node.location())))
            .collect();
        for (pointer, place) in places {
            if let Some(value) = document.pointer_mut(&pointer) {
                visit(&place, value);
            }
        }
    }
}

fn place_of(location: &serde_json_path::NormalizedPath<'_>) -> Place {
    location
        .iter()
        .map(|element| match (element.as_name(), element.as_index()) {
            (Some(name), _) => Part::Key(name.to_owned()),
            (None, index) => Part::Index(index.unwrap_or_default()),
        })
        .collect()
}

fn walk(value: &mut Value, steps: &[Step], place: &mut Place, visit: &mut dyn FnMut(&Place, &mut Value)) {
    let Some((step, rest)) = steps.split_first() else {
        return visit(place, value);
    };
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => {
            if let Some(item) = map.get_mut(key) {
                place.push(Part::Key(key.clone()));
                walk(item, rest, place, visit);
                place.pop();
            }
        }
        (Step::Each, Value::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                place.push(Part::Index(index));
                walk(item, rest, place, visit);
                place.pop();
            }
        }
        (Step::Each, Value::Object(map)) => {
            for (key, item) in map.iter_mut() {
                place.push(Part::Key(key.clone()));
                walk(item, rest, place, visit);
                place.pop();
            }
        }
        _ => {}
    }
}

impl Steps {
    /// The steps of a path that `serde_json_path` has accepted, if it has keys and `[*]` only.
    fn of(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = text.strip_prefix('$')?;
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix("[*]") {
                steps.push(Step::Each);
                rest = tail;
                continue;
            }
            let tail = rest.strip_prefix('.')?;
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            let key = &tail[..end];
            if key == "*" {
                steps.push(Step::Each);
            } else if !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_') {
                steps.push(Step::Key(key.to_owned()));
            } else {
                return None;
            }
            rest = &tail[end..];
        }
        Some(Self(steps))
    }

    /// # Errors
    /// The text is not a JSONPath, or not one of keys and `[*]` that ends with a key.
    pub fn parse_slot(text: &str) -> Result<Self, String> {
        let path = Path::parse(text)?;
        path.steps
            .filter(|steps| matches!(steps.0.last(), Some(Step::Key(_))))
            .ok_or_else(|| "must consist of keys and [*] and end with a key".to_owned())
    }

    /// Calls `visit(parent, key, other)` for each slot of `document` whose parent exists; `other` is
    /// what stands at the same slot of `other`. Array elements match by `id`, else by position.
    pub fn for_each_slot(&self, document: &mut Value, other: Option<&Value>, visit: &mut VisitSlot<'_>) {
        slots(document, other, &self.0, visit);
    }

    /// Calls `visit` with each value that stands in a slot, and its place.
    pub fn for_each_value(&self, document: &mut Value, visit: &mut dyn FnMut(&Place, &mut Value)) {
        walk(document, &self.0, &mut Vec::new(), visit);
    }

    /// Whether a place is one of these slots.
    pub fn leads_to(&self, place: &Place) -> bool {
        self.0.len() == place.len()
            && self.0.iter().zip(place).all(|pair| match pair {
                (Step::Key(key), Part::Key(other)) => key == other,
                (Step::Key(_), Part::Index(_)) => false,
                (Step::Each, _) => true,
            })
    }

    /// Makes the objects on the way to a slot where `document` lacks them and `other` has something there
    /// that is to be kept. Elements of arrays are never made.
    pub fn graft(&self, document: &mut Value, other: &Value, kept: &dyn Fn(&Value) -> bool) {
        graft(document, other, &self.0, kept);
    }
}

fn graft(value: &mut Value, other: &Value, steps: &[Step], kept: &dyn Fn(&Value) -> bool) {
    let Some((Step::Key(key), rest)) = steps.split_first() else { return };
    if rest.is_empty() || !matches!(rest[0], Step::Key(_)) {
        return;
    }
    let (Value::Object(map), Some(below)) = (value, other.get(key)) else { return };
    match map.get_mut(key) {
        Some(item) if !item.is_null() => graft(item, below, rest, kept),
        _ => {
            let leads = rest.iter().try_fold(below, |at, step| match step {
                Step::Key(key) => at.get(key),
                Step::Each => None,
            });
            if leads.is_some_and(kept) {
                let mut made = Value::Object(Map::new());
                graft(&mut made, below, rest, kept);
                map.insert(key.clone(), made);
            }
        }
    }
}

fn slots(value: &mut Value, other: Option<&Value>, steps: &[Step], visit: &mut VisitSlot<'_>) {
    let Some((step, rest)) = steps.split_first() else {
        return;
    };
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => {
            let other = other.and_then(|other| other.get(key));
            if rest.is_empty() {
                visit(map, key, other);
            } else if let Some(item) = map.get_mut(key) {
                slots(item, other, rest, visit);
            }
        }
        (Step::Each, Value::Array(items)) => {
            let others = Elements::of(other);
            for (index, item) in items.iter_mut().enumerate() {
                let twin = others.twin(index, item);
                slots(item, twin, rest, visit);
            }
        }
        (Step::Each, Value::Object(map)) => {
            for (key, item) in map.iter_mut() {
                slots(item, other.and_then(|other| other.get(key)), rest, visit);
            }
        }
        _ => {}
    }
}

/// The elements of the other document's array, found by `id`, else by position.
struct Elements<'a> {
    items: &'a [Value],
    by_id: std::collections::HashMap<&'a str, &'a Value>,
}

impl<'a> Elements<'a> {
    fn of(other: Option<&'a Value>) -> Self {
        let items = other.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let by_id = items.iter().filter_map(|item| Some((item.get("id")?.as_str()?, item))).collect();
        Self { items, by_id }
    }

    fn twin(&self, index: usize, item: &Value) -> Option<&'a Value> {
        match item.get("id").and_then(Value::as_str) {
            Some(id) if !self.by_id.is_empty() => self.by_id.get(id).copied(),
            _ => self.items.get(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(path: &str, mut document: Value) -> Vec<Value> {
        let mut values = Vec::new();
        Path::parse(path).unwrap().for_each_mut(&mut document, &mut |_, value| values.push(value.clone()));
        values
    }

    #[test]
    fn walks_keys_and_wildcards_and_leaves_the_rest_to_the_library() {
        let document = json!({"n": [{"id": 1, "k": "A"}, {"id": 2}, {"id": 3, "k": "A"}]});
        assert_eq!(found("$.n[*].id", document.clone()), [1, 2, 3]);
        assert_eq!(found("$.n[?@.k == 'A'].id", document.clone()), [1, 3]);
        assert_eq!(found("$..id", document.clone()), [1, 2, 3]);
        assert_eq!(found("$['n'][0]['id']", document), [1]);
    }

    #[test]
    fn slots_match_array_elements_by_id_then_by_position() {
        let mut new = json!({"a": [{"id": "y"}, {"id": "x"}], "b": [{}, {}]});
        let old = json!({"a": [{"id": "x", "v": 1}, {"id": "y", "v": 2}], "b": [{"v": 3}]});
        for path in ["$.a[*].v", "$.b[*].v"] {
            Steps::parse_slot(path).unwrap().for_each_slot(&mut new, Some(&old), &mut |map, key, other| {
                if let Some(other) = other {
                    map.insert(key.to_owned(), other.clone());
                }
            });
        }
        assert_eq!(new, json!({"a": [{"id": "y", "v": 2}, {"id": "x", "v": 1}], "b": [{"v": 3}, {}]}));
    }

    #[test]
    fn a_path_that_is_wrong_says_so() {
        assert!(Path::parse("$.a[").is_err());
        assert!(Steps::parse_slot("$.a[*]").is_err());
        assert!(Steps::parse_slot("$..a").is_err());
    }
}
