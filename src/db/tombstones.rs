//! What was deleted here: resources, and children of resources.

use sqlx::PgConnection;

use super::DbError;

/// Which of some IDs were deleted in a domain.
///
/// # Errors
/// The database fails.
pub async fn by_ids(connection: &mut PgConnection, domain_id: i32, ids: &[String]) -> Result<Vec<String>, DbError> {
    let found = sqlx::query_scalar!(
        "select resource_id from tombstones where domain_id = $1 and resource_id = any($2)",
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?)
}

/// Notes the children that staged changes, made here, take away, and forgets those that are back. Before
/// the merge: it compares with what the resources, or their tombstones, hold now.
///
/// # Errors
/// The database fails.
pub async fn of_staged(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    for statement in [
        "insert into child_tombstones (domain_id, resource_id, key, child_id)
         select $1, s.id, c ->> 0, c ->> 1
         from staged_resources s join resources r on r.id = s.id cross join jsonb_array_elements(r.children) c
         where not exists (select from jsonb_array_elements(s.children) e where e = c)
         on conflict do nothing",
        "insert into child_tombstones (domain_id, resource_id, key, child_id)
         select $1, s.id, c ->> 0, c ->> 1
         from staged_resources s join tombstones t on t.domain_id = $1 and t.resource_id = s.id
         cross join jsonb_array_elements(t.children) c
         where not exists (select from jsonb_array_elements(s.children) e where e = c)
         on conflict do nothing",
    ] {
        sqlx::query(statement).bind(domain_id).execute(&mut *connection).await?;
    }
    revive(connection, domain_id).await
}

/// Forgets the tombstones of children that what is staged brings back.
///
/// # Errors
/// The database fails.
pub async fn revive(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    sqlx::query(
        "delete from child_tombstones t using staged_resources s, jsonb_array_elements(s.children) e
         where t.domain_id = $1 and t.resource_id = s.id and t.key = e ->> 0 and t.child_id = e ->> 1",
    )
    .bind(domain_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The deleted children of some resources of a domain: (resource, key, child).
///
/// # Errors
/// The database fails.
pub async fn children_of(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<(String, String, String)>, DbError> {
    let found = sqlx::query!(
        "select resource_id, key, child_id from child_tombstones where domain_id = $1 and resource_id = any($2)",
        domain_id,
        ids
    );
    Ok(found.fetch_all(connection).await?.into_iter().map(|row| (row.resource_id, row.key, row.child_id)).collect())
}
