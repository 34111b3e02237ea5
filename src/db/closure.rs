//! What an export takes along, loaded from the catalogue: level by level while that is small, else
//! from the whole of a domain in compact form. In the caller's snapshot.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use crate::domain::closure::{Closure, Edge, dependency_order};
use crate::domain::graph::{Graph, Key, Link, Loose};
use crate::domain::manifest::{Missing, SharedPart};
use crate::domain::resource::ResourceId;
use crate::domain::resource_type::Kind;
use crate::domain::sight::Sight;
use crate::domain::type_file::Types;

use super::catalogue::{self, Beyond, Catalogue};
use super::graph::EdgeRow;
use super::{DbError, graph, lineage};

pub use super::catalogue::Node;

/// Past so many levels or resources, the whole domain is loaded.
const MAX_LEVELS: usize = 24;
const MAX_RESOURCES: usize = 2_000;

/// What an export takes along.
#[derive(Debug)]
pub struct Resolved {
    /// In dependency order, which gives each its key, with their references.
    pub catalogue: Catalogue,
    /// References whose target is not there.
    pub missing: Vec<Missing>,
    /// Parts that something outside uses too.
    pub shared_parts: Vec<SharedPart>,
    /// Selected resources that are not there.
    pub gone: Vec<ResourceId>,
}

impl Resolved {
    /// What comes along, in dependency order.
    pub fn nodes(&self) -> &[Node] {
        &self.catalogue.nodes
    }
}

/// Follows the references from some resources of a domain.
pub async fn resolve(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    selected: &[ResourceId],
    upstream: bool,
) -> Result<Resolved, DbError> {
    if let Some(ids) = walk(connection, types, domain_id, selected, upstream).await? {
        let found = graph::references(connection, domain_id, &ids).await?;
        let catalogue = catalogue::some(connection, types, domain_id, &ids, &found).await?;
        let keys = selected.iter().filter_map(|id| catalogue.key(id.as_str()));
        let closure = Closure::within(&catalogue.graph, keys, upstream);
        let shared_parts = parts_used_outside(connection, types, domain_id, &ids).await?;
        return Ok(resolved(types, catalogue, &closure, selected, shared_parts));
    }
    let catalogue = catalogue::load(connection, types, domain_id).await?;
    let keys = selected.iter().filter_map(|id| catalogue.key(id.as_str()));
    let closure = Closure::within(&catalogue.graph, keys, upstream);
    let shared_parts = parts_used_outside_of(&catalogue, &closure);
    Ok(resolved(types, catalogue, &closure, selected, shared_parts))
}

/// Walks level by level; gives the IDs of the closure, or none where it turns out large.
async fn walk(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    selected: &[ResourceId],
    upstream: bool,
) -> Result<Option<Vec<String>>, DbError> {
    if selected.len() > MAX_RESOURCES {
        return Ok(None);
    }
    let mut met = Met::default();
    let keys: Vec<Key> = selected.iter().map(|id| met.key(id.as_str())).collect();
    let mut closure = Closure::new(keys, upstream);
    for _ in 0..MAX_LEVELS {
        let frontier = closure.frontier();
        if frontier.is_empty() {
            let ids = met.ids.into_iter().zip(0..).filter(|(_, key)| closure.reason(*key).is_some());
            return Ok(Some(ids.map(|(id, _)| id).collect()));
        }
        if closure.count() > MAX_RESOURCES {
            break;
        }
        let ids: Vec<String> = frontier.iter().map(|key| met.ids[*key as usize].clone()).collect();
        let mut found = graph::references(connection, domain_id, &ids).await?;
        if upstream {
            found.extend(graph::referrers(connection, domain_id, &ids, Some(Kind::Output)).await?);
        }
        closure.feed(found.iter().filter_map(|found| met.edge(found, types)));
    }
    Ok(None)
}

/// Keys of what a walk has met.
#[derive(Default)]
struct Met {
    ids: Vec<String>,
    keys: HashMap<String, Key>,
}

impl Met {
    fn key(&mut self, id: &str) -> Key {
        if let Some(key) = self.keys.get(id) {
            return *key;
        }
        let key = self.ids.len() as Key;
        self.keys.insert(id.to_owned(), key);
        self.ids.push(id.to_owned());
        key
    }

    fn edge(&mut self, found: &EdgeRow, types: &Types) -> Option<Edge> {
        let kind = found.kind(types)?;
        Some(Edge { from: self.key(&found.from_id), to: self.key(found.found_id.as_deref()?), kind })
    }
}

/// Keeps of a catalogue what is in a closure, in dependency order.
fn resolved(
    types: &Types,
    catalogue: Catalogue,
    closure: &Closure,
    selected: &[ResourceId],
    shared_parts: Vec<SharedPart>,
) -> Resolved {
    let gone = selected.iter().filter(|id| catalogue.key(id.as_str()).is_none()).cloned().collect();
    let missing = missing(types, &catalogue, closure);
    let rank = |node: &Node| types.get(&node.kind).map_or(i64::MAX, |kind| kind.order);
    let wanted = catalogue.nodes.iter().zip(0..);
    let ranks: Vec<Option<i64>> = wanted.map(|(node, key)| closure.reason(key).map(|_| rank(node))).collect();
    let order = dependency_order(&catalogue.graph, &ranks);
    Resolved { catalogue: reordered(catalogue, closure, &order), missing, shared_parts, gone }
}

