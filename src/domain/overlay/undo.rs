//! What belongs to an environment alone, once an import is undone.

use super::{Location, Overlay, Own};

impl Overlay {
    /// As it was `before` an import that left `written`: what was filled in or changed since stays.
    pub fn undone(&self, written: &Self, before: &Self) -> Self {
        let (now, theirs, old) = (self.places(), written.places(), before.places());
        let kept = self.0.iter().filter_map(|(location, own)| {
            let own = if theirs.at(location) == Some(own) { old.at(location)? } else { own };
            Some((location.clone(), own.clone()))
        });
        let gone = |location: &Location| now.at(location).is_none() && theirs.at(location).is_none();
        let back = before.0.iter().filter(|(location, _)| gone(location)).cloned();
        Self(kept.chain(back).collect())
    }

    /// Where secrets are that an overlay of before did not have, or had otherwise.
    pub fn sealed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Location> {
        let old = before.places();
        self.0.iter().filter_map(move |(location, own)| {
            (matches!(own, Own::Sealed(_)) && old.at(location) != Some(own)).then_some(location)
        })
    }
}
