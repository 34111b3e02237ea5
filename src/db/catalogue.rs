//! A domain's resources and references in compact form, loaded plainly: two queries that do not sort.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::domain::closure::Reason;
use crate::domain::graph::{Graph, Key, Link, Loose};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::resource_type::{Kind, ResourceType, Rule};
use crate::domain::type_file::Types;

use super::DbError;
use super::graph::EdgeRow;

/// A resource.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its ID.
    pub id: ResourceId,
    /// Its type.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its directory.
    pub directory: Arc<str>,
    /// User name.
    pub owner: Arc<str>,
    /// Why it comes along.
    pub reason: Reason,
    /// With name, directory and attachments.
    pub content_hash: Hash,
    /// Of its body.
    pub definition_hash: Hash,
    /// Its body.
    pub definition_id: i64,
    /// Its children, `[[key, id], …]` as JSON, where it has any.
    pub children: Option<Box<str>>,
    /// What belongs to this environment alone, as JSON, where there is any.
    pub overlay: Option<Box<str>>,
}

/// Resources, lowest ID first, which gives each its key, and their references.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// By key.
    pub nodes: Vec<Node>,
    /// Between keys.
    pub graph: Graph,
    /// The IDs or names that stand for the keys beyond the nodes.
    pub beyond: Vec<Box<str>>,
}

impl Catalogue {
    /// The key of a resource.
    pub fn key(&self, id: &str) -> Option<Key> {
        self.nodes.binary_search_by(|node| node.id.as_str().cmp(id)).ok().map(|at| at as Key)
    }

    /// The ID or the name that a reference names.
    pub fn target(&self, link: &Link) -> &str {
        match self.nodes.get(link.to as usize) {
            Some(node) if link.by_name => &node.name,
            Some(node) => node.id.as_str(),
            None => self.beyond.get(link.to as usize - self.nodes.len()).map_or("", |text| text),
        }
    }

    /// The rule behind a reference.
    pub fn rule<'a>(&self, types: &'a Types, from: Key, link: &Link) -> Option<&'a Rule> {
        types.get(&self.nodes.get(from as usize)?.kind)?.rules.get(link.rule as usize)
    }
}

/// All of a domain.
pub async fn load(connection: &mut PgConnection, types: &Types, domain_id: i32) -> Result<Catalogue, DbError> {
    let nodes = gather(sqlx::query(NODES).bind(domain_id).fetch(&mut *connection)).await?;
    let mut links = Links::new(types, &nodes);
    let query = "select from_id, ordinal, rule, to_id, to_type, to_name from resource_references where domain_id = $1";
    let mut rows = sqlx::query(query).bind(domain_id).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let Some(from) = links.keys.get(row.try_get::<&str, _>(0)?).copied() else { continue };
        let named = match row.try_get(3)? {
            Some(id) => Named::Id(id),
            None => Named::Name(row.try_get(4)?, row.try_get(5)?),
        };
        links.add(from, row.try_get(1)?, row.try_get(2)?, &named);
    }
    drop(rows);
    let (loose, beyond) = links.finish();
    Ok(Catalogue { graph: Graph::new(nodes.len(), loose), beyond, nodes })
}

/// Some resources of a domain, with references found before, in the order of their definitions.
pub async fn some(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    ids: &[String],
    found: &[EdgeRow],
) -> Result<Catalogue, DbError> {
    let query = format!("{NODES} and r.id = any($2)");
    let nodes = gather(sqlx::query(&query).bind(domain_id).bind(ids).fetch(connection)).await?;
    let keys: HashMap<&str, Key> = nodes.iter().zip(0..).map(|(node, key)| (node.id.as_str(), key)).collect();
    let (mut beyond, mut loose) = (Beyond::new(nodes.len()), Vec::with_capacity(found.len()));
    for (found, ordinal) in found.iter().zip(0..) {
        let Some(from) = keys.get(found.from_id.as_str()).copied() else { continue };
        let by_name = found.to_id.is_none();
        let inside = found.found_id.as_deref().and_then(|id| keys.get(id).copied());
        let named = found.to_id.as_deref().or(found.to_name.as_deref()).unwrap_or_default();
        let to = inside.unwrap_or_else(|| beyond.key(named, by_name));
        let link = Link { to, rule: found.rule as u16, by_name, kind: found.kind(types) };
        loose.push(Loose { from, ordinal, link });
    }
    Ok(Catalogue { graph: Graph::new(nodes.len(), loose), beyond: beyond.texts, nodes })
}

const NODES: &str = "select r.id, r.type, r.name, r.directory, r.owner, r.content_hash, r.definition_hash,
        r.definition_id, nullif(v.children, '[]')::text, v.overlay
     from resources r
     join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision
     where r.domain_id = $1";

