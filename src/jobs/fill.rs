//! Secrets that the target lacks and the package carries: in definitions that arrive, and in resources that
//! are unchanged otherwise. A secret that is set is never replaced.

use std::collections::HashMap;

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::db::copy::Rows;
use crate::db::{self, PgConnection};
use crate::domain::carried;
use crate::domain::outcome::Method;
use crate::domain::resource_type::ResourceType;

use super::JobError;
use super::stage::Shared;

/// Resources that are looked at together.
const PORTION: usize = 200;

/// Puts the carried secrets of a resource where a definition has none, sealed for its ID here; whether there
/// were any.
pub(super) fn fill(shared: &Shared, at: usize, kind: &ResourceType, definition: &mut Value) -> Result<bool, JobError> {
    let (source, here) = (&shared.entries[at].id, &shared.planned(at).new_id);
    let mut filled = false;
    for (location, secret) in shared.carried.of(source) {
        let sealed = carried::fill(kind, definition, location, || {
            shared.app.sealer.seal_value(here.as_str(), secret.expose_secret())
        });
        filled |= sealed.map_err(|error| JobError::Retry(error.to_string()))?;
    }
    Ok(filled)
}

/// Stages the secrets that unchanged resources lack; returns how many resources get some.
pub(super) async fn unchanged(shared: &Shared, connection: &mut PgConnection) -> Result<u64, JobError> {
    let mut count = 0;
    let places: HashMap<&str, usize> = (0..shared.entries.len())
        .filter(|at| shared.planned(*at).method == Method::Unchanged)
        .filter(|at| !shared.carried.of(&shared.entries[*at].id).is_empty())
        .map(|at| (shared.planned(at).new_id.as_str(), at))
        .collect();
    let ids: Vec<String> = places.keys().map(|id| (*id).to_owned()).collect();
    for ids in ids.chunks(PORTION) {
        let mut rows = Rows::new("staged_secrets", &["id", "definition", "base_revision"]);
        for row in db::resources::current(connection, shared.record.domain_id, ids).await? {
            let (Some(at), Ok(mut definition)) =
                (places.get(row.id.as_str()).copied(), serde_json::from_str::<Value>(&row.definition))
            else {
                continue;
            };
            let Some(kind) = shared.kind(at) else { continue };
            if fill(shared, at, kind, &mut definition)? {
                let text = crate::domain::json::canonical(&definition);
                rows.row().text(&row.id).json(&text).maybe_big(Some(row.revision));
                count += 1;
            }
        }
        rows.send(connection).await?;
    }
    Ok(count)
}
