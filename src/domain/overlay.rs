//! What of a definition belongs to this environment alone: secrets, sealed, and environment-specific values. They
//! leave a definition for its body, which is content alone, and are put back where they stood when it is shown.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::json_path::Step as PathStep;
use super::resource_type::ResourceType;

mod location;
mod marker;
mod undo;

use location::{Elements, Same, id, same};
pub use location::{Location, Step, leads_to, openings};
pub use marker::{has_markers, is_marker, marker, take_markers};

/// What stands at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Own {
    /// A secret, sealed for its resource.
    Sealed(String),
    /// A secret that is set where the package comes from; only in packages.
    Set,
    /// A secret that is not there.
    Missing,
    /// An environment-specific value.
    Value(Value),
    /// An object that holds nothing else.
    Empty,
}

impl Own {
    /// The target has something of its own there.
    fn is_there(&self) -> bool {
        matches!(self, Self::Sealed(_)) || matches!(self, Self::Value(value) if !value.is_null())
    }
}

/// What belongs to an environment alone, in the order of the type file and the definition. What stands at a
/// location that the body does not have (any more) rests until the body has it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overlay(pub Vec<(Location, Own)>);

/// A value taken out of a definition.
#[derive(Debug, PartialEq)]
pub struct Taken {
    /// Where it stood.
    pub location: Location,
    /// It is a secret.
    pub secret: bool,
    /// None: an empty object.
    pub value: Option<Value>,
}

/// Takes every slot's value out of a definition, and then each object on the way to one that is left empty, or
/// was. What is left is the body.
pub fn take(resource_type: &ResourceType, definition: &mut Value) -> Vec<Taken> {
    let mut taken = Vec::new();
    let slots = resource_type.secrets.iter().map(|slot| (slot, true));
    for (slot, secret) in slots.chain(resource_type.environment_specific.iter().map(|slot| (slot, false))) {
        let before = taken.len();
        take_at(definition, slot.steps(), &mut Vec::new(), &mut taken);
        taken[before..].iter_mut().for_each(|one: &mut Taken| one.secret = secret);
    }
    taken
}

fn take_at(value: &mut Value, steps: &[PathStep], at: &mut Location, taken: &mut Vec<Taken>) {
    let Some((step, rest)) = steps.split_first() else { return };
    match (step, value) {
        (PathStep::Key(key), Value::Object(map)) => take_member(map, key, rest, at, taken),
        (PathStep::Each, Value::Object(map)) => {
            for key in map.keys().cloned().collect::<Vec<_>>() {
                take_member(map, &key, rest, at, taken);
            }
        }
        (PathStep::Each, Value::Array(items)) => {
            let mut elements = Elements::default();
            for item in items {
                at.push(elements.step(item));
                take_at(item, rest, at, taken);
                at.pop();
            }
        }
        _ => {}
    }
}

fn take_member(map: &mut Map<String, Value>, key: &str, rest: &[PathStep], at: &mut Location, taken: &mut Vec<Taken>) {
    let Some(item) = map.get_mut(key) else { return };
    at.push(Step::Key(key.to_owned()));
    let before = taken.len();
    if rest.is_empty() {
        let value = map.remove(key);
        taken.push(Taken { location: at.clone(), secret: false, value });
    } else {
        take_at(item, rest, at, taken);
        if item.as_object().is_some_and(Map::is_empty) {
            map.remove(key);
            if taken.len() == before {
                taken.push(Taken { location: at.clone(), secret: false, value: None });
            }
        }
    }
    at.pop();
}

impl Overlay {
    /// Nothing belongs to the environment alone.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Secrets that a definition says are set and that are not there.
    pub fn lacks_secrets(&self) -> bool {
        self.0.iter().any(|(_, own)| *own == Own::Missing)
    }

    /// The sealed secrets with their places.
    pub fn sealed(&self) -> impl Iterator<Item = (&Location, &str)> {
        self.0.iter().filter_map(|(location, own)| match own {
            Own::Sealed(sealed) => Some((location, sealed.as_str())),
            _ => None,
        })
    }

    /// As it travels in a package: of secrets only whether they are set.
    pub fn travelling(mut self) -> Self {
        for (_, own) in &mut self.0 {
            if matches!(own, Own::Sealed(_)) {
                *own = Own::Set;
            }
        }
        self
    }

    /// What of it fits the slots of a type: what another environment says of its own.
    pub fn fitting(&self, resource_type: &ResourceType) -> Self {
        let secret = |location: &Location| resource_type.secrets.iter().any(|slot| leads_to(slot, location));
        let specific =
            |location: &Location| resource_type.environment_specific.iter().any(|slot| leads_to(slot, location));
        let fits = self.0.iter().filter_map(|(location, own)| {
            let own = match own {
                Own::Value(Value::Null) if secret(location) => Own::Missing,
                Own::Value(_) if secret(location) => Own::Set,
                Own::Set | Own::Missing | Own::Sealed(_) if !secret(location) => return None,
                Own::Value(_) if !secret(location) && !specific(location) => return None,
                own => own.clone(),
            };
            Some((location.clone(), own))
        });
        Self(fits.collect())
    }

