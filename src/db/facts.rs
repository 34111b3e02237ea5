//! What a plan needs to know of the target, loaded set by set.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use crate::domain::definition::Target;
use crate::domain::import_plan::{
    Base, Entry, Existing, Facts, IdMode, NameKey, OnNameClash, Options, Resolution, wanted_names,
};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::resource_type::UniqueName;
use crate::domain::type_file::Types;

use super::{DbError, attachment_bases, attachments, environment, graph, tombstones};

/// Loads the facts for a plan of some entries from one source environment into one domain.
pub async fn load(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    source_environment: &str,
    entries: &[Entry],
    options: &Options,
) -> Result<Facts, DbError> {
    let own: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
    let mut ids: HashSet<&str> = own.iter().map(String::as_str).collect();
    let mut acyclic_from = Vec::new();
    let mut by_name: HashSet<(&str, &str)> = HashSet::new();
    for entry in entries {
        for found in &entry.references {
            let rule = types.get(&entry.type_key).and_then(|kind| kind.rules.get(found.rule as usize));
            match (&found.target, rule) {
                (Target::Id(id), rule) => {
                    ids.insert(id.as_str());
                    if rule.is_some_and(|rule| rule.acyclic) {
                        acyclic_from.push(id.to_string());
                    }
                }
                (Target::Name(name), Some(rule)) => {
                    by_name.extend(rule.to.iter().map(|key| (key.as_str(), name.as_str())))
                }
                (Target::Name(_), None) => {}
            }
        }
    }
    for resolution in options.resolutions.values() {
        if let Resolution::Map(target) = resolution {
            ids.insert(target.as_str());
            acyclic_from.push(target.to_string());
        }
    }
    let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
    let mut facts = Facts { resources: resources(connection, domain_id, &ids).await?, ..Facts::default() };
    let wanted = wanted_names(entries, types, options, &facts.resources);
    facts.names = names(connection, domain_id, &wanted, options.on_name_clash).await?;
    facts.named = named(connection, types, domain_id, &by_name).await?;
    if options.ids == IdMode::Keep {
        facts.bases = bases(connection, domain_id, source_environment, &own).await?;
        let deleted = tombstones::by_ids(connection, domain_id, &own).await?;
        facts.tombstones = deleted.iter().filter_map(|id| ResourceId::parse(id).ok()).collect();
        let children = tombstones::children_of(connection, domain_id, &own).await?;
        facts.child_tombstones = children
            .into_iter()
            .filter_map(|(id, key, child)| Some((ResourceId::parse(&id).ok()?, key, child)))
            .collect();
    }
    let paths: Vec<String> =
        entries.iter().flat_map(|entry| &entry.attachments).map(|(path, _)| path.clone()).collect();
    if !paths.is_empty() {
        let found = attachments::by_paths(connection, domain_id, &paths).await?;
        facts.attachments = found.into_iter().map(|(path, found)| (path, found.sha256)).collect();
        if options.ids == IdMode::Keep {
            facts.attachment_bases =
                attachment_bases::by_paths(connection, domain_id, source_environment, &paths).await?;
            let differs = |(path, bytes): &&(String, Option<Hash>)| {
                bytes.is_some_and(|bytes| facts.attachments.get(path).is_some_and(|there| *there != bytes))
            };
            let brought = entries.iter().flat_map(|entry| &entry.attachments).filter(differs);
            let replaced: HashSet<String> = brought.map(|(path, _)| path.clone()).collect();
            let replaced: Vec<String> = replaced.into_iter().collect();
            facts.sharers = attachment_bases::sharers(connection, domain_id, &replaced, &own).await?;
        }
    }
    if !acyclic_from.is_empty() {
        facts.acyclic = graph::acyclic_edges(connection, domain_id, &acyclic_from).await?;
    }
    facts.disabled = environment::disabled_features(connection).await?;
    facts.license = environment::license(connection).await?;
    Ok(facts)
}

