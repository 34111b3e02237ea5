//! Undoing an import: what was touched since, what it replaced, and putting that back. Written by it are the versions
//! that name its record.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::resource::Hash;

use super::DbError;
use super::merge::Writer;

/// Something that stands in the way of a roll back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Its ID, or the path of an attachment.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its directory
    pub directory: String,
    /// and owner: who may see it.
    pub owner: String,
    /// What happened to it since.
    pub how: How,
}

/// What happened since an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// What the import wrote is another now.
    Changed,
    /// What the import wrote is not there any more.
    Deleted,
    /// It refers to what would go.
    Refers,
    /// It has the name that would come back.
    TookName,
    /// It would be its own subprocess.
    Cycle,
}

/// The resources that an import wrote and that were changed or deleted since.
pub async fn changed(connection: &mut PgConnection, domain_id: i32, record_id: Uuid) -> Result<Vec<Touched>, DbError> {
    let found = sqlx::query!(
        r#"with mine as (
            select resource_id, max(revision) as revision from resource_versions
            where record_id = $2 and domain_id = $1 and not undone group by resource_id
         )
         select v.resource_id, v.name, v.directory, v.owner, r.id is null as "deleted!"
         from mine m join resource_versions v
            on v.domain_id = $1 and v.resource_id = m.resource_id and v.revision = m.revision
         left join resources r on r.id = m.resource_id and r.domain_id = $1
         where r.id is null or r.content_hash <> v.content_hash order by v.resource_id"#,
        domain_id,
        record_id
    );
    let rows = found.fetch_all(&mut *connection).await?;
    let mut touched: Vec<Touched> = rows
        .into_iter()
        .map(|row| Touched {
            id: row.resource_id,
            name: row.name,
            directory: row.directory,
            owner: row.owner,
            how: if row.deleted { How::Deleted } else { How::Changed },
        })
        .collect();
    let pictures = sqlx::query!(
        "select u.path from undo_attachments u left join attachments a on a.domain_id = $1 and a.path = u.path
         where u.record_id = $2 and a.sha256 is distinct from u.new_sha256 order by u.path",
        domain_id,
        record_id
    );
    let picture = |path: String| {
        let name = path.clone();
        Touched { id: path, name, directory: "/".to_owned(), owner: String::new(), how: How::Changed }
    };
    touched.extend(pictures.fetch_all(connection).await?.into_iter().map(|row| picture(row.path)));
    Ok(touched)
}

/// Resources that were changed since an import, that it did not write, and that refer to what it made, or name an
/// attachment that it brought first.
pub async fn referring(
    connection: &mut PgConnection,
    domain_id: i32,
    record_id: Uuid,
) -> Result<Vec<Touched>, DbError> {
    let found = sqlx::query!(
        r#"with mine as (
            select resource_id, bool_or(created) as created, max(updated_at) as at from resource_versions
            where record_id = $2 and domain_id = $1 and not undone group by resource_id
         ), made as (
            select r.id, r.type, r.name, m.at from mine m join resources r on r.id = m.resource_id and r.domain_id = $1
            where m.created
         ), users as (
            select e.from_id, made.at from made join resource_references e on e.to_id = made.id and e.domain_id = $1
            union
            select e.from_id, made.at from made join resource_references e
                on e.to_id is null and e.domain_id = $1 and e.to_type = made.type and e.to_name = made.name
            union
            select a.resource_id, (select max(at) from mine) from undo_attachments u
            join resource_attachments a on a.domain_id = $1 and a.path = u.path
            where u.record_id = $2 and u.sha256 is null
         )
         select distinct r.id, r.name, r.directory, r.owner from users u
         join resources r on r.id = u.from_id and r.domain_id = $1
         join resource_versions v on v.domain_id = $1 and v.resource_id = r.id and v.revision = r.revision
         where v.updated_at > u.at and not exists (select from mine m where m.resource_id = r.id) order by r.id"#,
        domain_id,
        record_id
    );
    let rows = found.fetch_all(connection).await?;
    let refers = rows.into_iter().map(|row| Touched {
        id: row.id,
        name: row.name,
        directory: row.directory,
        owner: row.owner,
        how: How::Refers,
    });
    Ok(refers.collect())
}