    /// Looks values up by their place, elements of arrays by `id`, else by position.
    pub fn places(&self) -> Places<'_> {
        Places(self.0.iter().map(|(location, own)| (same(location), own)).collect())
    }

    /// Puts everything back into a body, secrets as markers: the definition as it is shown.
    pub fn show(&self, body: &mut Value) {
        put(body, self.0.iter().map(|(location, own)| (location.as_slice(), own)).collect());
    }

    /// What a resource has of its own once content of another environment replaces it (`old`), or is new here
    /// (none): the target keeps its own, and takes the source's where it has none. Returns whether the source has
    /// a secret that is now missing.
    pub fn arriving(&self, old: Option<&Overlay>) -> (Self, bool) {
        let none = Overlay::default();
        let old = old.unwrap_or(&none);
        let theirs = self.places();
        let mut missing = false;
        let mut merged: Vec<(Location, Own)> = Vec::with_capacity(old.0.len().max(self.0.len()));
        for (location, own) in &old.0 {
            let arriving = theirs.at(location).filter(|arriving| !own.is_there() && arriving.is_there());
            missing |= *own == Own::Missing && arriving.is_none() && theirs.at(location) == Some(&Own::Set);
            merged.push((location.clone(), arriving.unwrap_or(own).clone()));
        }
        let ours = old.places();
        for (location, own) in self.0.iter().filter(|(location, _)| ours.at(location).is_none()) {
            missing |= *own == Own::Set;
            let own = if *own == Own::Set { Own::Missing } else { own.clone() };
            merged.push((location.clone(), own));
        }
        (Self(merged), missing)
    }

    /// Takes away what stands at a location.
    pub fn unset(&mut self, location: &[Step]) {
        let place = same(location);
        self.0.retain(|(known, _)| same(known) != place);
    }

    /// Sets a value, wherever it stands or does not stand yet.
    pub fn set(&mut self, location: &[Step], own: Own) {
        let place = same(location);
        match self.0.iter_mut().find(|(known, _)| same(known) == place) {
            Some((_, known)) => *known = own,
            None => self.0.push((location.to_vec(), own)),
        }
    }
}

/// The values of an overlay by their place.
#[derive(PartialEq, Eq)]
pub struct Places<'a>(HashMap<Vec<Same<'a>>, &'a Own>);

impl Places<'_> {
    /// What stands at a location.
    pub fn at(&self, location: &[Step]) -> Option<&Own> {
        self.0.get(&same(location)).copied()
    }
}

/// What is left of the way to a value, and the value.
type Entry<'a> = (&'a [Step], &'a Own);

