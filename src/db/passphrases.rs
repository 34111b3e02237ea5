//! The passphrases of records that have not ended, sealed. A final status takes them away
//! ([`super::records::rest`]).

use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// Keeps the passphrase of a record.
pub async fn keep(connection: &mut PgConnection, record_id: Uuid, sealed: &str) -> Result<(), DbError> {
    sqlx::query!("update records set passphrase = $2 where id = $1", record_id, sealed).execute(connection).await?;
    Ok(())
}

/// The passphrase of a record, sealed, if it has one.
pub async fn find(connection: &mut PgConnection, record_id: Uuid) -> Result<Option<String>, DbError> {
    Ok(sqlx::query_scalar!("select passphrase from records where id = $1", record_id).fetch_one(connection).await?)
}
