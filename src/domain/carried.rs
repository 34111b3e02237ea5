//! Secrets that travel beside a definition, sealed for who may open them. What comes from a package never stands
//! in a definition in clear: it is sealed for its resource at once.

use serde::{Deserialize, Serialize};

use super::overlay::Location;
use super::resource::ResourceId;

/// A line of the payload of `secrets.sealed`: the secrets of one resource.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedLine<S> {
    /// Its ID in the package.
    pub id: ResourceId,
    /// Each secret with its place, in the order of the type file and the definition.
    pub secrets: Vec<(Location, S)>,
}
