//! What of checklists was ticked off by hand, and the one list across imports.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::checklist::ChecklistEntry;

use super::DbError;

/// An entry that somebody ticked off.
#[derive(Debug)]
pub struct Tick {
    /// On whose checklist.
    pub record_id: Uuid,
    /// Its place there.
    pub entry: i32,
    /// User name.
    pub done_by: String,
    /// When.
    pub done_at: DateTime<Utc>,
}

/// What was ticked off the checklists of some records, of the entries from a place to another.
pub async fn ticks(connection: &mut PgConnection, records: &[Uuid], from: i32, to: i32) -> Result<Vec<Tick>, DbError> {
    let found = sqlx::query_as!(
        Tick,
        "select record_id, entry, done_by, done_at from checklist_ticks
         where record_id = any($1) and entry between $2 and $3",
        records,
        from,
        to
    );
    Ok(found.fetch_all(connection).await?)
}

/// Ticks an entry off; whoever did first stays.
pub async fn tick(connection: &mut PgConnection, record_id: Uuid, entry: i32, by: &str) -> Result<(), DbError> {
    sqlx::query!(
        "insert into checklist_ticks (record_id, entry, done_by) values ($1, $2, $3) on conflict do nothing",
        record_id,
        entry,
        by
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// It is to be done again.
pub async fn untick(connection: &mut PgConnection, record_id: Uuid, entry: i32) -> Result<(), DbError> {
    sqlx::query!("delete from checklist_ticks where record_id = $1 and entry = $2", record_id, entry)
        .execute(connection)
        .await?;
    Ok(())
}

/// An entry of the list across imports.
#[derive(Debug)]
pub struct Listed {
    /// The import.
    pub record_id: Uuid,
    /// Its package name.
    pub record_name: String,
    /// Not ticked off yet.
    pub entry: ChecklistEntry,
}

/// At most so many entries of all imports of a domain, or of those that a user asked for: newest import first, from
/// behind a place on.
pub async fn across(
    connection: &mut PgConnection,
    domain_id: i32,
    requested_by: Option<&str>,
    code: Option<&str>,
    (record_id, place): (Uuid, i32),
    limit: i64,
) -> Result<Vec<Listed>, DbError> {
    let found = sqlx::query!(
        r#"select r.id, r.name, e.entry as "entry!: Value"
           from records r cross join lateral (
               select value as entry, ordinality - 1 as place
               from jsonb_array_elements(r.checklist) with ordinality
               union all
               select value, n.first + ordinality - 1
               from record_notes n, jsonb_array_elements(n.notes::jsonb) with ordinality
               where n.record_id = r.id and n.list = 'checklist'
               order by place
           ) e
           where r.domain_id = $1 and r.kind = 'import' and r.checklist_total > 0
             and ($2::text is null or r.requested_by = $2) and ($3::text is null or e.entry ->> 'code' = $3)
             and r.id <= $4 and (r.id < $4 or e.place > $5)
           order by r.id desc, e.place limit $6"#,
        domain_id,
        requested_by,
        code,
        record_id,
        i64::from(place),
        limit
    );
    let listed = |entry| serde_json::from_value(entry).map_err(|_| DbError::Corrupt("records.checklist"));
    let rows = found.fetch_all(connection).await?.into_iter();
    rows.map(|row| Ok(Listed { record_id: row.id, record_name: row.name, entry: listed(row.entry)? })).collect()
}
