//! What every request and every job has at hand: settings, database, store, types, keys.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rust_embed::RustEmbed;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::{Config, ConfigError};
use crate::db::environment::{Identity, identity, keep_identity};
use crate::db::targets::Target;
use crate::db::{self, Acquire, DbError, PgPool};
use crate::domain::permission::DEFAULT_DOMAIN;
use crate::domain::resource::Hash;
use crate::domain::type_file::{TypeError, Types};
use crate::package::Limits;
use crate::remote::{Allowed, Memory, Place, Remote, RemoteError};
use crate::secrets::rotation::KEY_CHECK;
use crate::secrets::{self, Sealer, SecretError, Signer25519, passwords};
use crate::store::{Store, StoreError};

/// How long requests may go on arriving once the server stops.
pub const LAST_CALL: Duration = Duration::from_secs(2);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A type file.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The configured password may not be used.
    #[error("security.admin_password {0}")]
    Password(&'static str),
    /// Another server runs with newer type files.
    #[error(
        "another server of this environment runs with other resource type files, which came after those of this one: \
         give this one the same, or stop the others first"
    )]
    OldTypes,
    /// The certificate or its key.
    #[error("{0}")]
    Tls(String),
    /// A file or an address.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

/// What every request and every job has at hand.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The database.
    pub pool: PgPool,
    /// The same, for jobs.
    pub workers: PgPool,
    /// Package and attachment bytes.
    pub store: Store,
    /// The resource types.
    pub types: Arc<Types>,
    /// Of all their files.
    pub types_digest: String,
    /// Seals secrets at rest.
    pub sealer: Sealer,
    /// Signs packages.
    pub signer: Signer25519,
    /// Who this environment is.
    pub identity: Identity,
    /// Records that were made or changed, by whichever replica.
    pub changes: broadcast::Sender<Uuid>,
    /// What the answers of targets may take.
    pub answers: Memory,
    /// The server takes no more work.
    pub stopping: watch::Sender<bool>,
    /// What `/metrics` shows.
    pub metrics: metrics_exporter_prometheus::PrometheusHandle,
}

/// The types that are compiled in.
#[derive(RustEmbed)]
#[folder = "config/resource-types"]
struct BuiltIn;

impl App {
    /// Connects, migrates, checks the key, makes what is made once.
    pub async fn start(config: Config, database_url: &str) -> Result<Self, StartError> {
        let types = Arc::new(load_types(&config)?);
        let store = Store::open(&config.store_root(), &config.storage.dir.join("scratch"))?;
        let types_digest = Hash::of(&serde_json::to_vec(&types.digests()).unwrap_or_default()).hex();
        let idle = config.jobs.lease_seconds.saturating_mul(4);
        let pool = db::connect(database_url, config.database.max_connections, idle, &types_digest).await?;
        let mut connection = pool.acquire().await.map_err(DbError::from)?;
        let sealer = sealer(&config, &mut connection).await?;
        let (identity, signer) = own_identity(&mut connection, &sealer).await?;
        ensure_admin(&mut connection, &config).await?;
        drop(connection);
        let (changes, _) = broadcast::channel(1024);
        let metrics = crate::telemetry::metrics();
        let stopping = watch::Sender::new(false);
        let workers = db::workers(&pool, config.jobs.connections());
        Ok(Self {
            config,
            pool,
            workers,
            store,
            types,
            types_digest,
            sealer,
            signer,
            identity,
            changes,
            answers: Memory::default(),
            stopping,
            metrics,
        })
    }

    /// The client of a target, checked and with its token.
    ///
    /// # Errors
    /// Its address may not be used, or its token cannot be read.
    pub fn remote(&self, target: &Target) -> Result<Remote, RemoteError> {
        let idle = Duration::from_secs(self.config.jobs.target_idle_seconds.into());
        Remote::at(self.place(target)?, self.answers.clone(), idle)
    }

