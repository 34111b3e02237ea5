//! Directories that are open to users beside their own resources.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// A grant.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Its ID.
    pub id: Uuid,
    /// To whom.
    pub user_id: Uuid,
    /// His name.
    pub username: String,
    /// With all below it.
    pub directory: String,
    /// `read` or `write`.
    pub access: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// A page of a domain's grants, oldest first.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    user_id: Option<Uuid>,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Grant>, DbError> {
    let found = sqlx::query_as!(
        Grant,
        "select g.id, g.user_id, u.username, g.directory, g.access, g.created_at
         from grants g join users u on u.id = g.user_id
         where u.domain_id = $1 and g.id > $3 and ($2::uuid is null or g.user_id = $2) order by g.id limit $4",
        domain_id,
        user_id,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// Makes a grant; `None`: the domain has no such user.
///
/// # Errors
/// [`DbError::Constraint`] `grants_unique_directory`.
pub async fn insert(
    connection: &mut PgConnection,
    domain_id: i32,
    user_id: Uuid,
    directory: &str,
    access: &str,
) -> Result<Option<Grant>, DbError> {
    let made = sqlx::query_as!(
        Grant,
        "with made as (
            insert into grants (id, user_id, directory, access)
            select $1, id, $4, $5 from users where domain_id = $2 and id = $3
            returning id, user_id, directory, access, created_at
         )
         select g.id, g.user_id, u.username, g.directory, g.access, g.created_at
         from made g join users u on u.id = g.user_id",
        Uuid::now_v7(),
        domain_id,
        user_id,
        directory,
        access
    );
    Ok(made.fetch_optional(connection).await?)
}

/// Takes a grant away; false: the domain has no such grant.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "delete from grants g using users u where g.id = $2 and u.id = g.user_id and u.domain_id = $1",
        domain_id,
        id
    );
    Ok(done.execute(connection).await?.rows_affected() > 0)
}
