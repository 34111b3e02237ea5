//! Asking the target what it lacks, so that only what changed travels.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::db::records::Record;
use crate::domain::pages::{self, PAGED};
use crate::domain::record::Phase;
use crate::domain::resource::{Hash, ResourceId};
use crate::wire::import::{Lacking, LackingHead, LackingLine};

use super::courier::Courier;
use super::migration_options::MigrationOptions;
use super::pack::{LeaveOut, Prepared};
use super::{JobError, blocking};

/// From so many resources on, the record says that the target is being asked.
const TOLD: usize = 1_000;
/// Lines in a request.
const PORTION: usize = 100_000;

/// What need not be sent; none: everything must be, as with changed IDs.
pub(super) async fn ask(
    courier: &Courier,
    record: &Record,
    prepared: &Prepared,
    there: String,
) -> Result<Option<LeaveOut>, JobError> {
    let options = MigrationOptions::of(record)?;
    if options.plan.change_ids {
        return Ok(None);
    }
    // What takes no longer than a write of it is not told.
    if prepared.nodes().len() >= TOLD {
        courier.context.phase(Phase::Negotiating).await?;
    }
    let app = &courier.context.app;
    let head = LackingHead {
        source_environment: app.identity.id.clone(),
        types: app
            .types
            .digests()
            .into_iter()
            .map(|(key, digest)| (key, digest.to_string()))
            .collect::<BTreeMap<_, _>>(),
        options: options.plan,
        pages: Vec::new(),
    };
    let mut lacking = Lacking::default();
    let mut pages = Vec::new();
    if prepared.nodes().len() >= PAGED {
        let lines = prepared.page_lines()?;
        let written = |error| JobError::Retry(format!("a line cannot be written: {error}"));
        pages = blocking(move || pages::cut(lines).map_err(written)).await?;
        let names = pages.iter().map(|page| page.name.hex()).collect();
        lacking = lacking_of(courier, LackingHead { pages: names, ..head.clone() }, Vec::new()).await?;
        let unknown: HashSet<Hash> = lacking.unknown_pages.iter().filter_map(|name| Hash::parse(name)).collect();
        pages.retain(|page| !unknown.contains(&page.name));
    }
    let known: HashSet<&str> = pages.iter().flat_map(|page| &page.ids).map(ResourceId::as_str).collect();
    let mut lines = prepared.lines(&known).into_iter().peekable();
    while lines.peek().is_some() {
        let answer = lacking_of(courier, head.clone(), lines.by_ref().take(PORTION).collect()).await?;
        lacking.ids.extend(answer.ids);
        lacking.attachments.extend(answer.attachments);
    }
    let missing: HashSet<Hash> = lacking.attachments.iter().filter_map(|hash| Hash::parse(hash)).collect();
    let lacking: Arc<HashSet<String>> = Arc::new(lacking.ids.into_iter().collect());
    pages.retain(|page| !page.ids.iter().any(|id| lacking.contains(id.as_str())));
    Ok(Some(LeaveOut {
        base: there,
        lacking,
        attachments: missing,
        paged: Arc::new(pages.iter().flat_map(|page| page.ids.iter().cloned()).collect()),
        pages: pages.into_iter().map(|page| page.name).collect(),
    }))
}

async fn lacking_of(courier: &Courier, head: LackingHead, lines: Vec<LackingLine>) -> Result<Lacking, JobError> {
    let body = Bytes::from(blocking(move || body(&head, &lines)).await?);
    Ok(courier.tried(|| courier.remote.lacking(body.clone())).await??)
}

/// A request in gzip.
fn body(head: &LackingHead, lines: &[LackingLine]) -> Result<Vec<u8>, JobError> {
    let corrupt = |_| JobError::Retry("a request cannot be written".to_owned());
    let mut text = serde_json::to_vec(head).map_err(corrupt)?;
    text.push(b'\n');
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(corrupt)?;
        text.push(b'\n');
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    let written = packed.write_all(&text).and_then(|()| packed.finish());
    written.map_err(|error| JobError::Retry(format!("a request cannot be compressed: {error}")))
}
