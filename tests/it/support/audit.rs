//! What the audit says of records.

use serde_json::Value;
use sqlx::PgConnection;

/// The changes of a record's state in their order: from, to, by whom, with what.
pub async fn changes(connection: &mut PgConnection, id: &str) -> Vec<(Option<String>, String, String, String)> {
    sqlx::query_as(
        "select details ->> 'from', details ->> 'to', username, token from audit
         where action = 'record.status' and object_kind = 'record' and object_id = $1 order by id",
    )
    .bind(id)
    .fetch_all(connection)
    .await
    .unwrap()
}

/// One row per change of state: each begins where the one before ended, and the last is where the record stands.
pub async fn audited(connection: &mut PgConnection, record: &Value) {
    let found = changes(connection, record["id"].as_str().unwrap()).await;
    let mut stands: Option<String> = None;
    for (from, to, ..) in &found {
        assert_eq!(*from, stands, "a change is missing, or told twice: {found:?}");
        assert_ne!(stands.as_ref(), Some(to), "no change at all: {found:?}");
        stands = Some(to.clone());
    }
    assert_eq!(stands.as_deref(), record["status"].as_str(), "{found:?}");
}
