//! Typed settings: defaults, then the file, then `FERRY__SECTION__KEY`; checked on load.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use config::{Config as Source, Environment as Variables, File, FileFormat};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Why the settings are refused.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

/// All settings of a server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this environment is.
    pub environment: EnvironmentConfig,
    /// The HTTP server.
    pub server: ServerConfig,
    /// Postgres.
    pub database: DatabaseConfig,
    /// Package and attachment bytes, and the working directory.
    pub storage: StorageConfig,
    /// Keys, the first token, what may be reached.
    pub security: SecurityConfig,
    /// What a package may hold.
    pub limits: Limits,
    /// Background work.
    pub jobs: JobsConfig,
    /// How long what is of use for a while is kept.
    pub retention: Retention,
}

/// Who this environment is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// Shown to people, written into packages.
    pub name: String,
    /// `test`, `production` or `other`.
    pub kind: EnvironmentKind,
}

/// What an environment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentKind {
    /// Where things are built and checked.
    Test,
    /// Where they are used.
    Production,
    /// Anything else.
    Other,
}

impl EnvironmentKind {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Production => "production",
            Self::Other => "other",
        }
    }
}

/// The HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port; port 0: any.
    pub listen: String,
    /// How others reach it; absent: `http://` or `https://` and the address.
    #[serde(default)]
    pub public_url: Option<String>,
    /// PEM file of the certificate and its chain; with `tls_key`, TLS is spoken and nothing else.
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// A connection that sends no complete request head within this time is closed.
    pub head_seconds: u32,
    /// A body of which nothing arrives within this time is given up.
    pub idle_seconds: u32,
    /// Planning that takes longer than this goes on behind the request that asked for it.
    pub patience_seconds: u32,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(default)]
    pub trusted_proxies: Vec<IpAddr>,
    /// Adds resource types or replaces them.
    #[serde(default)]
    pub resource_types_dir: Option<PathBuf>,
}

/// Postgres.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Absent: an embedded Postgres under `storage.dir`.
    #[serde(default)]
    pub url: Option<SecretString>,
    /// Connections in the pool; background work takes a few more of its own.
    pub max_connections: u32,
}

/// Where bytes rest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Package and attachment bytes: `file:///var/lib/ferry`; absent: `store` under `dir`.
    #[serde(default)]
    pub url: Option<String>,
    /// Local working directory.
    pub dir: PathBuf,
}

/// Keys, the first token, what may be reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// 32 bytes in base64; absent: made once under `storage.dir`.
    #[serde(default)]
    pub secret_key: Option<SecretString>,
    /// A token of the user `admin` of domain `default`.
    #[serde(default)]
    pub admin_token: Option<SecretString>,
    /// His password for the page.
    #[serde(default)]
    pub admin_password: Option<SecretString>,
    /// Addresses that targets may have; absent: any that is not link-local.
    #[serde(default)]
    pub allowed_targets: Option<Vec<String>>,
    /// Which signers to accept.
    pub trust: Trust,
}

/// Which signers to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Whoever signed it, as long as an environment keeps its key.
    Any,
    /// Trusted sources only.
    Trusted,
}

/// What a package may hold. Sizes in bytes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The archive.
    pub max_package_bytes: u64,
    /// All its entries together, unpacked.
    pub max_unpacked_bytes: u64,
    /// Resources in a package.
    pub max_resources: u64,
    /// One definition.
    pub max_definition_bytes: u64,
    /// One attachment.
    pub max_attachment_bytes: u64,
    /// Unpacked to packed, for one entry, past its first MiB.
    pub max_compression_ratio: u64,
}

/// Background work.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsConfig {
    /// Jobs of a kind at once.
    pub concurrency: usize,
    /// A worker silent for this long has lost its job.
    pub lease_seconds: u32,
    /// A target that does not answer for this long has failed its migration.
    pub target_deadline_seconds: u32,
    /// A connection to a target on which nothing moves for so long is given up, and tried again.
    pub target_idle_seconds: u32,
}

