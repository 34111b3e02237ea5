//! Users, tokens, and who is asking.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// His ID.
    pub id: Uuid,
    /// Unique in the domain.
    pub username: String,
    /// His domain.
    pub domain: String,
    /// His role.
    pub role: String,
    /// When he was made.
    pub created_at: DateTime<Utc>,
}

/// A user to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewUser {
    /// Unique in the domain.
    pub username: String,
    /// For the page: 12 characters or more, none of the common ones; a user without one has tokens only.
    #[serde(default)]
    pub password: Option<String>,
    /// admin, developer, operator, viewer, or a role of the domain.
    pub role: String,
    /// Another domain: environment administrators alone.
    #[serde(default)]
    pub domain: Option<String>,
}

/// Changes to a user; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UserChange {
    /// A new password: 12 characters or more, none of the common ones.
    #[serde(default)]
    pub password: Option<String>,
    /// The present one, where it is one's own that is changed.
    #[serde(default)]
    pub current_password: Option<String>,
    /// A new role.
    #[serde(default)]
    pub role: Option<String>,
}

/// A token, as lists show it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its ID.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// Narrower than the user's, if any.
    pub permissions: Option<Vec<String>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The token itself, shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewToken {
    /// What its owner calls it.
    pub name: String,
    /// When it ends.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// Narrower than the user's.
    #[serde(default)]
    pub permissions: Option<Vec<String>>,
}

/// Who wants to sign in.
#[derive(Deserialize, ToSchema)]
pub struct SignIn {
    /// The name of his domain.
    pub domain: String,
    /// His name in it.
    pub username: String,
    /// His password.
    pub password: String,
}

/// Who is asking.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// His ID.
    pub user_id: Uuid,
    /// His name.
    pub username: String,
    /// His domain.
    pub domain: String,
    /// His role.
    pub role: String,
    /// What he may do with these credentials.
    pub permissions: Vec<String>,
}

/// Where a user is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// Its ID.
    pub id: Uuid,
    /// This request comes by it.
    pub current: bool,
    /// When he signed in.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to the minute.
    pub last_used_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub ends_at: DateTime<Utc>,
    /// From where he signed in.
    pub address: Option<String>,
}

/// A directory that is open to a user, with all below it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Grant {
    /// Its ID.
    pub id: Uuid,
    /// To whom.
    pub user_id: Uuid,
    /// His name.
    pub username: String,
    /// With all below it.
    pub directory: String,
    /// Reading alone, or writing too.
    pub access: Access,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// What a grant opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and, with `resource.write`, writing.
    Write,
}

impl Access {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A grant to be given.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewGrant {
    /// A user of the domain.
    pub user_id: Uuid,
    /// With all below it.
    pub directory: String,
    /// Reading alone, or writing too.
    pub access: Access,
}

/// What its users may do.
#[derive(Debug, Serialize, ToSchema)]
pub struct Role {
    /// Unique in the domain.
    pub name: String,
    /// What it holds.
    pub permissions: Vec<String>,
    /// Every domain has it as it is.
    pub built_in: bool,
}

/// A role to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewRole {
    /// Unique in the domain, by the rule of IDs.
    pub name: String,
    /// What it holds.
    pub permissions: Vec<String>,
}
