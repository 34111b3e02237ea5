//! From the lines of a shard to what a plan needs of each resource, and its body.

use std::collections::HashSet;

use serde_json::Value;

use crate::domain::content::{self, Content};
use crate::domain::definition::{self, Parts};
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::json;
use crate::domain::manifest::ShardLine;
use crate::domain::overlay::Overlay;
use crate::domain::resource::{Hash, content_hash, parse_name};
use crate::domain::type_file::Types;
use crate::package::PackageError;
use crate::package::reader::Lines;

use super::index::{self, Index, Line};

/// A resource that was read: its place, what a plan needs of it, its body.
pub(super) type Decoded = (usize, Entry, Option<Vec<u8>>);

/// Reads those lines whose resources are not known by their place already; `limit`: bytes of a definition.
pub(super) fn decode(
    types: &Types,
    index: &Index,
    known: &HashSet<usize>,
    lines: &Lines,
    limit: u64,
) -> Result<Vec<Decoded>, PackageError> {
    let tampered = |reason: String| PackageError::Tampered(reason);
    let mut decoded = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.len() as u64 > limit + 64 * 1024 {
            return Err(PackageError::Limit(format!("a definition has more than {limit} bytes")));
        }
        if index.nth(lines.first + at).is_some_and(|place| known.contains(&place)) {
            continue;
        }
        let found: ShardLine<Value> =
            json::outside(line).map_err(|error| PackageError::unread("a resource", &error))?;
        let place = index.place(lines.first + at, &found.id);
        let place = place.ok_or_else(|| tampered(format!("the index does not list {} at its place", found.id)))?;
        let id = found.id.clone();
        let (entry, body) = entry(types, &index.lines[place], index.values(&id), found)
            .map_err(|reason| tampered(format!("the resource {id}: {reason}")))?;
        decoded.push((place, entry, body));
    }
    Ok(decoded)
}

/// Brings a resource down to what a plan needs, and its body; a definition that does not fit its type is noted, not
/// refused, and has no body.
fn entry(
    types: &Types,
    line: &Line,
    values: Option<&Overlay>,
    found: ShardLine<Value>,
) -> Result<(Entry, Option<Vec<u8>>), String> {
    index::check_words(&found.type_key, &found.name, &found.directory)?;
    let mut definition = found.definition;
    if let Some(values) = values {
        values.show(&mut definition);
    }
    let kind = types.get(&found.type_key);
    let mut invalid = match kind {
        Some(kind) => definition::check(kind, &mut definition).err().map(|error| error.to_string()),
        None => json::normalise(&mut definition).err().map(|error| error.to_string()),
    };
    let (definition_hash, body, own, openings, parts) = match kind {
        Some(kind) => {
            let (content, wrong) = Content::of(kind, definition);
            invalid = invalid.or(wrong.map(|error| error.to_string()));
            let Content { body, hash, parts, taken, openings, .. } = content;
            (hash, invalid.is_none().then_some(body), content::foreign(taken), Some(openings), parts)
        }
        None => (json::hash(&definition), None, Overlay::default(), None, Parts::default()),
    };
    let attachments: Vec<(String, Option<Hash>)> =
        parts.attachments.iter().map(|path| (path.clone(), line.bytes(path))).collect();
    let entry = Entry {
        content_hash: content_hash(&found.type_key, &found.name, &found.directory, &definition_hash, &attachments),
        id: found.id,
        type_key: found.type_key,
        name: found.name,
        directory: found.directory,
        owner: found.owner.and_then(|owner| parse_name(&owner).ok()),
        reason: line.reason,
        definition_hash,
        references: parts.references,
        children: parts.children,
        attachments,
        invalid,
        contents: Contents::Sent,
        definition_id: None,
        own,
        openings,
    };
    Ok((entry, body))
}