/// How long what is of use for a while is kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// An upload to which nothing was added.
    pub upload_hours: u32,
    /// The package of a record that has ended.
    pub package_days: u32,
    /// An import that nobody confirms; then it is cancelled.
    pub waiting_days: u32,
    /// The answer to a request with an `Idempotency-Key`.
    pub key_days: u32,
    /// Between two looks at what may go.
    pub every_seconds: u32,
}

impl JobsConfig {
    /// Connections to the database that jobs may have at once: one that waits for a target has given its place to
    /// another, and may still read.
    pub fn connections(&self) -> u32 {
        self.concurrency as u32 * 8 + 2
    }
}

const DEFAULTS: &str = include_str!("../config/default.toml");

impl Config {
    /// Reads defaults, the file if there is one, and the environment's variables.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a value of the wrong type: it is named.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut builder = Source::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = file {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        let variables = Variables::with_prefix("FERRY")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("security.allowed_targets")
            .with_list_parse_key("server.trusted_proxies");
        let source = builder.add_source(variables).build().map_err(|error| ConfigError(error.to_string()))?;
        let mut config: Self = source.try_deserialize().map_err(|error| ConfigError(error.to_string()))?;
        // What reads as a number would be taken as one: `007` must not become `7`.
        let given = |key: &str| std::env::var(format!("FERRY__SECURITY__{key}")).ok().map(SecretString::from);
        let security = &mut config.security;
        for (key, value) in [
            ("SECRET_KEY", &mut security.secret_key),
            ("ADMIN_TOKEN", &mut security.admin_token),
            ("ADMIN_PASSWORD", &mut security.admin_password),
        ] {
            *value = given(key).or_else(|| value.take());
        }
        config.check()?;
        Ok(config)
    }

    /// From TOML text over the defaults, without a file or variables.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let source = Source::builder()
            .add_source(File::from_str(DEFAULTS, FileFormat::Toml))
            .add_source(File::from_str(text, FileFormat::Toml))
            .build()
            .map_err(|error| ConfigError(error.to_string()))?;
        let config: Self = source.try_deserialize().map_err(|error| ConfigError(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |reason: &str| Err(ConfigError(reason.to_owned()));
        if self.environment.name.trim().is_empty() {
            return refuse("environment.name must not be empty");
        }
        if self.database.max_connections < 2 {
            return refuse("database.max_connections must be at least 2");
        }
        if self.jobs.concurrency == 0 || self.jobs.lease_seconds == 0 || self.jobs.target_idle_seconds == 0 {
            return refuse("jobs.concurrency, jobs.lease_seconds and jobs.target_idle_seconds must be at least 1");
        }
        if self.database.url.as_ref().is_some_and(|url| url.expose_secret().trim().is_empty()) {
            return refuse("database.url must not be empty; leave it out for an embedded Postgres");
        }
        if self.server.tls_cert.is_some() != self.server.tls_key.is_some() {
            return refuse("server.tls_cert and server.tls_key must be given together, or neither");
        }
        if self.server.head_seconds == 0 || self.server.idle_seconds == 0 || self.server.patience_seconds == 0 {
            return refuse("server.head_seconds, server.idle_seconds and server.patience_seconds must be at least 1");
        }
        if self.retention.every_seconds == 0 {
            return refuse("retention.every_seconds must be at least 1");
        }
        match self.storage.url.as_deref() {
            Some(url) if !url.starts_with("file:///") => refuse("storage.url must be file:///absolute/path"),
            _ => Ok(()),
        }
    }

    /// Where the secret key rests that is made where none is configured.
    pub fn secret_key_file(&self) -> PathBuf {
        self.storage.dir.join("secret.key")
    }

    /// Where package and attachment bytes rest.
    pub fn store_root(&self) -> PathBuf {
        match self.storage.url.as_deref().and_then(|url| url.strip_prefix("file://")) {
            Some(path) => PathBuf::from(path),
            None => self.storage.dir.join("store"),
        }
    }
}