    /// Where a target is, and with which token, as it is set.
    ///
    /// # Errors
    /// As for [`Self::remote`].
    pub fn place(&self, target: &Target) -> Result<Place, RemoteError> {
        let allowed = Allowed(self.config.security.allowed_targets.clone());
        let url = allowed.check(&target.url).map_err(|reason| {
            RemoteError::settings(
                &format!("The target's address {reason}."),
                "Correct the target's address in the settings.",
            )
        })?;
        let token = self.sealer.open(&format!("target/{}", target.id), &target.token);
        let token = token.ok().and_then(|token| Some(std::str::from_utf8(&token).ok()?.to_owned()));
        let token = token.ok_or_else(|| {
            RemoteError::settings("The target's token cannot be read.", "Enter the target's token again.")
        })?;
        Ok(Place { base: url, token })
    }

    /// The seed of the key that others seal secrets for.
    ///
    /// # Errors
    /// The secret key does not open it.
    pub fn sealing_seed(&self) -> Result<Zeroizing<[u8; 32]>, SecretError> {
        let opened = self.sealer.open("sealing_seed", &self.identity.sealing_seed)?;
        opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| SecretError::WrongKey)
    }

    /// What a package may hold here.
    pub fn limits(&self) -> Limits {
        let limits = &self.config.limits;
        Limits {
            max_unpacked_bytes: limits.max_unpacked_bytes,
            max_resources: limits.max_resources,
            max_definition_bytes: limits.max_definition_bytes,
            max_attachment_bytes: limits.max_attachment_bytes,
            max_compression_ratio: limits.max_compression_ratio,
        }
    }
}

/// The types of an environment: those compiled in, then those of its folder.
///
/// # Errors
/// The file, the key and the reason.
pub fn load_types(config: &Config) -> Result<Types, StartError> {
    let mut own = Vec::new();
    if let Some(folder) = &config.server.resource_types_dir {
        let failed = |error| StartError::Io(format!("server.resource_types_dir {}", folder.display()), error);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                own.push((path.display().to_string(), std::fs::read_to_string(&path).map_err(failed)?));
            }
        }
        own.sort();
    }
    let text = |file: &str| Some(String::from_utf8_lossy(&BuiltIn::get(file)?.data).into_owned());
    let built_in: Vec<(String, String)> =
        BuiltIn::iter().filter_map(|file| Some((file.to_string(), text(&file)?))).collect();
    Ok(Types::compile(built_in.iter().chain(&own).map(|(file, text)| (file.as_str(), text.as_str())))?)
}

