//! A changed type file: before the server is ready, hashes, references, children and sealed secrets of the
//! type's resources are derived anew. Revisions do not change, for nothing was changed by anyone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tracing::info;

use crate::app::{App, StartError};
use crate::db::staging::{Staged, StagedResource};
use crate::db::{self, Acquire, DbError, PgConnection};
use crate::domain::resource::{Hash, ResourceId, content_hash};
use crate::domain::resource_type::ResourceType;
use crate::domain::{definition, json};

/// Resources that are derived together.
const PORTION: i64 = 1_000;

/// Derives anew what changed type files make different.
///
/// # Errors
/// The database fails.
pub async fn run(app: &Arc<App>) -> Result<(), StartError> {
    let mut connection = db::dedicated(&app.pool).await?;
    let digests: BTreeMap<String, String> =
        app.types.digests().into_iter().map(|(key, digest)| (key, digest.to_string())).collect();
    if db::environment::type_digests(&mut connection).await? == digests {
        return Ok(());
    }
    // One replica derives; the others wait here and find the digests up to date.
    let mut transaction = connection.begin().await.map_err(DbError::from)?;
    db::locks::hold_derivation(&mut transaction).await?;
    let known = db::environment::type_digests(&mut transaction).await?;
    for kind in app.types.all() {
        if known.get(kind.key.as_ref()) != digests.get(kind.key.as_ref()) {
            let count = derive(app, &mut transaction, kind).await?;
            if count > 0 {
                info!(resource_type = %kind.key, count, "derived resources anew for a changed type file");
            }
        }
    }
    if !known.is_empty() {
        db::derive::parse_again(&mut transaction).await?;
    }
    db::environment::keep_type_digests(&mut transaction, &digests).await?;
    transaction.commit().await.map_err(DbError::from)?;
    Ok(())
}

async fn derive(app: &App, connection: &mut PgConnection, kind: &ResourceType) -> Result<u64, StartError> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let rows = db::derive::portion(connection, &kind.key, &after, PORTION).await?;
        let Some(last) = rows.last() else { return Ok(count) };
        after.clone_from(&last.id);
        count += rows.len() as u64;
        let mut staged = Staged::default();
        let derived = rows.iter().map(|row| derive_one(app, kind, row)).collect::<Result<Vec<_>, _>>()?;
        let mut domains: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for one in &derived {
            domains.entry(one.row.domain_id).or_default().extend(one.found.attachments.iter().cloned());
        }
        let mut hashes = BTreeMap::new();
        for (domain_id, paths) in domains {
            for (path, found) in db::attachments::by_paths(connection, domain_id, &paths).await? {
                hashes.insert((domain_id, path), found.sha256);
            }
        }
        for (ordinal, one) in derived.iter().enumerate() {
            one.stage(kind, ordinal as i32, &hashes, &mut staged);
        }
        staged.send(connection, 1).await?;
        db::staging::analyze(connection).await?;
        db::derive::apply(connection).await?;
    }
}

/// A resource as the new type file sees it.
struct Derived<'a> {
    row: &'a db::derive::Row,
    id: ResourceId,
    bytes: Vec<u8>,
    definition_hash: Hash,
    found: definition::Found,
}

fn derive_one<'a>(app: &App, kind: &ResourceType, row: &'a db::derive::Row) -> Result<Derived<'a>, StartError> {
    let id = ResourceId::parse(&row.id).map_err(|_| DbError::Corrupt("resource ID"))?;
    let mut value: Value = serde_json::from_str(&row.definition).map_err(|_| DbError::Corrupt("definition"))?;
    let mut sealing = Ok(());
    definition::seal_found(kind, &mut value, &mut |secret| {
        app.sealer.seal_value(id.as_str(), secret).unwrap_or_else(|error| {
            sealing = Err(error);
            String::new()
        })
    });
    sealing?;
    // What an older type file let through and this one refuses keeps no references until it is corrected.
    let found = definition::find(kind, &mut value).unwrap_or_default();
    let bytes = json::canonical(&value);
    Ok(Derived { row, id, bytes, definition_hash: definition::hash(kind, value), found })
}

impl Derived<'_> {
    fn stage(&self, kind: &ResourceType, ordinal: i32, hashes: &BTreeMap<(i32, String), Hash>, staged: &mut Staged) {
        let (row, found) = (self.row, &self.found);
        let bytes = |path: &String| hashes.get(&(row.domain_id, path.clone())).copied();
        let attachments: Vec<_> = found.attachments.iter().map(|path| (path.clone(), bytes(path))).collect();
        staged.add(&StagedResource {
            ordinal,
            id: &self.id,
            kind,
            name: &row.name,
            directory: &row.directory,
            definition: &self.bytes,
            definition_hash: self.definition_hash,
            content_hash: content_hash(&kind.key, &row.name, &row.directory, &self.definition_hash, &attachments),
            owner: "",
            base_revision: Some(row.revision),
            children: &found.children,
            references: &found.references,
            attachments: &found.attachments,
        });
    }
}
