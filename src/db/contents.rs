//! What a domain has of the contents that a package may leave out: its own resources, and the results of
//! earlier imports that still stand.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use crate::domain::closure::Reason;
use crate::domain::definition::{Reference, Target};
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::type_file::Types;

use super::{DbError, exports, graph};

/// Content hashes by resource ID.
pub type Wanted = HashMap<String, Hash>;

/// Which resources of a domain have exactly the wanted content: (ID, type).
///
/// # Errors
/// The database fails.
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

/// The compact form of some resources of a domain.
///
/// # Errors
/// The database fails.
pub async fn entries(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<Entry>, DbError> {
    let rows = sqlx::query!(
        "select id, type, name, directory, content_hash, definition_hash, children from resources
         where domain_id = $1 and id = any($2)",
        domain_id,
        ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut references = graph::by_source(graph::references(connection, domain_id, ids).await?);
    let mut attachments: HashMap<String, Vec<(String, Option<Hash>)>> = HashMap::new();
    for found in exports::attachments(connection, domain_id, ids).await? {
        attachments.entry(found.resource_id).or_default().push((found.path, found.bytes.map(|(hash, _)| hash)));
    }
    let entry = |row: (String, String, String, String, Vec<u8>, Vec<u8>, serde_json::Value)| {
        let (id, type_key, name, directory, content_hash, definition_hash, children) = row;
        let children: Vec<(String, String)> =
            serde_json::from_value(children).map_err(|_| DbError::Corrupt("child"))?;
        let kind = types.get(&type_key);
        let place = |key: &str| kind.and_then(|kind| kind.children.iter().position(|rule| rule.key == key));
        Ok(Entry {
            references: references.remove(&id).unwrap_or_default().iter().filter_map(reference).collect(),
            attachments: attachments.remove(&id).unwrap_or_default(),
            children: children.into_iter().filter_map(|(key, child)| Some((place(&key)? as u16, child))).collect(),
            id: ResourceId::parse(&id).map_err(|_| DbError::Corrupt("resource ID"))?,
            type_key,
            name,
            directory,
            owner: None,
            reason: Reason::Selected,
            content_hash: Hash::from_slice(&content_hash).ok_or(DbError::Corrupt("hash"))?,
            definition_hash: Hash::from_slice(&definition_hash).ok_or(DbError::Corrupt("hash"))?,
            invalid: None,
            contents: Contents::Left,
        })
    };
    let rows = rows
        .into_iter()
        .map(|row| (row.id, row.r#type, row.name, row.directory, row.content_hash, row.definition_hash, row.children));
    rows.map(entry).collect()
}

/// A reference as the database keeps it.
pub fn reference(found: &graph::Found) -> Option<Reference> {
    let target = match (&found.to_id, &found.to_name) {
        (Some(id), _) => Target::Id(ResourceId::parse(id).ok()?),
        (None, Some(name)) => Target::Name(name.clone()),
        (None, None) => return None,
    };
    Some(Reference { rule: found.rule as u16, target })
}

/// What came from an environment with the wanted content, was changed on its way in, and stands as it was
/// written: its compact form as it came, and how it was changed.
///
/// # Errors
/// The database fails.
pub async fn bases(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    wanted: &Wanted,
) -> Result<Vec<(Entry, String)>, DbError> {
    let ids: Vec<String> = wanted.keys().cloned().collect();
    let found = sqlx::query!(
        r#"select b.source_id, b.source_hash, b.remapping, b.entry as "entry!" from import_bases b
           join resources r on r.id = b.target_id and r.domain_id = b.domain_id and r.content_hash = b.result_hash
           where b.domain_id = $1 and b.source_environment = $2 and b.source_id = any($3) and b.target_id = b.source_id
             and b.entry is not null"#,
        domain_id,
        source_environment,
        &ids
    );
    let found = found.fetch_all(connection).await?;
    let same = found.into_iter().filter(|row| wanted.get(&row.source_id).is_some_and(|hash| row.source_hash == hash.0));
    same.map(|row| {
        let entry: Entry = serde_json::from_str(&row.entry).map_err(|_| DbError::Corrupt("entry"))?;
        Ok((Entry { contents: Contents::Left, ..entry }, row.remapping))
    })
    .collect()
}

/// Which attachment bytes a domain has, of some, with their sizes.
///
/// # Errors
/// The database fails.
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
