//! A domain's resources, page by page.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{COLUMNS, ResourceRow, WITH_BODY};
use crate::db::DbError;
use crate::domain::sight::Sight;

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this type.
    pub kind: Option<String>,
    /// Name or ID holds this text, in any case.
    pub q: Option<String>,
    /// In this directory or below.
    pub directory: Option<String>,
    /// Of this owner.
    pub owner: Option<String>,
    /// That this user may read, where he does not see all.
    pub seen_by: Option<Sight>,
    /// Changed at or after.
    pub updated_since: Option<DateTime<Utc>>,
}

/// What a list is ordered by; IDs break ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By ID.
    Id,
    /// By name.
    Name,
    /// By time of change.
    UpdatedAt,
}

/// Where a page begins: after this key and ID.
#[derive(Debug, Clone)]
pub struct After {
    /// The name, when sorting by name.
    pub key: String,
    /// The time of change, when sorting by that.
    pub at: Option<DateTime<Utc>>,
    /// The ID.
    pub id: String,
}

/// Definitions of a page in bytes; a page that would hold more ends earlier.
const PAGE_BYTES: usize = 32 * 1024 * 1024;

/// A page of a domain's resources, and whether there are more.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    filter: &Filter,
    (sort, descending): (Sort, bool),
    after: Option<&After>,
    limit: i64,
) -> Result<(Vec<ResourceRow>, bool), DbError> {
    // The page first, its bodies then.
    let mut query = QueryBuilder::<Postgres>::new("with r as materialized (select * from resources where domain_id = ");
    query.push_bind(domain_id);
    narrow(&mut query, filter);
    let column = match sort {
        Sort::Id => "id",
        Sort::Name => "name",
        Sort::UpdatedAt => "updated_at",
    };
    let (compare, order) = if descending { ("<", "desc") } else { (">", "asc") };
    if let Some(after) = after {
        match sort {
            Sort::Id => query.push(format!(" and id {compare} ")).push_bind(&after.id),
            Sort::Name => query
                .push(format!(" and (name, id) {compare} ("))
                .push_bind(&after.key)
                .push(", ")
                .push_bind(&after.id)
                .push(")"),
            Sort::UpdatedAt => query
                .push(format!(" and (updated_at, id) {compare} ("))
                .push_bind(after.at)
                .push(", ")
                .push_bind(&after.id)
                .push(")"),
        };
    }
    let tie = if sort == Sort::Id { String::new() } else { format!(", id {order}") };
    query.push(format!(" order by {column} {order}{tie} limit ")).push_bind(limit + 1);
    let tie = if sort == Sort::Id { String::new() } else { format!(", r.id {order}") };
    query.push(format!(") select {COLUMNS} from r {WITH_BODY} order by r.{column} {order}{tie}"));
    let mut found = query.build_query_as::<ResourceRow>().fetch(connection);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.try_next().await? {
        bytes += row.body.len();
        if rows.len() as i64 == limit || (bytes > PAGE_BYTES && !rows.is_empty()) {
            return Ok((rows, true));
        }
        rows.push(row);
    }
    Ok((rows, false))
}

fn narrow(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(kind) = &filter.kind {
        query.push(" and type = ").push_bind(kind.clone());
    }
    if let Some(q) = &filter.q {
        let pattern = format!("%{}%", escape_like(q));
        query
            .push(" and (name collate \"default\" ilike ")
            .push_bind(pattern.clone())
            .push(" or id ilike ")
            .push_bind(pattern)
            .push(")");
    }
    if let Some(directory) = filter.directory.as_ref().filter(|directory| *directory != "/") {
        let below = format!("{}/%", escape_like(directory));
        query
            .push(" and (directory = ")
            .push_bind(directory.clone())
            .push(" or directory like ")
            .push_bind(below)
            .push(")");
    }
    if let Some(owner) = &filter.owner {
        query.push(" and owner = ").push_bind(owner.clone());
    }
    if let Some(sight) = &filter.seen_by {
        query
            .push(" and (owner = ")
            .push_bind(sight.username.clone())
            .push(" or exists (select from unnest(")
            .push_bind(sight.readable())
            .push("::text[]) as granted (prefix) where starts_with(directory || '/', prefix)))");
    }
    if let Some(since) = filter.updated_since {
        query.push(" and updated_at >= ").push_bind(since);
    }
}

pub(in crate::db) fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
