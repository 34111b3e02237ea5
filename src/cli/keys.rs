//! `ferry keys rotate`: another secret key for an environment whose servers are stopped.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::db::audit::Entry;
use crate::db::environment::identity;
use crate::db::rotation::{self, Row};
use crate::db::{self, Acquire, PgConnection};
use crate::secrets::Sealer;
use crate::secrets::rotation::{Done, KEY_CHECK, Rotation};

use super::{say, serve};

/// A transaction may wait for a portion of definitions at most this long, in seconds.
const IDLE: u32 = 600;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Seal everything that rests sealed with a new secret key. All servers of the environment must be stopped.
    /// It is done whole or not at all, and may be repeated.
    Rotate {
        /// The settings of the environment, with its present key.
        #[arg(long)]
        config: Option<PathBuf>,
        /// 32 bytes in base64, as `openssl rand -base64 32` prints them. Other users of the machine may see
        /// arguments: rather set the variable.
        #[arg(long, env = "FERRY_NEW_KEY", hide_env_values = true)]
        new_key: String,
    },
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    let Command::Rotate { config, new_key } = command;
    let new_key = Zeroizing::new(new_key.trim().to_owned());
    let config = Config::load(config.as_deref())?;
    let file = config.secret_key_file();
    let old_key = Zeroizing::new(match &config.security.secret_key {
        Some(key) => key.expose_secret().to_owned(),
        None => std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?,
    });
    let keys = Rotation {
        old: Sealer::from_base64(&old_key)?,
        new: Sealer::from_base64(&new_key).context("the new key is none")?,
    };
    // Before anything is changed: a key that is nowhere written down would open nothing.
    let own_file = config.security.secret_key.is_none();
    let next = file.with_extension("key.next");
    if own_file {
        write(&next, &new_key).with_context(|| format!("cannot write {}", next.display()))?;
    }
    let (url, embedded) = serve::database(&config).await?;
    let rotated = rotate(&url, &keys).await;
    drop(embedded);
    rotated?;
    if own_file {
        std::fs::rename(&next, &file).with_context(|| format!("cannot write {}", file.display()))?;
    } else {
        say("Now set security.secret_key (FERRY__SECURITY__SECRET_KEY) to the new key, then start the servers.");
    }
    Ok(())
}

fn write(path: &Path, key: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(key.as_bytes())?;
    file.sync_all()
}

async fn rotate(url: &str, keys: &Rotation) -> anyhow::Result<()> {
    let pool = db::connect(url, 1, IDLE, "").await?;
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    if !rotation::hold(&mut transaction).await? {
        bail!("a server of this environment is running; stop all of them first");
    }
    let Some(mut own) = identity(&mut transaction).await? else {
        bail!("nothing rests in this database yet; start the server with the new key");
    };
    if keys.new.open("key_check", &own.key_check).is_ok() {
        say("Everything is sealed with the new key already.");
        return Ok(());
    }
    keys.old.open("key_check", &own.key_check)?;
    own.key_check = keys.new.seal("key_check", KEY_CHECK)?;
    own.signing_seed = keys.again("signing_seed", &own.signing_seed)?;
    own.sealing_seed = keys.again("sealing_seed", &own.sealing_seed)?;
    rotation::write_identity(&mut transaction, &own).await?;
    let (live, history) = versions(&mut transaction, keys).await?;
    entries(&mut transaction, keys).await?;
    let tokens = rotation::tokens(&mut transaction).await?;
    for (id, token) in &tokens {
        let again = keys.again(&format!("target/{id}"), token).with_context(|| format!("the token of target {id}"))?;
        rotation::write_token(&mut transaction, *id, &again).await?;
    }
    for (id, passphrase) in rotation::passphrases(&mut transaction).await? {
        let place = format!("record/{id}/passphrase");
        let again = keys.again(&place, &passphrase).with_context(|| format!("the passphrase of record {id}"))?;
        db::passphrases::keep(&mut transaction, id, &again).await?;
    }
    let details = serde_json::json!({
        "secrets": live.sealed, "of_earlier_versions": history.sealed, "tokens_of_targets": tokens.len(),
        "closed": live.closed + history.closed,
    });
    let entry = Entry {
        domain_id: None,
        username: None,
        token: Some("command line"),
        action: "keys.rotate",
        object: ("environment", &own.id),
        details,
        address: None,
    };
    db::audit::insert(&mut transaction, &entry).await?;
    transaction.commit().await?;
    say(&format!(
        "Sealed with the new key: {} secrets of resources, {} of earlier versions, {} tokens of targets.",
        live.sealed,
        history.sealed,
        tokens.len()
    ));
    if live.closed + history.closed > 0 {
        say(&format!("{} values did not open with the old key and stay as they are.", live.closed + history.closed));
    }
    Ok(())
}

/// All versions that have something sealed, portion by portion; what was done to current ones, and to earlier ones.
async fn versions(connection: &mut PgConnection, keys: &Rotation) -> anyhow::Result<(Done, Done)> {
    let (mut live, mut earlier, mut last): (Done, Done, Option<Row>) = (Done::default(), Done::default(), None);
    loop {
        let mut rows = rotation::versions(connection, last.as_ref()).await?;
        let Some(end) = rows.last().cloned() else { return Ok((live, earlier)) };
        for row in &mut rows {
            let done = keys.version(&row.id, &mut row.overlay)?;
            let all = if row.current { &mut live } else { &mut earlier };
            (all.sealed, all.closed) = (all.sealed + done.sealed, all.closed + done.closed);
        }
        rotation::write_versions(connection, &rows).await?;
        last = Some(end);
    }
}

/// What came along with imports that have not ended.
async fn entries(connection: &mut PgConnection, keys: &Rotation) -> anyhow::Result<()> {
    for (record_id, first, mut text) in rotation::entries(connection).await? {
        keys.entries(&mut text)?;
        rotation::write_entries(connection, record_id, first, &text).await?;
    }
    Ok(())
}