async fn resources(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<HashMap<ResourceId, Existing>, DbError> {
    let found = sqlx::query!(
        r#"select r.id, r.domain_id = $1 as "here!", r.type, r.name, r.directory, r.content_hash, r.revision, r.parts_hash,
              r.definition_hash, r.definition_id
           from resources r where r.id = any($2)"#,
        domain_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    found
        .into_iter()
        .map(|row| {
            let id = ResourceId::parse(&row.id).map_err(|_| DbError::Corrupt("resources.id"))?;
            let hash = |bytes: &[u8], column| Hash::from_slice(bytes).ok_or(DbError::Corrupt(column));
            Ok((
                id,
                Existing {
                    here: row.here,
                    type_key: row.r#type,
                    name: row.name,
                    directory: row.directory,
                    content_hash: hash(&row.content_hash, "resources.content_hash")?,
                    revision: row.revision,
                    parts_hash: hash(&row.parts_hash, "resources.parts_hash")?,
                    definition_hash: hash(&row.definition_hash, "resources.definition_hash")?,
                    definition_id: row.definition_id,
                },
            ))
        })
        .collect()
}

/// Holders of some names; where clashes are renamed, also of those that a rename must not choose: names that go on
/// with ` (`, and for long ones, which a rename shortens, all that begin alike.
async fn names(
    connection: &mut PgConnection,
    domain_id: i32,
    keys: &[NameKey],
    on_clash: OnNameClash,
) -> Result<HashMap<NameKey, ResourceId>, DbError> {
    let types: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
    let scopes: Vec<String> = keys.iter().map(|key| key.1.clone()).collect();
    let names: Vec<String> = keys.iter().map(|key| key.2.clone()).collect();
    let found = sqlx::query!(
        r#"select r.type, r.name_scope as "scope!", r.name, r.id
           from unnest($2::text[], $3::text[], $4::text[]) as wanted(type, scope, name)
           join resources r on r.domain_id = $1 and r.type = wanted.type and r.name_scope = wanted.scope and r.name = wanted.name"#,
        domain_id,
        &types,
        &scopes,
        &names
    )
    .fetch_all(&mut *connection)
    .await?;
    let parse = |id: &str| ResourceId::parse(id).map_err(|_| DbError::Corrupt("resources.id"));
    let mut holders = HashMap::with_capacity(found.len());
    for row in found {
        holders.insert((row.r#type, row.scope, row.name), parse(&row.id)?);
    }
    if on_clash == OnNameClash::Rename {
        let (low, high): (Vec<String>, Vec<String>) = names.iter().map(|name| alike_range(name)).unzip();
        let found = sqlx::query!(
            r#"select r.type, r.name_scope as "scope!", r.name, r.id
               from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as wanted(type, scope, low, high)
               join resources r on r.domain_id = $1 and r.type = wanted.type and r.name_scope = wanted.scope
                and r.name >= wanted.low and r.name < wanted.high"#,
            domain_id,
            &types,
            &scopes,
            &low,
            &high
        )
        .fetch_all(connection)
        .await?;
        for row in found {
            holders.insert((row.r#type, row.scope, row.name), parse(&row.id)?);
        }
    }
    Ok(holders)
}

/// The range, in the order of bytes, of the names that a rename of this one could choose.
fn alike_range(name: &str) -> (String, String) {
    const SURELY_KEPT: usize = 240;
    match name.char_indices().nth(SURELY_KEPT) {
        Some((end, _)) => (name[..end].to_owned(), format!("{}{}", &name[..end], char::MAX)),
        None => (format!("{name} ("), format!("{name} )")),
    }
}

/// Who has some names. Where names are unique in the domain, the index of names finds them.
async fn named(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    wanted: &HashSet<(&str, &str)>,
) -> Result<HashMap<(String, String), Vec<ResourceId>>, DbError> {
    let mut holders: HashMap<(String, String), Vec<ResourceId>> = HashMap::new();
    let parse = |id: &str| ResourceId::parse(id).map_err(|_| DbError::Corrupt("resource ID"));
    let is_unique = |key: &str| types.get(key).is_some_and(|kind| kind.unique_name == UniqueName::Domain);
    let (unique, others): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(|(key, _)| is_unique(key));
    if !unique.is_empty() {
        let (keys, names): (Vec<String>, Vec<String>) =
            unique.into_iter().map(|(key, name)| (key.to_owned(), name.to_owned())).unzip();
        let found = sqlx::query!(
            "select r.type, r.name, r.id from unnest($2::text[], $3::text[]) as wanted(type, name)
             join resources r on r.domain_id = $1 and r.type = wanted.type and r.name_scope = '' and r.name = wanted.name",
            domain_id,
            &keys,
            &names
        );
        for row in found.fetch_all(&mut *connection).await? {
            holders.entry((row.r#type, row.name)).or_default().push(parse(&row.id)?);
        }
    }
    if !others.is_empty() {
        let of = |part: fn(&(&str, &str)) -> String| others.iter().map(part).collect::<HashSet<_>>();
        let keys: Vec<String> = of(|(key, _)| (*key).to_owned()).into_iter().collect();
        let names: Vec<String> = of(|(_, name)| (*name).to_owned()).into_iter().collect();
        let found = sqlx::query!(
            "select r.type, r.name, r.id from resources r
             where r.domain_id = $1 and r.type = any($2) and r.name = any($3)",
            domain_id,
            &keys,
            &names
        );
        for row in found.fetch_all(connection).await? {
            holders.entry((row.r#type, row.name)).or_default().push(parse(&row.id)?);
        }
    }
    Ok(holders)
}

async fn bases(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    ids: &[String],
) -> Result<HashMap<(ResourceId, ResourceId), Base>, DbError> {
    let found = sqlx::query!(
        "select b.source_id, b.source_hash, b.result_hash, b.remapping
         from import_bases b
         where b.domain_id = $1 and b.source_environment = $2 and b.source_id = any($3) and b.target_id = b.source_id",
        domain_id,
        source_environment,
        ids
    )
    .fetch_all(connection)
    .await?;
    found
        .into_iter()
        .map(|row| {
            let id = ResourceId::parse(&row.source_id).map_err(|_| DbError::Corrupt("import_bases.source_id"))?;
            let base = Base {
                source_hash: Hash::from_slice(&row.source_hash).ok_or(DbError::Corrupt("import_bases.source_hash"))?,
                result_hash: Hash::from_slice(&row.result_hash).ok_or(DbError::Corrupt("import_bases.result_hash"))?,
                remapping: row.remapping,
            };
            Ok(((id.clone(), id), base))
        })
        .collect()
}
