//! The long lists of a record, warnings and checklist: its own row holds the first of each, for whoever lists
//! records; the rest is here, in chunks.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;
use super::records::Record;

/// So many of each list stand in the record's own row.
pub(super) const SHOWN: usize = 100;
/// Notes in a row of the rest.
const CHUNK: usize = 500;

/// Which list of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notes {
    /// What should be known.
    Warnings,
    /// What is left to do by hand.
    Checklist,
}

impl Notes {
    fn as_str(self) -> &'static str {
        match self {
            Self::Warnings => "warnings",
            Self::Checklist => "checklist",
        }
    }

    fn shown(self, record: &Record) -> &Value {
        match self {
            Self::Warnings => &record.warnings,
            Self::Checklist => &record.checklist,
        }
    }

    fn corrupt(self) -> DbError {
        DbError::Corrupt(match self {
            Self::Warnings => "records.warnings",
            Self::Checklist => "records.checklist",
        })
    }
}

/// The part of a list that stands in the record's own row.
pub(super) fn shown<T: Serialize>(list: &[T]) -> Value {
    serde_json::json!(list[..list.len().min(SHOWN)])
}

/// Replaces what of a list does not stand there.
pub(super) async fn replace_rest<T: Serialize>(
    connection: &mut PgConnection,
    record_id: Uuid,
    notes: Notes,
    list: &[T],
) -> Result<(), DbError> {
    sqlx::query!("delete from record_notes where record_id = $1 and list = $2", record_id, notes.as_str())
        .execute(&mut *connection)
        .await?;
    for (index, chunk) in list.get(SHOWN..).unwrap_or_default().chunks(CHUNK).enumerate() {
        sqlx::query!(
            "insert into record_notes (record_id, list, first, notes) values ($1, $2, $3, $4)",
            record_id,
            notes.as_str(),
            (SHOWN + index * CHUNK) as i32,
            serde_json::to_string(chunk).map_err(|_| notes.corrupt())?
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// At most so many of a list, from a place on.
pub async fn page<T: DeserializeOwned>(
    connection: &mut PgConnection,
    record: &Record,
    notes: Notes,
    from: i32,
    limit: i32,
) -> Result<Vec<T>, DbError> {
    let (start, end) = (from.max(0) as usize, from.saturating_add(limit).max(0) as usize);
    let shown: Vec<T> = serde_json::from_value(notes.shown(record).clone()).map_err(|_| notes.corrupt())?;
    let mut found: Vec<T> = shown.into_iter().take(end).skip(start).collect();
    if end <= SHOWN {
        return Ok(found);
    }
    let rest = sqlx::query!(
        "select first, notes from record_notes
         where record_id = $1 and list = $2 and first > $3 and first < $4 order by first",
        record.id,
        notes.as_str(),
        start as i32 - CHUNK as i32,
        end as i32
    );
    for chunk in rest.fetch_all(connection).await? {
        let list: Vec<T> = serde_json::from_str(&chunk.notes).map_err(|_| DbError::Corrupt("record_notes.notes"))?;
        let first = chunk.first as usize;
        found.extend(list.into_iter().take(end - first).skip(start.saturating_sub(first)));
    }
    Ok(found)
}

/// All of a list.
pub async fn all<T: DeserializeOwned>(
    connection: &mut PgConnection,
    record: &Record,
    notes: Notes,
) -> Result<Vec<T>, DbError> {
    page(connection, record, notes, 0, i32::MAX).await
}
