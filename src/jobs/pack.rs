//! Packing: compact rows into the index, definitions into shards, attachment bytes as they are.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::app::App;
use crate::db::closure::{Node, Resolved};
use crate::db::exports::Named;
use crate::db::records::{Note, Record};
use crate::db::{self, PgConnection};
use crate::domain::manifest::{FORMAT, Manifest, Origin, PRODUCT, Thin};
use crate::domain::pages::PageLine;
use crate::domain::record::{Phase, Progress};
use crate::domain::resource::{Hash, ResourceId};
use crate::package::signature::Keys;
use crate::package::writer::{SHARD_BYTES, Shard, Writer};
use crate::package::{INDEX, PackageError, VALUES, shard_name};
use crate::store::{ScratchFile, attachment_key};
use crate::wire::import::LackingLine;

use super::{Context, JobError, blocking, lines};

/// Definitions are asked for in portions of so many.
const PORTION: usize = 2_000;
/// Shards compressed at once.
const AT_ONCE: usize = 2;
/// What a shard may grow over before it is full.
const SLACK: usize = 64 * 1024;
/// How often to tell how far it is.
const REPORT: Duration = Duration::from_secs(1);

type Zip = Writer<BufWriter<File>>;

/// What is to be packed, in compact form: all that the index says.
pub(super) struct Prepared {
    resolved: Arc<Resolved>,
    /// The attachments, in the order of who names them.
    pub(super) named: Arc<Vec<Named>>,
    /// Those that travel, sealed.
    pub(super) secrets: Option<Vec<u8>>,
}

/// Whose contents need not travel, as the target has them.
pub(super) struct LeaveOut {
    /// The target's ID.
    pub(super) base: String,
    /// What it lacks.
    pub(super) lacking: Arc<HashSet<String>>,
    /// The attachment bytes that it lacks.
    pub(super) attachments: HashSet<Hash>,
    /// The pages of the index that it has, with nothing in them that it lacks.
    pub(super) pages: Vec<Hash>,
    /// What stands in them.
    pub(super) paged: Arc<HashSet<ResourceId>>,
}

impl Prepared {
    /// What comes along, in dependency order.
    pub(super) fn nodes(&self) -> &[Node] {
        self.resolved.nodes()
    }

    /// The attachments whose bytes are not there.
    pub(super) fn missing_attachments(&self) -> impl Iterator<Item = &Named> {
        self.named.iter().filter(|named| named.bytes.is_none())
    }

    /// The lines of all resources, as they stand in pages.
    pub(super) fn page_lines(&self) -> Result<Vec<PageLine>, JobError> {
        self.nodes().iter().map(|node| lines::page_line(node, &self.named)).collect()
    }

    /// The lines that ask whether the target has them, but for those of some resources: first all resources, then
    /// the attachments that they name.
    pub(super) fn lines(&self, but: &HashSet<&str>) -> Vec<LackingLine> {
        let resource = |node: &Node| LackingLine {
            id: Some(node.id.to_string()),
            content_hash: Some(node.content_hash.to_string()),
            ..LackingLine::default()
        };
        let asked = self.nodes().iter().filter(|node| !but.contains(node.id.as_str()));
        let named = self.named.iter().filter(|named| !but.contains(named.resource_id.as_str()));
        let bytes: HashSet<Hash> = named.filter_map(|named| Some(named.bytes?.0)).collect();
        let attachment = |hash: Hash| LackingLine { attachment: Some(hash.to_string()), ..LackingLine::default() };
        asked.map(resource).chain(bytes.into_iter().map(attachment)).collect()
    }
}

/// Reads what the index of a resolved export says besides.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    domain_id: i32,
    resolved: &Arc<Resolved>,
) -> Result<Prepared, JobError> {
    let named = if resolved.nodes().len() > PORTION {
        let inside: HashSet<&str> = resolved.nodes().iter().map(|node| node.id.as_str()).collect();
        let mut named = db::exports::all_attachments(connection, domain_id).await?;
        named.retain(|named| inside.contains(named.resource_id.as_str()));
        named
    } else {
        let ids: Vec<String> = resolved.nodes().iter().map(|node| node.id.to_string()).collect();
        db::exports::attachments(connection, domain_id, &ids).await?
    };
    Ok(Prepared { resolved: resolved.clone(), named: Arc::new(named), secrets: None })
}

