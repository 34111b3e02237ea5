//! Whether all that a package lists stands in a domain as the last import of it left it: such an import has nothing
//! to do. It says no rather than to look closer.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::resource::Hash;
use crate::domain::type_file::Types;

use super::DbError;

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
    let standing = sqlx::query_scalar!(
        r#"select count(*) as "count!" from unnest($3::text[], $4::bytea[]) as listed(id, hash)
           join resources r on r.id = listed.id and r.domain_id = $1 and r.content_hash = listed.hash
           join import_bases b on b.domain_id = $1 and b.source_environment = $2 and b.source_id = listed.id
            and b.target_id = listed.id and b.source_hash = listed.hash and b.result_hash = listed.hash
            and b.remapping = ''
           where r.type not in (select type from features where not enabled)"#,
        domain_id,
        source_environment,
        &listed.ids,
        &listed.hashes
    );
    if standing.fetch_one(&mut *connection).await? != listed.len() as i64 {
        return Ok(false);
    }
    Ok(!leave_traces(connection, domain_id, source_environment, &listed.ids).await?
        && !some_lead_nowhere(connection, types, domain_id, &listed.ids).await?)
}

/// Children of theirs were deleted here, a choice is remembered for one of them, or what they name has other bytes than the last import brought.
async fn leave_traces(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
    ids: &[String],
) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from child_tombstones t where t.domain_id = $1 and t.resource_id = any($3))
            or exists (select from mappings m
                where m.domain_id = $1 and m.source_environment = $2 and m.source_id = any($3))
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

/// One of their references has nothing in the domain to point to, of a type that it may point to.
async fn some_lead_nowhere(
    connection: &mut PgConnection,
    types: &Types,
    domain_id: i32,
    ids: &[String],
) -> Result<bool, DbError> {
    // Who may refer to whom, and by which rule: to sort out all references by that takes twice as long.
    let allowed: Vec<String> = types
        .all()
        .into_iter()
        .flat_map(|from| {
            let rules = from.rules.iter().enumerate();
            rules.flat_map(move |(rule, found)| found.to.iter().map(move |to| format!("{} {rule} {to}", from.key)))
        })
        .collect();
    let found = sqlx::query_scalar!(
        r#"select exists (
            select from unnest($2::text[]) as listed(id)
            join resource_references e on e.from_id = listed.id and e.domain_id = $1 and e.to_id is not null
            join resources f on f.id = listed.id
            left join resources t on t.id = e.to_id and t.domain_id = $1
            where t.id is null or f.type || ' ' || e.rule || ' ' || t.type <> all($3)
         ) or exists (
            select from unnest($2::text[]) as listed(id)
            join resource_references e on e.from_id = listed.id and e.domain_id = $1 and e.to_id is null
            where not exists (
                select from resources n where n.domain_id = $1 and n.type = e.to_type and n.name = e.to_name
            )
         ) as "found!""#,
        domain_id,
        ids,
        &allowed
    );
    Ok(found.fetch_one(connection).await?)
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