fn reordered(catalogue: Catalogue, closure: &Closure, order: &[Key]) -> Catalogue {
    const OUTSIDE: u32 = u32::MAX;
    let mut places = vec![OUTSIDE; catalogue.nodes.len()];
    for (key, place) in order.iter().zip(0..) {
        places[*key as usize] = place;
    }
    let mut beyond = Beyond::new(order.len());
    let mut loose = Vec::with_capacity(catalogue.graph.links_len());
    for (key, from) in order.iter().zip(0..) {
        for (link, ordinal) in catalogue.graph.links(*key).iter().zip(0..) {
            let to = match places.get(link.to as usize) {
                Some(place) if *place != OUTSIDE => *place,
                _ => beyond.key(catalogue.target(link), link.by_name),
            };
            loose.push(Loose { from, ordinal, link: Link { to, ..*link } });
        }
    }
    let Catalogue { mut nodes, .. } = catalogue;
    for (node, key) in nodes.iter_mut().zip(0..) {
        node.reason = closure.reason(key).unwrap_or(node.reason);
    }
    let mut kept = places.iter();
    nodes.retain(|_| kept.next().is_some_and(|place| *place != OUTSIDE));
    places.retain(|place| *place != OUTSIDE);
    // In place: two copies of a million would not fit.
    for at in 0..nodes.len() {
        while places[at] as usize != at {
            let there = places[at] as usize;
            nodes.swap(at, there);
            places.swap(at, there);
        }
    }
    Catalogue { graph: Graph::new(nodes.len(), loose), beyond: beyond.texts, nodes }
}

fn missing(types: &Types, catalogue: &Catalogue, closure: &Closure) -> Vec<Missing> {
    let lost = catalogue.graph.all().filter(|(from, link)| link.kind.is_none() && closure.reason(*from).is_some());
    let missing = lost.filter_map(|(from, link)| {
        let rule = catalogue.rule(types, from, link)?;
        let target = catalogue.target(link).to_owned();
        let (resource_id, name) = if link.by_name { (None, Some(target)) } else { (Some(target), None) };
        Some(Missing {
            resource_id,
            type_key: rule.to.first()?.clone(),
            name,
            role: rule.role.clone(),
            kind: rule.kind,
            referenced_by: catalogue.nodes[from as usize].id.to_string(),
        })
    });
    missing.collect()
}

/// Of shared parts, those whose other user may be told to somebody.
pub async fn visible_parts(
    connection: &mut PgConnection,
    domain_id: i32,
    sight: &Sight,
    mut parts: Vec<SharedPart>,
) -> Result<Vec<SharedPart>, DbError> {
    if !sight.all && !parts.is_empty() {
        let users: Vec<String> = parts.iter().map(|part| part.used_by.clone()).collect();
        let nodes = lineage::nodes(connection, domain_id, &users).await?;
        let visible = nodes.iter().filter(|node| sight.reads(&node.owner, &node.directory));
        let visible: HashSet<&str> = visible.map(|node| node.id.as_str()).collect();
        parts.retain(|part| visible.contains(part.used_by.as_str()));
    }
    Ok(parts)
}

/// The parts inside a closure that something outside it uses.
async fn parts_used_outside(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<SharedPart>, DbError> {
    let inside: HashSet<&str> = ids.iter().map(String::as_str).collect();
    let mut found = graph::referrers(connection, domain_id, ids, Some(Kind::Part)).await?;
    found.retain(|found| !inside.contains(found.from_id.as_str()) && found.kind(types) == Some(Kind::Part));
    let users: Vec<String> = found.iter().map(|found| found.from_id.clone()).collect();
    let users = lineage::nodes(connection, domain_id, &users).await?;
    let names: HashMap<&str, &str> = users.iter().map(|node| (node.id.as_str(), node.name.as_str())).collect();
    let part = |found: EdgeRow| {
        let used_by_name = (*names.get(found.from_id.as_str())?).to_owned();
        Some(SharedPart { resource_id: found.found_id?, used_by: found.from_id, used_by_name })
    };
    Ok(sorted(found.into_iter().filter_map(part).collect()))
}

/// The same, where the whole domain is at hand.
fn parts_used_outside_of(catalogue: &Catalogue, closure: &Closure) -> Vec<SharedPart> {
    let leads_in = |from: Key, link: &Link| {
        link.kind == Some(Kind::Part) && closure.reason(from).is_none() && closure.reason(link.to).is_some()
    };
    let part = |(from, link): (Key, &Link)| SharedPart {
        resource_id: catalogue.nodes[link.to as usize].id.to_string(),
        used_by: catalogue.nodes[from as usize].id.to_string(),
        used_by_name: catalogue.nodes[from as usize].name.to_string(),
    };
    sorted(catalogue.graph.all().filter(|(from, link)| leads_in(*from, link)).map(part).collect())
}

fn sorted(mut parts: Vec<SharedPart>) -> Vec<SharedPart> {
    parts.sort_by(|a, b| (&a.resource_id, &a.used_by).cmp(&(&b.resource_id, &b.used_by)));
    parts.dedup();
    parts
}
