//! The one way of a definition into the catalogue, whoever brings it: checked, its parts found, taken apart into
//! its body, which is content alone, and what belongs to this environment.

use serde_json::Value;

use super::checklist::Paused;
use super::definition::{self, Invalid, Parts};
use super::json;
use super::overlay::{self, Location, Overlay, Own, Taken};
use super::resource::Hash;
use super::resource_type::ResourceType;

/// A definition, taken apart.
pub struct Content {
    /// Canonical JSON text.
    pub body: Vec<u8>,
    /// Of the body.
    pub hash: Hash,
    /// References, children and attachments.
    pub parts: Parts,
    /// What belongs to the environment alone, as it stood.
    pub taken: Vec<Taken>,
    /// Where a user put markers in the place of secrets that the type does not know (any more).
    pub markers: Vec<Location>,
    /// Where a value of `[on_create]` can be set.
    pub openings: Vec<Location>,
}

impl Content {
    /// Takes a definition apart that fits its type.
    ///
    /// # Errors
    /// What is wrong with it; secrets are never quoted.
    pub fn parse(resource_type: &ResourceType, mut definition: Value) -> Result<Self, Invalid> {
        definition::check(resource_type, &mut definition)?;
        let openings = Self::openings(resource_type, &definition);
        let taken = overlay::take(resource_type, &mut definition);
        let markers = overlay::take_markers(&mut definition);
        let (content, invalid) = Self::of_body(resource_type, definition);
        invalid.map_or(Ok(Self { taken, markers, openings, ..content }), Err)
    }

    /// Takes a definition apart, whether it fits its type or not: a reference or a path that cannot be one leaves it
    /// without parts. Parts are those of the body: what belongs to an environment alone refers to nothing.
    pub fn of(resource_type: &ResourceType, mut definition: Value) -> (Self, Option<Invalid>) {
        let openings = Self::openings(resource_type, &definition);
        let taken = overlay::take(resource_type, &mut definition);
        let (content, invalid) = Self::of_body(resource_type, definition);
        (Self { taken, openings, ..content }, invalid)
    }

    fn of_body(resource_type: &ResourceType, mut definition: Value) -> (Self, Option<Invalid>) {
        let body = json::canonical(&definition);
        let (parts, invalid) = match definition::find(resource_type, &mut definition) {
            Ok(parts) => (parts, None),
            Err(invalid) => (Parts::default(), Some(invalid)),
        };
        let (taken, markers, openings) = (Vec::new(), Vec::new(), Vec::new());
        (Self { hash: Hash::of(&body), body, parts, taken, markers, openings }, invalid)
    }

    /// Where a value of `[on_create]` can be set in a definition.
    pub fn openings(resource_type: &ResourceType, definition: &Value) -> Vec<Location> {
        resource_type.on_create.iter().flat_map(|(slot, _)| overlay::openings(slot, definition)).collect()
    }
}

/// Sets the values of `[on_create]` where a new resource can have them; gives those that were others.
pub fn set_on_create(kind: &ResourceType, openings: &[Location], own: &mut Overlay) -> Vec<Paused> {
    let mut changed = Vec::new();
    for location in openings {
        let value = kind.on_create.iter().find(|(slot, _)| overlay::leads_to(slot, location)).map(|(_, value)| value);
        let Some(value) = value else { continue };
        let was = match own.places().at(location) {
            Some(Own::Value(was)) => Some(was.clone()),
            _ => None,
        };
        if was.as_ref() != Some(value) {
            changed.push(Paused { at: location.clone(), was, is: value.clone() });
        }
        own.set(location, Own::Value(value.clone()));
    }
    changed
}

/// What a user writes: strings in the place of secrets are sealed, markers keep what is there, also where the type knows
/// of no secret any more.
///
/// # Errors
/// A secret that is neither, a marker where there is no secret.
pub fn written(
    taken: Vec<Taken>,
    markers: Vec<Location>,
    old: &Overlay,
    seal: &mut dyn FnMut(&str) -> String,
) -> Result<Overlay, Invalid> {
    let places = old.places();
    let kept = markers.into_iter().map(|location| match places.at(&location) {
        Some(own @ Own::Sealed(_)) => Ok((location, own.clone())),
        _ => Err(Invalid::NoSecret(pointer(&location))),
    });
    let own = taken.into_iter().map(|Taken { location, secret, value }| {
        let own = match value {
            None => Own::Empty,
            Some(value) if !secret => Own::Value(value),
            Some(Value::String(secret)) => Own::Sealed(seal(&secret)),
            Some(Value::Null) => Own::Missing,
            Some(value) if overlay::is_marker(&value) => match places.at(&location) {
                Some(Own::Sealed(sealed)) => Own::Sealed(sealed.clone()),
                _ => Own::Missing,
            },
            Some(_) => return Err(Invalid::Secret(pointer(&location))),
        };
        Ok((location, own))
    });
    own.chain(kept).collect::<Result<_, _>>().map(Overlay)
}

/// What another environment says: of secrets only whether they are set. Clear text in the place of one is dropped.
pub fn foreign(taken: Vec<Taken>) -> Overlay {
    let own = taken.into_iter().map(|Taken { location, secret, value }| {
        let own = match value {
            None => Own::Empty,
            Some(value) if !secret => Own::Value(value),
            Some(value) if value.is_null() || value == overlay::marker(false) => Own::Missing,
            Some(_) => Own::Set,
        };
        (location, own)
    });
    Overlay(own.collect())
}

fn pointer(location: &Location) -> String {
    location.iter().fold(String::new(), |text, step| match step {
        overlay::Step::Key(key) => format!("{text}/{key}"),
        overlay::Step::Element(index, _) => format!("{text}/{index}"),
    })
}
