//! Whether all that a package lists stands in a domain as the last import of it left it: such an import has nothing
//! to do. It says no rather than to look closer.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::resource::Hash;
use crate::domain::type_file::Types;

use super::{DbError, environment};

/// What a package lists: IDs and content hashes, in its order.
#[derive(Debug, Default)]
pub struct Listed {
    ids: Vec<String>,
    hashes: Vec<Vec<u8>>,
}

impl Listed {
    /// Adds a resource.
    pub fn add(&mut self, id: &str, hash: &Hash) {
        self.ids.push(id.to_owned());
        self.hashes.push(hash.0.to_vec());
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Whether a plan for them would find every one unchanged, with nothing to say of it and nothing to note.
pub async fn all_stand(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    source_environment: &str,
    listed: &Listed,
) -> Result<bool, DbError> {
    let found = sqlx::query!(
        r#"select count(*) as "count!", array_agg(distinct r.type) as "types"
           from unnest($3::text[], $4::bytea[]) as listed(id, hash)
           join resources r on r.id = listed.id and r.domain_id = $1 and r.content_hash = listed.hash
           join import_bases b on b.domain_id = $1 and b.source_environment = $2 and b.source_id = listed.id
            and b.target_id = listed.id and b.source_hash = listed.hash and b.result_hash = listed.hash
            and b.remapping = ''"#,
        domain_id,
        source_environment,
        &listed.ids,
        &listed.hashes
    );
    let found = found.fetch_one(&mut *connection).await?;
    if found.count != listed.len() as i64 {
        return Ok(false);
    }
    let kinds: HashSet<String> = found.types.unwrap_or_default().into_iter().collect();
    let disabled = environment::disabled_features(&mut *connection).await?;
    if kinds.iter().any(|key| disabled.contains(key) || types.get(key).is_none()) {
        return Ok(false);
    }
    Ok(!leave_traces(connection, domain_id, source_environment, &listed.ids).await?
        && references_hold(connection, types, domain_id, &listed.ids).await?)
}

/// Children of theirs were deleted here, or what they name has other bytes than the last import brought.
async fn leave_traces(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    ids: &[String],
) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from child_tombstones t where t.domain_id = $1 and t.resource_id = any($3))
            or exists (
                select from resource_attachments a
                left join attachments t on t.domain_id = a.domain_id and t.path = a.path
                left join attachment_bases b
                    on b.domain_id = a.domain_id and b.source_environment = $2 and b.path = a.path and b.sha256 = t.sha256
                where a.domain_id = $1 and a.resource_id = any($3) and b.path is null
            ) as "found!""#,
        domain_id,
        source_environment,
        ids
    );
    Ok(found.fetch_one(connection).await?)
}

/// Each of their references has something in the domain to point to, of a type that it may point to.
async fn references_hold(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    ids: &[String],
) -> Result<bool, DbError> {
    let kinds = sqlx::query!(
        r#"select f.type as "from_type!", e.rule as "rule!", t.type as "found?", e.to_id is null as "by_name!"
           from unnest($2::text[]) as listed(id)
           join resource_references e on e.from_id = listed.id and e.domain_id = $1
           join resources f on f.id = listed.id
           left join resources t on t.id = e.to_id and t.domain_id = $1
           group by 1, 2, 3, 4"#,
        domain_id,
        ids
    );
    let kinds = kinds.fetch_all(&mut *connection).await?;
    let holds = kinds.iter().filter(|row| !row.by_name).all(|row| {
        let rule = types.get(&row.from_type).and_then(|kind| kind.rules.get(row.rule as usize));
        rule.is_none_or(|rule| row.found.as_ref().is_some_and(|found| rule.to.contains(found)))
    });
    if !holds || kinds.iter().all(|row| !row.by_name) {
        return Ok(holds);
    }
    let lost = sqlx::query_scalar!(
        r#"select exists (
            select from resource_references e
            where e.domain_id = $1 and e.from_id = any($2) and e.to_id is null and not exists (
                select from resources n where n.domain_id = $1 and n.type = e.to_type and n.name = e.to_name
            )
         ) as "lost!""#,
        domain_id,
        ids
    );
    Ok(!lost.fetch_one(connection).await?)
}

/// Notes that all of an import stood as it came when it was planned; its entries leave out what its bodies tell.
pub async fn note(
    connection: &mut PgConnection,
    record_id: Uuid,
    plan_digest: &str,
    listed: &Listed,
) -> Result<(), DbError> {
    sqlx::query!(
        "insert into standing_imports (record_id, plan_digest, ids, hashes) values ($1, $2, $3, $4)",
        record_id,
        plan_digest,
        &listed.ids,
        &listed.hashes
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether that is noted of an import.
pub async fn is_noted(connection: &mut PgConnection, record_id: Uuid) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from standing_imports where record_id = $1) as "noted!""#,
        record_id
    );
    Ok(found.fetch_one(connection).await?)
}

/// What an import listed, of which all stood, if the plan that is stored says so.
pub async fn listed(connection: &mut PgConnection, record_id: Uuid) -> Result<Option<Listed>, DbError> {
    let found = sqlx::query_as!(
        Listed,
        "select s.ids, s.hashes from standing_imports s
         join records r on r.id = s.record_id and r.plan_digest = s.plan_digest where s.record_id = $1",
        record_id
    );
    Ok(found.fetch_optional(connection).await?)
}
