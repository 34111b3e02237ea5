//! Imports of what stands already as it comes. Nothing but their index is read and nothing is planned, for there is
//! nothing to decide: the database says so of all of it at once, when it is parsed and again when it is executed.
//! Whatever is not so plain goes the way of every import.

use std::collections::HashMap;

use crate::db::contents::OwnBody;
use crate::db::records::{Executed, Record, Rest};
use crate::db::standing::{self, Listed};
use crate::db::{self, Acquire, PgConnection, definitions};
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::manifest::Manifest;
use crate::domain::outcome::Counts;
use crate::domain::record::Final;
use crate::domain::resource::content_hash;
use crate::planning::standing::{may_stand, warnings};
use crate::planning::{self};
use crate::trust;
use crate::wire::record::PlanRequest;

use super::index::{self, Index, Line};
use super::{Context, JobError};

/// The entries of a package of which all stands as it comes, by their place, without what their bodies tell.
pub(super) async fn all(
    context: &Context,
    connection: &mut PgConnection,
    (record, manifest): (&Record, &Manifest),
    index: &Index,
    own: &HashMap<String, OwnBody>,
) -> Result<Option<(HashMap<usize, Entry>, Listed)>, JobError> {
    let request = PlanRequest::of(&record.options).unwrap_or_default();
    if !may_stand(record, &request) || index.secrets || index.len() == 0 || own.len() < index.len() {
        return Ok(None);
    }
    let (mut entries, mut listed) = (HashMap::with_capacity(index.len()), Listed::default());
    for (place, line) in index.lines.iter().enumerate() {
        let body = own.get(line.id.as_str());
        let Some(entry) = body.and_then(|body| entry(context, manifest, index, line, body)) else { return Ok(None) };
        listed.add(entry.id.as_str(), &entry.content_hash);
        entries.insert(place, entry);
    }
    let (types, source) = (&context.app.types, &manifest.environment.id);
    let stand = standing::all_stand(connection, types, record.domain_id, source, &listed).await?;
    Ok(stand.then_some((entries, listed)))
}

/// The entry of a resource that the domain has as it comes.
fn entry(context: &Context, manifest: &Manifest, index: &Index, line: &Line, body: &OwnBody) -> Option<Entry> {
    let kind = context.app.types.get(&line.type_key)?;
    let same = body.type_key == line.type_key && body.definition_hash == line.definition_hash;
    if !same || manifest.types.get(&line.type_key) != Some(&kind.digest) {
        return None;
    }
    let hash = content_hash(&line.type_key, &line.name, &line.directory, &line.definition_hash, &line.attachments);
    if hash != body.content_hash || line.attachments.iter().any(|(_, bytes)| bytes.is_none()) {
        return None;
    }
    Some(Entry {
        content_hash: hash,
        definition_id: Some(body.definition_id),
        attachments: line.attachments.clone(),
        own: index.values(&line.id).map(|own| own.fitting(kind)).unwrap_or_default(),
        contents: Contents::Sent,
        ..index::bare(line)
    })
}

/// Ends an import of which all still stands as it did when it was planned.
pub(super) async fn done(
    context: &Context,
    connection: &mut PgConnection,
    record: &Record,
    request: &PlanRequest,
) -> Result<bool, JobError> {
    if !may_stand(record, request) {
        return Ok(false);
    }
    let Some(listed) = standing::listed(connection, record.id).await? else { return Ok(false) };
    let app = &context.app;
    let manifest = planning::manifest(connection, record.id).await?;
    let source = &manifest.environment.id;
    let mut transaction = connection.begin().await?;
    db::locks::share_types(&mut transaction, &app.types_digest).await?;
    if !standing::all_stand(&mut transaction, &app.types, record.domain_id, source, &listed).await? {
        return Ok(false);
    }
    planning::items::settle(&mut transaction, record.id, true).await?;
    trust::pin(app, &mut transaction, record, &manifest.environment).await?;
    db::index_pages::keep_last(&mut transaction, record.domain_id, source, record.id).await?;
    definitions::use_runs(&mut transaction, record.id, &[]).await?;
    let counts = Counts { unchanged: listed.len() as u64, ..Counts::default() };
    let executed = Executed {
        status: Final::of_import(&counts),
        counts,
        resources: listed.len() as u64,
        error: None,
        warnings: warnings(app, &manifest),
        checklist: Vec::new(),
    };
    db::records::rest(&mut transaction, record.id, Rest::Executed(executed)).await?;
    db::jobs::end(&mut transaction, &context.job).await?;
    transaction.commit().await?;
    Ok(true)
}
