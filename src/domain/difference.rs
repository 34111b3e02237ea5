//! What differs between two definitions, as people read it: elements of arrays are matched by their `id`.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// An element of an array that has an `id` stands elsewhere among the others.
    Moved,
    /// It is another.
    Changed,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// Where, as a JSON Pointer (RFC 6901) in which an element of an array that has an `id` is named by `id=…`; any
    /// other by its place, of removed ones that of before.
    pub path: String,
    /// What became of it.
    pub kind: Became,
    /// What was there; of what moved its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What is there; of what moved its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// All changes from one definition to another, in the order of its keys.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Change>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => members(path, before, after, found),
        (Value::Array(before), Value::Array(after)) => match (by_id(before), by_id(after)) {
            (Some(old), Some(new)) => matched(path, (before, &old), (after, &new), found),
            _ => placed(path, before, after, found),
        },
        _ => found.push(change(path.to_owned(), Became::Changed, Some(before), Some(after))),
    }
}

fn change(path: String, kind: Became, before: Option<&Value>, after: Option<&Value>) -> Change {
    Change { path, kind, before: before.cloned(), after: after.cloned() }
}

fn members(path: &str, before: &Map<String, Value>, after: &Map<String, Value>, found: &mut Vec<Change>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let path = format!("{path}/{}", escaped(key));
        match (before.get(key), after.get(key)) {
            (Some(old), Some(new)) => compare(&path, old, new, found),
            (old, None) => found.push(change(path, Became::Removed, old, None)),
            (None, new) => found.push(change(path, Became::Added, None, new)),
        }
    }
}

/// The places of elements that all have an `id` of their own.
fn by_id(items: &[Value]) -> Option<HashMap<String, usize>> {
    let mut places = HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let id = match item.get("id")? {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        if places.insert(id, at).is_some() {
            return None;
        }
    }
    Some(places)
}

/// Elements and their places by ID.
type Known<'a> = (&'a [Value], &'a HashMap<String, usize>);

fn matched(path: &str, (before, old): Known<'_>, (after, new): Known<'_>, found: &mut Vec<Change>) {
    let ids = |places: &HashMap<String, usize>| {
        let mut ids: Vec<(usize, String)> = places.iter().map(|(id, at)| (*at, id.clone())).collect();
        ids.sort_unstable();
        ids
    };
    let element = |id: &str| format!("{path}/id={}", escaped(id));
    for (at, id) in ids(old) {
        if !new.contains_key(&id) {
            found.push(change(element(&id), Became::Removed, before.get(at), None));
        }
    }
    let arrived = ids(new);
    let common: Vec<(usize, usize)> = arrived.iter().filter_map(|(at, id)| Some((*old.get(id)?, *at))).collect();
    let stayed = longest_rising(&common.iter().map(|(old, _)| *old).collect::<Vec<_>>());
    for (at, id) in arrived {
        let Some(was) = old.get(&id) else {
            found.push(change(element(&id), Became::Added, None, after.get(at)));
            continue;
        };
        if !stayed.contains(was) {
            let (was, at) = (Value::from(*was), Value::from(at));
            found.push(change(element(&id), Became::Moved, Some(&was), Some(&at)));
        }
        compare(&element(&id), &before[*was], &after[at], found);
    }
}

/// Elements without IDs: what is alike at both ends stays, what is between is compared place by place.
fn placed(path: &str, before: &[Value], after: &[Value], found: &mut Vec<Change>) {
    let head = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let rest = before[head..].iter().rev().zip(after[head..].iter().rev());
    let tail = rest.take_while(|(old, new)| old == new).count();
    let (old, new) = (&before[head..before.len() - tail], &after[head..after.len() - tail]);
    for at in 0..old.len().max(new.len()) {
        let path = format!("{path}/{}", head + at);
        match (old.get(at), new.get(at)) {
            (Some(old), Some(new)) => compare(&path, old, new, found),
            (old, None) => found.push(change(path, Became::Removed, old, None)),
            (None, new) => found.push(change(path, Became::Added, None, new)),
        }
    }
}

/// A longest rising subsequence of distinct numbers: what did not move when the others did (Fredman 1975).
fn longest_rising(numbers: &[usize]) -> BTreeSet<usize> {
    // The last of the best sequence of each length, and who stands before each number in it.
    let mut last: Vec<usize> = Vec::new();
    let mut earlier: Vec<Option<usize>> = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let length = last.partition_point(|at| numbers[*at] < *number);
        earlier.push(length.checked_sub(1).map(|shorter| last[shorter]));
        match last.get_mut(length) {
            Some(slot) => *slot = at,
            None => last.push(at),
        }
    }
    std::iter::successors(last.last().copied(), |at| earlier[*at]).map(|at| numbers[at]).collect()
}

/// As RFC 6901 escapes.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(before: &Value, after: &Value) -> Vec<(String, Became)> {
        changes(before, after).into_iter().map(|change| (change.path, change.kind)).collect()
    }

    #[test]
    fn elements_are_matched_by_id_and_only_what_moved_is_said_to_have() {
        let before = json!({"fields": [{"id": "a", "n": 1}, {"id": "b"}, {"id": "c"}, {"id": 4}], "x/y": 1});
        let after = json!({"fields": [{"id": "c"}, {"id": "a", "n": 2}, {"id": "b"}, {"id": "d"}], "x/y": null});
        let expected = [
            ("/fields/id=4", Became::Removed),
            ("/fields/id=c", Became::Moved),
            ("/fields/id=a/n", Became::Changed),
            ("/fields/id=d", Became::Added),
            ("/x~1y", Became::Changed),
        ];
        assert_eq!(told(&before, &after), expected.map(|(path, kind)| (path.to_owned(), kind)));
    }

    #[test]
    fn elements_without_an_id_are_compared_where_both_ends_are_alike() {
        let expected = |list: &[(&str, Became)]| list.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
        let all: Vec<_> = expected(&[("/1", Became::Added)]);
        assert_eq!(told(&json!([1, 2, 3]), &json!([1, 9, 2, 3])), all);
        let all: Vec<_> = expected(&[("/1", Became::Changed), ("/2", Became::Removed)]);
        assert_eq!(told(&json!([1, 2, 3, 4]), &json!([1, 9, 4])), all);
        // Two of one ID name nothing.
        let all: Vec<_> = expected(&[("/1/v", Became::Added)]);
        assert_eq!(told(&json!([{"id": 1}, {"id": 1}]), &json!([{"id": 1}, {"id": 1, "v": 0}])), all);
    }

    proptest! {
        #[test]
        fn what_is_said_to_stay_rises_and_is_the_most_that_does(numbers in Just((0..9usize).collect::<Vec<_>>()).prop_shuffle()) {
            let stayed = longest_rising(&numbers);
            let kept: Vec<usize> = numbers.iter().copied().filter(|number| stayed.contains(number)).collect();
            prop_assert!(kept.is_sorted());
            let best = (0..1usize << numbers.len()).filter_map(|chosen| {
                let some: Vec<usize> = (0..numbers.len()).filter(|at| chosen >> at & 1 == 1).map(|at| numbers[at]).collect();
                some.is_sorted().then_some(some.len())
            });
            prop_assert_eq!(kept.len(), best.max().unwrap());
        }
    }
}
