//! What a domain has of the contents that a package may leave out: its own resources, and the results of
//! earlier imports that still stand.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::definition::{Parts, Reference, Target};
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::type_file::Types;

use super::{DbError, graph};

/// Content hashes by resource ID.
pub type Wanted = HashMap<String, Hash>;

/// Which resources of a domain have exactly the wanted content: (ID, type).
pub async fn own(
    connection: &mut PgConnection,
    domain_id: i32,
    wanted: &Wanted,
) -> Result<Vec<(String, String)>, DbError> {
    let ids: Vec<String> = wanted.keys().cloned().collect();
    let found = sqlx::query!(
        "select id, type, content_hash from resources where domain_id = $1 and id = any($2)",
        domain_id,
        &ids
    );
    let found = found.fetch_all(connection).await?;
    let same = found.into_iter().filter(|row| wanted.get(&row.id).is_some_and(|hash| row.content_hash == hash.0));
    Ok(same.map(|row| (row.id, row.r#type)).collect())
}

/// References, children and attachment paths of some resources of a domain, by ID.
pub async fn parts(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    ids: &[String],
) -> Result<HashMap<String, Parts>, DbError> {
    let rows = sqlx::query!(
        r#"select r.id, r.type, v.children::text as "children!", v.attachments::text as "attachments!" from resources r
           join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision
           where r.domain_id = $1 and r.id = any($2)"#,
        domain_id,
        ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let edges = sqlx::query!(
        "select from_id, rule, to_id, to_name from resource_references
         where domain_id = $1 and from_id = any($2) order by from_id, ordinal",
        domain_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut references: HashMap<String, Vec<Reference>> = HashMap::new();
    for edge in edges {
        let target = match (edge.to_id, edge.to_name) {
            (Some(id), _) => {
                Target::Id(ResourceId::parse(&id).map_err(|_| DbError::Corrupt("resource_references.to_id"))?)
            }
            (None, Some(name)) => Target::Name(name),
            (None, None) => continue,
        };
        references.entry(edge.from_id).or_default().push(Reference { rule: edge.rule as u16, target });
    }
    rows.into_iter()
        .map(|row| {
            let resource_type = types.get(&row.r#type);
            let place = |key: &str| {
                resource_type.and_then(|resource_type| resource_type.children.iter().position(|rule| rule.key == key))
            };
            let children: Vec<(String, String)> =
                serde_json::from_str(&row.children).map_err(|_| DbError::Corrupt("resource_versions.children"))?;
            let attachments: Vec<(String, Option<Hash>)> = serde_json::from_str(&row.attachments)
                .map_err(|_| DbError::Corrupt("resource_versions.attachments"))?;
            let parts = Parts {
                references: references.remove(&row.id).unwrap_or_default(),
                children: children.into_iter().filter_map(|(key, child)| Some((place(&key)? as u16, child))).collect(),
                attachments: attachments.into_iter().map(|(path, _)| path).collect(),
            };
            Ok((row.id, parts))
        })
        .collect()
}

/// A live resource of a domain, as far as its body may be that of a package.
#[derive(Debug, Clone)]
pub struct OwnBody {
    /// Its type.
    pub type_key: String,
    /// Of the body.
    pub definition_hash: Hash,
    /// The body.
    pub definition_id: i64,
    /// Of the resource.
    pub content_hash: Hash,
}

/// The bodies of some resources of a domain, by ID.
pub async fn own_bodies(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<HashMap<String, OwnBody>, DbError> {
    let found = sqlx::query!(
        "select id, type, definition_hash, definition_id, content_hash from resources
         where domain_id = $1 and id = any($2)",
        domain_id,
        ids
    );
    let rows = found.fetch_all(connection).await?;
    let own = rows.into_iter().map(|row| {
        let hash = |bytes: &[u8], column| Hash::from_slice(bytes).ok_or(DbError::Corrupt(column));
        let definition_hash = hash(&row.definition_hash, "resources.definition_hash")?;
        let content_hash = hash(&row.content_hash, "resources.content_hash")?;
        let body = OwnBody { type_key: row.r#type, definition_hash, definition_id: row.definition_id, content_hash };
        Ok((row.id, body))
    });
    own.collect()
}

/// A reference as the database keeps it.
pub fn reference(found: &graph::EdgeRow) -> Option<Reference> {
    let target = match (&found.to_id, &found.to_name) {
        (Some(id), _) => Target::Id(ResourceId::parse(id).ok()?),
        (None, Some(name)) => Target::Name(name.clone()),
        (None, None) => return None,
    };
    Some(Reference { rule: found.rule as u16, target })
}

/// What came from an environment with the wanted content, was changed on its way in, and stands as it was
/// written: its compact form as it came, and how it was changed.
pub async fn bases(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    source_environment: &str,
    wanted: &Wanted,
) -> Result<Vec<(Entry, String)>, DbError> {
    let ids: Vec<String> = wanted.keys().cloned().collect();
    let found = sqlx::query!(
        r#"select b.source_id, b.source_hash, b.remapping, b.entry as "entry!", b.type_digest from import_bases b
           join resources r on r.id = b.target_id and r.domain_id = b.domain_id and r.content_hash = b.result_hash
           where b.domain_id = $1 and b.source_environment = $2 and b.source_id = any($3) and b.target_id = b.source_id
             and b.entry is not null"#,
        domain_id,
        source_environment,
        &ids
    );
    let found = found.fetch_all(connection).await?;
    let same = found.into_iter().filter(|row| wanted.get(&row.source_id).is_some_and(|hash| row.source_hash == hash.0));
    let read = same.map(|row| {
        let entry: Entry = serde_json::from_str(&row.entry).map_err(|_| DbError::Corrupt("import_bases.entry"))?;
        // Read with another type file, its rules would be those of another.
        let digest = types.get(&entry.type_key).map(|kind| kind.digest.0.to_vec());
        let valid = digest.is_some() && digest == row.type_digest;
        Ok(valid.then_some((Entry { contents: Contents::Left, ..entry }, row.remapping)))
    });
    read.filter_map(Result::transpose).collect()
}

/// Which attachment bytes a domain has, of some, with their sizes.
pub async fn attachments(
    connection: &mut PgConnection,
    domain_id: i32,
    hashes: &HashSet<Hash>,
) -> Result<HashMap<Hash, u64>, DbError> {
    let wanted: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
    let found = sqlx::query!(
        "select distinct sha256, size from attachments where domain_id = $1 and sha256 = any($2)",
        domain_id,
        &wanted
    );
    let found = found.fetch_all(connection).await?;
    Ok(found.into_iter().filter_map(|row| Some((Hash::from_slice(&row.sha256)?, row.size as u64))).collect())
}

/// The sizes of attachment bytes that any domain has, of some; for bytes that a package brought itself.
pub async fn sizes(connection: &mut PgConnection, hashes: &HashSet<Hash>) -> Result<HashMap<Hash, u64>, DbError> {
    let wanted: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
    let found = sqlx::query!("select distinct sha256, size from attachments where sha256 = any($1)", &wanted);
    let found = found.fetch_all(connection).await?;
    Ok(found.into_iter().filter_map(|row| Some((Hash::from_slice(&row.sha256)?, row.size as u64))).collect())
}

/// A version of a resource, whole.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its ID.
    pub id: String,
    /// Counts up with each change.
    pub revision: i64,
    /// Its type.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// User name.
    pub owner: String,
    /// Canonical JSON text.
    pub body: String,
    /// What belongs to this environment alone.
    pub overlay: Option<String>,
    /// `[[path, sha256 or null]]`.
    pub attachments: String,
    /// When it was written
    pub updated_at: DateTime<Utc>,
    /// and by whom.
    pub updated_by: String,
    /// By which record.
    pub record_id: Option<Uuid>,
    /// 32 bytes.
    pub content_hash: Vec<u8>,
}

/// The current versions of some resources of a domain, by ID.
pub async fn current(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<HashMap<String, Version>, DbError> {
    let found = sqlx::query_as!(
        Version,
        r#"select r.id, v.revision, v.type as kind, v.name, v.directory, r.owner, d.body, v.overlay,
            v.attachments::text as "attachments!", v.updated_at, v.updated_by, v.record_id, v.content_hash
         from resources r
         join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision
         join definitions d on d.id = v.definition_id
         where r.domain_id = $1 and r.id = any($2)"#,
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?.into_iter().map(|version| (version.id.clone(), version)).collect())
}

/// A version of a resource of a domain.
pub async fn version(
    connection: &mut PgConnection,
    domain_id: i32,
    id: &str,
    revision: i64,
) -> Result<Option<Version>, DbError> {
    let found = sqlx::query_as!(
        Version,
        r#"select v.resource_id as id, v.revision, v.type as kind, v.name, v.directory, v.owner, d.body, v.overlay,
            v.attachments::text as "attachments!", v.updated_at, v.updated_by, v.record_id, v.content_hash
         from resource_versions v join definitions d on d.id = v.definition_id
         where v.domain_id = $1 and v.resource_id = $2 and v.revision = $3"#,
        domain_id,
        id,
        revision
    );
    Ok(found.fetch_optional(connection).await?)
}

/// What a record made of a resource: the revision that it wrote last, and the one before it unless it was new.
pub async fn written(
    connection: &mut PgConnection,
    domain_id: i32,
    record_id: Uuid,
    id: &str,
) -> Result<Option<(i64, Option<i64>)>, DbError> {
    let found = sqlx::query!(
        r#"select m.last as "last!", case when m.created then null else (
            select max(b.revision) from resource_versions b
            where b.domain_id = $1 and b.resource_id = $3 and b.revision < m.first) end as before
         from (
            select min(revision) as first, max(revision) as last, bool_or(created) as created from resource_versions
            where record_id = $2 and domain_id = $1 and resource_id = $3 and not undone
         ) m where m.last is not null"#,
        domain_id,
        record_id,
        id
    );
    Ok(found.fetch_optional(connection).await?.map(|row| (row.last, row.before)))
}

/// The children of some resources of a domain, (key, ID) by resource.
pub async fn children(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<HashMap<String, Vec<(String, String)>>, DbError> {
    let found = sqlx::query!(
        r#"select r.id, v.children::text as "children!" from resources r
           join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision
           where r.domain_id = $1 and r.id = any($2) and v.children <> '[]'"#,
        domain_id,
        ids
    );
    let read = |text: &str| serde_json::from_str(text).map_err(|_| DbError::Corrupt("resource_versions.children"));
    found.fetch_all(connection).await?.into_iter().map(|row| Ok((row.id, read(&row.children)?))).collect()
}
