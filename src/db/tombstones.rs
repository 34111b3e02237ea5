//! What was deleted here: resources, and children of resources.

use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;
use super::merge::Writer;

/// Which of some IDs were deleted in a domain.
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
pub async fn of_staged(connection: &mut PgConnection, domain_id: i32) -> Result<(), DbError> {
    sqlx::query(
        "insert into child_tombstones (domain_id, resource_id, key, child_id)
         select $1, before.id, before.child ->> 0, before.child ->> 1 from (
            select s.id, c as child from staged_resources s
            join resources r on r.id = s.id
            join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision
            cross join jsonb_array_elements(v.children) c
            union all
            select s.id, c from staged_resources s join tombstones t on t.domain_id = $1 and t.resource_id = s.id
            cross join jsonb_array_elements(t.children) c
            except
            select s.id, c from staged_resources s cross join jsonb_array_elements(s.children) c
         ) before
         on conflict do nothing",
    )
    .bind(domain_id)
    .execute(&mut *connection)
    .await?;
    revive(connection, domain_id, None).await
}

/// Lifts the tombstones of what is staged as new; an import keeps them for its roll back.
pub(super) async fn lift(connection: &mut PgConnection, writer: &Writer<'_>) -> Result<(), DbError> {
    sqlx::query(
        "with lifted as (
            delete from tombstones t using staged_resources s
            where t.resource_id = s.id and t.domain_id = $1 and s.base_revision is null returning t.*
         )
         insert into undo_tombstones (record_id, resource_id, type, revision, children, deleted_at, deleted_by)
         select $2, resource_id, type, revision, children, deleted_at, deleted_by from lifted where $2 is not null
         on conflict do nothing",
    )
    .bind(writer.domain_id)
    .bind(writer.record_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the tombstones of children that what is staged brings back; an import keeps them for its roll back.
pub async fn revive(connection: &mut PgConnection, domain_id: i32, record_id: Option<Uuid>) -> Result<(), DbError> {
    // Mostly there are none, and children are many: only those of resources that have some are unpacked, once each.
    sqlx::query(
        "with touched as materialized (
            select s.id, s.children from staged_resources s
            where exists (select from child_tombstones t where t.domain_id = $1 and t.resource_id = s.id)
         ), back as materialized (
            select s.id, c ->> 0 as key, c ->> 1 as child_id
            from touched s cross join lateral jsonb_array_elements(s.children) c
         ), revived as (
            delete from child_tombstones t using back b
            where t.domain_id = $1 and t.resource_id = b.id and t.key = b.key and t.child_id = b.child_id returning t.*
         )
         insert into undo_child_tombstones (record_id, resource_id, key, child_id, deleted_at)
         select $2, resource_id, key, child_id, deleted_at from revived where $2 is not null on conflict do nothing",
    )
    .bind(domain_id)
    .bind(record_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The deleted children of some resources of a domain: (resource, key, child).
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
