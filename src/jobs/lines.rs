//! The lines of a package, written straight from what is at hand.

use std::collections::HashSet;
use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::ser::{SerializeSeq, Serializer};

use crate::db::DbError;
use crate::db::closure::{Node, Resolved};
use crate::db::exports::Named;
use crate::domain::closure::Reason;
use crate::domain::graph::{Key, Link};
use crate::domain::manifest::ValuesLine;
use crate::domain::overlay::Overlay;
use crate::domain::pages::PageLine;
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::type_file::Types;

use super::JobError;

/// A line of the index. References are `[role, kind, id]`, or `[role, kind, null, type, name]` for what is named by
/// name; nobody believes them, nor the children.
#[derive(Serialize)]
struct IndexLine<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    type_key: &'a str,
    name: &'a str,
    directory: &'a str,
    content_hash: Hash,
    definition_hash: Hash,
    reason: Reason,
    owner: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    left_out: bool,
    references: References<'a>,
    children: Vec<String>,
    #[serde(serialize_with = "attachments")]
    attachments: &'a [Named],
}

/// The references of a resource, each `[role, kind, id]` or `[role, kind, null, type, name]`.
struct References<'a> {
    resolved: &'a Resolved,
    types: &'a Types,
    key: Key,
}

impl Serialize for References<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let catalogue = &self.resolved.catalogue;
        let mut list = serializer.serialize_seq(None)?;
        for link in catalogue.graph.links(self.key) {
            // A rule that the type no longer has is none.
            let Some(rule) = catalogue.rule(self.types, self.key, link) else { continue };
            let (role, kind, target): (&str, _, _) = (&rule.role, rule.kind.as_str(), catalogue.target(link));
            match link {
                Link { by_name: false, .. } => list.serialize_element(&(role, kind, target))?,
                _ => list.serialize_element(&(role, kind, (), rule.to.first(), target))?,
            }
        }
        list.end()
    }
}

/// What rests in a column.
fn read<T: DeserializeOwned>(text: &str, column: &'static str) -> io::Result<T> {
    serde_json::from_str(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, DbError::Corrupt(column)))
}

fn attachments<S: Serializer>(named: &[Named], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(named.iter().map(|named| (&named.path, named.bytes.map(|(hash, _)| hash))))
}

/// The attachments of a resource, out of those of all in the order of who names them.
fn attachments_of<'a>(named: &'a [Named], node: &Node) -> &'a [Named] {
    let from = named.partition_point(|named| named.resource_id.as_str() < node.id.as_str());
    let count = named[from..].iter().take_while(|named| named.resource_id == node.id.as_str()).count();
    &named[from..from + count]
}

/// The paths of a resource's attachments with the hashes of their bytes.
pub(super) fn hashes_of(named: &[Named], node: &Node) -> Vec<(String, Option<Hash>)> {
    let named = attachments_of(named, node).iter();
    named.map(|named| (named.path.clone(), named.bytes.map(|(hash, _)| hash))).collect()
}

/// Writes the index; `named`: the attachments, in the order of who names them; `sent`: whose contents come along, in
/// a package that leaves some out; `paged`: who stands in pages that the target has.
pub(super) fn index(
    out: &mut dyn Write,
    resolved: &Resolved,
    named: &[Named],
    types: &Types,
    sent: Option<&HashSet<String>>,
    paged: &HashSet<ResourceId>,
) -> io::Result<()> {
    // The serializer writes word by word.
    let mut line = Vec::new();
    for (node, key) in resolved.nodes().iter().zip(0..).filter(|(node, _)| !paged.contains(&node.id)) {
        line.clear();
        let children: Vec<(String, String)> = match &node.children {
            Some(pairs) => read(pairs, "resource_versions.children")?,
            None => Vec::new(),
        };
        let entry = IndexLine {
            id: node.id.as_str(),
            type_key: &node.kind,
            name: &node.name,
            directory: &node.directory,
            content_hash: node.content_hash,
            definition_hash: node.definition_hash,
            left_out: sent.is_some_and(|sent| !sent.contains(node.id.as_str())),
            reason: node.reason,
            owner: &node.owner,
            references: References { resolved, types, key },
            children: children.into_iter().map(|(_, id)| id).collect(),
            attachments: attachments_of(named, node),
        };
        serde_json::to_writer(&mut line, &entry)?;
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

/// The line of a shard around a definition; its shape is that of [`crate::domain::manifest::ShardLine`].
#[derive(Serialize)]
struct Around<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    type_key: &'a str,
    name: &'a str,
    directory: &'a str,
    owner: &'a str,
}

/// Adds a resource to a shard, with its body as it rests.
pub(super) fn resource(lines: &mut Vec<u8>, node: &Node, body: &str) -> io::Result<()> {
    let around = Around {
        id: node.id.as_str(),
        type_key: &node.kind,
        name: &node.name,
        directory: &node.directory,
        owner: &node.owner,
    };
    serde_json::to_writer(&mut *lines, &around)?;
    lines.pop();
    lines.extend_from_slice(b",\"definition\":");
    lines.extend_from_slice(body.as_bytes());
    lines.extend_from_slice(b"}\n");
    Ok(())
}

/// The line of a resource in a page.
pub(super) fn page_line(node: &Node, named: &[Named]) -> Result<PageLine, JobError> {
    let corrupt = |_| JobError::from(DbError::Corrupt("overlay"));
    let values = node.overlay.as_deref().map(serde_json::from_str::<Overlay>).transpose().map_err(corrupt)?;
    Ok(PageLine {
        id: node.id.clone(),
        type_key: node.kind.to_string(),
        name: node.name.to_string(),
        directory: node.directory.to_string(),
        content_hash: node.content_hash,
        definition_hash: node.definition_hash,
        reason: node.reason,
        owner: Some(node.owner.to_string()),
        attachments: hashes_of(named, node),
        values: values.map(Overlay::travelling).unwrap_or_default(),
    })
}

/// Writes what of each resource belongs to this environment alone.
pub(super) fn values(out: &mut dyn Write, resolved: &Resolved, paged: &HashSet<ResourceId>) -> io::Result<()> {
    for node in resolved.nodes().iter().filter(|node| !paged.contains(&node.id)) {
        let Some(text) = &node.overlay else { continue };
        let values = read::<Overlay>(text, "resource_versions.overlay")?.travelling();
        serde_json::to_writer(&mut *out, &ValuesLine { id: node.id.clone(), values })?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
