//! Who may do what: permissions and the built-in roles.

use serde::{Deserialize, Serialize};

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
    /// Manage the domain: users, tokens of others, targets.
    #[serde(rename = "domain.manage")]
    DomainManage,
    /// Manage the environment: features, licence, domains.
    #[serde(rename = "environment.manage")]
    EnvironmentManage,
}

use Permission::{
    DomainManage, EnvironmentManage, MigrationApprove, MigrationExport, MigrationImport, MigrationOnline, ResourceRead,
    ResourceWrite,
};

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 8] = [
        ResourceRead,
        ResourceWrite,
        MigrationExport,
        MigrationImport,
        MigrationOnline,
        MigrationApprove,
        DomainManage,
        EnvironmentManage,
    ];

    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            ResourceRead => "resource.read",
            ResourceWrite => "resource.write",
            MigrationExport => "migration.export",
            MigrationImport => "migration.import",
            MigrationOnline => "migration.online",
            MigrationApprove => "migration.approve",
            DomainManage => "domain.manage",
            EnvironmentManage => "environment.manage",
        }
    }
}

/// The domain that is always there; its administrators manage the environment.
pub const DEFAULT_DOMAIN: &str = "default";

/// The permissions of a built-in role in a domain; `None`: no such role.
pub fn of_role(role: &str, domain: &str) -> Option<Vec<Permission>> {
    Some(match role {
        "admin" => {
            let mut all =
                vec![ResourceRead, ResourceWrite, MigrationExport, MigrationImport, MigrationOnline, DomainManage];
            if domain == DEFAULT_DOMAIN {
                all.push(EnvironmentManage);
            }
            all
        }
        "developer" => vec![ResourceRead, ResourceWrite, MigrationExport, MigrationOnline],
        "operator" => vec![ResourceRead, MigrationExport, MigrationImport, MigrationOnline],
        "viewer" => vec![ResourceRead],
        _ => return None,
    })
}
