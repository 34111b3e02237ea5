//! Reading resources: list, one, lineage.

pub mod attachments;
pub mod revisions;
pub mod writes;

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::db::graph::{self, EdgeRow};
use crate::db::resources::{self, After, Filter, ResourceRow, Sort};
use crate::db::{self, PgConnection};
use crate::domain::resource::{Hash, ResourceId, parse_directory};
use crate::domain::type_file::Types;
use crate::wire::List;
use crate::wire::resource::{Imported, Lineage, LineageEdge, LineageNode, ReferenceLine, Resource};

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{Path, Query, time};
use crate::api::http::paging::{cursor, from_cursor, page_size};

/// What a list is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ListQuery {
    /// Of this type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Somewhere in the name or the ID, in any case.
    q: Option<String>,
    /// In this directory or below.
    directory: Option<String>,
    /// Of this user.
    owner: Option<String>,
    /// Changed at or after.
    updated_since: Option<DateTime<Utc>>,
    /// `id`, `name` or `updated_at`; `-` before it for descending.
    #[param(default = "id", pattern = "^-?(id|name|updated_at)$")]
    sort: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// Where the next page of resources begins.
#[derive(Serialize, Deserialize)]
struct Place(String, String);

/// The domain's resources, as far as the caller may read them.
#[utoipa::path(get, path = "/api/v1/resources", params(ListQuery), responses((status = 200, body = List<Resource>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<Resource>>, ApiError> {
    let limit = page_size(query.limit)?;
    let (sort, descending) = sort(query.sort.as_deref())?;
    let after = from_cursor::<Place>(query.cursor.as_deref())?;
    let after = after.map(|Place(key, id)| place_after(sort, key, id)).transpose()?;
    let filter = Filter {
        kind: query.kind,
        q: query.q.filter(|q| !q.is_empty()),
        directory: query.directory.map(|text| parse_directory(&text)).transpose()?,
        owner: query.owner,
        seen_by: (!caller.sees_all()).then(|| caller.sight.clone()),
        updated_since: time("updated_since", query.updated_since)?,
    };
    let mut connection = app.pool.acquire().await?;
    let order = (sort, descending);
    let (rows, more) =
        resources::list(&mut connection, caller.domain_id(), &filter, order, after.as_ref(), limit).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut references = graph::by_source(graph::references(&mut connection, caller.domain_id(), &ids).await?);
    let place = |row: &ResourceRow| match sort {
        Sort::Id => Place(String::new(), row.id.clone()),
        Sort::Name => Place(row.name.clone(), row.id.clone()),
        Sort::UpdatedAt => Place(row.updated_at.to_rfc3339_opts(SecondsFormat::Micros, true), row.id.clone()),
    };
    let next_cursor = rows.last().filter(|_| more).map(|row| cursor(&place(row)));
    let shape = |row: ResourceRow| {
        let references = references.remove(&row.id).unwrap_or_default();
        to_wire(&app.types, &caller, row, &references)
    };
    Ok(Json(List { items: rows.into_iter().map(shape).collect(), next_cursor }))
}

fn place_after(sort: Sort, key: String, id: String) -> Result<After, ApiError> {
    let at = match sort {
        Sort::UpdatedAt => {
            let wrong = |_| ApiError::field("cursor", "is not one that this list gave");
            time("cursor", Some(DateTime::parse_from_rfc3339(&key).map_err(wrong)?.to_utc()))?
        }
        Sort::Id | Sort::Name => None,
    };
    Ok(After { key, at, id })
}

fn sort(text: Option<&str>) -> Result<(Sort, bool), ApiError> {
    let text = text.unwrap_or("id");
    let (word, descending) = text.strip_prefix('-').map_or((text, false), |word| (word, true));
    let sort = match word {
        "id" => Sort::Id,
        "name" => Sort::Name,
        "updated_at" => Sort::UpdatedAt,
        _ => return Err(ApiError::field("sort", "must be id, name or updated_at, with - before it for descending")),
    };
    Ok((sort, descending))
}

/// One resource.
#[utoipa::path(
    get, path = "/api/v1/resources/{id}",
    responses((status = 200, body = Resource, headers(("ETag" = String, description = "Its revision in quotes"))))
)]
pub async fn show(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let row = readable(&mut connection, &caller, &id).await?;
    answer(&app, &mut connection, &caller, row).await
}

/// A resource with its ETag: its revision in quotes.
pub(in crate::api) async fn answer(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    row: ResourceRow,
) -> Result<([(header::HeaderName, String); 1], Json<Resource>), ApiError> {
    let references = graph::references(connection, caller.domain_id(), std::slice::from_ref(&row.id)).await?;
    let etag = format!("\"{}\"", row.revision);
    Ok(([(header::ETAG, etag)], Json(to_wire(&app.types, caller, row, &references))))
}

