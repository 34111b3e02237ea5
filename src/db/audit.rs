//! The audit: who did what to what, when and from where. Rows are added and read, nothing else.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::DbError;
use super::resources::escape_like;

/// A row to be added.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Whose it is; `None`: the environment's own.
    pub domain_id: Option<i32>,
    /// Who.
    pub username: Option<&'a str>,
    /// With what: the name of a token, `session`, `worker`, `server`.
    pub token: Option<&'a str>,
    /// What, as `noun.verb`.
    pub action: &'a str,
    /// To what: kind and ID.
    pub object: (&'a str, &'a str),
    /// What else should be known; never a secret, token, password or definition.
    pub details: Value,
    /// From where.
    pub address: Option<&'a str>,
}

/// Adds a row, in the transaction of what it tells of. Changes of records' states in the same transaction are
/// told under the same name.
pub async fn insert(connection: &mut PgConnection, entry: &Entry<'_>) -> Result<(), DbError> {
    sqlx::query!(
        r#"select set_config('ferry.username', coalesce($1, ''), true) as "username!",
            set_config('ferry.token', coalesce($2, ''), true) as "token!",
            set_config('ferry.address', coalesce($3, ''), true) as "address!""#,
        entry.username,
        entry.token,
        entry.address
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into audit (domain_id, username, token, action, object_kind, object_id, details, address)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        entry.domain_id,
        entry.username,
        entry.token,
        entry.action,
        entry.object.0,
        entry.object.1,
        entry.details,
        entry.address
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A row as it is read.
#[derive(Debug, Clone)]
pub struct Row {
    /// Counts up.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The name of its domain; none: the environment's own.
    pub domain: Option<String>,
    /// Who.
    pub username: Option<String>,
    /// With what.
    pub token: Option<String>,
    /// What.
    pub action: String,
    /// To what kind of thing.
    pub object_kind: String,
    /// To which.
    pub object_id: String,
    /// What else should be known.
    pub details: Value,
    /// From where.
    pub address: Option<String>,
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// By this user.
    pub user: Option<String>,
    /// This action, or every one of this noun.
    pub action: Option<String>,
    /// To the thing of this ID, or to things of this kind.
    pub object: Option<String>,
    /// At or after.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// Somewhere in user, action, ID, details or address.
    pub q: Option<String>,
}

/// A page of a domain's rows, newest first; with the environment's own, if asked.
pub async fn list(
    connection: &mut PgConnection,
    (domain_id, environment): (i32, bool),
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Row>, DbError> {
    let q = filter.q.as_ref().map(|q| format!("%{}%", escape_like(q)));
    let found = sqlx::query_as!(
        Row,
        r#"select a.id, a.at, d.name as "domain?", a.username, a.token, a.action, a.object_kind, a.object_id, a.details,
            a.address
         from audit a left join domains d on d.id = a.domain_id
         where (a.domain_id = $1 or ($2 and a.domain_id is null))
           and ($3::text is null or a.username = $3)
           and ($4::text is null or a.action = $4 or split_part(a.action, '.', 1) = $4)
           and ($5::text is null or a.object_id = $5 or a.object_kind = $5)
           and ($6::timestamptz is null or a.at >= $6)
           and ($7::timestamptz is null or a.at < $7)
           and ($8::text is null or concat_ws(' ', a.username, a.action, a.object_id, a.details, a.address)
                collate "default" ilike $8)
           and ($9::bigint is null or a.id < $9)
         order by a.id desc limit $10"#,
        domain_id,
        environment,
        filter.user,
        filter.action,
        filter.object,
        filter.from,
        filter.to,
        q,
        before,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}
