//! All SQL: plain functions over a connection, a file per table. The caller owns the transaction.

pub mod attachment_bases;
pub mod attachment_bytes;
pub mod attachments;
pub mod audit;
pub mod callers;
pub mod catalogue;
pub mod checklist;
pub mod closure;
pub mod contents;
pub mod copy;
pub mod definitions;
pub mod derive;
pub mod domains;
pub mod environment;
pub mod exports;
pub mod facts;
pub mod grants;
pub mod graph;
pub mod idempotency_keys;
pub mod import_entries;
pub mod index_pages;
pub mod jobs;
pub mod lineage;
pub mod locks;
pub mod mappings;
pub mod merge;
pub mod passphrases;
pub mod pinned_sources;
pub mod record_items;
pub mod record_notes;
pub mod records;
pub mod resources;
pub mod roles;
pub mod roll_back;
pub mod rotation;
pub mod selections;
pub mod sessions;
pub mod staging;
pub mod standing;
pub mod targets;
pub mod tombstones;
pub mod trusted_sources;
pub mod undo;
pub mod uploads;
pub mod users;
pub mod value_rules;
pub mod windows;

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::MigrateError;
pub use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
pub use sqlx::{Acquire, Error, PgConnection, PgPool, Postgres, Transaction};

/// What every connection of a server calls itself, at first.
const APPLICATION: &str = "ferry";

/// The same with the types that the server knows, so that others see them: names have at most 63 bytes.
fn application(types: &str) -> String {
    format!("{APPLICATION} {}", types.get(..32).unwrap_or(types))
}

/// What can go wrong in the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A named constraint was violated; the text is its name.
    #[error("the constraint {0} was violated")]
    Constraint(String),
    /// A lock, a connection or a serialisable order could not be had in time: try again later.
    #[error("the database is busy")]
    Busy,
    /// The disk of the database is full.
    #[error("no space is left for the database")]
    Full,
    /// The worker has lost its job.
    #[error("the job was taken over by another worker")]
    Fenced,
    /// The environment's resource types are described by other files than this server has.
    #[error("the environment runs with other resource type files by now")]
    Outdated,
    /// What was stored cannot be read; the text is `table.column`, where it is known.
    #[error("what is stored in {0} cannot be read")]
    Corrupt(&'static str),
    /// The schema is that of a newer version; the number is that of a migration.
    #[error(
        "the database has the schema of a newer version of this program (migration {0} is unknown here): run that \
         version, or restore the backup that was made before it"
    )]
    Newer(i64),
    /// Anything else.
    #[error("the database failed: {0}")]
    Other(sqlx::Error),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // Also a connection that was lost: the database is on its way back.
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => return Self::Busy,
            sqlx::Error::Database(database) => {
                if let (true, Some(name)) = (database.is_unique_violation(), database.constraint()) {
                    return Self::Constraint(name.to_owned());
                }
                // disk_full
                if database.code().as_deref() == Some("53100") {
                    return Self::Full;
                }
                // lock_not_available, deadlock_detected, serialization_failure, query_canceled; the connection was ended
                let code = database.code().unwrap_or_default();
                let passing = ["55P03", "40P01", "40001", "57014", "57P01", "57P02", "57P03", "25P03"];
                if passing.contains(&code.as_ref()) || code.starts_with("08") {
                    return Self::Busy;
                }
            }
            sqlx::Error::ColumnDecode { source, .. } => {
                if let Some(Self::Corrupt(column)) = source.downcast_ref() {
                    return Self::Corrupt(column);
                }
            }
            _ => {}
        }
        Self::Other(error)
    }
}

/// Connects, and brings the schema up to date under a lock, so that replicas may start together. A transaction
/// in which nothing happens for so many seconds is ended.
pub async fn connect(url: &str, max_connections: u32, idle_seconds: u32, types: &str) -> Result<PgPool, DbError> {
    // A server that was stopped in the middle of a transaction must not hold what it holds for ever.
    let idle = format!("{idle_seconds}s");
    let options = options(url)?.options([("idle_in_transaction_session_timeout", idle.as_str())]);
    let options = options.application_name(&application(types));
    // A pool would only say that it took too long.
    drop(<PgConnection as sqlx::Connection>::connect_with(&options).await?);
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await?;
    sqlx::migrate!().run(&pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => DbError::Newer(version),
        other => DbError::Other(other.into()),
    })?;
    Ok(pool)
}

/// The connections of jobs, apart from those that answer requests: a small job should neither wait for a new one nor
/// make its staging tables.
pub fn workers(pool: &PgPool, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        // The first job after a quiet time does not wait for one.
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(Duration::from_secs(60))
        .after_connect(|connection, _| Box::pin(async move { staging::prepare(connection).await }))
        .connect_lazy_with(for_long_work(pool))
}

/// A connection of its own, outside the pools.
pub async fn dedicated(pool: &PgPool) -> Result<PgConnection, DbError> {
    let mut connection = <PgConnection as sqlx::Connection>::connect_with(&for_long_work(pool)).await?;
    staging::prepare(&mut connection).await?;
    Ok(connection)
}

fn for_long_work(pool: &PgPool) -> PgConnectOptions {
    // What is staged and merged should not go through files on the way.
    (*pool.connect_options()).clone().options([
        ("temp_buffers", "64MB"),
        ("work_mem", "32MB"),
        ("idle_in_transaction_session_timeout", "0"),
    ])
}

/// What the transaction writes may be lost in a crash: it does not wait for the disk.
pub async fn commit_lazily(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query("set local synchronous_commit = off").execute(connection).await?;
    Ok(())
}

/// Makes a database if it is not there yet; `url` names another database of the same server.
///
/// # Errors
/// No connection, or no right to.
pub async fn create_database(url: &str, name: &str) -> Result<(), DbError> {
    let mut connection = <PgConnection as sqlx::Connection>::connect_with(&options(url)?).await?;
    let there = sqlx::query_scalar!(r#"select exists (select from pg_database where datname = $1) as "there!""#, name)
        .fetch_one(&mut connection)
        .await?;
    if !there {
        let quoted = format!("create database \"{}\"", name.replace('"', "\"\""));
        sqlx::query(&quoted).execute(&mut connection).await?;
    }
    Ok(())
}

/// Makes a database anew, empty.
///
/// # Errors
/// No connection, or no right to.
pub async fn recreate_database(url: &str, name: &str) -> Result<(), DbError> {
    let mut connection = <PgConnection as sqlx::Connection>::connect_with(&options(url)?).await?;
    let quoted = format!("drop database if exists \"{}\" with (force)", name.replace('"', "\"\""));
    sqlx::query(&quoted).execute(&mut connection).await?;
    create_database(url, name).await
}

/// The URL of another database of the same server.
///
/// # Errors
/// The URL is not one.
pub fn with_database(url: &str, name: &str) -> Result<String, DbError> {
    let mut url = url::Url::parse(url).map_err(|error| DbError::Other(sqlx::Error::Configuration(error.into())))?;
    url.set_path(&format!("/{name}"));
    Ok(url.into())
}

fn options(url: &str) -> Result<PgConnectOptions, DbError> {
    // A plan made for any list of IDs walks the list for each row: seconds, once a statement was used five times.
    let settings = [("timezone", "UTC"), ("plan_cache_mode", "force_custom_plan")];
    Ok(PgConnectOptions::from_str(url)?.application_name(APPLICATION).options(settings))
}

/// Whether the database answers.
///
/// # Errors
/// It does not.
pub async fn ping(pool: &PgPool) -> Result<(), DbError> {
    sqlx::query("select 1").execute(pool).await?;
    Ok(())
}