/// An updated resource as it was before the import.
#[derive(Debug)]
pub struct Before {
    /// Its ID.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Its name then.
    pub name: String,
    /// Its directory then.
    pub directory: String,
    /// Its body then.
    pub definition_id: i64,
    /// Of that body; 32 bytes.
    pub definition_hash: Vec<u8>,
    /// What belonged to the environment alone then,
    pub before: Option<String>,
    /// as the import wrote it,
    pub written: Option<String>,
    /// and now.
    pub now: Option<String>,
    /// The revision that stands.
    pub revision: i64,
    /// Of its references, children and attachment paths; 32 bytes.
    pub parts_hash: Vec<u8>,
}

/// What the resources that an import updated were before it, from after an ID on.
pub async fn before(
    connection: &mut PgConnection,
    domain_id: i32,
    record_id: Uuid,
    after: &str,
    limit: i64,
) -> Result<Vec<Before>, DbError> {
    let found = sqlx::query_as!(
        Before,
        r#"with mine as (
            select resource_id, min(revision) as first, max(revision) as last from resource_versions
            where record_id = $2 and domain_id = $1 and not undone and resource_id > $3
            group by resource_id having not bool_or(created) order by resource_id limit $4
         )
         select r.id, r.type as kind, b.name, b.directory, b.definition_id, b.definition_hash, b.overlay as before,
            w.overlay as written, c.overlay as now, r.revision, r.parts_hash
         from mine m join resources r on r.id = m.resource_id and r.domain_id = $1
         join lateral (
            select * from resource_versions b where b.domain_id = $1 and b.resource_id = r.id and b.revision < m.first
            order by b.revision desc limit 1
         ) b on true
         join resource_versions w on w.domain_id = $1 and w.resource_id = r.id and w.revision = m.last
         join resource_versions c on c.domain_id = $1 and c.resource_id = r.id and c.revision = r.revision
         order by r.id"#,
        domain_id,
        record_id,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// What an import made and what belongs to the environment alone in it, as the import wrote it and now, where
/// these differ: (ID, name, written, now).
pub async fn made(
    connection: &mut PgConnection,
    domain_id: i32,
    record_id: Uuid,
) -> Result<Vec<(String, String, Option<String>, String)>, DbError> {
    let found = sqlx::query!(
        r#"select r.id, r.name, w.overlay as written, c.overlay as "now!" from resource_versions w
         join resources r on r.id = w.resource_id and r.domain_id = $1
         join resource_versions c on c.domain_id = $1 and c.resource_id = r.id and c.revision = r.revision
         where w.record_id = $2 and w.domain_id = $1 and w.created and not w.undone
            and c.overlay is not null and c.overlay is distinct from w.overlay order by r.id"#,
        domain_id,
        record_id
    );
    let rows = found.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name, row.written, row.now)).collect())
}

/// What stood under the attachment paths that an import wrote: hash and size, if anything did.
pub async fn pictures(
    connection: &mut PgConnection,
    record_id: Uuid,
) -> Result<Vec<(String, Option<(Hash, u64)>)>, DbError> {
    let found = sqlx::query!("select path, sha256, size from undo_attachments where record_id = $1", record_id);
    let rows = found.fetch_all(connection).await?;
    let was = |sha256: Option<Vec<u8>>, size: Option<i64>| {
        sha256
            .map(|hash| {
                let hash = Hash::from_slice(&hash).ok_or(DbError::Corrupt("undo_attachments.sha256"))?;
                Ok::<_, DbError>((hash, size.unwrap_or_default() as u64))
            })
            .transpose()
    };
    rows.into_iter().map(|row| Ok((row.path, was(row.sha256, row.size)?))).collect()
}

/// Resources that have a name that is staged, and that are neither staged nor made by the import.
pub async fn took_names(
    connection: &mut PgConnection,
    domain_id: i32,
    record_id: Uuid,
) -> Result<Vec<Touched>, DbError> {
    let found: Vec<(String, String, String, String)> = sqlx::query_as(
        "select r.id, r.name, r.directory, r.owner from staged_resources s
         join resources r on r.domain_id = $1 and r.type = s.type and r.name_scope = s.name_scope and r.name = s.name
         where r.id <> s.id and not exists (select from staged_resources o where o.id = r.id)
            and not exists (select from resource_versions v where v.domain_id = $1 and v.resource_id = r.id
                and v.record_id = $2 and v.created and not v.undone)
         order by r.id",
    )
    .bind(domain_id)
    .bind(record_id)
    .fetch_all(connection)
    .await?;
    let took = found.into_iter().map(|(id, name, directory, owner)| Touched {
        id,
        name,
        directory,
        owner,
        how: How::TookName,
    });
    Ok(took.collect())
}

