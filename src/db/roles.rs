//! Roles that domains made for themselves.

use sqlx::PgConnection;

use super::DbError;

/// A role.
#[derive(Debug, Clone)]
pub struct Role {
    /// Unique in the domain.
    pub name: String,
    /// The words of the contract.
    pub permissions: Vec<String>,
}

/// A page of a domain's own roles, by name.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<Role>, DbError> {
    let found = sqlx::query_as!(
        Role,
        "select name, permissions from roles where domain_id = $1 and name > $2 order by name limit $3",
        domain_id,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// What a role of a domain holds; it is not removed before the transaction ends.
pub async fn keep(connection: &mut PgConnection, domain_id: i32, name: &str) -> Result<Option<Vec<String>>, DbError> {
    let found = sqlx::query_scalar!(
        "select permissions from roles where domain_id = $1 and name = $2 for key share",
        domain_id,
        name
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Makes a role.
///
/// # Errors
/// [`DbError::Constraint`] `roles_unique_name`.
pub async fn insert(connection: &mut PgConnection, domain_id: i32, role: &Role) -> Result<(), DbError> {
    sqlx::query!(
        "insert into roles (domain_id, name, permissions) values ($1, $2, $3)",
        domain_id,
        role.name,
        &role.permissions
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a role, and says how many users have it: with any the caller gives up. `None`: there is no such role.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, name: &str) -> Result<Option<i64>, DbError> {
    let done = sqlx::query!("delete from roles where domain_id = $1 and name = $2", domain_id, name);
    if done.execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(None);
    }
    // After the row is locked: whoever was just given the role is seen.
    let users = sqlx::query_scalar!(
        r#"select count(*) as "count!" from users where domain_id = $1 and role = $2"#,
        domain_id,
        name
    );
    Ok(Some(users.fetch_one(connection).await?))
}
