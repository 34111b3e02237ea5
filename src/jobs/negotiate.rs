//! Asking the target what it lacks, so that only what changed travels.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::db::records::Record;
use crate::domain::record::Phase;
use crate::wire::import::{Lacking, LackingHead, LackingLine};

use super::courier::Courier;
use super::migrate::MigrationOptions;
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
    };
    let attachments = prepared.attachments();
    let resource = |at: usize| LackingLine {
        id: Some(prepared.nodes()[at].id.to_string()),
        content_hash: Some(prepared.nodes()[at].content_hash.to_string()),
        ..LackingLine::default()
    };
    let bytes = |hash: &crate::domain::resource::Hash| LackingLine {
        attachment: Some(hash.to_string()),
        ..LackingLine::default()
    };
    let lines = (0..prepared.nodes().len()).map(resource).chain(attachments.iter().map(bytes));
    let mut lines = lines.peekable();
    let mut lacking = Lacking::default();
    while lines.peek().is_some() {
        let portion: Vec<LackingLine> = lines.by_ref().take(PORTION).collect();
        let head = head.clone();
        let body = Bytes::from(blocking(move || body(&head, &portion)).await?);
        let answer = courier.tried(|| courier.remote.lacking(body.clone())).await??;
        lacking.ids.extend(answer.ids);
        lacking.attachments.extend(answer.attachments);
    }
    let missing: HashSet<String> = lacking.attachments.into_iter().collect();
    Ok(Some(LeaveOut {
        base: there,
        lacking: lacking.ids.into_iter().collect(),
        attachments: attachments.into_iter().filter(|hash| missing.contains(&hash.to_string())).collect(),
    }))
}

fn body(head: &LackingHead, lines: &[LackingLine]) -> Result<Vec<u8>, JobError> {
    let corrupt = |_| JobError::Retry("a request cannot be written".to_owned());
    let mut body = serde_json::to_vec(head).map_err(corrupt)?;
    body.push(b'\n');
    for line in lines {
        serde_json::to_writer(&mut body, line).map_err(corrupt)?;
        body.push(b'\n');
    }
    Ok(body)
}
