//! What an export takes along, loaded from the catalogue: level by level while that is small, else
//! with all references of the domain at once. In the caller's snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::PgConnection;

use crate::domain::closure::{Closure, Edge, Reason, dependency_order};
use crate::domain::manifest::{Missing, SharedPart};
use crate::domain::resource::ResourceId;
use crate::domain::resource_type::Kind;
use crate::domain::sight::Sight;
use crate::domain::type_file::Types;

use super::graph::Found;
use super::{DbError, graph, lineage};

/// Past so many levels or resources, all references are loaded at once.
const MAX_LEVELS: usize = 24;
const MAX_RESOURCES: usize = 2_000;

/// A resource of a closure.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its ID.
    pub id: ResourceId,
    /// Its type.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// User name.
    pub owner: String,
    /// Why it comes along.
    pub reason: Reason,
}

/// What an export takes along.
#[derive(Debug)]
pub struct Resolved {
    /// In dependency order.
    pub nodes: Vec<Node>,
    /// Their references, by who refers.
    pub references: HashMap<String, Vec<Found>>,
    /// References whose target is not there.
    pub missing: Vec<Missing>,
    /// Attachment paths without bytes: (resource, path).
    pub missing_attachments: Vec<(String, String)>,
    /// Parts that something outside uses too.
    pub shared_parts: Vec<SharedPart>,
}

