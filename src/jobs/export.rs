//! Exports: resolve → pack → store.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db;
use crate::db::closure::{Node, Resolved};
use crate::db::exports::Named;
use crate::db::records::{Note, Packed, Record, Rest};
use crate::domain::failure::Warning;
use crate::domain::outcome::Status;
use crate::domain::record::{Phase, Progress};
use crate::domain::resource::ResourceId;
use crate::domain::transfer::Extent;
use crate::planning;
use crate::store::{ScratchFile, package_key};
use crate::wire::record::{Item, PackageInfo};

use super::carry::Recipient;
use super::courier::Courier;
use super::pack::Prepared;
use super::{Context, Items, JobError, blocking, carry, negotiate, pack};

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
    /// What is selected was found at the request: the user named no IDs.
    #[serde(default)]
    pub(super) by_selection: bool,
}

/// From so many resources on, a migration says that it packs them.
const REPORTED: u64 = 1_000;
/// So many IDs are named in a message.
const MAX_NAMED: usize = 10;

/// Does an export.
pub async fn run(context: Context) -> Result<(), JobError> {
    let record = context.record().await?;
    let exported = make(&context, &record, None).await?;
    let items: Vec<Item> = exported.resolved.nodes().iter().map(|node| item(node, Status::Succeeded)).collect();
    let rest = Rest::Exported(exported.packed, planning::items::counts(&items));
    context.end(Items::Replaced(&items), rest).await?;
    match &record.package_key {
        Some(replaced) => Ok(context.app.store.delete(replaced).await?),
        None => Ok(()),
    }
}

/// A package in the store, not yet in its record.
pub(super) struct Exported {
    pub(super) resolved: Arc<Resolved>,
    /// The attachments, in the order of who names them.
    pub(super) named: Arc<Vec<Named>>,
    /// Who stands in pages that the target has: they come last there, lowest ID first.
    paged: Arc<HashSet<ResourceId>>,
    pub(super) packed: Packed,
}

impl Exported {
    /// What comes along, in the order in which whoever reads the package lists it.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        let (mut paged, listed): (Vec<&Node>, Vec<&Node>) =
            self.resolved.nodes().iter().partition(|node| self.paged.contains(&node.id));
        paged.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        listed.into_iter().chain(paged)
    }
}

/// Resolves, packs and stores one state of the catalogue; for a target, without what that has already unless all is
/// wanted. The state is seen while it is resolved: what is packed then are bodies and bytes that do not
/// change, so that nothing is held while a target is asked.
pub(super) async fn make(
    context: &Context,
    record: &Record,
    target: Option<(&Courier, Extent)>,
) -> Result<Exported, JobError> {
    let options: ExportOptions =
        serde_json::from_value(record.options.clone()).map_err(|_| JobError::Corrupt("records.options"))?;
    let there = match target {
        Some((target, _)) => Some(target.tried(|| target.remote.environment()).await??),
        None => None,
    };
    let recipient = match &there {
        None if options.with_secrets => Some(carry::by_passphrase(context, record).await?),
        Some(there) if options.carry_secrets => Some(Recipient::of(there)),
        _ => None,
    };
    if target.is_some() {
        context.phase(Phase::Resolving).await?;
    }
    let Seen { roots, resolved, mut prepared, mut warnings } = see(context, record, &options).await?;
    if let Some(recipient) = recipient {
        let sealed = carry::seal(context, record, &resolved, recipient).await?;
        prepared.secrets = Some(sealed.bytes);
        warnings.extend(sealed.warnings);
    }
    warnings.extend(missing_warnings(&resolved, &prepared));
    let named = prepared.named.clone();
    let leave_out = match (target, there) {
        (Some((target, Extent::Lacking)), Some(there)) => negotiate::ask(target, record, &prepared, there.id).await?,
        _ => None,
    };
    let total = leave_out.as_ref().map_or(resolved.nodes().len(), |out| out.lacking.len()) as u64;
    if target.is_none() || total >= REPORTED {
        context.note(Note::Progress(Phase::Packing, Progress::resources(0, total))).await?;
    }
    let paged = leave_out.as_ref().map(|out| out.paged.clone()).unwrap_or_default();
    let packed = pack::write(context, record, (roots, options.export_upstream), prepared, leave_out).await?;
    let packed = keep(context, record, packed, resolved.nodes().len() as u64, warnings).await?;
    Ok(Exported { resolved, named, paged, packed })
}

/// What an export takes along, as the catalogue stood at one moment.
struct Seen {
    roots: Vec<ResourceId>,
    resolved: Arc<Resolved>,
    prepared: Prepared,
    warnings: Vec<Warning>,
}

