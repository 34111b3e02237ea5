//! Lineage: what a resource needs, or what needs it, step by step. An output is needed by nobody and
//! made by somebody, so upstream of a dataset stands the ETL or task that writes it.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::domain::graph::{Key, Link, Referrers};
use crate::domain::resource_type::Kind;
use crate::domain::type_file::Types;

use super::catalogue::{self, Catalogue};
use super::graph::EdgeRow;
use super::{DbError, graph};

/// Past so many steps all references are loaded at once.
const MAX_STEPS: u32 = 24;

/// What a walk found.
#[derive(Debug)]
pub struct Walked {
    /// Each resource with its steps from the start.
    pub depths: BTreeMap<String, u32>,
    /// References met.
    pub edges: Vec<Step>,
    /// There is more.
    pub truncated: bool,
}

/// A reference of a lineage, as its definition says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Who refers.
    pub from: String,
    /// To what.
    pub to: String,
    /// As shown.
    pub role: String,
    /// How it binds.
    pub kind: Kind,
}

/// Walks from a resource; at most `depth` steps and `limit` resources.
pub async fn walk(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    start: &str,
    downstream: bool,
    depth: u32,
    limit: usize,
) -> Result<Walked, DbError> {
    let mut walked = Walked { depths: BTreeMap::from([(start.to_owned(), 0)]), edges: Vec::new(), truncated: false };
    let mut frontier = vec![start.to_owned()];
    let mut all: Option<(Catalogue, Referrers)> = None;
    let mut at = 0;
    while !frontier.is_empty() && at < depth {
        if at == MAX_STEPS && all.is_none() {
            let catalogue = catalogue::load(connection, types, domain_id).await?;
            let referrers = catalogue.graph.referrers(|_, link| link.kind.is_some());
            all = Some((catalogue, referrers));
        }
        let steps: Vec<Step> = match &all {
            Some((catalogue, referrers)) => {
                let keys = frontier.iter().filter_map(|id| catalogue.key(id));
                keys.flat_map(|key| around(catalogue, referrers, types, key)).collect()
            }
            None => {
                let mut found = graph::references(connection, domain_id, &frontier).await?;
                found.extend(graph::referrers(connection, domain_id, &frontier, None).await?);
                found.iter().filter_map(|found| step(found, types)).collect()
            }
        };
        let here: std::collections::HashSet<&str> = frontier.iter().map(String::as_str).collect();
        let mut next = Vec::new();
        at += 1;
        for step in steps {
            // Data flows from an output's writer to it, and from what is used to its user.
            let (up, down) = if step.kind == Kind::Output { (&step.from, &step.to) } else { (&step.to, &step.from) };
            let (near, far) = if downstream { (up, down) } else { (down, up) };
            if !here.contains(near.as_str()) {
                continue;
            }
            if !walked.depths.contains_key(far) {
                if walked.depths.len() >= limit {
                    walked.truncated = true;
                    continue;
                }
                walked.depths.insert(far.clone(), at);
                next.push(far.clone());
            }
            walked.edges.push(step);
        }
        frontier = next;
    }
    walked.edges.sort();
    walked.edges.dedup();
    Ok(walked)
}

fn step(found: &EdgeRow, types: &Types) -> Option<Step> {
    let kind = found.kind(types)?;
    let role = types.get(&found.from_type)?.rules.get(found.rule as usize)?.role.clone();
    Some(Step { from: found.from_id.clone(), to: found.found_id.clone()?, role, kind })
}

/// All references of a resource, and all to it.
fn around(catalogue: &Catalogue, referrers: &Referrers, types: &Types, key: Key) -> Vec<Step> {
    let step = |(from, link): (Key, &Link)| {
        let id = |key: Key| catalogue.nodes[key as usize].id.to_string();
        let role = catalogue.rule(types, from, link)?.role.clone();
        Some(Step { kind: link.kind?, from: id(from), to: id(link.to), role })
    };
    let out = catalogue.graph.links(key).iter().map(|link| (key, link));
    let to_it = |from: &Key| {
        let from = *from;
        catalogue.graph.links(from).iter().filter(move |link| link.to == key).map(move |link| (from, link))
    };
    let mut users = referrers.of(key).to_vec();
    users.dedup();
    out.chain(users.iter().flat_map(to_it)).filter_map(step).collect()
}

/// A resource of a lineage.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its ID.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// User name.
    pub owner: String,
}

/// The resources of a lineage.
pub async fn nodes(connection: &mut PgConnection, domain_id: i32, ids: &[String]) -> Result<Vec<Node>, DbError> {
    let found = sqlx::query_as!(
        Node,
        "select id, type as kind, name, directory, owner from resources where domain_id = $1 and id = any($2)",
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?)
}
