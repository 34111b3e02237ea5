//! Packing: compact rows into the index, definitions into shards, attachment bytes as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::db::closure::{Node, Resolved};
use crate::db::exports::Named;
use crate::db::records::{Change, Record};
use crate::db::{self, PgConnection};
use crate::domain::definition::{self, Reference};
use crate::domain::import_plan::{Contents, Entry};
use crate::domain::manifest::{FORMAT, IndexLine, Manifest, Origin, PRODUCT, ShardLine, Thin};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::type_file::Types;
use crate::package::PackageError;
use crate::package::signature::Keys;
use crate::package::writer::{SHARD_BYTES, Shard, Writer};
use crate::store::attachment_key;

use super::{Context, JobError, blocking};

/// Definitions are asked for in portions of so many.
const PORTION: usize = 2_000;
/// Shards compressed at once.
const AT_ONCE: usize = 2;

type Zip = Writer<BufWriter<File>>;

/// What is to be packed, in compact form: all that the index says.
pub(super) struct Prepared {
    /// In dependency order.
    pub(super) entries: Arc<Vec<Entry>>,
    /// The attachments that they name.
    named: Vec<Named>,
    /// Those that travel, sealed.
    pub(super) secrets: Option<Vec<u8>>,
}

/// Whose contents need not travel, as the target has them.
pub(super) struct LeaveOut {
    /// The target's ID.
    pub(super) base: String,
    /// What it lacks.
    pub(super) lacking: HashSet<String>,
    /// The attachment bytes that it lacks.
    pub(super) attachments: HashSet<Hash>,
}

impl Prepared {
    /// The attachments whose bytes are there.
    pub(super) fn attachments(&self) -> HashSet<Hash> {
        self.named.iter().filter_map(|named| Some(named.bytes?.0)).collect()
    }
}

/// Reads what the index of a resolved export says.
pub(super) async fn prepare(
    app: &App,
    connection: &mut PgConnection,
    domain_id: i32,
    resolved: &Resolved,
) -> Result<Prepared, JobError> {
    let ids: Vec<String> = resolved.nodes.iter().map(|node| node.id.to_string()).collect();
    let named = db::exports::attachments(connection, domain_id, &ids).await?;
    let entries = entries(app, connection, domain_id, resolved, &named).await?;
    Ok(Prepared { entries: Arc::new(entries), named, secrets: None })
}

/// Writes the package of a resolved export into a file of its own.
pub(super) async fn write(
    context: &Context,
    connection: &mut PgConnection,
    record: &Record,
    selection: (Vec<ResourceId>, bool),
    resolved: &Resolved,
    prepared: Prepared,
    leave_out: Option<LeaveOut>,
) -> Result<NamedTempFile, JobError> {
    let app = &context.app;
    let Prepared { entries, named, secrets } = prepared;
    let file = app.store.scratch_file()?;
    let output = file.reopen().map_err(PackageError::Io)?;
    let types = app.types.clone();
    let mut zip = blocking(move || {
        let lines = entries
            .iter()
            .map(|entry| serde_json::to_vec(&IndexLine::of(entry, &types)).map_err(std::io::Error::other));
        Ok(Writer::begin(BufWriter::new(output), lines.map(|line| line.map_err(PackageError::Io)))?)
    })
    .await?;
    let sent = |node: &&Node| leave_out.as_ref().is_none_or(|out| out.lacking.contains(node.id.as_str()));
    let nodes: Vec<&Node> = resolved.nodes.iter().filter(sent).collect();
    let ids: HashSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    let bytes: BTreeMap<Hash, u64> = named
        .iter()
        .filter(|named| ids.contains(named.resource_id.as_str()))
        .filter_map(|named| named.bytes)
        .filter(|(hash, _)| leave_out.as_ref().is_none_or(|out| out.attachments.contains(hash)))
        .collect();
    zip = shards(context, connection, record.domain_id, &nodes, zip).await?;
    zip = attachments(app, bytes, zip).await?;
    let thin = leave_out.map(|out| Thin { base: out.base });
    let (roots, export_upstream) = selection;
    let manifest = Manifest { roots, export_upstream, thin, ..manifest(app, record, resolved) };
    let app = app.clone();
    blocking(move || {
        if let Some(sealed) = secrets {
            zip.secrets(&sealed)?;
        }
        let sign = |bytes: &[u8]| app.signer.sign(bytes);
        let output = zip.finish(manifest, &Keys { sign: &sign, key_id: &app.identity.id })?;
        output.into_inner().map_err(|error| PackageError::Io(error.into_error()))?;
        Ok(())
    })
    .await?;
    Ok(file)
}

