//! Supervises a local Postgres where no address is given: a demo on one Linux machine, or tests.
//! It listens on a Unix socket only and trusts whoever may enter the socket's folder.
//! Nothing here speaks SQL; creating databases and migrating them belongs to the store.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, io};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

const START_LIMIT: Duration = Duration::from_secs(60);
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long the server of a killed supervisor may take to let go of the folder.
const HANDOVER_LIMIT: Duration = Duration::from_secs(15);
/// What Postgres says until then, about its lock file and its memory.
const HANDOVER: [&str; 2] = ["already exists", "pre-existing shared memory block"];
/// Between two tries to start what ended by itself.
const RESTART_PAUSE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
/// Gets our process id, the signal to send when we die, and a program with its arguments.
/// A death before setpriv took effect sends nothing, hence the look at the parent after it.
const RUN_WHILE_WE_LIVE: &str = r#"us=$0 signal=$1; shift; exec 2>&1
if setpriv --pdeathsig "$signal" true 2>/dev/null; then
    exec setpriv --pdeathsig "$signal" sh -c '[ "$PPID" = "$0" ] && exec "$@"' "$us" "$@"
fi
echo "no setpriv of util-linux: $1 will outlive a server that is killed"; exec "$@""#;

/// A running cluster; dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    socket_folder: String,
    /// The thread that has the server; it stops the server and ends when the sender is dropped.
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
}

/// How the server runs; both may change from one start to the next.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections at once, including the few kept for the superuser.
    pub max_connections: u16,
    /// Whether a commit survives a crash of the machine; false only for tests.
    pub durable: bool,
}

