//! Who is asking: the user of a token or a session, with what his role holds and what was granted to him.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::permission::held;
use crate::domain::sight::{Granted, Sight, sees_all};

use super::DbError;
use super::sessions::IDLE;
use super::users::User;

/// A user as his credentials show him.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Who.
    pub user: User,
    /// The name of the token, or `session`.
    pub token: String,
    /// The permissions of the token, where it is narrower than its user.
    pub narrowed: Option<Vec<String>>,
    /// What of his domain he may see.
    pub sight: Sight,
    /// When the token ends, if it does.
    pub until: Option<DateTime<Utc>>,
}

/// A row of the queries here.
struct Row {
    id: Uuid,
    domain_id: i32,
    domain: String,
    username: String,
    role: String,
    role_permissions: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    directories: Vec<String>,
    writes: Vec<bool>,
    token: String,
    narrowed: Option<Vec<String>>,
    until: Option<DateTime<Utc>>,
}

/// Users with all that their credentials open: `$before` the select, `$columns` of the credentials, `$rest` from
/// where. A macro, because a query is checked as one text.
macro_rules! signed {
    ($before:literal, $columns:literal, $rest:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            $before
                + r#"select u.id, u.domain_id, d.name as domain, u.username, u.role,
                    o.permissions as "role_permissions?", u.created_at,
                    array(select directory from grants where user_id = u.id order by directory) as "directories!",
                    array(select access = 'write' from grants where user_id = u.id order by directory) as "writes!", "#
                + $columns
                + r#" from users u join domains d on d.id = u.domain_id
                 left join roles o on o.domain_id = u.domain_id and o.name = u.role "#
                + $rest,
            $($argument),+
        )
    };
}

impl From<Row> for Signed {
    fn from(row: Row) -> Self {
        let user = User {
            id: row.id,
            domain_id: row.domain_id,
            domain: row.domain,
            username: row.username,
            role: row.role,
            role_permissions: row.role_permissions,
            created_at: row.created_at,
        };
        let granted = row.directories.into_iter().zip(row.writes);
        let granted = granted.map(|(directory, write)| Granted { directory, write }).collect();
        Self { sight: sight(&user, granted), user, token: row.token, narrowed: row.narrowed, until: row.until }
    }
}

fn sight(user: &User, granted: Vec<Granted>) -> Sight {
    let permissions = held(&user.role, &user.domain, user.role_permissions.as_deref());
    Sight { all: sees_all(&user.role, &permissions), username: user.username.clone(), granted }
}

/// The user of a token that has not expired.
pub async fn by_token(connection: &mut PgConnection, hash: &[u8]) -> Result<Option<Signed>, DbError> {
    let found = signed!(
        "with used as (
            update tokens set last_used_at = clock_timestamp()
            where hash = $1 and (last_used_at is null or last_used_at < clock_timestamp() - interval '1 minute')
         ) ",
        r#"t.name as token, t.permissions as narrowed, t.expires_at as until"#,
        "join tokens t on t.user_id = u.id
         where t.hash = $1 and (t.expires_at is null or t.expires_at > clock_timestamp())",
        hash
    );
    Ok(found.fetch_optional(connection).await?.map(Signed::from))
}

/// The user of a session that has not ended.
pub async fn by_session(connection: &mut PgConnection, hash: &[u8]) -> Result<Option<Signed>, DbError> {
    let found = signed!(
        "with used as (
            update sessions set used_at = clock_timestamp()
            where hash = $1 and ends_at > clock_timestamp()
                and used_at < clock_timestamp() - interval '1 minute' and used_at > clock_timestamp() - $2::interval
         ) ",
        r#"'session' as "token!", null::text[] as narrowed, null::timestamptz as until"#,
        "join sessions s on s.user_id = u.id
         where s.hash = $1 and s.ends_at > clock_timestamp() and s.used_at > clock_timestamp() - $2::interval",
        hash,
        IDLE
    );
    Ok(found.fetch_optional(connection).await?.map(Signed::from))
}

/// What a user of a domain may see by now; of one who is gone: what was his own.
pub async fn sight_of(connection: &mut PgConnection, domain_id: i32, username: &str) -> Result<Sight, DbError> {
    let found = signed!(
        "",
        r#"'' as "token!", null::text[] as narrowed, null::timestamptz as until"#,
        "where u.domain_id = $1 and u.username = $2",
        domain_id,
        username
    );
    let gone = || Sight { username: username.to_owned(), ..Sight::default() };
    Ok(found.fetch_optional(connection).await?.map_or_else(gone, |row| Signed::from(row).sight))
}
