//! What users chose for resources of source environments: to map or to rename them. It is applied again at the next
//! import.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::import_plan::Resolution;
use crate::domain::manifest::Origin;
use crate::domain::resource::ResourceId;

use super::DbError;
use super::merge::Writer;

/// A remembered choice.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Its own ID.
    pub id: Uuid,
    /// The environment that the resource comes from: its ID
    pub source_environment: String,
    /// and name.
    pub source_name: String,
    /// The resource there.
    pub source_id: String,
    /// Its type
    pub kind: String,
    /// and name there.
    pub name: String,
    /// What is used instead,
    pub target_id: Option<String>,
    /// or how it is named here.
    pub new_name: Option<String>,
    /// The import in which it was chosen.
    pub record_id: Uuid,
    /// By whom
    pub chosen_by: String,
    /// and when.
    pub chosen_at: DateTime<Utc>,
}

/// What a user chose for a resource in an import that was executed.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The resource at its source.
    pub source_id: &'a ResourceId,
    /// Its type
    pub kind: &'a str,
    /// and name there.
    pub name: &'a str,
    /// What is used instead, or how it is named here; neither: what was remembered is forgotten.
    pub resolution: Option<&'a Resolution>,
}

/// Remembers what was chosen: the newest choice counts.
pub async fn remember(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    origin: &Origin,
    choices: &[Choice<'_>],
) -> Result<(), DbError> {
    let (kept, forgotten): (Vec<&Choice<'_>>, Vec<&Choice<'_>>) =
        choices.iter().partition(|choice| choice.resolution.is_some());
    let forgotten: Vec<String> = forgotten.iter().map(|choice| choice.source_id.to_string()).collect();
    if !forgotten.is_empty() {
        sqlx::query!(
            "delete from mappings where domain_id = $1 and source_environment = $2 and source_id = any($3)",
            writer.domain_id,
            origin.id,
            &forgotten
        )
        .execute(&mut *connection)
        .await?;
    }
    if kept.is_empty() {
        return Ok(());
    }
    let texts = |of: &dyn Fn(&Choice<'_>) -> String| kept.iter().map(|choice| of(choice)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = kept.iter().map(|_| Uuid::now_v7()).collect();
    let targets: Vec<Option<String>> = kept
        .iter()
        .map(|choice| match choice.resolution {
            Some(Resolution::Map(target)) => Some(target.to_string()),
            _ => None,
        })
        .collect();
    let names: Vec<Option<String>> = kept
        .iter()
        .map(|choice| match choice.resolution {
            Some(Resolution::Rename(name)) => Some(name.clone()),
            _ => None,
        })
        .collect();
    sqlx::query!(
        "insert into mappings (id, domain_id, source_environment, source_name, source_id, type, name, target_id, new_name, record_id, chosen_by)
         select n.id, $1, $2, $3, n.source_id, n.type, n.name, n.target_id, n.new_name, $4, $5
         from unnest($6::uuid[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
            as n(id, source_id, type, name, target_id, new_name)
         on conflict on constraint mappings_one_per_resource do update set source_name = excluded.source_name,
            type = excluded.type, name = excluded.name, target_id = excluded.target_id, new_name = excluded.new_name,
            record_id = excluded.record_id, chosen_by = excluded.chosen_by, chosen_at = excluded.chosen_at",
        writer.domain_id,
        origin.id,
        origin.name,
        writer.record_id,
        writer.username,
        &ids,
        &texts(&|choice| choice.source_id.to_string()),
        &texts(&|choice| choice.kind.to_owned()),
        &texts(&|choice| choice.name.to_owned()),
        &targets as &[Option<String>],
        &names as &[Option<String>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What is remembered of the resources of a source environment.
pub async fn of_source(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
) -> Result<Vec<(ResourceId, Resolution)>, DbError> {
    let found = sqlx::query!(
        "select source_id, target_id, new_name from mappings where domain_id = $1 and source_environment = $2",
        domain_id,
        source_environment
    );
    let rows = found.fetch_all(connection).await?;
    let corrupt = |_| DbError::Corrupt("mappings.source_id");
    let read = rows.into_iter().map(|row| {
        let resolution = match (row.target_id, row.new_name) {
            (Some(target), _) => {
                Resolution::Map(ResourceId::parse(&target).map_err(|_| DbError::Corrupt("mappings.target_id"))?)
            }
            (None, Some(name)) => Resolution::Rename(name),
            (None, None) => return Err(DbError::Corrupt("mappings.target_id")),
        };
        Ok((ResourceId::parse(&row.source_id).map_err(corrupt)?, resolution))
    });
    read.collect()
}

/// A page of what a domain remembers, by ID.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: Option<&str>,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Mapping>, DbError> {
    let found = sqlx::query_as!(
        Mapping,
        "select id, source_environment, source_name, source_id, type as kind, name, target_id, new_name, record_id,
            chosen_by, chosen_at
         from mappings where domain_id = $1 and ($2::text is null or source_environment = $2) and id > $3
         order by id limit $4",
        domain_id,
        source_environment,
        after,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// Forgets one; whether it was there.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<Mapping>, DbError> {
    let gone = sqlx::query_as!(
        Mapping,
        "delete from mappings where domain_id = $1 and id = $2
         returning id, source_environment, source_name, source_id, type as kind, name, target_id, new_name, record_id,
            chosen_by, chosen_at",
        domain_id,
        id
    );
    Ok(gone.fetch_optional(connection).await?)
}
