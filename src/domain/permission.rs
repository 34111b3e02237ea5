//! Who may do what: permissions and the built-in roles.

use serde::{Deserialize, Serialize};

use super::words::words;

/// A right that a route may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// See resources.
    #[serde(rename = "resource.read")]
    ResourceRead,
    /// Write and delete resources.
    #[serde(rename = "resource.write")]
    ResourceWrite,
    /// Export packages.
    #[serde(rename = "migration.export")]
    MigrationExport,
    /// Import packages.
    #[serde(rename = "migration.import")]
    MigrationImport,
    /// Migrate to targets.
    #[serde(rename = "migration.online")]
    MigrationOnline,
    /// Approve migrations.
    #[serde(rename = "migration.approve")]
    MigrationApprove,
    /// Have secrets travel, sealed: reading a resource is not reading its secrets.
    #[serde(rename = "secret.carry")]
    SecretCarry,
    /// Manage the domain: users, tokens of others, targets.
    #[serde(rename = "domain.manage")]
    DomainManage,
    /// Manage the environment: features, licence, domains.
    #[serde(rename = "environment.manage")]
    EnvironmentManage,
}

use Permission::{
    DomainManage, EnvironmentManage, MigrationApprove, MigrationExport, MigrationImport, MigrationOnline, ResourceRead,
    ResourceWrite, SecretCarry,
};

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 9] = [
        ResourceRead,
        ResourceWrite,
        MigrationExport,
        MigrationImport,
        MigrationOnline,
        MigrationApprove,
        SecretCarry,
        DomainManage,
        EnvironmentManage,
    ];
}

words!(Permission {
    ResourceRead = "resource.read",
    ResourceWrite = "resource.write",
    MigrationExport = "migration.export",
    MigrationImport = "migration.import",
    MigrationOnline = "migration.online",
    MigrationApprove = "migration.approve",
    SecretCarry = "secret.carry",
    DomainManage = "domain.manage",
    EnvironmentManage = "environment.manage",
});

/// The domain that is always there; its administrators manage the environment.
pub const DEFAULT_DOMAIN: &str = "default";

/// The roles that every domain has.
pub const BUILT_IN: [&str; 4] = ["admin", "developer", "operator", "viewer"];

/// What a role holds in a domain: a built-in one by its name, one that the domain made by what is kept of it.
pub fn held(role: &str, domain: &str, kept: Option<&[String]>) -> Vec<Permission> {
    let own = || {
        let words = kept.unwrap_or_default().iter();
        let known = words.filter_map(|word| Permission::parse(word));
        known.filter(|permission| *permission != EnvironmentManage || domain == DEFAULT_DOMAIN).collect()
    };
    of_role(role, domain).unwrap_or_else(own)
}

/// What is left of some permissions for a token that is narrowed to these words, if it is.
pub fn narrowed(mut held: Vec<Permission>, words: Option<&[String]>) -> Vec<Permission> {
    if let Some(words) = words {
        held.retain(|permission| words.iter().any(|word| word == permission.as_str()));
    }
    held
}

/// The permissions of a built-in role in a domain; `None`: no such role.
pub fn of_role(role: &str, domain: &str) -> Option<Vec<Permission>> {
    Some(match role {
        "admin" => {
            let mut all = vec![
                ResourceRead,
                ResourceWrite,
                MigrationExport,
                MigrationImport,
                MigrationOnline,
                SecretCarry,
                DomainManage,
            ];
            if domain == DEFAULT_DOMAIN {
                all.push(EnvironmentManage);
            }
            all
        }
        "developer" => vec![ResourceRead, ResourceWrite, MigrationExport, MigrationOnline],
        "operator" => vec![ResourceRead, MigrationExport, MigrationImport, MigrationOnline, SecretCarry],
        "viewer" => vec![ResourceRead],
        _ => return None,
    })
}
