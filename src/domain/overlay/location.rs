//! Where a value stands in a definition: the way to it, which finds it again after elements of arrays have moved.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::json_path::{Slot, Step as PathStep};

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array: its position, and its `id` where it has one, which finds it after it moved. Those
    /// without one have a position among themselves.
    Element(usize, Option<String>),
}

/// The way to a value from the top of a definition.
pub type Location = Vec<Step>;

/// A step as it is compared: elements by `id`, else by position.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Same<'a> {
    Key(&'a str),
    Id(&'a str),
    Position(usize),
}

pub(super) fn same(location: &[Step]) -> Vec<Same<'_>> {
    location.iter().map(Same::of).collect()
}

impl<'a> Same<'a> {
    fn of(step: &'a Step) -> Self {
        match step {
            Step::Key(key) => Self::Key(key),
            Step::Element(_, Some(id)) => Self::Id(id),
            Step::Element(position, None) => Self::Position(*position),
        }
    }
}

/// Whether a slot is where a location leads.
pub fn leads_to(slot: &Slot, location: &[Step]) -> bool {
    slot.steps().len() == location.len()
        && slot.steps().iter().zip(location).all(|pair| match pair {
            (PathStep::Key(key), Step::Key(other)) => key == other,
            (PathStep::Key(_), Step::Element(..)) => false,
            (PathStep::Each, _) => true,
        })
}

/// Where the slots of a path could be set: wherever their parents exist.
pub fn openings(slot: &Slot, definition: &Value) -> Vec<Location> {
    let mut found = Vec::new();
    open_at(definition, slot.steps(), &mut Vec::new(), &mut found);
    found
}

fn open_at(value: &Value, steps: &[PathStep], at: &mut Location, found: &mut Vec<Location>) {
    let Some((step, rest)) = steps.split_first() else { return };
    let mut go = |step: Step, item: &Value| {
        at.push(step);
        open_at(item, rest, at, found);
        at.pop();
    };
    match (step, value) {
        (PathStep::Key(key), Value::Object(_)) if rest.is_empty() => {
            let mut location = at.clone();
            location.push(Step::Key(key.clone()));
            found.push(location);
        }
        (PathStep::Key(key), Value::Object(map)) => {
            if let Some(item) = map.get(key) {
                go(Step::Key(key.clone()), item);
            }
        }
        (PathStep::Each, Value::Object(map)) => map.iter().for_each(|(key, item)| go(Step::Key(key.clone()), item)),
        (PathStep::Each, Value::Array(items)) => {
            let mut elements = Elements::default();
            items.iter().for_each(|item| go(elements.step(item), item));
        }
        _ => {}
    }
}

/// Tells the elements of an array apart, in their order.
#[derive(Default)]
pub(super) struct Elements {
    position: usize,
    nameless: usize,
}

impl Elements {
    /// The step to the next one.
    pub(super) fn step(&mut self, element: &Value) -> Step {
        let id = id(element).map(str::to_owned);
        let count = if id.is_some() { self.position } else { self.nameless };
        self.nameless += usize::from(id.is_none());
        self.position += 1;
        Step::Element(count, id)
    }
}

pub(super) fn id(element: &Value) -> Option<&str> {
    element.get("id").and_then(Value::as_str)
}
