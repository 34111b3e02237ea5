//! `ferry serve`: one server until it is told to stop.

use std::path::PathBuf;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::postgres::{Options, Postgres};
use crate::server::Server;
use crate::{db, telemetry};

use super::say;

/// A file would grow beyond what the process may write (`ulimit -f`). Tokio has no name for it.
const SIGXFSZ: std::os::raw::c_int = 25;

pub(super) async fn run(config: Option<PathBuf>) -> anyhow::Result<()> {
    telemetry::log("info,sqlx=warn");
    // Whoever listens is not ended by it: a file beyond the limit of the process is then an error of the one who writes.
    let _file_too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    let config = Config::load(config.as_deref())?;
    let (url, embedded) = database(&config).await?;
    let server = Server::start(config, &url).await?;
    say(&format!("listening on {}://{}", server.scheme(), server.address));
    stopped().await?;
    server.stop().await;
    drop(embedded);
    Ok(())
}

/// The address of the database, and what serves it if that is us.
pub(super) async fn database(config: &Config) -> anyhow::Result<(String, Option<Postgres>)> {
    match &config.database.url {
        Some(url) => Ok((url.expose_secret().to_owned(), None)),
        None => {
            let postgres = embedded(config).await?;
            Ok((postgres.url("ferry"), Some(postgres)))
        }
    }
}

/// A Postgres of our own under `storage.dir`, with the database in it.
async fn embedded(config: &Config) -> anyhow::Result<Postgres> {
    let options = Options { max_connections: 100, durable: true };
    let dir = config.storage.dir.join("postgres");
    let postgres =
        Postgres::start(&dir, &options).context("database.url is not set, and no Postgres can be started here")?;
    db::create_database(&postgres.url("postgres"), "ferry").await?;
    Ok(postgres)
}

/// Waits for SIGTERM or Ctrl-C.
pub(super) async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
