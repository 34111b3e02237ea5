//! Resources of the target outside the package that use what an import changes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::db::graph::{self, EdgeRow};
use crate::db::{self, DbError, PgConnection};
use crate::domain::impact::{ChildId, used_children};
use crate::domain::import_plan::{Entry, Planned};
use crate::domain::outcome::Method;
use crate::wire::impact::{Affected, Disappearing, Used};

use super::{Import, Planning, PlanningError};

/// What somebody uses of what changes: by its ID, as what.
type Uses = BTreeMap<String, String>;

/// Something that an import changes.
struct Changing<'a> {
    entry: &'a Entry,
    planned: &'a Planned,
    /// Children that the target has and that do not come.
    disappearing: BTreeSet<ChildId>,
}

/// Who outside the package uses what an import changes, and how; by ID.
pub struct Impact<'a> {
    changing: HashMap<String, Changing<'a>>,
    users: BTreeMap<String, Uses>,
}

impl<'a> Impact<'a> {
    /// Looks who it is.
    pub async fn find(
        import: Import<'a>,
        planning: &'a Planning,
        connection: &mut PgConnection,
    ) -> Result<Self, PlanningError> {
        let domain_id = import.record.domain_id;
        let both = import.entries.iter().zip(&planning.plan.items);
        let written: HashSet<&str> = both
            .clone()
            .filter(|(_, planned)| matches!(planned.method, Method::Create | Method::Update | Method::Delete))
            .map(|(_, planned)| planned.new_id.as_str())
            .collect();
        let updated: Vec<(&Entry, &Planned)> =
            both.filter(|(_, planned)| matches!(planned.method, Method::Update | Method::Delete)).collect();
        let ids: Vec<String> = updated.iter().map(|(_, planned)| planned.new_id.to_string()).collect();
        let there = db::contents::children(connection, domain_id, &ids).await?;
        let changing = updated.into_iter().map(|(entry, planned)| {
            let kind = import.app.types.get(&entry.type_key);
            let arriving: HashSet<(&str, &str)> = entry
                .children
                .iter()
                .filter_map(|(rule, id)| Some((kind?.children.get(*rule as usize)?.key.as_str(), id.as_str())))
                .collect();
            let gone = there.get(planned.new_id.as_str()).into_iter().flatten();
            let gone = gone.filter(|(key, id)| {
                planned.method == Method::Delete || !arriving.contains(&(key.as_str(), id.as_str()))
            });
            (planned.new_id.to_string(), Changing { entry, planned, disappearing: gone.cloned().collect() })
        });
        let changing: HashMap<String, Changing<'_>> = changing.collect();
        let mut users: BTreeMap<String, Uses> = BTreeMap::new();
        for edge in graph::referrers(connection, domain_id, &ids, None).await? {
            let role = role(import, &edge);
            let Some(used) = edge.found_id.filter(|_| !written.contains(edge.from_id.as_str())) else { continue };
            users.entry(edge.from_id).or_default().entry(used).or_insert(role);
        }
        Ok(Self { changing, users })
    }

    /// All who are affected, by ID.
    pub fn ids(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    /// What some of them use.
    pub async fn of(
        &self,
        import: Import<'_>,
        connection: &mut PgConnection,
        ids: &[String],
    ) -> Result<Vec<(Affected, String)>, PlanningError> {
        let loses = |id: &String| self.users[id].keys().any(|used| !self.changing[used].disappearing.is_empty());
        let whole: Vec<String> = ids.iter().filter(|id| loses(id)).cloned().collect();
        let versions = db::contents::current(connection, import.record.domain_id, &whole).await?;
        let nodes = db::lineage::nodes(connection, import.record.domain_id, ids).await?;
        let mut affected = Vec::with_capacity(nodes.len());
        for node in nodes {
            let mut definition: Option<Value> = match versions.get(&node.id) {
                Some(version) => {
                    Some(serde_json::from_str(&version.body).map_err(|_| DbError::Corrupt("definitions.body"))?)
                }
                None => None,
            };
            let kind = import.app.types.get(&node.kind);
            let uses = self.users[&node.id].iter().map(|(id, role)| {
                let changing = &self.changing[id];
                let lost = kind
                    .zip(definition.as_mut())
                    .map(|(kind, definition)| used_children(kind, definition, id, &changing.disappearing));
                let lost = lost.unwrap_or_default().into_iter();
                Used {
                    resource_id: id.clone(),
                    kind: changing.entry.type_key.clone(),
                    name: changing.planned.new_name.clone(),
                    role: role.clone(),
                    method: changing.planned.method,
                    disappearing: lost.map(|(key, id)| Disappearing { key, id }).collect(),
                }
            });
            let uses = uses.collect();
            let (directory, owner) = (node.directory.clone(), node.owner.clone());
            affected
                .push((Affected { resource_id: node.id, kind: node.kind, name: node.name, directory, uses }, owner));
        }
        affected.sort_by(|a, b| a.0.resource_id.cmp(&b.0.resource_id));
        Ok(affected)
    }
}

/// As what a reference uses the other.
fn role(import: Import<'_>, edge: &EdgeRow) -> String {
    let rule = import.app.types.get(&edge.from_type).and_then(|kind| kind.rules.get(edge.rule as usize));
    rule.map_or_else(String::new, |rule| rule.role.clone())
}
