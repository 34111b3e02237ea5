//! The graph of references: edges for a closure, lineage, dependents, circles.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use crate::domain::closure::on_cycles;
use crate::domain::resource::ResourceId;
use crate::domain::resource_type::Kind;
use crate::domain::type_file::Types;

use super::DbError;

/// A reference with what it points to, if that is there.
#[derive(Debug, Clone)]
pub struct EdgeRow {
    /// Who refers.
    pub from_id: String,
    /// His type.
    pub from_type: String,
    /// Which rule of his type.
    pub rule: i16,
    /// The ID that the definition names.
    pub to_id: Option<String>,
    /// The name that it names instead.
    pub to_name: Option<String>,
    /// What is there: ID,
    pub found_id: Option<String>,
    /// type,
    pub found_type: Option<String>,
    /// name,
    pub found_name: Option<String>,
    /// owner
    pub found_owner: Option<String>,
    /// and directory.
    pub found_directory: Option<String>,
}

impl EdgeRow {
    /// It points to something of a type that it may point to.
    pub fn is_matched(&self, types: &Types) -> bool {
        let rule = types.get(&self.from_type).and_then(|kind| kind.rules.get(self.rule as usize));
        match (&self.found_type, rule) {
            (Some(found), Some(rule)) => rule.to.contains(found),
            _ => false,
        }
    }

    /// How it binds, if it is matched.
    pub fn kind(&self, types: &Types) -> Option<Kind> {
        let rule = types.get(&self.from_type)?.rules.get(self.rule as usize)?;
        self.is_matched(types).then_some(rule.kind)
    }
}

/// The references of some resources of a domain, in the order of their definitions.
pub async fn references(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<EdgeRow>, DbError> {
    let found = sqlx::query_as!(
        EdgeRow,
        r#"select e.from_id, f.type as from_type, e.rule, e.to_id, e.to_name,
            coalesce(r.id, n.id) as found_id, coalesce(r.type, n.type) as found_type, coalesce(r.name, n.name) as found_name,
            coalesce(r.owner, n.owner) as found_owner, coalesce(r.directory, n.directory) as found_directory
         from resource_references e
         join resources f on f.id = e.from_id and f.domain_id = $1
         left join resources r on r.id = e.to_id and r.domain_id = $1
         left join lateral (
            select id, type, name, owner, directory from resources
            where e.to_id is null and domain_id = $1 and type = e.to_type and name = e.to_name order by id limit 1
         ) n on true
         where e.from_id = any($2) order by e.from_id, e.ordinal"#,
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?)
}

/// The references of a given kind (or any) that lead to some resources of a domain.
pub async fn referrers(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
    kind: Option<Kind>,
) -> Result<Vec<EdgeRow>, DbError> {
    let found = sqlx::query_as!(
        EdgeRow,
        r#"select e.from_id as "from_id!", f.type as "from_type!", e.rule as "rule!", e.to_id, e.to_name,
            r.id as "found_id?", r.type as "found_type?", r.name as "found_name?", r.owner as "found_owner?",
            r.directory as "found_directory?"
         from resources r
         join lateral (
            select from_id, rule, to_id, to_name, kind, ordinal from resource_references where to_id = r.id and domain_id = $1
            union all
            select from_id, rule, to_id, to_name, kind, ordinal from resource_references
            where to_id is null and domain_id = $1 and to_type = r.type and to_name = r.name
         ) e on $3::text is null or e.kind = $3
         join resources f on f.id = e.from_id and f.domain_id = $1
         where r.domain_id = $1 and r.id = any($2) order by e.from_id, e.ordinal"#,
        domain_id,
        ids,
        kind.map(Kind::as_str)
    );
    Ok(found.fetch_all(connection).await?)
}

/// A reference by name that more than one resource answers to.
#[derive(Debug)]
pub struct Ambiguous {
    /// Who refers.
    pub from_id: String,
    /// His type.
    pub from_type: String,
    /// Which rule of his type.
    pub rule: i16,
    /// The type,
    pub kind: String,
    /// and the name that it names.
    pub name: String,
    /// Who answers to them, lowest ID first.
    pub candidates: Vec<String>,
}

/// The references by name of some resources of a domain that more than one resource answers to.
pub async fn ambiguous(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<Ambiguous>, DbError> {
    let found = sqlx::query_as!(
        Ambiguous,
        r#"select e.from_id, f.type as from_type, e.rule, r.type as kind, r.name, array_agg(distinct r.id) as "candidates!"
           from resource_references e
           join resources f on f.id = e.from_id and f.domain_id = $1
           join resources r on r.domain_id = $1 and r.type = e.to_type and r.name = e.to_name
           where e.domain_id = $1 and e.to_id is null and e.from_id = any($2)
           group by e.from_id, f.type, e.rule, r.type, r.name having count(distinct r.id) > 1
           order by e.from_id, e.rule, r.name"#,
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?)
}

/// Acyclic references of a domain that can be reached from some resources.
pub async fn acyclic_edges(
    connection: &mut PgConnection,
    domain_id: i32,
    from: &[String],
) -> Result<Vec<(ResourceId, ResourceId)>, DbError> {
    let found = sqlx::query!(
        r#"with recursive reached (id) as (
            select unnest($2::text[]) collate "C"
            union
            select e.to_id from resource_references e join reached on e.from_id = reached.id
            where e.acyclic and e.domain_id = $1 and e.to_id is not null
         )
         select distinct e.from_id, e.to_id as "to_id!" from resource_references e join reached on e.from_id = reached.id
         where e.acyclic and e.domain_id = $1 and e.to_id is not null"#,
        domain_id,
        from
    )
    .fetch_all(connection)
    .await?;
    let parse = |row: (String, String)| Some((ResourceId::parse(&row.0).ok()?, ResourceId::parse(&row.1).ok()?));
    Ok(found.into_iter().filter_map(|row| parse((row.from_id, row.to_id))).collect())
}

/// Circles of acyclic references that what is staged, and merged already, would close.
#[derive(Debug, Default)]
pub struct Circles {
    /// The staged resources on one, with their places.
    pub staged: Vec<(String, i32)>,
    /// All resources on one.
    pub all: HashSet<ResourceId>,
}

/// Looks for circles through what is staged and merged already.
pub async fn staged_circles(connection: &mut PgConnection, domain_id: i32) -> Result<Circles, DbError> {
    let mut staged: Vec<(String, i32)> = sqlx::query_as(
        "select distinct s.id, s.ordinal from staged_references e join staged_resources s on s.id = e.from_id where e.acyclic",
    )
    .fetch_all(&mut *connection)
    .await?;
    if staged.is_empty() {
        return Ok(Circles::default());
    }
    let from: Vec<String> = staged.iter().map(|(id, _)| id.clone()).collect();
    let all = on_cycles(&acyclic_edges(connection, domain_id, &from).await?);
    staged.retain(|(id, _)| all.contains(id.as_str()));
    Ok(Circles { staged, all })
}

/// Groups references by who refers.
pub fn by_source(found: Vec<EdgeRow>) -> HashMap<String, Vec<EdgeRow>> {
    let mut grouped: HashMap<String, Vec<EdgeRow>> = HashMap::new();
    for one in found {
        grouped.entry(one.from_id.clone()).or_default().push(one);
    }
    grouped
}
