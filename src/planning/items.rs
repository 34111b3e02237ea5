//! Items of a record: in chunks as the database keeps them, counted, and made final.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::db::record_items::{CHUNK, Chunk, NewChunk};
use crate::db::{self, DbError, PgConnection};
use crate::domain::failure::Failure;
use crate::domain::outcome::{Counts, Method, Status, status_of};
use crate::domain::record::Final;
use crate::domain::resource::{Hash, below};
use crate::wire::record::Item;

/// The items of a chunk, each in the status that it came to.
///
/// # Errors
/// They cannot be read.
pub fn read(chunk: &Chunk) -> Result<Vec<Item>, DbError> {
    let mut items: Vec<Item> =
        serde_json::from_str(&chunk.items).map_err(|_| DbError::Corrupt("record_items.items"))?;
    if let Some(directory) = &chunk.as_sent_below {
        let prefix = Some(directory.as_str()).filter(|directory| !directory.is_empty());
        return Ok(items.iter().map(|item| as_sent(item, Status::Unchanged, prefix)).collect());
    }
    if let Some(applied) = chunk.applied {
        for item in items.iter_mut().filter(|item| item.status == Status::Pending) {
            item.status = item.method.map_or(item.status, |method| status_of(method, applied));
        }
    }
    Ok(items)
}

/// What the target says of a resource that it has as it was sent.
pub fn as_sent(own: &Item, status: Status, prefix: Option<&str>) -> Item {
    Item {
        selected: true,
        method: Some(Method::Unchanged),
        status,
        new_id: Some(own.resource_id.clone()),
        new_directory: Some(below(prefix, &own.directory)),
        new_name: None,
        errors: Vec::new(),
        warnings: Vec::new(),
        drifted: false,
        drift: None,
        remembered: false,
        suggestion: None,
        target_changed: None,
        target_content_hash: own.arrives.clone(),
        as_sent: true,
        ..own.clone()
    }
}

/// All items end as planned; `applied`: their changes were written.
pub async fn settle(connection: &mut PgConnection, record_id: Uuid, applied: bool) -> Result<(), DbError> {
    let ends = Method::ALL.map(|method| (method.as_str(), status_of(method, applied).as_str()));
    db::record_items::settle(connection, record_id, applied, &ends).await
}

/// All items of a record.
pub async fn all_items(connection: &mut PgConnection, record_id: Uuid) -> Result<Vec<Item>, DbError> {
    let kept = db::record_items::chunks(connection, record_id, 0, (None, None, None), i64::MAX).await?;
    let mut items: Vec<Item> = Vec::new();
    for chunk in kept {
        items.extend(read(&chunk)?);
    }
    Ok(items)
}

/// A digest of a plan and of what it rests on: it changes when the target moves.
#[derive(Default)]
pub(super) struct PlanDigest(Sha256);

impl PlanDigest {
    /// Its items, chunk after chunk.
    pub(super) fn add(&mut self, chunk: &NewChunk) {
        self.0.update(&chunk.items);
    }

    /// At last what stops all of it.
    pub(super) fn end(mut self, error: Option<&Failure>) -> String {
        self.0.update(error.map_or("", |error| &error.message));
        Hash(self.0.finalize().into()).to_string()
    }
}

/// Counts over items.
pub fn counts(items: &[Item]) -> Counts {
    let mut counts = Counts::default();
    for item in items {
        counts.add(item.method, item.status);
    }
    counts
}

/// The items of a record that ends without doing its work.
pub struct Finalised {
    /// Over all of them.
    pub counts: Counts,
    /// How it ends if it was not cancelled: an earlier run may have done some of it.
    pub failure: Final,
}

/// Makes the pending items of a record that ends without doing its work final. A chunk that cannot be read stays as it
/// is, for a record can always end.
pub async fn finalise_items(connection: &mut PgConnection, record_id: Uuid) -> Result<Finalised, DbError> {
    let (mut counts, mut failure) = (Counts::default(), Final::FAILED);
    let kept = db::record_items::chunks(connection, record_id, 0, (None, None, None), i64::MAX).await?;
    for chunk in kept {
        let Ok(mut items) = serde_json::from_str::<Vec<Item>>(&chunk.items) else {
            tracing::error!(record = %record_id, first = chunk.first, "what is stored in record_items.items cannot be read");
            continue;
        };
        for item in items.iter_mut().filter(|item| item.status == Status::Pending) {
            item.status = item.method.map_or(Status::Skipped, |method| status_of(method, false));
        }
        items.iter().for_each(|item| counts.add(item.method, item.status));
        if items.iter().any(|item| matches!(item.status, Status::Succeeded | Status::Unchanged)) {
            failure = Final::PARTIALLY_SUCCEEDED;
        }
        db::record_items::put(connection, record_id, &self::chunk(chunk.first as usize, &items)?).await?;
    }
    Ok(Finalised { counts, failure })
}

/// Items as the database keeps them.
///
/// # Errors
/// Never for items of ours.
pub fn chunks(items: &[Item]) -> Result<Vec<NewChunk>, DbError> {
    items.chunks(CHUNK).enumerate().map(|(index, items)| chunk(index * CHUNK, items)).collect()
}

/// Items as the database keeps them, from a place on.
///
/// # Errors
/// Never for items of ours.
pub fn chunk(first: usize, items: &[Item]) -> Result<NewChunk, DbError> {
    let words = |of: &dyn Fn(&Item) -> Option<&str>| {
        items.iter().filter_map(of).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
    };
    Ok(NewChunk {
        first: first as i32,
        methods: words(&|item| item.method.map(Method::as_str)),
        statuses: words(&|item| Some(item.status.as_str())),
        types: words(&|item| Some(&item.kind)),
        items: serde_json::to_string(items).map_err(|_| DbError::Corrupt("record_items.items"))?,
    })
}
