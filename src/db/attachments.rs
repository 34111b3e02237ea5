//! Attachments: a path of a domain and the hash of its bytes.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use crate::domain::resource::Hash;
use crate::domain::sight::Sight;

use super::DbError;
use super::copy::Rows;

/// An attachment of a domain.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Of its bytes.
    pub sha256: Hash,
    /// In bytes.
    pub size: u64,
}

/// The attachments of a domain among some paths.
pub async fn by_paths(
    connection: &mut PgConnection,
    domain_id: i32,
    paths: &[String],
) -> Result<HashMap<String, Attachment>, DbError> {
    let found = sqlx::query!(
        "select path, sha256, size from attachments where domain_id = $1 and path = any($2)",
        domain_id,
        paths
    )
    .fetch_all(connection)
    .await?;
    found
        .into_iter()
        .map(|row| {
            let sha256 = Hash::from_slice(&row.sha256).ok_or(DbError::Corrupt("attachments.sha256"))?;
            Ok((row.path, Attachment { sha256, size: row.size as u64 }))
        })
        .collect()
}

/// Stages attachments that are to be written.
pub async fn stage(connection: &mut PgConnection, new: &[(String, Hash, u64)]) -> Result<(), DbError> {
    let mut rows = Rows::new("staged_attachments", &["path", "sha256", "size"]);
    for (path, hash, size) in new {
        rows.row().text(path).bytes(&hash.0).maybe_big(Some(*size as i64));
    }
    rows.send(connection).await
}

/// Gives the resources that name some paths the content hash that fits the bytes of now. Their
/// revision stays. What earlier imports left behind goes along where an import brought the bytes.
pub async fn refresh_hashes(
    connection: &mut PgConnection,
    domain_id: i32,
    paths: &[String],
    cause: Cause,
) -> Result<(), DbError> {
    let found = sqlx::query!(
        r#"select r.id, r.type, r.name, r.directory, r.definition_hash, r.content_hash, a.path, b.sha256 as "sha256?"
         from resources r
         join resource_attachments a on a.resource_id = r.id
         left join attachments b on b.domain_id = a.domain_id and b.path = a.path
         where r.id in (select resource_id from resource_attachments where domain_id = $1 and path = any($2))
         order by r.id"#,
        domain_id,
        paths
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut ids, mut hashes, mut named) = (Vec::new(), Vec::new(), Vec::new());
    for of_one in found.chunk_by(|a, b| a.id == b.id) {
        let first = &of_one[0];
        let definition =
            Hash::from_slice(&first.definition_hash).ok_or(DbError::Corrupt("resources.definition_hash"))?;
        let attachments: Vec<_> =
            of_one.iter().map(|row| (row.path.clone(), row.sha256.as_deref().and_then(Hash::from_slice))).collect();
        let hash = crate::domain::resource::content_hash(
            &first.r#type,
            &first.name,
            &first.directory,
            &definition,
            &attachments,
        );
        if hash.0[..] != first.content_hash[..] {
            ids.push(first.id.clone());
            hashes.push(hash.0.to_vec());
            named.push(serde_json::json!(attachments));
        }
    }
    if cause == Cause::Import {
        sqlx::query!(
            "update import_bases b set result_hash = n.hash
             from unnest($2::text[], $3::bytea[]) as n(id, hash) join resources r on r.id = n.id
             where b.domain_id = $1 and b.target_id = n.id and b.source_id = n.id and b.result_hash = r.content_hash",
            domain_id,
            &ids,
            &hashes
        )
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query!(
        "with changed as (
            update resources r set content_hash = n.hash, updated_at = clock_timestamp()
            from unnest($1::text[], $2::bytea[]) as n(id, hash) where r.id = n.id
            returning r.domain_id, r.id, r.revision
         )
         update resource_versions v set content_hash = n.hash, attachments = n.attachments
         from changed c join unnest($1::text[], $2::bytea[], $3::jsonb[]) as n(id, hash, attachments) on n.id = c.id
         where v.domain_id = c.domain_id and v.resource_id = c.id and v.revision = c.revision",
        &ids,
        &hashes,
        &named
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Why attachment bytes are others now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody wrote them here: what was imported counts as changed here.
    Written,
    /// An import brought them: resources that share them are not changed by anyone here.
    Import,
}

/// A resource that a user who does not see all may not write names the path.
pub async fn is_named_by_others(
    connection: &mut PgConnection,
    domain_id: i32,
    path: &str,
    sight: &Sight,
) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select exists (
            select from resource_attachments a join resources r on r.id = a.resource_id
            where a.domain_id = $1 and a.path = $2 and r.owner <> $3
                and not exists (select from unnest($4::text[]) as granted (prefix) where starts_with(r.directory || '/', prefix))
        ) as "named!""#,
        domain_id,
        path,
        sight.username,
        &sight.writable()
    );
    Ok(found.fetch_one(connection).await?)
}

/// A resource that a user who does not see all may read names the path.
pub async fn is_named_by(
    connection: &mut PgConnection,
    domain_id: i32,
    path: &str,
    sight: &Sight,
) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"select exists (
            select from resource_attachments a join resources r on r.id = a.resource_id
            where a.domain_id = $1 and a.path = $2 and (r.owner = $3
                or exists (select from unnest($4::text[]) as granted (prefix) where starts_with(r.directory || '/', prefix)))
        ) as "named!""#,
        domain_id,
        path,
        sight.username,
        &sight.readable()
    );
    Ok(found.fetch_one(connection).await?)
}

/// Those of some paths that resources name, but none that a user who does not see all may read.
pub async fn named_out_of_sight(
    connection: &mut PgConnection,
    domain_id: i32,
    paths: &[String],
    sight: &Sight,
) -> Result<HashSet<String>, DbError> {
    let found = sqlx::query_scalar!(
        r#"select a.path from resource_attachments a join resources r on r.id = a.resource_id
         where a.domain_id = $1 and a.path = any($2)
         group by a.path
         having not bool_or(r.owner = $3
            or exists (select from unnest($4::text[]) as granted (prefix) where starts_with(r.directory || '/', prefix)))"#,
        domain_id,
        paths,
        sight.username,
        &sight.readable()
    );
    Ok(found.fetch_all(connection).await?.into_iter().collect())
}