/// Seals with the configured key, or with one made once under the storage folder. One of which only a part was written
/// is made anew as long as nothing was sealed with it.
async fn sealer(config: &Config, connection: &mut db::PgConnection) -> Result<Sealer, StartError> {
    if let Some(key) = &config.security.secret_key {
        return Ok(Sealer::from_base64(key.expose_secret())?);
    }
    let path = config.secret_key_file();
    let failed = |error| StartError::Io(path.display().to_string(), error);
    match std::fs::read_to_string(&path) {
        Ok(key) => match Sealer::from_base64(&key) {
            Ok(sealer) => return Ok(sealer),
            Err(_) if identity(connection).await?.is_none() => std::fs::remove_file(&path).map_err(failed)?,
            Err(_) => {
                let reason = "holds no key of 32 bytes in base64: restore it, for secrets are sealed with it";
                return Err(failed(std::io::Error::other(reason)));
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    make_key(&path).map_err(failed)?;
    Ok(Sealer::from_base64(&std::fs::read_to_string(&path).map_err(failed)?)?)
}

/// Makes a key, readable by us alone: all of it is there, or none. Another replica may be first.
fn make_key(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let key = BASE64.encode(*secrets::random::<32>().map_err(std::io::Error::other)?);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(key.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.error),
        _ => {}
    }
    std::fs::File::open(folder)?.sync_all()
}

/// The environment's identity, made at the very first start; refuses a key that does not open it.
async fn own_identity(
    connection: &mut db::PgConnection,
    sealer: &Sealer,
) -> Result<(Identity, Signer25519), StartError> {
    if identity(connection).await?.is_none() {
        let (signing, sealing) = (secrets::random::<32>()?, secrets::random::<32>()?);
        let new = Identity {
            id: Uuid::new_v4().to_string(),
            key_check: sealer.seal("key_check", KEY_CHECK)?,
            signing_seed: sealer.seal("signing_seed", signing.as_ref())?,
            sealing_seed: sealer.seal("sealing_seed", sealing.as_ref())?,
            public_key: Signer25519::from_seed(&signing).public_key(),
            sealing_key: secrets::sealing_key(&sealing),
        };
        let mut transaction = connection.begin().await.map_err(DbError::from)?;
        if keep_identity(&mut transaction, &new).await? {
            let details = serde_json::json!({"public_key": new.public_key, "sealing_key": new.sealing_key});
            note(&mut transaction, None, "keys.create", ("environment", &new.id), details).await?;
        }
        transaction.commit().await.map_err(DbError::from)?;
    }
    let found = identity(connection).await?.ok_or(DbError::Corrupt("identity"))?;
    sealer.open("key_check", &found.key_check)?;
    let seed = sealer.open("signing_seed", &found.signing_seed)?;
    let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| SecretError::WrongKey)?;
    let signer = Signer25519::from_seed(seed);
    Ok((found, signer))
}

/// Says in the audit what the server does by itself.
async fn note(
    connection: &mut db::PgConnection,
    domain_id: Option<i32>,
    action: &str,
    object: (&str, &str),
    details: serde_json::Value,
) -> Result<(), DbError> {
    let token = Some("server");
    let entry = db::audit::Entry { domain_id, username: None, token, action, object, details, address: None };
    db::audit::insert(connection, &entry).await
}

/// The user `admin` of domain `default`, with the configured token and password.
async fn ensure_admin(connection: &mut db::PgConnection, config: &Config) -> Result<(), StartError> {
    let domain = db::domains::by_name(connection, DEFAULT_DOMAIN).await?.ok_or(DbError::Corrupt("domain"))?;
    let mut transaction = connection.begin().await.map_err(DbError::from)?;
    let connection = &mut *transaction;
    let admin = db::users::ensure_admin(connection, domain.id).await?;
    let token = config.security.admin_token.as_ref().map(|token| secrets::token_hash(token.expose_secret()));
    if db::users::configure_token(connection, admin, token.as_ref().map(|hash| &hash.0[..])).await? {
        let (action, id) = (if token.is_some() { "token.configure" } else { "token.revoke" }, admin.to_string());
        note(connection, Some(domain.id), action, ("user", &id), serde_json::json!({"user": "admin"})).await?;
    }
    let configured = db::users::configured_password(connection, admin).await?;
    match &config.security.admin_password {
        Some(password) => apply_password(connection, (domain.id, admin), password, configured.as_deref()).await?,
        None if configured.is_some() => db::users::note_configured_password(connection, admin, None).await?,
        None => {}
    }
    transaction.commit().await.map_err(DbError::from)?;
    Ok(())
}

/// Applies the configured password where it is another one than was applied last: one that its user has changed since
/// stays as he has it.
async fn apply_password(
    connection: &mut db::PgConnection,
    (domain_id, admin): (i32, Uuid),
    password: &SecretString,
    applied: Option<&str>,
) -> Result<(), StartError> {
    let password = password.expose_secret();
    if passwords::password_fits(password, applied) {
        return Ok(());
    }
    if let Some(weakness) = passwords::weakness(password, &["admin", DEFAULT_DOMAIN]) {
        return Err(StartError::Password(weakness));
    }
    db::users::set_password(connection, admin, &passwords::password_hash(password)?).await?;
    // Another salt: who reads both columns is not told whether the user has changed it.
    let applied = passwords::password_hash(password)?;
    db::users::note_configured_password(connection, admin, Some(&applied)).await?;
    let id = admin.to_string();
    note(connection, Some(domain_id), "password.configure", ("user", &id), serde_json::json!({"user": "admin"}))
        .await?;
    Ok(())
}