/// A resource that the caller may read; 404 otherwise.
pub(in crate::api) async fn readable(
    connection: &mut PgConnection,
    caller: &Caller,
    id: &str,
) -> Result<ResourceRow, ApiError> {
    let id = ResourceId::parse(id)?;
    let found = resources::by_id(connection, caller.domain_id(), id.as_str()).await?;
    found.filter(|row| caller.may_read(&row.owner, &row.directory)).ok_or_else(|| ApiError::not_found("resource"))
}

fn to_wire(types: &Types, caller: &Caller, row: ResourceRow, references: &[EdgeRow]) -> Resource {
    let definition = row.definition().unwrap_or_default();
    let imported = row.imported_record.zip(row.imported_from).zip(row.imported_at);
    Resource {
        references: references.iter().filter_map(|found| reference(types, caller, found)).collect(),
        id: row.id,
        kind: row.kind,
        name: row.name,
        directory: row.directory,
        definition,
        owner: row.owner,
        revision: row.revision,
        content_hash: Hash::from_slice(&row.content_hash).map(|hash| hash.to_string()).unwrap_or_default(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        updated_by: row.updated_by,
        imported: imported.map(|((record_id, source_environment), at)| Imported { record_id, source_environment, at }),
    }
}

/// A name is told to whoever may read what has it, or has written it himself.
fn reference(types: &Types, caller: &Caller, found: &EdgeRow) -> Option<ReferenceLine> {
    let rule = types.get(&found.from_type)?.rules.get(found.rule as usize)?;
    let matched = found.is_matched(types);
    let known = found.found_owner.as_ref().zip(found.found_directory.as_ref());
    let known = known.is_none_or(|(owner, directory)| caller.may_read(owner, directory));
    Some(ReferenceLine {
        role: rule.role.clone(),
        kind: rule.kind.as_str().to_owned(),
        resource_id: found.to_id.clone().or_else(|| found.found_id.clone()),
        type_key: found.found_type.clone().filter(|_| matched).or_else(|| rule.to.first().cloned())?,
        name: found.found_name.clone().filter(|_| matched && known).or_else(|| found.to_name.clone()),
        found: matched,
    })
}

/// Which way and how far.
#[derive(Debug, Deserialize, IntoParams)]
pub struct LineageQuery {
    /// `upstream`: what it needs; `downstream`: what needs it.
    #[param(default = "upstream", pattern = "^(upstream|downstream)$")]
    direction: Option<String>,
    /// How many steps; all unless given.
    depth: Option<u32>,
}

/// Most nodes of a lineage.
const MAX_NODES: usize = 10_000;

/// What a resource needs (upstream), or what needs it (downstream).
#[utoipa::path(get, path = "/api/v1/resources/{id}/lineage", params(LineageQuery), responses((status = 200, body = Lineage)))]
pub async fn lineage(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<LineageQuery>,
) -> Result<Json<Lineage>, ApiError> {
    let downstream = match query.direction.as_deref() {
        None | Some("upstream") => false,
        Some("downstream") => true,
        Some(_) => return Err(ApiError::field("direction", "must be upstream or downstream")),
    };
    let mut connection = app.pool.acquire().await?;
    let start = readable(&mut connection, &caller, &id).await?;
    let domain = caller.domain_id();
    let depth = query.depth.unwrap_or(u32::MAX);
    let walked =
        db::lineage::walk(&mut connection, &app.types, domain, &start.id, downstream, depth, MAX_NODES).await?;
    let ids: Vec<String> = walked.depths.keys().cloned().collect();
    let rows = db::lineage::nodes(&mut connection, domain, &ids).await?;
    let shown: HashMap<&str, &db::lineage::Node> = rows
        .iter()
        .filter(|row| caller.may_read(&row.owner, &row.directory))
        .map(|row| (row.id.as_str(), row))
        .collect();
    let mut nodes: Vec<LineageNode> = shown
        .values()
        .map(|row| LineageNode {
            resource_id: row.id.clone(),
            kind: row.kind.clone(),
            name: row.name.clone(),
            directory: row.directory.clone(),
            depth: walked.depths.get(&row.id).copied().unwrap_or_default(),
        })
        .collect();
    nodes.sort_by(|a, b| (a.depth, &a.resource_id).cmp(&(b.depth, &b.resource_id)));
    let edges = walked
        .edges
        .iter()
        .filter(|edge| shown.contains_key(edge.from.as_str()) && shown.contains_key(edge.to.as_str()));
    let edges = edges.map(|edge| LineageEdge {
        from: edge.from.clone(),
        to: edge.to.clone(),
        role: edge.role.clone(),
        kind: edge.kind.as_str().to_owned(),
    });
    Ok(Json(Lineage { edges: edges.collect(), nodes, truncated: walked.truncated }))
}
