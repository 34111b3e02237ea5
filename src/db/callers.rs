//! Who is asking: the user of a token or a session, with what his role holds and what was granted to him.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::permission::held;
use crate::domain::sight::{Granted, Sight, sees_all};

use super::DbError;
use super::sessions::IDLE;
use super::users::User;

/// What stands for the name of a token where a session is used.
const SESSION: &str = "session";

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

/// A row of what the queries here have in common; a macro, because a query is checked as one text.
macro_rules! signed {
    ($row:ident, $token:expr, $narrowed:expr, $until:expr) => {{
        let user = User {
            id: $row.id,
            domain_id: $row.domain_id,
            domain: $row.domain,
            username: $row.username,
            role: $row.role,
            role_permissions: $row.role_permissions,
            created_at: $row.created_at,
        };
        let granted = $row.directories.into_iter().zip($row.writes);
        let granted = granted.map(|(directory, write)| Granted { directory, write }).collect();
        Signed { sight: sight(&user, granted), user, token: $token, narrowed: $narrowed, until: $until }
    }};
}

fn sight(user: &User, granted: Vec<Granted>) -> Sight {
    let permissions = held(&user.role, &user.domain, user.role_permissions.as_deref());
    Sight { all: sees_all(&user.role, &permissions), username: user.username.clone(), granted }
}

/// The user of a token that has not expired.
pub async fn by_token(connection: &mut PgConnection, hash: &[u8]) -> Result<Option<Signed>, DbError> {
    let found = sqlx::query!(
        r#"with used as (
            update tokens set last_used_at = clock_timestamp()
            where hash = $1 and (last_used_at is null or last_used_at < clock_timestamp() - interval '1 minute')
         )
         select u.id, u.domain_id, d.name as domain, u.username, u.role, o.permissions as "role_permissions?",
            u.created_at, t.name as token, t.permissions, t.expires_at,
            array(select directory from grants where user_id = u.id order by directory) as "directories!",
            array(select access = 'write' from grants where user_id = u.id order by directory) as "writes!"
         from tokens t join users u on u.id = t.user_id join domains d on d.id = u.domain_id
         left join roles o on o.domain_id = u.domain_id and o.name = u.role
         where t.hash = $1 and (t.expires_at is null or t.expires_at > clock_timestamp())"#,
        hash
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|row| signed!(row, row.token, row.permissions, row.expires_at)))
}

/// The user of a session that has not ended.
pub async fn by_session(connection: &mut PgConnection, hash: &[u8]) -> Result<Option<Signed>, DbError> {
    let found = sqlx::query!(
        r#"with used as (
            update sessions set used_at = clock_timestamp()
            where hash = $1 and ends_at > clock_timestamp()
                and used_at < clock_timestamp() - interval '1 minute' and used_at > clock_timestamp() - $2::interval
         )
         select u.id, u.domain_id, d.name as domain, u.username, u.role, o.permissions as "role_permissions?",
            u.created_at,
            array(select directory from grants where user_id = u.id order by directory) as "directories!",
            array(select access = 'write' from grants where user_id = u.id order by directory) as "writes!"
         from sessions s join users u on u.id = s.user_id join domains d on d.id = u.domain_id
         left join roles o on o.domain_id = u.domain_id and o.name = u.role
         where s.hash = $1 and s.ends_at > clock_timestamp() and s.used_at > clock_timestamp() - $2::interval"#,
        hash,
        IDLE
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|row| signed!(row, SESSION.to_owned(), None, None)))
}

/// What a user of a domain may see by now; of one who is gone: what was his own.
pub async fn sight_of(connection: &mut PgConnection, domain_id: i32, username: &str) -> Result<Sight, DbError> {
    let found = sqlx::query!(
        r#"select u.id, u.domain_id, d.name as domain, u.username, u.role, o.permissions as "role_permissions?",
            u.created_at,
            array(select directory from grants where user_id = u.id order by directory) as "directories!",
            array(select access = 'write' from grants where user_id = u.id order by directory) as "writes!"
         from users u join domains d on d.id = u.domain_id
         left join roles o on o.domain_id = u.domain_id and o.name = u.role
         where u.domain_id = $1 and u.username = $2"#,
        domain_id,
        username
    )
    .fetch_optional(connection)
    .await?;
    let gone = || Sight { username: username.to_owned(), ..Sight::default() };
    Ok(found.map_or_else(gone, |row| signed!(row, String::new(), None, None).sight))
}