/// Why there is no local Postgres, told to whoever runs the server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// FERRY_POSTGRES_BIN or, where it is unset, the usual places do not have the programs.
    #[error("no initdb and postgres: `apt-get install postgresql` or set FERRY_POSTGRES_BIN")]
    Missing,
    /// Mostly a folder on the way that keeps out the user who runs Postgres for root.
    #[error("uid {1} cannot run Postgres in {0}: choose another storage.dir, open to that user")]
    Closed(PathBuf, u32, #[source] io::Error),
    /// One folder, one server.
    #[error("another server is using {0}: stop that one or choose another storage.dir")]
    InUse(PathBuf),
    /// The program that failed, its log, the end of the log.
    #[error("{0} failed; {1} ends with:\n{2}")]
    Failed(&'static str, PathBuf, String),
    /// What the system refused, for the sake of which path.
    #[error("cannot {0} {1}")]
    Io(&'static str, PathBuf, #[source] io::Error),
}

impl Postgres {
    /// Starts the cluster in `dir`, a folder of its own, and makes both on first use. Blocks
    /// until it accepts connections: seconds the first time, later a fraction of one.
    pub fn start(dir: &Path, options: &Options) -> Result<Postgres, PostgresError> {
        let cluster = Cluster::prepare(dir)?;
        let socket_folder = cluster.socket_folder.clone();
        let options = options.clone();
        let (hold, held) = mpsc::channel();
        let (report, launched) = mpsc::channel();
        // The server gets its signal when the thread that spawned it ends, so that one stays.
        let keeper = thread::Builder::new().spawn(move || {
            match cluster.launch(&options) {
                Ok(server) => {
                    drop(report.send(Ok(())));
                    keep(&cluster, &options, server, &held);
                }
                Err(error) => drop(report.send(Err(error))),
            }
            drop(fs::remove_dir(&cluster.socket_folder));
        });
        let keeper = Some((hold, keeper.map_err(refused("supervise", dir))?));
        let postgres = Postgres { socket_folder, keeper };
        let silence = |gone| refused("supervise", dir)(io::Error::other(gone));
        launched.recv().map_err(silence)??;
        Ok(postgres)
    }

    /// The address of a database whose name needs no escaping, as the superuser.
    pub fn url(&self, database: &str) -> String {
        let host = utf8_percent_encode(&self.socket_folder, NON_ALPHANUMERIC);
        format!("postgres://ferry@localhost/{database}?host={host}")
    }

    /// Cuts all connections, shuts the cluster down and waits for it. Twice does no harm.
    pub fn stop(&mut self) {
        if let Some((hold, keeper)) = self.keeper.take() {
            drop(hold);
            drop(keeper.join());
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Cluster {
    dir: PathBuf,
    socket_folder: String,
    bin: PathBuf,
    /// The user and group that run Postgres: ours, or others where we are root, whom it refuses.
    owner: (u32, u32),
    /// The folder, locked as long as the cluster is ours; our death unlocks it.
    _lock: File,
}

impl Cluster {
    fn prepare(dir: &Path) -> Result<Cluster, PostgresError> {
        make_passable(dir).map_err(refused("create", dir))?;
        let dir = &dir.canonicalize().map_err(refused("resolve", dir))?;
        // Others may pass through, to the data; none may list or lock the folder.
        let mode = Permissions::from_mode(0o711);
        drop(fs::set_permissions(dir, mode));
        let cluster = Cluster {
            dir: dir.clone(),
            socket_folder: socket_folder(dir),
            bin: find_programs().ok_or(PostgresError::Missing)?,
            owner: find_owner(dir).map_err(refused("find a user for", dir))?,
            _lock: lock(dir)?,
        };
        if !dir.join("data").exists() {
            cluster.make()?;
        }
        cluster.make_folder(Path::new(&cluster.socket_folder))?;
        Ok(cluster)
    }

    /// A killed initdb leaves `data.new` behind, so that `data` is always whole.
    fn make(&self) -> Result<(), PostgresError> {
        let new = self.dir.join("data.new");
        self.make_folder(&new)?;
        let arguments = "--pgdata=data.new --username=ferry --auth=trust --encoding=UTF8 \
                         --locale=C.UTF-8 --no-sync";
        let mut initdb = self.spawn("KILL", "initdb", arguments)?;
        if !initdb.wait().is_ok_and(|status| status.success()) {
            return Err(self.failure("initdb"));
        }
        fs::rename(&new, self.dir.join("data")).map_err(refused("rename", &new))
    }

    fn launch(&self, options: &Options) -> Result<Child, PostgresError> {
        let connections = options.max_connections;
        let safe = if options.durable { "on" } else { "off" };
        let folder = &self.socket_folder;
        let arguments = format!(
            "-D data --listen_addresses= --unix_socket_directories={folder} --port=5432 \
             --max_connections={connections} --shared_buffers=128MB --timezone=UTC \
             --log_timezone=UTC --fsync={safe} --synchronous_commit={safe} \
             --full_page_writes={safe}"
        );
        let began = Instant::now();
        loop {
            let mut server = self.spawn("INT", "postgres", &arguments)?;
            while !has_ended(&mut server) && began.elapsed() < START_LIMIT {
                if self.is_ready(server.id()) {
                    return Ok(server);
                }
                thread::sleep(Duration::from_millis(20));
            }
            halt(&mut server);
            let error = self.failure("postgres");
            let reason = error.to_string();
            if !HANDOVER.iter().any(|words| reason.contains(words)) {
                return Err(error);
            }
            if began.elapsed() > HANDOVER_LIMIT {
                return Err(PostgresError::InUse(self.dir.clone()));
            }
            thread::sleep(PAUSE);
        }
    }

    /// The socket proves the status file new: an older one may name the same process id.
    fn is_ready(&self, pid: u32) -> bool {
        let status = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap_or_default();
        let line = |number: usize| status.lines().nth(number - 1).map(str::trim_end);
        fs::exists(self.socket_folder.clone() + "/.s.PGSQL.5432").unwrap_or(false)
            && line(1) == Some(&pid.to_string())
            && line(8) == Some("ready")
    }

    /// Each program starts a log and keeps the one before.
    fn spawn(&self, signal: &str, program: &str, arguments: &str) -> Result<Child, PostgresError> {
        let log = self.dir.join("postgres.log");
        drop(fs::rename(&log, self.dir.join("postgres.log.1")));
        let mut private = File::options();
        private.append(true).create_new(true).mode(0o600);
        let stdout = private.open(&log).map_err(refused("create", &log))?;
        let mut command = Command::new("sh");
        command.args(["-c", RUN_WHILE_WE_LIVE, &process::id().to_string(), signal]);
        command.arg(self.bin.join(program));
        command.args(arguments.split_whitespace());
        // Before setpriv runs: a change of user would clear the signal it asked for.
        command.uid(self.owner.0).gid(self.owner.1);
        // Our environment may hold secrets, or PG… variables that change what Postgres does.
        command.env_clear().env("PATH", "/usr/bin:/bin");
        // In a process group of its own, the terminal's Ctrl-C does not reach it before us.
        command.process_group(0).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(stdout);
        let closed = |error| PostgresError::Closed(self.dir.clone(), self.owner.0, error);
        command.spawn().map_err(closed)
    }

    /// Makes an empty folder that only Postgres and root may enter. In /tmp, somebody else's may
    /// be in the way; then it stays, and making ours fails.
    fn make_folder(&self, path: &Path) -> Result<(), PostgresError> {
        drop(fs::remove_dir_all(path));
        let made = DirBuilder::new().mode(0o700).create(path);
        made.and_then(|()| lchown(path, Some(self.owner.0), Some(self.owner.1))).map_err(refused("create", path))
    }

    fn failure(&self, program: &'static str) -> PostgresError {
        let path = self.dir.join("postgres.log");
        let log = fs::read(&path).unwrap_or_default();
        let tail = log.len().saturating_sub(2000);
        let tail = String::from_utf8_lossy(&log[tail..]).into_owned();
        PostgresError::Failed(program, path, tail)
    }
}

/// Makes a folder and those above it that are missing. Where we are root, whom Postgres refuses, others may pass through
/// the new ones, and no more: what else is in them is for us alone.
pub fn make_passable(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(dir)?;
    if fs::metadata("/proc/self")?.uid() == 0 {
        for folder in missing.into_iter().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::set_permissions(folder, Permissions::from_mode(0o711))?;
        }
    }
    Ok(())
}

/// A lock outlives its holder for a moment: while that dies, or a child of it is being spawned.
fn lock(dir: &Path) -> Result<File, PostgresError> {
    let folder = File::open(dir).map_err(refused("open", dir))?;
    let began = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_LIMIT => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(PostgresError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(refused("lock", dir)(error)),
        }
    }
}

/// A cluster stays with the user who made it, whatever was installed since.
fn find_owner(dir: &Path) -> io::Result<(u32, u32)> {
    let us = fs::metadata("/proc/self")?;
    let known = fs::metadata(dir.join("data")).unwrap_or(us);
    if known.uid() != 0 {
        return Ok((known.uid(), known.gid()));
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &&str| {
        let user = users.lines().find(|user| user.starts_with(name))?;
        let mut fields = user.split(':').skip(2).map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    let found = ["postgres:", "nobody:"].iter().find_map(ids);
    found.ok_or(io::ErrorKind::NotFound.into())
}

/// `run` in the cluster's folder, unless a socket in it would pass 107 bytes or need escaping.
fn socket_folder(dir: &Path) -> String {
    let run = format!("{}/run", dir.display());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte);
    if run.len() <= 107 - "/.s.PGSQL.5432".len() && run.bytes().all(is_plain) {
        return run;
    }
    let inode = fs::metadata(dir).map_or(0, |folder| folder.ino());
    format!("/tmp/ferry-{}-{inode}", process::id())
}

/// Where FERRY_POSTGRES_BIN says, or else Debian's newest, or else the first in PATH.
fn find_programs() -> Option<PathBuf> {
    let is_whole = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("postgres").is_file();
    if let Some(named) = env::var_os("FERRY_POSTGRES_BIN") {
        return Some(named.into()).filter(is_whole);
    }
    let version = |bin: &PathBuf| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter();
    let bins = debian.flatten().flatten().map(|it| it.path().join("bin"));
    let in_path = || env::split_paths(&env::var_os("PATH")?).find(is_whole);
    bins.filter(is_whole).max_by_key(version).or_else(in_path)
}

/// Until nobody needs the server any more; one that ends by itself is started again.
fn keep(cluster: &Cluster, options: &Options, mut server: Child, held: &Receiver<()>) {
    let mut pause = PAUSE;
    while held.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        if !has_ended(&mut server) {
            continue;
        }
        tracing::error!(status = ?server.wait(), "the local Postgres ended by itself; it is started again");
        match cluster.launch(options) {
            Ok(again) => (server, pause) = (again, PAUSE),
            Err(error) => {
                tracing::error!(%error, "the local Postgres does not start again");
                pause = RESTART_PAUSE;
            }
        }
    }
    halt(&mut server);
}

/// A fast shutdown, or else a kill.
fn halt(server: &mut Child) {
    let began = Instant::now();
    // The process id is the server's until has_ended() finds that it is not.
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -INT $0", &server.id().to_string()]);
    if !has_ended(server) && kill.status().is_ok() {
        while !has_ended(server) && began.elapsed() < STOP_LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
    }
    drop(server.kill().and_then(|()| server.wait()));
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    move |error| PostgresError::Io(action, path.to_owned(), error)
}