/// Follows the references from some resources of a domain.
///
/// # Errors
/// The database fails.
pub async fn resolve(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    selected: &[ResourceId],
    upstream: bool,
) -> Result<Resolved, DbError> {
    let mut closure = Closure::new(selected.iter().cloned(), upstream);
    let all = walk(connection, types, domain_id, &mut closure, upstream).await?;
    let reasons = closure.reasons();
    let ids: Vec<String> = reasons.keys().map(ToString::to_string).collect();

    let rows = sqlx::query!(
        "select id, type, name, directory, owner from resources where domain_id = $1 and id = any($2)",
        domain_id,
        &ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut nodes: HashMap<ResourceId, Node> = HashMap::with_capacity(rows.len());
    for row in rows {
        let id = ResourceId::parse(&row.id).map_err(|_| DbError::Corrupt("resource ID"))?;
        let reason = reasons.get(&id).copied().unwrap_or(Reason::Selected);
        nodes.insert(
            id.clone(),
            Node { id, kind: row.r#type, name: row.name, directory: row.directory, owner: row.owner, reason },
        );
    }
    let shared_parts = match &all {
        Some(all) => parts_used_outside(connection, types, domain_id, all, &ids).await?,
        None => {
            let found = graph::referrers(connection, domain_id, &ids, Some(Kind::Part)).await?;
            parts_used_outside(connection, types, domain_id, &found, &ids).await?
        }
    };
    let found = match all {
        Some(all) => all.into_iter().filter(|found| reasons.contains_key(found.from_id.as_str())).collect(),
        None => graph::references(connection, domain_id, &ids).await?,
    };
    let ranks: HashMap<ResourceId, i64> = nodes
        .values()
        .map(|node| (node.id.clone(), types.get(&node.kind).map_or(i64::MAX, |kind| kind.order)))
        .collect();
    let edges: Vec<Edge> = found.iter().filter_map(|found| found.edge(types)).collect();
    let order = dependency_order(&ranks, &edges);
    let missing =
        found.iter().filter(|found| !found.is_matched(types)).filter_map(|found| missing(found, types)).collect();
    Ok(Resolved {
        nodes: order.into_iter().filter_map(|id| nodes.remove(&id)).collect(),
        missing,
        missing_attachments: missing_attachments(connection, domain_id, &ids).await?,
        shared_parts,
        references: graph::by_source(found),
    })
}

/// Walks to the end; gives all references of the domain, in their order, where it had to load them.
async fn walk(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    closure: &mut Closure,
    upstream: bool,
) -> Result<Option<Vec<Found>>, DbError> {
    let mut frontier = closure.frontier();
    for _ in 0..MAX_LEVELS {
        if frontier.is_empty() {
            return Ok(None);
        }
        if closure.reasons().len() > MAX_RESOURCES {
            break;
        }
        let ids: Vec<String> = frontier.iter().map(ToString::to_string).collect();
        let mut found = graph::references(connection, domain_id, &ids).await?;
        if upstream {
            found.extend(graph::referrers(connection, domain_id, &ids, Some(Kind::Output)).await?);
        }
        let edges: Vec<Edge> = found.iter().filter_map(|found| found.edge(types)).collect();
        closure.feed(&edges);
        frontier = closure.frontier();
    }
    let found = graph::all_references(connection, domain_id).await?;
    let edges: Vec<Edge> = found.iter().filter_map(|found| found.edge(types)).collect();
    let mut around: HashMap<&ResourceId, Vec<&Edge>> = HashMap::new();
    for edge in &edges {
        around.entry(&edge.from).or_default().push(edge);
        if edge.kind == Kind::Output {
            around.entry(&edge.to).or_default().push(edge);
        }
    }
    while !frontier.is_empty() {
        closure.feed(frontier.iter().filter_map(|id| around.get(id)).flatten().copied());
        frontier = closure.frontier();
    }
    Ok(Some(found))
}

fn missing(found: &Found, types: &Types) -> Option<Missing> {
    let rule = types.get(&found.from_type)?.rules.get(found.rule as usize)?;
    Some(Missing {
        resource_id: found.to_id.clone(),
        type_key: rule.to.first()?.clone(),
        name: found.to_name.clone(),
        role: rule.role.clone(),
        kind: rule.kind,
        referenced_by: found.from_id.clone(),
    })
}

async fn missing_attachments(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<(String, String)>, DbError> {
    let found = sqlx::query!(
        "select a.resource_id, a.path from resource_attachments a
         where a.domain_id = $1 and a.resource_id = any($2)
            and not exists (select from attachments b where b.domain_id = $1 and b.path = a.path)
         order by a.resource_id, a.path",
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?.into_iter().map(|row| (row.resource_id, row.path)).collect())
}

/// Of shared parts, those whose other user may be told to somebody.
///
/// # Errors
/// The database fails.
pub async fn told_parts(
    connection: &mut PgConnection,
    domain_id: i32,
    sight: &Sight,
    mut parts: Vec<SharedPart>,
) -> Result<Vec<SharedPart>, DbError> {
    if !sight.all && !parts.is_empty() {
        let users: Vec<String> = parts.iter().map(|part| part.used_by.clone()).collect();
        let nodes = lineage::nodes(connection, domain_id, &users).await?;
        let told = nodes.iter().filter(|node| sight.reads(&node.owner, &node.directory));
        let told: HashSet<&str> = told.map(|node| node.id.as_str()).collect();
        parts.retain(|part| told.contains(part.used_by.as_str()));
    }
    Ok(parts)
}

/// Of some references, those to a part inside the closure from outside it.
async fn parts_used_outside(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    found: &[Found],
    ids: &[String],
) -> Result<Vec<SharedPart>, DbError> {
    let inside: HashSet<&str> = ids.iter().map(String::as_str).collect();
    let is_part = |found: &&Found| found.edge(types).is_some_and(|edge| edge.kind == Kind::Part);
    let leads_in = |found: &&Found| {
        let target = found.found_id.as_deref().unwrap_or_default();
        !inside.contains(found.from_id.as_str()) && inside.contains(target)
    };
    let outside: Vec<&Found> = found.iter().filter(leads_in).filter(is_part).collect();
    let users: Vec<String> = outside.iter().map(|found| found.from_id.clone()).collect();
    let names: BTreeMap<String, (String, String, String)> = graph::nodes(connection, domain_id, &users).await?;
    let mut parts: Vec<SharedPart> = outside
        .iter()
        .filter_map(|found| {
            let used_by_name = names.get(&found.from_id).map(|(_, name, _)| name.clone())?;
            Some(SharedPart { resource_id: found.found_id.clone()?, used_by: found.from_id.clone(), used_by_name })
        })
        .collect();
    parts.sort_by(|a, b| (&a.resource_id, &a.used_by).cmp(&(&b.resource_id, &b.used_by)));
    parts.dedup();
    Ok(parts)
}
