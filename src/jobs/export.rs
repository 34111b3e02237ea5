//! Exports: resolve → pack → store.

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::db;
use crate::db::closure::{Node, Resolved};
use crate::db::records::{Change, Record};
use crate::domain::failure::Warning;
use crate::domain::outcome::Status;
use crate::domain::record::{Phase, RecordStatus};
use crate::domain::resource::ResourceId;
use crate::planning;
use crate::store::package_key;
use crate::wire::record::{Item, PackageInfo};

use super::carry::Recipient;
use super::courier::Courier;
use super::{Context, JobError, blocking, carry, negotiate, pack};

/// What an export, or the export of a migration, keeps in its record's options.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ExportOptions {
    /// Export Upstream Resources.
    #[serde(default)]
    pub(super) export_upstream: bool,
    /// An export takes secrets along, for who knows its passphrase.
    #[serde(default)]
    pub(super) with_secrets: bool,
    /// A migration takes them along, for its target.
    #[serde(default)]
    pub(super) carry_secrets: bool,
}

/// Does an export.
///
/// # Errors
/// Why not.
pub async fn run(context: Context) -> Result<(), JobError> {
    let record = context.record().await?;
    let exported = make(&context, &record, None, false).await?;
    let items: Vec<Item> = exported.resolved.nodes.iter().map(|node| item(node, Status::Succeeded)).collect();
    let change = Change {
        status: Some(RecordStatus::Succeeded),
        phase: Some(Phase::Finishing),
        counts: Some(planning::counts(&items)),
        ..exported.change
    };
    context.end(Some(&items), change).await?;
    match &record.package_key {
        Some(replaced) => Ok(context.app.store.delete(replaced).await?),
        None => Ok(()),
    }
}

/// A package in the store, not yet in its record.
pub(super) struct Exported {
    pub(super) resolved: Resolved,
    /// Package, warnings, progress.
    pub(super) change: Change,
}

/// Resolves, packs and stores, seeing one state of the catalogue throughout; for a target, without what that
/// has already unless all is wanted (`whole`).
pub(super) async fn make(
    context: &Context,
    record: &Record,
    target: Option<&Courier>,
    whole: bool,
) -> Result<Exported, JobError> {
    let options: ExportOptions = serde_json::from_value(record.options.clone()).map_err(|_| {
        JobError::fail("invalid_field", "The export's options cannot be read.", "Start the export again.")
    })?;
    // First the target, that nobody holds a snapshot while nobody answers.
    let there = match target {
        Some(target) => {
            context.phase(Phase::Negotiating).await?;
            Some(target.tried(|| target.remote.environment()).await??)
        }
        None => None,
    };
    let recipient = match &there {
        None if options.with_secrets => Some(carry::by_passphrase(context, record).await?),
        Some(there) if options.carry_secrets => Some(Recipient::of(there)),
        _ => None,
    };
    context.phase(Phase::Resolving).await?;
    let mut connection = db::dedicated(&context.app.pool).await?;
    db::exports::begin_snapshot(&mut connection).await?;
    let types = &context.app.types;
    let roots: Vec<ResourceId> = serde_json::from_value(db::records::roots(&mut connection, record.id).await?)
        .map_err(|_| JobError::Retry("the selection cannot be read".to_owned()))?;
    let mut resolved =
        db::closure::resolve(&mut connection, types, record.domain_id, &roots, options.export_upstream).await?;
    // References may lead further than when it was asked for, and rights less far.
    let sight = db::callers::sight_of(&mut connection, record.domain_id, &record.requested_by).await?;
    let foreign = resolved.nodes.iter().filter(|node| !sight.reads(&node.owner, &node.directory)).count();
    if foreign > 0 {
        return Err(JobError::fail(
            "forbidden_resources",
            format!("The export would take along {foreign} resources that you may not read."),
            "Ask for access, or leave out what needs them.",
        ));
    }
    let parts = std::mem::take(&mut resolved.shared_parts);
    resolved.shared_parts = db::closure::told_parts(&mut connection, record.domain_id, &sight, parts).await?;
    let mut prepared = pack::prepare(&context.app, &mut connection, record.domain_id, &resolved).await?;
    let mut warnings = Vec::new();
    if let Some(recipient) = recipient {
        let sealed = carry::seal(context, &mut connection, record, &resolved, recipient).await?;
        prepared.secrets = Some(sealed.bytes);
        warnings = sealed.warnings;
    }
    let leave_out = match (target, there) {
        (Some(target), Some(there)) if !whole => negotiate::ask(target, &prepared, there.id).await?,
        _ => None,
    };
    let total = leave_out.as_ref().map_or(resolved.nodes.len(), |out| out.lacking.len()) as u64;
    let progress = Some((0, total, "resources"));
    context.note(Change { phase: Some(Phase::Packing), progress, ..Change::default() }).await?;
    let selection = (roots, options.export_upstream);
    let packed = pack::write(context, &mut connection, record, selection, &resolved, prepared, leave_out).await?;
    db::exports::end_snapshot(&mut connection).await?;
    let change = keep(context, record, packed, &resolved, warnings).await?;
    Ok(Exported { resolved, change })
}

/// Puts the package into the store.
async fn keep(
    context: &Context,
    record: &Record,
    packed: NamedTempFile,
    resolved: &Resolved,
    mut warnings: Vec<Warning>,
) -> Result<Change, JobError> {
    // Another at every run: a late one never writes over the one that counts.
    let key = package_key(Uuid::now_v7());
    let path = packed.path().to_owned();
    let (size, sha256) = blocking(move || Ok(pack::size_and_hash(&path)?)).await?;
    context.app.store.put_file(&key, packed.path()).await?;
    let total = resolved.nodes.len() as u64;
    let package =
        PackageInfo { size, sha256: sha256.hex(), file_name: format!("{}.zip", record.name), resources: total };
    for missing in &resolved.missing {
        let name = missing.name.as_deref().or(missing.resource_id.as_deref()).unwrap_or_default();
        let message = format!("{} {name}, which {} refers to, does not exist.", missing.role, missing.referenced_by);
        warnings.push(Warning::new("reference_missing", message).about(missing.referenced_by.clone()));
    }
    for (id, path) in &resolved.missing_attachments {
        let message = format!("The attachment {path}, which {id} names, does not exist.");
        warnings.push(Warning::new("attachment_missing", message).about(id.clone()));
    }
    Ok(Change {
        progress: Some((total, total, "resources")),
        package: Some(serde_json::json!(package)),
        package_key: Some(key),
        warnings: Some(warnings),
        ..Change::default()
    })
}

/// The item of an exported resource.
pub(super) fn item(node: &Node, status: Status) -> Item {
    Item {
        resource_id: node.id.to_string(),
        kind: node.kind.clone(),
        name: node.name.clone(),
        directory: node.directory.clone(),
        selected: true,
        reason: node.reason,
        method: None,
        status,
        new_id: None,
        new_directory: None,
        new_name: None,
        errors: Vec::new(),
        warnings: Vec::new(),
        drifted: false,
        target_content_hash: None,
    }
}
