//! What was deleted here: resources, and children of resources.

use sqlx::PgConnection;

use super::DbError;

/// The tombstones of a domain among some IDs: (ID, children as (key, id)).
///
/// # Errors
/// The database fails.
pub async fn by_ids(
    connection: &mut PgConnection,
    domain_id: i32,
    ids: &[String],
) -> Result<Vec<(String, Vec<(String, String)>)>, DbError> {
    let found = sqlx::query!(
        "select resource_id, children from tombstones where domain_id = $1 and resource_id = any($2)",
        domain_id,
        ids
    )
    .fetch_all(connection)
    .await?;
    found
        .into_iter()
        .map(|row| {
            Ok((row.resource_id, serde_json::from_value(row.children).map_err(|_| DbError::Corrupt("tombstone"))?))
        })
        .collect()
}

/// Notes children that a change made here has removed, and forgets those that are back.
/// `gone` and `alive` hold (resource, key, child).
///
/// # Errors
/// The database fails.
pub async fn children(
    connection: &mut PgConnection,
    domain_id: i32,
    gone: &[(String, String, String)],
    alive: &[(String, String, String)],
) -> Result<(), DbError> {
    let split = |of: &[(String, String, String)]| {
        let ids: Vec<String> = of.iter().map(|(id, _, _)| id.clone()).collect();
        let keys: Vec<String> = of.iter().map(|(_, key, _)| key.clone()).collect();
        let children: Vec<String> = of.iter().map(|(_, _, child)| child.clone()).collect();
        (ids, keys, children)
    };
    if !gone.is_empty() {
        let (ids, keys, children) = split(gone);
        sqlx::query!(
            "insert into child_tombstones (domain_id, resource_id, key, child_id)
             select $1, id, key, child from unnest($2::text[], $3::text[], $4::text[]) as n(id, key, child) on conflict do nothing",
            domain_id,
            &ids,
            &keys,
            &children
        )
        .execute(&mut *connection)
        .await?;
    }
    if !alive.is_empty() {
        let (ids, keys, children) = split(alive);
        sqlx::query!(
            "delete from child_tombstones t using unnest($2::text[], $3::text[], $4::text[]) as n(id, key, child)
             where t.domain_id = $1 and t.resource_id = n.id and t.key = n.key and t.child_id = n.child",
            domain_id,
            &ids,
            &keys,
            &children
        )
        .execute(connection)
        .await?;
    }
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