/// Writes the package of a resolved export into a file of its own.
pub(super) async fn write(
    context: &Context,
    record: &Record,
    selection: (Vec<ResourceId>, bool),
    prepared: Prepared,
    leave_out: Option<LeaveOut>,
) -> Result<ScratchFile, JobError> {
    let app = &context.app;
    let Prepared { resolved, named, secrets } = prepared;
    let store = app.store.clone();
    let (file, output) = blocking(move || {
        let file = store.scratch_file()?;
        let output = file.reopen().map_err(PackageError::Io)?;
        Ok((file, output))
    })
    .await?;
    let mut zip = Writer::new(BufWriter::new(output));
    let sent = |node: &&Node| leave_out.as_ref().is_none_or(|out| out.lacking.contains(node.id.as_str()));
    let nodes: Vec<&Node> = resolved.nodes().iter().filter(sent).collect();
    let ids: HashSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    let bytes: BTreeMap<Hash, u64> = named
        .iter()
        .filter(|named| ids.contains(named.resource_id.as_str()))
        .filter_map(|named| named.bytes)
        .filter(|(hash, _)| leave_out.as_ref().is_none_or(|out| out.attachments.contains(hash)))
        .collect();
    let (lines, types) = ((resolved.clone(), named.clone()), app.types.clone());
    let lacking = leave_out.as_ref().map(|out| out.lacking.clone());
    let paged = leave_out.as_ref().map(|out| out.paged.clone()).unwrap_or_default();
    let listed = paged.clone();
    let index = tokio::task::spawn_blocking(move || {
        let (resolved, named) = lines;
        Shard::compress(|out| lines::index(out, &resolved, &named, &types, lacking.as_deref(), &listed))
    });
    let pending = VecDeque::from([(INDEX.to_owned(), index)]);
    zip = shards(context, &nodes, pending, zip).await?;
    let own = resolved.clone();
    if own.nodes().iter().any(|node| node.overlay.is_some() && !paged.contains(&node.id)) {
        let paged = paged.clone();
        let values = tokio::task::spawn_blocking(move || Shard::compress(|out| lines::values(out, &own, &paged)));
        zip = write_first(zip, &mut VecDeque::from([(VALUES.to_owned(), values)])).await?;
    }
    zip = attachments(app, bytes, zip).await?;
    let thin = leave_out.map(|out| Thin { base: out.base, pages: out.pages });
    let (mut roots, export_upstream) = selection;
    // The lines of a page say by themselves who was selected.
    roots.retain(|id| !paged.contains(id));
    let manifest = Manifest { roots, export_upstream, thin, ..manifest(app, record, &resolved) };
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

type Pending = VecDeque<(String, JoinHandle<Result<Shard, PackageError>>)>;

/// Definitions stream from the database into shards; shards are compressed beside it, two at once.
async fn shards(context: &Context, nodes: &[&Node], mut pending: Pending, mut zip: Zip) -> Result<Zip, JobError> {
    let mut lines: Vec<u8> = Vec::with_capacity(SHARD_BYTES + SLACK);
    let (total, mut done) = (nodes.len() as u64, 0);
    let (mut number, mut reported) = (0, Instant::now());
    let mut connection = context.app.workers.acquire().await?;
    for nodes in nodes.chunks(PORTION) {
        let portion: Vec<i64> = nodes.iter().map(|node| node.definition_id).collect();
        let mut bodies = db::exports::bodies(&mut connection, &portion);
        for node in nodes {
            let Some(body) = bodies.try_next().await? else {
                drop(bodies);
                return Err(lost(&mut connection, node).await?);
            };
            lines::resource(&mut lines, node, &body).map_err(PackageError::Io)?;
            if lines.len() >= SHARD_BYTES {
                let full = std::mem::replace(&mut lines, Vec::with_capacity(SHARD_BYTES + SLACK));
                number += 1;
                pending.push_back((shard_name(number), compressing(full)));
                if pending.len() > AT_ONCE {
                    zip = write_first(zip, &mut pending).await?;
                }
            }
        }
        drop(bodies);
        done += nodes.len() as u64;
        if reported.elapsed() >= REPORT {
            context.note(Note::Progress(Phase::Packing, Progress::resources(done, total))).await?;
            reported = Instant::now();
        }
    }
    if !lines.is_empty() {
        pending.push_back((shard_name(number + 1), compressing(lines)));
    }
    while !pending.is_empty() {
        zip = write_first(zip, &mut pending).await?;
    }
    Ok(zip)
}

/// Why a body is not there: a changed type file has put another in its place since, or it is lost.
async fn lost(connection: &mut PgConnection, node: &Node) -> Result<JobError, JobError> {
    let needed = db::definitions::is_used(connection, node.definition_id).await?;
    Ok(if needed { JobError::Corrupt("definitions.body") } else { JobError::bodies_gone() })
}

fn compressing(lines: Vec<u8>) -> JoinHandle<Result<Shard, PackageError>> {
    tokio::task::spawn_blocking(move || Shard::compress(|out| out.write_all(&lines)))
}

async fn write_first(mut zip: Zip, pending: &mut Pending) -> Result<Zip, JobError> {
    let Some((path, next)) = pending.pop_front() else { return Ok(zip) };
    let shard = next.await.map_err(|error| JobError::Retry(format!("a task was stopped: {error}")))??;
    blocking(move || {
        zip.shard(path, &shard)?;
        Ok(zip)
    })
    .await
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
    for node in resolved.nodes() {
        *counts.entry(node.kind.to_string()).or_default() += 1;
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