async fn see(context: &Context, record: &Record, options: &ExportOptions) -> Result<Seen, JobError> {
    let mut connection = context.app.workers.acquire().await?;
    let mut snapshot = db::exports::begin_snapshot(&mut connection).await?;
    let types = &context.app.types;
    let mut roots: Vec<ResourceId> = serde_json::from_value(db::records::roots(&mut snapshot, record.id).await?)
        .map_err(|_| JobError::Corrupt("records.roots"))?;
    let mut resolved =
        db::closure::resolve(&mut snapshot, types, record.domain_id, &roots, options.export_upstream).await?;
    let warnings = gone(&resolved.gone, options)?;
    let lost: HashSet<&str> = resolved.gone.iter().map(ResourceId::as_str).collect();
    roots.retain(|id| !lost.contains(id.as_str()));
    // References may lead further than when it was asked for, and rights less far.
    let sight = db::callers::sight_of(&mut snapshot, record.domain_id, &record.requested_by).await?;
    let foreign = resolved.nodes().iter().filter(|node| !sight.reads(&node.owner, &node.directory)).count();
    if foreign > 0 {
        return Err(JobError::fail(
            "forbidden_resources",
            format!("The export would take along {foreign} resources that you may not read."),
            "Ask for access, or leave out what needs them.",
        ));
    }
    let parts = std::mem::take(&mut resolved.shared_parts);
    resolved.shared_parts = db::closure::visible_parts(&mut snapshot, record.domain_id, &sight, parts).await?;
    let resolved = Arc::new(resolved);
    let prepared = pack::prepare(&mut snapshot, record.domain_id, &resolved).await?;
    snapshot.commit().await?;
    Ok(Seen { roots, resolved, prepared, warnings })
}

/// Puts the package into the store.
async fn keep(
    context: &Context,
    record: &Record,
    packed: ScratchFile,
    total: u64,
    warnings: Vec<Warning>,
) -> Result<Packed, JobError> {
    // Another at every run: a late one never writes over the one that counts.
    let key = package_key(Uuid::now_v7());
    let path = packed.path().to_owned();
    let (size, sha256) = blocking(move || Ok(pack::size_and_hash(&path)?)).await?;
    context.app.store.put_file(&key, packed.path()).await?;
    let package =
        PackageInfo { size, sha256: sha256.hex(), file_name: format!("{}.zip", record.name), resources: total };
    Ok(Packed { package: serde_json::json!(package), key, size, resources: total, warnings })
}

/// Selected resources that were deleted since: an error where the user named them.
fn gone(gone: &[ResourceId], options: &ExportOptions) -> Result<Vec<Warning>, JobError> {
    if options.by_selection || gone.is_empty() {
        let warning = |id: &ResourceId| {
            let message = format!("{id} was selected, and deleted before it was exported.");
            Warning::new("root_gone", message).about(id.as_str())
        };
        return Ok(gone.iter().map(warning).collect());
    }
    let named: Vec<&str> = gone.iter().take(MAX_NAMED).map(ResourceId::as_str).collect();
    let more = if gone.len() > named.len() { ", …" } else { "" };
    let message = format!("{} selected resources do not exist any more: {}{more}.", gone.len(), named.join(", "));
    Err(JobError::fail("not_found", message, "Select again, without those that were deleted."))
}

/// What is to be said about what comes along.
fn missing_warnings(resolved: &Resolved, prepared: &Prepared) -> Vec<Warning> {
    let references = resolved.missing.iter().map(|missing| {
        let name = missing.name.as_deref().or(missing.resource_id.as_deref()).unwrap_or_default();
        let message = format!("{} {name}, which {} refers to, does not exist.", missing.role, missing.referenced_by);
        Warning::new("reference_missing", message).about(missing.referenced_by.clone())
    });
    let attachments = prepared.missing_attachments().map(|named| {
        let message = format!("The attachment {}, which {} names, does not exist.", named.path, named.resource_id);
        Warning::new("attachment_missing", message).about(named.resource_id.clone())
    });
    references.chain(attachments).collect()
}

/// The item of an exported resource.
pub(super) fn item(node: &Node, status: Status) -> Item {
    Item {
        resource_id: node.id.to_string(),
        kind: node.kind.to_string(),
        name: node.name.to_string(),
        directory: node.directory.to_string(),
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
        drift: None,
        remembered: false,
        suggestion: None,
        target_changed: None,
        target_content_hash: None,
        as_sent: false,
        arrives: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_named_what_is_gone_is_refused_and_a_selection_is_warned() {
        let ids: Vec<ResourceId> = (10..22).map(|n| ResourceId::parse(&format!("r{n}")).unwrap()).collect();
        let options = |json| serde_json::from_value::<ExportOptions>(json).unwrap();
        let (named, found) = (options(serde_json::json!({})), options(serde_json::json!({"by_selection": true})));
        assert!(gone(&[], &named).unwrap().is_empty());
        let warnings = gone(&ids, &found).unwrap();
        assert_eq!((warnings.len(), warnings[0].code.as_str()), (12, "root_gone"));
        assert_eq!(warnings[0].resource_id.as_deref(), Some("r10"));
        let Err(JobError::Fail(error)) = gone(&ids, &named) else { panic!("it must fail") };
        assert_eq!(error.code, "not_found");
        assert!(error.message.contains("12 ") && error.message.contains("r19") && !error.message.contains("r20"));
    }
}