/// Reads rows without a string for each word: sqlx's checked rows own theirs.
async fn gather(mut rows: BoxStream<'_, Result<PgRow, sqlx::Error>>) -> Result<Vec<Node>, DbError> {
    let (mut nodes, mut words) = (Vec::new(), Words::default());
    while let Some(row) = rows.try_next().await? {
        nodes.push(Node {
            id: ResourceId::parse(row.try_get(0)?).map_err(|_| DbError::Corrupt("resources.id"))?,
            kind: words.shared(row.try_get(1)?),
            name: row.try_get::<&str, _>(2)?.into(),
            directory: words.shared(row.try_get(3)?),
            owner: words.shared(row.try_get(4)?),
            reason: Reason::Selected,
            content_hash: Hash::from_slice(row.try_get(5)?).ok_or(DbError::Corrupt("resources.content_hash"))?,
            definition_hash: Hash::from_slice(row.try_get(6)?).ok_or(DbError::Corrupt("resources.definition_hash"))?,
            definition_id: row.try_get(7)?,
            children: row.try_get::<Option<&str>, _>(8)?.map(Into::into),
            overlay: row.try_get::<Option<&str>, _>(9)?.map(Into::into),
        });
    }
    nodes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(nodes)
}

/// Words that many resources share, once each.
#[derive(Default)]
struct Words(HashSet<Arc<str>>);

impl Words {
    fn shared(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.0.get(word) {
            return known.clone();
        }
        let new: Arc<str> = word.into();
        self.0.insert(new.clone());
        new
    }
}

/// Keys for what is named beyond the nodes.
pub(super) struct Beyond {
    first: usize,
    pub(super) texts: Vec<Box<str>>,
    known: [HashMap<Box<str>, Key>; 2],
}

impl Beyond {
    pub(super) fn new(first: usize) -> Self {
        Self { first, texts: Vec::new(), known: Default::default() }
    }

    pub(super) fn key(&mut self, text: &str, by_name: bool) -> Key {
        let known = &mut self.known[usize::from(by_name)];
        if let Some(key) = known.get(text) {
            return *key;
        }
        let key = (self.first + self.texts.len()) as Key;
        known.insert(text.into(), key);
        self.texts.push(text.into());
        key
    }
}

/// What a reference names.
enum Named<'r> {
    Id(&'r str),
    /// Type and name.
    Name(&'r str, &'r str),
}

/// References on their way into a graph of all resources.
struct Links<'a> {
    nodes: &'a [Node],
    /// The kinds of the nodes, where they are known.
    kinds: Vec<Option<&'a ResourceType>>,
    keys: HashMap<&'a str, Key>,
    beyond: Beyond,
    loose: Vec<Loose>,
    /// By type and name, those that name so.
    named: HashMap<(Box<str>, Box<str>), Vec<usize>>,
}

impl<'a> Links<'a> {
    fn new(types: &'a Types, nodes: &'a [Node]) -> Self {
        Self {
            nodes,
            kinds: nodes.iter().map(|node| types.get(&node.kind).map(AsRef::as_ref)).collect(),
            keys: nodes.iter().zip(0..).map(|(node, key)| (node.id.as_str(), key)).collect(),
            beyond: Beyond::new(nodes.len()),
            loose: Vec::new(),
            named: HashMap::new(),
        }
    }

    fn add(&mut self, from: Key, ordinal: i32, rule: i16, named: &Named<'_>) {
        let mut link = Link { to: 0, rule: rule as u16, by_name: false, kind: None };
        match named {
            Named::Id(id) => match self.keys.get(id) {
                Some(to) => {
                    link.to = *to;
                    link.kind = self.binds(from, link.rule, *to);
                }
                None => link.to = self.beyond.key(id, false),
            },
            Named::Name(kind, name) => {
                link.by_name = true;
                self.named.entry(((*kind).into(), (*name).into())).or_default().push(self.loose.len());
            }
        }
        self.loose.push(Loose { from, ordinal, link });
    }

    fn binds(&self, from: Key, rule: u16, to: Key) -> Option<Kind> {
        let rule = self.kinds[from as usize]?.rules.get(rule as usize)?;
        let kind = &self.nodes[to as usize].kind;
        rule.to.iter().any(|key| **key == **kind).then_some(rule.kind)
    }

    /// A name means the lowest ID of its type and name.
    fn finish(mut self) -> (Vec<Loose>, Vec<Box<str>>) {
        let wanted = std::mem::take(&mut self.named);
        let mut lowest: HashMap<(&str, &str), Key> = HashMap::new();
        if !wanted.is_empty() {
            let names: HashSet<(&str, &str)> = wanted.keys().map(|(kind, name)| (&**kind, &**name)).collect();
            for (node, key) in self.nodes.iter().zip(0..) {
                if let Some(name) = names.get(&(&*node.kind, &*node.name)) {
                    lowest.entry(*name).or_insert(key);
                }
            }
        }
        for ((kind, name), places) in &wanted {
            let found = lowest.get(&(&**kind, &**name)).copied();
            let to = found.unwrap_or_else(|| self.beyond.key(name, true));
            for place in places {
                let Loose { from, link, .. } = self.loose[*place];
                let kind = found.and_then(|found| self.binds(from, link.rule, found));
                self.loose[*place].link = Link { to, kind, ..link };
            }
        }
        (self.loose, self.beyond.texts)
    }
}
