//! What stands in a definition for a secret.

use serde_json::{Map, Value};

use super::location::{Elements, Location, Step};

/// Takes every marker out of a definition whose slots were taken, and each object that this leaves empty: there may
/// have been a slot once. Where they stood.
pub fn take_markers(definition: &mut Value) -> Vec<Location> {
    let mut found = Vec::new();
    take_markers_at(definition, &mut Vec::new(), &mut found);
    found
}

fn take_markers_at(value: &mut Value, at: &mut Location, found: &mut Vec<Location>) {
    match value {
        Value::Object(map) => map.retain(|key, item| {
            at.push(Step::Key(key.clone()));
            let before = found.len();
            if is_marker(item) {
                found.push(at.clone());
            } else {
                take_markers_at(item, at, found);
            }
            at.pop();
            found.len() == before || !(is_marker(item) || item.as_object().is_some_and(Map::is_empty))
        }),
        Value::Array(items) => {
            let mut elements = Elements::default();
            for item in items {
                at.push(elements.step(item));
                take_markers_at(item, at, found);
                at.pop();
            }
        }
        _ => {}
    }
}

/// Whether a definition holds a marker anywhere.
pub fn has_markers(value: &Value) -> bool {
    match value {
        Value::Object(map) => is_marker(value) || map.values().any(has_markers),
        Value::Array(items) => items.iter().any(has_markers),
        _ => false,
    }
}

/// What a secret reads as: `{"$secret": "set"}` or `{"$secret": "missing"}`.
pub fn marker(set: bool) -> Value {
    serde_json::json!({"$secret": if set { "set" } else { "missing" }})
}

/// Whether a value stands for a secret that is set or missing.
pub fn is_marker(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.len() == 1)
        && matches!(value.get("$secret").and_then(Value::as_str), Some("set" | "missing"))
}
