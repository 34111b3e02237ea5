//! The long lists of the import at a target: its record shows the first of each, the rest is read page by page.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::db::records::Record;
use crate::domain::checklist::ChecklistEntry;
use crate::domain::failure::Warning;
use crate::remote::RemoteError;
use crate::wire;

use super::JobError;
use super::courier::Courier;

/// Notes that an import may have beside those of its resources,
const BESIDE: u64 = 1_000;
/// and for each of these.
const EACH: u64 = 4;

/// All warnings and the whole checklist of an import that has ended there.
pub(super) async fn all(
    courier: &Courier,
    record: &Record,
    ended: &wire::record::Record,
) -> Result<(Vec<Warning>, Vec<ChecklistEntry>), JobError> {
    let sent = record.package.as_ref().and_then(|package| package["resources"].as_u64()).unwrap_or_default();
    let pages = Pages { courier, there: ended.id, most: sent.saturating_mul(EACH).saturating_add(BESIDE) };
    let warnings = pages.list("warnings", &ended.warnings, ended.warnings_total).await?;
    let checklist = pages.list("checklist", &ended.checklist, ended.checklist_total).await?;
    Ok((warnings, checklist))
}

struct Pages<'a> {
    courier: &'a Courier,
    there: Uuid,
    /// A target that says more is none.
    most: u64,
}

impl Pages<'_> {
    async fn list<T: DeserializeOwned + Clone>(&self, name: &str, shown: &[T], total: u64) -> Result<Vec<T>, JobError> {
        if total <= shown.len() as u64 {
            return Ok(shown.to_vec());
        }
        let (courier, mut list, mut cursor) = (self.courier, Vec::new(), None::<String>);
        loop {
            let page = courier.tried(|| courier.remote.notes(self.there, name, cursor.as_deref())).await??;
            let empty = page.items.is_empty() && page.next_cursor.is_some();
            list.extend(page.items);
            if empty || list.len() as u64 > self.most {
                let message = "The target's lists of what should be known do not end.";
                let hint = "Check that the target's address is that of a Ferry server.";
                return Err(RemoteError::settings(message, hint).into());
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(list);
            }
        }
    }
}
