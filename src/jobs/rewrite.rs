//! Bodies that an import does not take as they came: what the mapping rewrites. Read back, rewritten and written as
//! new bodies, before any lock is taken.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::db::definitions::Bodies;
use crate::db::{DbError, PgConnection};
use crate::domain::content::Content;
use crate::domain::failure;
use crate::domain::id_map::Unwritable;
use crate::domain::outcome::Method;
use crate::planning::{PORTION, load_bodies};

use super::staging::{Rewritten, Staging};
use super::{JobError, blocking};

/// A body that was read back: its place, what it is now, the new text where it is another.
type Read = (usize, Content, bool);

/// Reads back what has to be read, and writes what the mapping changes; by place.
pub(super) async fn rewrite(
    staging: &Arc<Staging>,
    connection: &mut PgConnection,
) -> Result<HashMap<usize, Rewritten>, JobError> {
    let wanted: Vec<(usize, i64)> = (0..staging.entries.len())
        .filter(|at| staging.is_written(*at) && wants_body(staging, *at))
        .filter_map(|at| Some((at, staging.entries[at].definition_id?)))
        .collect();
    let mut rewritten = HashMap::with_capacity(wanted.len());
    if wanted.is_empty() {
        return Ok(rewritten);
    }
    let mut bodies = Bodies::begin(connection).await?;
    for portion in wanted.chunks(PORTION) {
        let texts = load_bodies(connection, portion.iter().map(|(_, id)| *id).collect()).await?;
        let (work, places) = (staging.clone(), portion.to_vec());
        let read = blocking(move || read(&work, &places, &texts)).await?;
        for ((at, content, changed), (_, id)) in read.into_iter().zip(portion) {
            let Content { body, hash, parts, openings, .. } = content;
            let definition_id = if changed { bodies.add(&body) } else { *id };
            rewritten.insert(at, Rewritten { definition_id, hash, parts, openings });
        }
        staging.context.send_bodies(connection, &mut bodies).await?;
    }
    Ok(rewritten)
}

fn wants_body(staging: &Staging, at: usize) -> bool {
    let entry = &staging.entries[at];
    let Some(kind) = staging.kind(at) else { return false };
    let paths: Vec<String> = entry.attachments.iter().map(|(path, _)| path.clone()).collect();
    let unseen = staging.planned(at).method == Method::Create && !kind.on_create.is_empty() && entry.openings.is_none();
    unseen || staging.planning.plan.id_map.touches(kind, &entry.references, &paths)
}

fn read(staging: &Staging, places: &[(usize, i64)], texts: &HashMap<i64, String>) -> Result<Vec<Read>, JobError> {
    let one = |(at, id): &(usize, i64)| {
        let (entry, kind) =
            (&staging.entries[*at], staging.kind(*at).ok_or(DbError::Corrupt("import_entries.entries"))?);
        let text = texts.get(id).ok_or_else(JobError::bodies_gone)?;
        let mut value: Value = serde_json::from_str(text).map_err(|_| DbError::Corrupt("definitions.body"))?;
        let id_map = &staging.planning.plan.id_map;
        let unwritable = |error: Unwritable| {
            let refused = failure::reference_not_writable(&error.to_string());
            JobError::fail(&refused.code, format!("{}: {}", entry.name, refused.message), &refused.hint)
        };
        id_map.rewrite(kind, &mut value).map_err(unwritable)?;
        // What belongs to the environment is looked at too: a value can be set beside it.
        let mut whole = value.clone();
        entry.own.show(&mut whole);
        let (content, invalid) = Content::of(kind, value);
        if let Some(error) = invalid {
            let message = format!("{} cannot be rewritten: {error}.", entry.name);
            return Err(JobError::fail(
                "resource_invalid",
                message,
                "Leave it out, or import it with its ID unchanged.",
            ));
        }
        id_map.check(kind, &entry.references, &content.parts.references).map_err(unwritable)?;
        let content = Content { openings: Content::openings(kind, &whole), ..content };
        let changed = content.hash != entry.definition_hash;
        Ok((*at, content, changed))
    };
    places.iter().map(one).collect()
}
