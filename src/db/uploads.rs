//! Uploads in pieces: how far each is, and where its pieces rest in the store.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// An upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its ID.
    pub id: Uuid,
    /// Of all of it, in bytes.
    pub size: u64,
    /// There so far, in bytes.
    pub received: u64,
    /// `Upload-Metadata` as it was given.
    pub metadata: String,
    /// The import that it became.
    pub record_id: Option<Uuid>,
    /// When it is forgotten.
    pub expires_at: DateTime<Utc>,
    /// It is past that.
    pub expired: bool,
}

/// Makes an upload of a user.
pub async fn insert(
    connection: &mut PgConnection,
    (domain_id, user_id): (i32, Uuid),
    (id, size, metadata): (Uuid, u64, &str),
    hours: u32,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into uploads (id, domain_id, user_id, size, metadata, expires_at)
         values ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(hours => $6))",
        id,
        domain_id,
        user_id,
        size as i64,
        metadata,
        hours as i32
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An upload of a user; its row is held until the transaction ends.
pub async fn lock(connection: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Upload>, DbError> {
    let found = sqlx::query!(
        r#"select id, size, received, metadata, record_id, expires_at, expires_at < clock_timestamp() as "expired!"
           from uploads where user_id = $1 and id = $2 for update"#,
        user_id,
        id
    );
    Ok(found.fetch_optional(connection).await?.map(|row| Upload {
        id: row.id,
        size: row.size as u64,
        received: row.received as u64,
        metadata: row.metadata,
        record_id: row.record_id,
        expires_at: row.expires_at,
        expired: row.expired,
    }))
}

/// Adds a piece at the end of an upload whose row is held.
pub async fn add_piece(
    connection: &mut PgConnection,
    upload: &Upload,
    (key, length): (&str, u64),
    hours: u32,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into upload_pieces (upload_id, start, key) values ($1, $2, $3)",
        upload.id,
        upload.received as i64,
        key
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update uploads set received = received + $2, expires_at = clock_timestamp() + make_interval(hours => $3) where id = $1",
        upload.id,
        length as i64,
        hours as i32
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Where the pieces of an upload rest, in their order.
pub async fn pieces(connection: &mut PgConnection, id: Uuid) -> Result<Vec<String>, DbError> {
    let found = sqlx::query_scalar!("select key from upload_pieces where upload_id = $1 order by start", id);
    Ok(found.fetch_all(connection).await?)
}

/// Notes the import that an upload became.
pub async fn used(connection: &mut PgConnection, id: Uuid, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query!("update uploads set record_id = $2 where id = $1", id, record_id).execute(connection).await?;
    Ok(())
}

/// Forgets the pieces of an upload whose bytes are gone.
pub async fn forget_pieces(connection: &mut PgConnection, id: Uuid) -> Result<(), DbError> {
    sqlx::query!("delete from upload_pieces where upload_id = $1", id).execute(connection).await?;
    Ok(())
}

/// Forgets an upload.
pub async fn delete(connection: &mut PgConnection, id: Uuid) -> Result<(), DbError> {
    sqlx::query!("delete from uploads where id = $1", id).execute(connection).await?;
    Ok(())
}

/// Uploads whose time is over, and those that became an import and still have pieces: some at a time.
pub async fn over(connection: &mut PgConnection) -> Result<Vec<(Uuid, bool)>, DbError> {
    let found = sqlx::query!(
        r#"select id, expires_at < clock_timestamp() as "expired!" from uploads u
           where expires_at < clock_timestamp()
              or (record_id is not null and exists (select from upload_pieces p where p.upload_id = u.id))
           order by expires_at limit 100"#
    );
    Ok(found.fetch_all(connection).await?.into_iter().map(|row| (row.id, row.expired)).collect())
}

/// Which of some uploads there are.
pub async fn alive(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashSet<Uuid>, DbError> {
    let found = sqlx::query_scalar!("select id from uploads where id = any($1)", ids);
    Ok(found.fetch_all(connection).await?.into_iter().collect())
}
