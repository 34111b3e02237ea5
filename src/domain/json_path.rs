//! JSONPath (RFC 9535) as type files use it.
//!
//! Paths of keys and `[*]` are walked here, mutably, in one pass; anything else (filters, `..`,
//! slices) is located by `serde_json_path` and then taken by its JSON Pointer.

use serde_json::Value;
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
    leading: Slot,
    plain: bool,
    query: JsonPath,
}

/// A step of a path of keys and `[*]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member.
    Key(String),
    /// Every element or member.
    Each,
}

/// A path of keys and `[*]` alone that ends with a key: a *slot* that can be set where its parent exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot(Vec<Step>);

impl Path {
    /// # Errors
    /// The text is not a JSONPath; the message says where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let query = JsonPath::parse(text).map_err(|error| error.to_string())?;
        let (leading, rest) = Slot::split(text);
        Ok(Self { plain: rest.is_empty(), leading, query })
    }

    /// The steps of the path; of one that is not keys and `[*]` alone, the plain steps that lead it.
    pub fn leading(&self) -> &Slot {
        &self.leading
    }

    /// Calls `visit` with each value at the path and its place.
    pub fn for_each_mut(&self, document: &mut Value, visit: &mut dyn FnMut(&Place, &mut Value)) {
        if self.plain {
            return walk(document, &self.leading.0, &mut Vec::new(), visit);
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

impl Slot {
    /// The keys and `[*]` that a path accepted by `serde_json_path` begins with, and what follows them.
    fn split(text: &str) -> (Self, &str) {
        let mut steps = Vec::new();
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        while let Some((step, tail)) = step(rest) {
            steps.push(step);
            rest = tail;
        }
        (Self(steps), rest)
    }

    /// # Errors
    /// The text is not a JSONPath, or not one of keys and `[*]` that ends with a key.
    pub fn parse_slot(text: &str) -> Result<Self, String> {
        let path = Path::parse(text)?;
        Some(path.leading)
            .filter(|steps| path.plain && matches!(steps.0.last(), Some(Step::Key(_))))
            .ok_or_else(|| "must consist of keys and [*] and end with a key".to_owned())
    }

    /// Whether a place of one could hold, or stand within, a place of the other; `[*]` meets every key.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|pair| match pair {
            (Step::Key(key), Step::Key(other)) => key == other,
            _ => true,
        })
    }

    /// Its steps; the last is a key.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

fn step(rest: &str) -> Option<(Step, &str)> {
    if let Some(tail) = rest.strip_prefix("[*]") {
        return Some((Step::Each, tail));
    }
    let tail = rest.strip_prefix('.')?;
    let (key, tail) = tail.split_at(tail.find(['.', '[']).unwrap_or(tail.len()));
    if key == "*" {
        return Some((Step::Each, tail));
    }
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    plain.then(|| (Step::Key(key.to_owned()), tail))
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
    fn a_path_that_is_wrong_says_so() {
        assert!(Path::parse("$.a[").is_err());
        assert!(Slot::parse_slot("$.a[*]").is_err());
        assert!(Slot::parse_slot("$..a").is_err());
    }
}
