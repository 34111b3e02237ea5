//! A changed type file: before the server is ready, every version of its resources is taken apart anew: body,
//! references, children, hashes, and what belongs to this environment. What became secret is sealed, and its clear
//! text is nowhere any more: old bodies go, and so do packages that hold the type. What is no secret any more stays
//! sealed. Revisions do not change, for nothing was changed by anyone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use tracing::info;

use crate::app::{App, StartError};
use crate::db::definitions::Bodies;
use crate::db::derive::Row;
use crate::db::staging::{Replaced, Staged, StagedResource};
use crate::db::{self, Acquire, DbError, PgConnection};
use crate::domain::content::Content;
use crate::domain::definition::Parts;
use crate::domain::overlay::{Overlay, Own, Taken};
use crate::domain::resource::{Hash, ResourceId, content_hash};
use crate::domain::resource_type::ResourceType;

/// Versions that are derived together.
const PORTION: i64 = 1_000;

/// Derives anew what changed type files make different.
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
    db::locks::hold_all_catalogues(&mut transaction).await?;
    db::locks::hold_types(&mut transaction).await?;
    if db::environment::is_superseded(&mut transaction, &app.types_digest).await? {
        return Err(StartError::OldTypes);
    }
    let known = db::environment::type_digests(&mut transaction).await?;
    let differs = |kind: &&Arc<ResourceType>| known.get(kind.key.as_ref()) != digests.get(kind.key.as_ref());
    let types: Vec<&Arc<ResourceType>> = app.types.all().into_iter().filter(differs).collect();
    let changed: Vec<String> = types.iter().map(|kind| kind.key.to_string()).collect();
    db::derive::note_bases(&mut transaction, &changed).await?;
    let mut derived = 0;
    for kind in types {
        let count = derive(app, &mut transaction, kind).await?;
        if count > 0 {
            info!(resource_type = %kind.key, count, "derived versions anew for a changed type file");
        }
        derived += count;
        let children: Vec<String> = kind.children.iter().map(|rule| rule.key.to_string()).collect();
        db::derive::forget_children(&mut transaction, &kind.key, &children).await?;
    }
    db::derive::rebase(&mut transaction).await?;
    let mut packages = Vec::new();
    if !known.is_empty() {
        db::derive::forget_entries(
            &mut transaction,
            &app.types.all().into_iter().map(|kind| kind.digest.0.to_vec()).collect::<Vec<_>>(),
        )
        .await?;
        db::derive::parse_again(&mut transaction).await?;
        packages = db::derive::let_go_packages(&mut transaction, &changed).await?;
    }
    db::environment::keep_type_digests(&mut transaction, &digests, &app.types_digest).await?;
    transaction.commit().await.map_err(DbError::from)?;
    for key in packages {
        app.store.delete(&key).await?;
    }
    if derived > 0 {
        db::derive::vacuum(&mut connection).await?;
    }
    Ok(())
}

async fn derive(app: &App, connection: &mut PgConnection, resource_type: &ResourceType) -> Result<u64, StartError> {
    let (mut after, mut count, mut replaced) = ((i32::MIN, String::new(), 0), 0, Vec::new());
    let mut bodies = Bodies::begin(connection).await?;
    loop {
        let rows = db::derive::portion(connection, &resource_type.key, &after, PORTION).await?;
        let Some(last) = rows.last() else { break };
        after = (last.domain_id, last.resource_id.clone(), last.revision);
        count += rows.len() as u64;
        let derived = rows.iter().map(|row| derive_one(app, resource_type, row)).collect::<Result<Vec<_>, _>>()?;
        for of_domain in derived.chunk_by(|a, b| a.row.domain_id == b.row.domain_id) {
            // One version of a resource at a time: rows are told apart by their ID.
            let mut waiting: Vec<&Derived<'_>> = of_domain.iter().collect();
            let domain_id = waiting[0].row.domain_id;
            let paths: Vec<String> = of_domain.iter().flat_map(|one| &one.content.parts.attachments).cloned().collect();
            let known = db::attachments::by_paths(connection, domain_id, &paths).await?;
            while !waiting.is_empty() {
                let (mut staged, mut seen, mut later) = (Staged::default(), HashMap::new(), Vec::new());
                for one in waiting {
                    if seen.insert(one.id.clone(), ()).is_some() {
                        later.push(one);
                        continue;
                    }
                    let current = |path: &str| known.get(path).map(|found| found.sha256);
                    one.stage(resource_type, &current, &mut bodies, &mut staged, &mut replaced)?;
                }
                bodies.send(connection).await?;
                staged.send(connection, 1).await?;
                db::derive::apply(connection, domain_id).await?;
                waiting = later;
            }
        }
    }
    db::derive::drop_bodies(connection, &resource_type.key, &replaced).await?;
    Ok(count)
}