/// The compact rows of the index.
async fn entries(
    app: &App,
    connection: &mut PgConnection,
    domain_id: i32,
    resolved: &Resolved,
    named: &[Named],
) -> Result<Vec<Entry>, JobError> {
    let ids: Vec<String> = resolved.nodes.iter().map(|node| node.id.to_string()).collect();
    let mut compact = db::exports::compact(connection, domain_id, &ids).await?;
    let mut attachments: HashMap<&str, Vec<(String, Option<Hash>)>> = HashMap::new();
    for found in named {
        let bytes = found.bytes.map(|(hash, _)| hash);
        attachments.entry(&found.resource_id).or_default().push((found.path.clone(), bytes));
    }
    let entry = |node: &Node| {
        let row = compact.remove(node.id.as_str())?;
        Some(Entry {
            id: node.id.clone(),
            type_key: node.kind.clone(),
            name: node.name.clone(),
            directory: node.directory.clone(),
            owner: None,
            reason: node.reason,
            content_hash: row.content_hash,
            definition_hash: row.definition_hash,
            references: references(&app.types, resolved, node),
            children: row.children.into_iter().map(|(_, id)| (0, id)).collect(),
            attachments: attachments.remove(node.id.as_str()).unwrap_or_default(),
            invalid: None,
            contents: Contents::Sent,
        })
    };
    Ok(resolved.nodes.iter().filter_map(entry).collect())
}

fn references(types: &Types, resolved: &Resolved, node: &Node) -> Vec<Reference> {
    let known = types.get(&node.kind).map_or(0, |kind| kind.rules.len());
    let reference = |found: &db::graph::Found| db::contents::reference(found).filter(|_| (found.rule as usize) < known);
    resolved
        .references
        .get(node.id.as_str())
        .map_or_else(Vec::new, |found| found.iter().filter_map(reference).collect())
}

/// Definitions stream from the database into shards; shards are compressed beside it, two at once.
async fn shards(
    context: &Context,
    connection: &mut PgConnection,
    domain_id: i32,
    nodes: &[&Node],
    mut zip: Zip,
) -> Result<Zip, JobError> {
    let mut lines: Vec<u8> = Vec::with_capacity(SHARD_BYTES + 64 * 1024);
    let mut pending: VecDeque<JoinHandle<Result<Shard, PackageError>>> = VecDeque::new();
    let (mut done, total) = (0, nodes.len() as u64);
    for nodes in nodes.chunks(PORTION) {
        let portion: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
        let mut definitions = db::exports::definitions(connection, domain_id, &portion);
        let mut nodes = nodes.iter();
        while let Some((id, definition)) = definitions.try_next().await? {
            let Some(node) = nodes.find(|node| node.id.as_str() == id) else { break };
            write_line(&mut lines, &context.app.types, node, &definition)?;
            if lines.len() >= SHARD_BYTES {
                let full = std::mem::replace(&mut lines, Vec::with_capacity(SHARD_BYTES + 64 * 1024));
                pending.push_back(tokio::task::spawn_blocking(move || Shard::compress(&full)));
                if pending.len() > AT_ONCE {
                    zip = write_shard(zip, &mut pending).await?;
                }
            }
        }
        drop(definitions);
        done += portion.len() as u64;
        context.note(Change { progress: Some((done, total, "resources")), ..Change::default() }).await?;
    }
    if !lines.is_empty() {
        pending.push_back(tokio::task::spawn_blocking(move || Shard::compress(&lines)));
    }
    while !pending.is_empty() {
        zip = write_shard(zip, &mut pending).await?;
    }
    Ok(zip)
}