/// Says of what was just merged that it undoes the import, and what had imported it before.
pub async fn sign(connection: &mut PgConnection, domain_id: i32, record_id: Uuid) -> Result<(), DbError> {
    sqlx::query(
        "with was as (
            select s.id, b.imported_record, b.imported_from, b.imported_at from staged_resources s
            join lateral (
                select min(revision) as first from resource_versions
                where domain_id = $1 and resource_id = s.id and record_id = $2 and not undone
            ) m on true
            join lateral (
                select * from resource_versions b where b.domain_id = $1 and b.resource_id = s.id and b.revision < m.first
                order by b.revision desc limit 1
            ) b on true
         ), current as (
            update resources r set imported_record = w.imported_record, imported_from = w.imported_from,
                imported_at = w.imported_at
            from was w where r.id = w.id returning r.id, r.revision, r.imported_record, r.imported_from, r.imported_at
         )
         update resource_versions v set record_id = $2, undone = true, imported_record = c.imported_record,
            imported_from = c.imported_from, imported_at = c.imported_at
         from current c where v.domain_id = $1 and v.resource_id = c.id and v.revision = c.revision",
    )
    .bind(domain_id)
    .bind(record_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes away what the import made: no tombstone stays, but those that it lifted come back, and IDs count on.
pub async fn take_away(connection: &mut PgConnection, domain_id: i32, record_id: Uuid) -> Result<(), DbError> {
    for statement in [
        "with gone as (
            delete from resources r using resource_versions v
            where v.record_id = $2 and v.domain_id = $1 and v.created and not v.undone
                and r.domain_id = $1 and r.id = v.resource_id returning r.id, r.revision
         ), edges as (
            delete from resource_references e using gone where e.from_id = gone.id
         ), paths as (
            delete from resource_attachments a using gone where a.resource_id = gone.id
         ), lifted as (
            insert into tombstones (domain_id, resource_id, type, revision, children, deleted_at, deleted_by)
            select $1, u.resource_id, u.type, gone.revision, u.children, u.deleted_at, u.deleted_by
            from gone join undo_tombstones u on u.record_id = $2 and u.resource_id = gone.id
         )
         insert into last_revisions (domain_id, resource_id, revision)
         select $1, gone.id, gone.revision from gone
         on conflict (domain_id, resource_id) do update set revision = excluded.revision",
        "insert into child_tombstones (domain_id, resource_id, key, child_id, deleted_at)
         select $1, resource_id, key, child_id, deleted_at from undo_child_tombstones where record_id = $2
         on conflict do nothing",
        "delete from attachments a using undo_attachments u
         where u.record_id = $2 and u.sha256 is null and a.domain_id = $1 and a.path = u.path",
    ] {
        sqlx::query(statement).bind(domain_id).bind(record_id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Puts back what imports from the same source compare with. What stood for the resources that were undone goes also
/// where a later import, which found them unchanged, has noted it again.
pub async fn bases(connection: &mut PgConnection, writer: &Writer<'_>) -> Result<(), DbError> {
    for statement in [
        "delete from import_bases b where b.domain_id = $1 and b.source_environment = $2 and (b.record_id = $3
            or exists (select from resource_versions v where v.domain_id = $1 and v.resource_id = b.target_id
                and v.record_id = $3))",
        "insert into import_bases (domain_id, source_environment, source_id, target_id, source_hash, result_hash, remapping,
            entry, type_digest, record_id)
         select $1, $2, source_id, target_id, source_hash, result_hash, remapping, entry, type_digest, base_record
         from undo_bases where record_id = $3 on conflict do nothing",
        "delete from attachment_bases b using undo_attachment_bases u where u.record_id = $3 and u.path = b.path
            and b.domain_id = $1 and b.source_environment = $2",
        "insert into attachment_bases (domain_id, source_environment, path, sha256)
         select $1, $2, path, sha256 from undo_attachment_bases where record_id = $3 and sha256 is not null
         on conflict do nothing",
    ] {
        let query = sqlx::query(statement).bind(writer.domain_id).bind(writer.source_environment);
        query.bind(writer.record_id).execute(&mut *connection).await?;
    }
    Ok(())
}