/// Puts values below `value`; true: at least one found its place.
fn put(value: &mut Value, entries: Vec<Entry<'_>>) -> bool {
    let mut groups: Vec<(&Step, Vec<Entry<'_>>)> = Vec::new();
    let mut known: HashMap<&Step, usize> = HashMap::new();
    for (location, own) in entries {
        let Some((step, rest)) = location.split_first() else { continue };
        let group = *known.entry(step).or_insert_with(|| {
            groups.push((step, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push((rest, own));
    }
    let mut placed = false;
    match value {
        Value::Object(map) => {
            for (step, below) in groups {
                if let Step::Key(key) = step {
                    placed |= put_member(map, key, below);
                }
            }
        }
        Value::Array(items) => {
            let (mut ids, mut nameless) = (None, None);
            for (step, below) in groups {
                let Step::Element(position, wanted) = step else { continue };
                let found = match wanted.as_deref() {
                    Some(wanted) if items.get(*position).and_then(id) == Some(wanted) => Some(*position),
                    Some(wanted) => ids.get_or_insert_with(|| by_id(items)).get(wanted).copied(),
                    None => nameless.get_or_insert_with(|| without_id(items)).get(*position).copied(),
                };
                if let Some(item) = found.and_then(|at| items.get_mut(at)) {
                    placed |= put(item, below);
                }
            }
        }
        _ => {}
    }
    placed
}

fn by_id(items: &[Value]) -> HashMap<String, usize> {
    // The first of an ID counts.
    items.iter().enumerate().rev().filter_map(|(at, item)| Some((id(item)?.to_owned(), at))).collect()
}

/// Where the elements without an ID are.
fn without_id(items: &[Value]) -> Vec<usize> {
    items.iter().enumerate().filter(|(_, item)| id(item).is_none()).map(|(at, _)| at).collect()
}

fn put_member(map: &mut Map<String, Value>, key: &str, entries: Vec<Entry<'_>>) -> bool {
    let (here, below): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(rest, _)| rest.is_empty());
    let mut placed = !here.is_empty();
    for (_, own) in here {
        let value = match own {
            // What the body has counts: there is no slot (any more).
            _ if map.contains_key(key) => continue,
            Own::Sealed(_) | Own::Set => marker(true),
            Own::Missing => marker(false),
            Own::Value(value) => value.clone(),
            Own::Empty => Value::Object(Map::new()),
        };
        map.insert(key.to_owned(), value);
    }
    if below.is_empty() {
        return placed;
    }
    if let Some(item) = map.get_mut(key) {
        return placed | put(item, below);
    }
    let mut made = Value::Object(Map::new());
    if put(&mut made, below) {
        map.insert(key.to_owned(), made);
        placed = true;
    }
    placed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::type_file::Types;

    fn kind() -> std::sync::Arc<ResourceType> {
        let text = "key = \"t\"\nlabel = { en = \"T\", zh = \"T\", plural_en = \"Ts\" }\norder = 1\nunique_name = \"none\"\n\
            [secrets]\npaths = [\"$.key\", \"$.all[*].login.key\", \"$.o.p.q\"]\n\
            [environment_specific]\npaths = [\"$.o.host\", \"$.all[*].on\", \"$.m.*.v\"]";
        Types::compile([("t.toml", text)]).unwrap().get("t").unwrap().clone()
    }

    /// Takes apart and keeps values as they are.
    fn split(definition: &mut Value) -> Overlay {
        let own = |taken: Taken| (taken.location, taken.value.map_or(Own::Empty, Own::Value));
        Overlay(take(&kind(), definition).into_iter().map(own).collect())
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[ab]?".prop_map(Value::from)];
        leaf.prop_recursive(5, 40, 4, |inner| {
            let key =
                prop::sample::select(vec!["key", "all", "login", "o", "p", "q", "host", "on", "m", "v", "id", "x"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.prop_map(str::to_owned), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_out_is_put_back_exactly(document in documents()) {
            let mut body = document.clone();
            let overlay = split(&mut body);
            let mut again = body.clone();
            prop_assert_eq!(split(&mut again), Overlay::default());
            prop_assert_eq!(&again, &body);
            overlay.show(&mut body);
            prop_assert_eq!(body, document);
        }
    }

    #[test]
    fn objects_that_hold_only_what_is_of_the_environment_are_no_content() {
        for (whole, body) in [
            (json!({"o": {"p": {"q": "s"}, "host": null}}), json!({})),
            (json!({"o": {}}), json!({})),
            (json!({"o": {"p": {}, "other": {}}}), json!({"o": {"other": {}}})),
            (json!({"all": [{"login": {"key": 1}}, {}]}), json!({"all": [{}, {}]})),
        ] {
            let mut value = whole.clone();
            split(&mut value);
            assert_eq!(value, body, "{whole}");
        }
    }

    #[test]
    fn values_find_their_elements_after_these_moved() {
        let mut old = json!({"all": [{"id": "a", "on": 1}, {"on": 2}, {"id": "c", "on": 3}, {"id": "gone", "on": 4}]});
        let overlay = split(&mut old);
        let mut new = json!({"all": [{"id": "c"}, {"id": "x"}, {}, {"id": "a"}]});
        overlay.show(&mut new);
        assert_eq!(new, json!({"all": [{"id": "c", "on": 3}, {"id": "x"}, {"on": 2}, {"id": "a", "on": 1}]}));
    }

    #[test]
    fn the_target_keeps_its_own_and_takes_what_it_lacks() {
        let key = |name: &str| vec![Step::Key(name.to_owned())];
        let here = Overlay(vec![
            (key("sealed"), Own::Sealed("mine".to_owned())),
            (key("missing"), Own::Missing),
            (key("null"), Own::Value(Value::Null)),
            (key("value"), Own::Value(json!(1))),
        ]);
        let source = Overlay(vec![
            (key("sealed"), Own::Sealed("theirs".to_owned())),
            (key("missing"), Own::Sealed("carried".to_owned())),
            (key("null"), Own::Value(json!(2))),
            (key("value"), Own::Value(json!(3))),
            (key("new"), Own::Value(json!(4))),
        ]);
        let (now, missing) = source.arriving(Some(&here));
        assert!(!missing);
        let expected = [
            ("sealed", Own::Sealed("mine".to_owned())),
            ("missing", Own::Sealed("carried".to_owned())),
            ("null", Own::Value(json!(2))),
            ("value", Own::Value(json!(1))),
            ("new", Own::Value(json!(4))),
        ];
        assert_eq!(now, Overlay(expected.map(|(name, own)| (key(name), own)).to_vec()));
        let (now, missing) = Overlay(vec![(key("sealed"), Own::Set)]).arriving(None);
        assert_eq!((now, missing), (Overlay(vec![(key("sealed"), Own::Missing)]), true));
    }
}
