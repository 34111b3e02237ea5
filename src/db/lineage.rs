//! Lineage: what a resource needs, or what needs it, step by step. An output is needed by nobody and
//! made by somebody, so upstream of a dataset stands the ETL or task that writes it.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;

use crate::domain::graph::{Key, Link, Referrers};
use crate::domain::resource_type::Kind;
use crate::domain::sight::Sight;
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

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To what is needed.
    Upstream,
    /// To what needs it.
    Downstream,
}

/// A walk, and how far it goes.
#[derive(Debug)]
pub struct Walk<'a> {
    /// What the references mean.
    pub types: &'a Types,
    /// Where.
    pub domain_id: i32,
    /// For whom: it ends at what he may not read, so that nothing beyond tells of it.
    pub sight: &'a Sight,
    /// Which way.
    pub direction: Direction,
    /// At most so many steps,
    pub depth: u32,
    /// and so many resources.
    pub limit: usize,
}

impl Walk<'_> {
    /// Walks from a resource.
    pub async fn from(&self, connection: &mut PgConnection, start: &str) -> Result<Walked, DbError> {
        let depths = BTreeMap::from([(start.to_owned(), 0)]);
        let mut walked = Walked { depths, edges: Vec::new(), truncated: false };
        let mut frontier = HashSet::from([start.to_owned()]);
        let mut all: Option<(Catalogue, Referrers)> = None;
        let mut at = 0;
        while !frontier.is_empty() && at < self.depth {
            if at == MAX_STEPS && all.is_none() {
                let catalogue = catalogue::load(connection, self.types, self.domain_id).await?;
                let referrers = catalogue.graph.referrers(|_, link| link.kind.is_some());
                all = Some((catalogue, referrers));
            }
            at += 1;
            let mut steps = match &all {
                Some((catalogue, referrers)) => {
                    let keys = frontier.iter().filter_map(|id| catalogue.key(id));
                    keys.flat_map(|key| around(catalogue, referrers, self.types, key)).collect()
                }
                None => self.around(connection, &frontier).await?,
            };
            steps.retain(|step| frontier.contains(self.ends(step).0));
            let hidden = self.hidden(connection, all.as_ref().map(|(catalogue, _)| catalogue), &steps, &walked).await?;
            let mut next = HashSet::new();
            for step in steps {
                let far = self.ends(&step).1;
                if hidden.contains(far) {
                    continue;
                }
                if !walked.depths.contains_key(far) {
                    if walked.depths.len() >= self.limit {
                        walked.truncated = true;
                        continue;
                    }
                    walked.depths.insert(far.clone(), at);
                    next.insert(far.clone());
                }
                walked.edges.push(step);
            }
            frontier = next;
        }
        walked.edges.sort();
        walked.edges.dedup();
        Ok(walked)
    }

    /// The near end of a step and the far one. Data flows from an output's writer to it, and from what is used to
    /// its user.
    fn ends<'s>(&self, step: &'s Step) -> (&'s String, &'s String) {
        let (up, down) = if step.kind == Kind::Output { (&step.from, &step.to) } else { (&step.to, &step.from) };
        match self.direction {
            Direction::Downstream => (up, down),
            Direction::Upstream => (down, up),
        }
    }

    /// All references of some resources, and all to them.
    async fn around(&self, connection: &mut PgConnection, frontier: &HashSet<String>) -> Result<Vec<Step>, DbError> {
        let ids: Vec<String> = frontier.iter().cloned().collect();
        let mut found = graph::references(connection, self.domain_id, &ids).await?;
        found.extend(graph::referrers(connection, self.domain_id, &ids, None).await?);
        Ok(found.iter().filter_map(|found| step(found, self.types)).collect())
    }

    /// Those whom steps would come to first, and may not.
    async fn hidden(
        &self,
        connection: &mut PgConnection,
        all: Option<&Catalogue>,
        steps: &[Step],
        walked: &Walked,
    ) -> Result<HashSet<String>, DbError> {
        if self.sight.all {
            return Ok(HashSet::new());
        }
        let far = steps.iter().map(|step| self.ends(step).1).filter(|far| !walked.depths.contains_key(*far));
        let far: HashSet<String> = far.cloned().collect();
        let reads = |owner: &str, directory: &str| self.sight.reads(owner, directory);
        if let Some(catalogue) = all {
            let node = |id: &String| catalogue.key(id).map(|key| &catalogue.nodes[key as usize]);
            let open = |id: &String| node(id).is_some_and(|node| reads(&node.owner, &node.directory));
            return Ok(far.into_iter().filter(|id| !open(id)).collect());
        }
        let ids: Vec<String> = far.iter().cloned().collect();
        let open = nodes(connection, self.domain_id, &ids).await?;
        let open = open.into_iter().filter(|node| reads(&node.owner, &node.directory)).map(|node| node.id);
        let open: HashSet<String> = open.collect();
        Ok(far.into_iter().filter(|id| !open.contains(id)).collect())
    }
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