/// A version as the new type file sees it.
struct Derived<'a> {
    row: &'a Row,
    id: ResourceId,
    content: Content,
    overlay: Overlay,
}

fn derive_one<'a>(app: &App, resource_type: &ResourceType, row: &'a Row) -> Result<Derived<'a>, StartError> {
    let id = ResourceId::parse(&row.resource_id).map_err(|_| DbError::Corrupt("resource_versions.resource_id"))?;
    let mut value: Value = serde_json::from_str(&row.body).map_err(|_| DbError::Corrupt("definitions.body"))?;
    let old = db::resources::overlay(row.overlay.as_deref())?;
    // Secrets stay where they are; everything else may be content now.
    let (secrets, rest): (Vec<_>, Vec<_>) =
        old.0.into_iter().partition(|(_, own)| matches!(own, Own::Sealed(_) | Own::Missing));
    Overlay(rest).show(&mut value);
    // What an older type file let through and this one refuses keeps no references until it is corrected.
    let (mut content, _) = Content::of(resource_type, value);
    let mut overlay = Overlay(secrets);
    for Taken { location, secret, value } in std::mem::take(&mut content.taken) {
        let own = match value {
            None => Own::Empty,
            Some(value) if !secret => Own::Value(value),
            Some(Value::Null) => Own::Missing,
            // Only strings are secrets: what was none is kept as its JSON text.
            Some(Value::String(text)) => Own::Sealed(app.sealer.seal_value(id.as_str(), &text)?),
            Some(value) => Own::Sealed(app.sealer.seal_value(id.as_str(), &value.to_string())?),
        };
        overlay.set(&location, own);
    }
    Ok(Derived { row, id, content, overlay })
}

impl Derived<'_> {
    fn stage(
        &self,
        resource_type: &ResourceType,
        current: &dyn Fn(&str) -> Option<Hash>,
        bodies: &mut Bodies,
        staged: &mut Staged,
        replaced: &mut Vec<i64>,
    ) -> Result<(), StartError> {
        let (row, Content { body, hash, parts, .. }) = (self.row, &self.content);
        let kept: Vec<(String, Option<Hash>)> = serde_json::from_value(row.attachments.clone())
            .map_err(|_| DbError::Corrupt("resource_versions.attachments"))?;
        let kept: HashMap<&str, Option<Hash>> = kept.iter().map(|(path, hash)| (path.as_str(), *hash)).collect();
        let bytes = |path: &String| {
            if row.current { current(path) } else { kept.get(path.as_str()).copied().flatten() }
        };
        let attachments: Vec<_> = parts.attachments.iter().map(|path| (path.clone(), bytes(path))).collect();
        let same = row.body.as_bytes() == body.as_slice();
        if !same {
            replaced.push(row.definition_id);
        }
        let none = Hash([0; 32]);
        // Edges are those of current versions alone: alike ones are told apart when it is applied.
        let edges = if row.current { parts.clone() } else { Parts { references: Vec::new(), ..parts.clone() } };
        staged.add(&StagedResource {
            ordinal: 0,
            id: &self.id,
            kind: resource_type,
            name: &row.name,
            directory: &row.directory,
            owner: "",
            definition_id: if same { row.definition_id } else { bodies.add(body) },
            definition_hash: *hash,
            content_hash: content_hash(&resource_type.key, &row.name, &row.directory, hash, &attachments),
            overlay: &self.overlay,
            parts: &edges,
            attachments: &attachments,
            base: Some(Replaced { revision: row.revision, parts_hash: none }),
        });
        Ok(())
    }
}
