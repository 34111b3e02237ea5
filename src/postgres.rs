//! Supervises a local Postgres where no address is given: a demo on one machine, or the tests.
//! It listens on a Unix socket only and trusts whoever may enter the socket's folder.
//! Nothing here speaks SQL; creating databases and migrating them belongs to the store.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, iter};

/// From the first spawn to a cluster that accepts connections, recovery included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long the server of a killed supervisor may take to let go of the folder.
const HANDOVER_LIMIT: Duration = Duration::from_secs(15);
/// What Postgres says while another server, or the rest of one, has the folder.
const OCCUPIED: [&str; 2] = ["already exists", "pre-existing shared memory block"];
/// The longest `sun_path` is 107 bytes, of which `/.s.PGSQL.5432` takes 14.
const LONGEST_SOCKET_FOLDER: usize = 93;
const SOCKET: &str = ".s.PGSQL.5432";
/// The signal at a parent's death is set by the child, so a parent that died earlier is missed.
const EXEC_UNDER_PARENT: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// A running cluster; dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    run: PathBuf,
    /// Never sent on: hanging up is the order to stop.
    hold: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// How the server runs; both may change between one start and the next.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections accepted at once, the few reserved for the superuser included.
    pub max_connections: u16,
    /// Whether a commit survives a crash of the machine; false only for tests.
    pub durable: bool,
}

/// Why there is no local Postgres. The messages are for whoever runs the server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No folder holds both programs.
    #[error(
        "found no initdb and postgres in {searched}: `apt-get install postgresql`, or name their \
         folder in FERRY_POSTGRES_BIN, or give the address of a running Postgres"
    )]
    Missing {
        /// Where they were looked for.
        searched: String,
    },
    /// Postgres refuses to run as root, and there is nobody else to run it as.
    #[error("Postgres does not run as root, and /etc/passwd has neither `postgres` nor `nobody`")]
    NoAccount,
    /// The account that runs Postgres for root cannot get to its data.
    #[error(
        "root runs Postgres as uid {uid}, which may not enter {}: choose another storage.dir, or \
         open that folder with `chmod o+x`", folder.display()
    )]
    Unreachable {
        /// The outermost folder that is closed.
        folder: PathBuf,
        /// The account shut out.
        uid: u32,
    },
    /// One folder, one server.
    #[error("{} is in use by another server; stop that one or choose another storage.dir", dir.display())]
    InUse {
        /// The folder asked for.
        dir: PathBuf,
    },
    /// initdb or postgres ran and did not succeed.
    #[error("{reason}; the end of {}:\n{tail}", log.display())]
    Failed {
        /// Which program, and how it ended.
        reason: String,
        /// The whole log.
        log: PathBuf,
        /// The last lines of this attempt.
        tail: String,
    },
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// Its object.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Postgres {
    /// Starts the cluster in `dir`, and makes it on first use. Blocks until it accepts
    /// connections: some seconds the first time, later a fraction of one.
    pub fn start(dir: &Path, options: &Options) -> Result<Postgres, PostgresError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let dir = dir.canonicalize().map_err(failed("resolve", dir))?;
        let lock = lock(&dir)?;
        let cluster = Cluster::prepare(dir)?;
        let run = cluster.run.clone();
        let settings = settings(options, &run);
        let (hold, held) = mpsc::channel();
        let (report, started) = mpsc::channel();
        // The signal at a parent's death follows the thread that spawned, so one thread spawns
        // the server and lives as long.
        let keeper = thread::Builder::new()
            .name("postgres-keeper".to_owned())
            .spawn(move || {
                match cluster.launch(&settings) {
                    Ok(child) if report.send(Ok(())).is_ok() => keep(child, &held),
                    Ok(mut child) => halt(&mut child),
                    Err(error) => drop(report.send(Err(error))),
                }
                drop(fs::remove_dir(&cluster.run));
                drop(lock);
            })
            .map_err(failed("start a thread for", &run))?;
        let postgres = Postgres { run, hold: Some(hold), keeper: Some(keeper) };
        let lost = |_| failed("hear from the keeper of", &postgres.run)(io::ErrorKind::BrokenPipe.into());
        started.recv().map_err(lost)??;
        Ok(postgres)
    }

    /// The address of `database`, a plain name that needs no escaping, as the superuser.
    pub fn url(&self, database: &str) -> String {
        let escape = |&byte: &u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let host: String = self.run.as_os_str().as_bytes().iter().map(escape).collect();
        format!("postgres://ferry@localhost/{database}?host={host}")
    }

    /// Cuts the connections, shuts down and waits for it. Stopping twice does no harm.
    pub fn stop(&mut self) {
        drop(self.hold.take());
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            tracing::error!(socket_folder = %self.run.display(), "the keeper of Postgres panicked");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