async fn write_shard(
    mut zip: Zip,
    pending: &mut VecDeque<JoinHandle<Result<Shard, PackageError>>>,
) -> Result<Zip, JobError> {
    let Some(next) = pending.pop_front() else { return Ok(zip) };
    let shard = next.await.map_err(|error| JobError::Retry(format!("a task was stopped: {error}")))??;
    blocking(move || {
        zip.shard(&shard)?;
        Ok(zip)
    })
    .await
}

fn write_line(lines: &mut Vec<u8>, types: &Types, node: &Node, definition: &str) -> Result<(), JobError> {
    let opened = types.get(&node.kind).filter(|kind| !kind.secrets.is_empty()).map(|kind| {
        let mut value: serde_json::Value = serde_json::from_str(definition)?;
        definition::open_to_read(kind, &mut value);
        serde_json::value::to_raw_value(&value)
    });
    let corrupt = |_| JobError::Retry("a stored definition cannot be read".to_owned());
    let opened = opened.transpose().map_err(corrupt)?;
    let raw: &RawValue = match &opened {
        Some(raw) => raw,
        None => serde_json::from_str(definition).map_err(corrupt)?,
    };
    let line = ShardLine {
        id: node.id.clone(),
        type_key: node.kind.clone(),
        name: node.name.clone(),
        directory: node.directory.clone(),
        definition: raw,
        owner: Some(node.owner.clone()),
    };
    serde_json::to_writer(&mut *lines, &line).map_err(corrupt)?;
    lines.push(b'\n');
    Ok(())
}

/// Attachment bytes, once each, in the order of their hashes.
async fn attachments(app: &Arc<App>, wanted: BTreeMap<Hash, u64>, mut zip: Zip) -> Result<Zip, JobError> {
    for (hash, size) in wanted {
        let app = app.clone();
        zip = blocking(move || {
            let bytes = app.store.open_local(&attachment_key(&hash))?;
            zip.attachment(&hash, size, BufReader::new(bytes))?;
            Ok(zip)
        })
        .await?;
    }
    Ok(zip)
}

fn manifest(app: &App, record: &Record, resolved: &Resolved) -> Manifest {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for node in &resolved.nodes {
        *counts.entry(node.kind.clone()).or_default() += 1;
    }
    let used: BTreeSet<&str> = counts.keys().map(String::as_str).collect();
    Manifest {
        format: FORMAT,
        product: PRODUCT.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: Origin {
            id: app.identity.id.clone(),
            name: app.config.environment.name.clone(),
            kind: app.config.environment.kind.as_str().to_owned(),
            public_key: app.identity.public_key.clone(),
        },
        types: app.types.digests().into_iter().filter(|(key, _)| used.contains(key.as_str())).collect(),
        features: used.iter().map(|key| (*key).to_owned()).collect(),
        domain: record.domain.clone(),
        name: record.name.clone(),
        exported_at: record.created_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        exported_by: record.requested_by.clone(),
        record_id: record.id.to_string(),
        roots: Vec::new(),
        export_upstream: false,
        counts,
        missing: resolved.missing.clone(),
        shared_parts: resolved.shared_parts.clone(),
        thin: None,
        entries: Vec::new(),
    }
}

/// The size and the hash of a file.
pub(super) fn size_and_hash(path: &Path) -> Result<(u64, Hash), PackageError> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((size, Hash(hasher.finalize().into())));
        }
        hasher.update(&piece[..read]);
        size += read as u64;
    }
}
