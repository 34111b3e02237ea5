//! A server as a process of its own, which can be killed, stopped and started again.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::unended::{Unended, left_over};
use super::{ADMIN, User, cluster};

/// How long a server may take to answer, or to end.
const LIMIT: Duration = Duration::from_secs(30);

/// An environment of which the server is a process.
pub struct Process {
    name: String,
    more: String,
    /// What it logs, if not the usual.
    log: Option<&'static str>,
    port: u16,
    child: Option<Child>,
    pub database: String,
    /// Shared with its replicas.
    pub files: Arc<TempDir>,
    unended: Arc<Unended>,
}

impl Process {
    /// An empty environment of a name, a lease of two seconds.
    pub async fn start(name: &str) -> Self {
        Self::configured(name, "").await
    }

    /// The same, with more settings in TOML.
    pub async fn configured(name: &str, more: &str) -> Self {
        Self::logging(name, more, None).await
    }

    /// The same, with more or less in its log.
    pub async fn logging(name: &str, more: &str, log: Option<&'static str>) -> Self {
        Self::with(name, more, log, cluster::new_database().await).await
    }

    /// The same on a database of another Postgres, which ends with that one.
    pub async fn on(name: &str, database: &str) -> Self {
        Self::with(name, "", None, database.to_owned()).await
    }

    async fn with(name: &str, more: &str, log: Option<&'static str>, database: String) -> Self {
        let files = Arc::new(tempfile::tempdir().unwrap());
        let (name, more) = (name.to_owned(), more.to_owned());
        let unended = Arc::new(Unended::of(&database));
        let mut process = Self { name, more, log, port: free_port(), child: None, database, files, unended };
        process.restart().await;
        process
    }

    /// Another server on the same database and files.
    pub async fn replica(&self) -> Self {
        let (name, more, log) = (self.name.clone(), self.more.clone(), self.log);
        let (database, files, unended) = (self.database.clone(), self.files.clone(), self.unended.clone());
        let mut replica = Self { name, more, log, port: free_port(), child: None, database, files, unended };
        replica.restart().await;
        replica
    }

    /// Other settings from its next start on, in TOML; those of the file change at once.
    pub fn set_more(&mut self, more: &str) {
        let settings = std::fs::read_to_string(self.config()).unwrap();
        let kept = settings.strip_suffix(self.more.as_str()).unwrap();
        std::fs::write(self.config(), format!("{kept}{more}")).unwrap();
        self.more = more.to_owned();
    }

    /// The file of its settings.
    pub fn config(&self) -> PathBuf {
        self.files.path().join(format!("{}.toml", self.port))
    }

    /// Starts it again on its port, once it was killed or has ended.
    pub async fn restart(&mut self) {
        self.launch();
        self.ready().await;
    }

    /// The same without waiting until it answers.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let kind = if matches!(self.name.as_str(), "test" | "production") { &self.name } else { "other" };
        let settings = format!(
            "environment = {{ name = {}, kind = {} }}\nserver.listen = \"127.0.0.1:{}\"\nstorage.dir = {}\n\
             database = {{ url = {}, max_connections = 8 }}\nsecurity.admin_token = {}\njobs.lease_seconds = 2\n{}",
            json!(self.name),
            json!(kind),
            self.port,
            json!(self.files.path()),
            json!(self.database),
            json!(ADMIN),
            self.more,
        );
        let config = self.config();
        std::fs::write(&config, settings).unwrap();
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        // It must not outlive the tests, however these end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_ferry"), "serve", "--config"]).arg(config);
        command
            .env_clear()
            .envs(self.log.map(|log| ("RUST_LOG", log)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it answers.
    pub async fn ready(&mut self) {
        let (client, began) = (Client::new(), Instant::now());
        let url = format!("{}/readyz", self.url());
        while !client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < LIMIT, "no server: {ended:?}\n{}", self.log_text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The administrator of domain `default`.
    pub fn admin(&self) -> User {
        User { client: Client::new(), base: self.url(), token: ADMIN.to_owned() }
    }

    /// Ends it at once, whatever it does (SIGKILL).
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it where it is (SIGSTOP).
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn cont(&self) {
        self.signal("CONT");
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// The same, and waits for that.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let (mut child, began) = (self.child.take().unwrap(), Instant::now());
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if began.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it does not end when it should");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The number of the process, as long as it runs.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// A connection to its database, to look at what no route shows.
    pub async fn sql(&self) -> PgConnection {
        PgConnection::connect(&self.database).await.unwrap()
    }

    /// Ends all that use the database, drops it; for the last server on it. A job that is left over fails the test.
    pub async fn end(self) {
        let open = left_over(&self.database).await;
        self.abandon().await;
        assert_eq!(open, 0, "jobs are left over");
    }

    /// The same for a test that leaves jobs over, and says so by this.
    pub async fn abandon(mut self) {
        if self.child.is_some() {
            self.kill();
        }
        self.unended.looked();
        cluster::drop_database(&self.database).await;
    }

    /// The most memory that it has had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.as_ref().unwrap().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn log(&self) -> PathBuf {
        self.files.path().join(format!("{}.log", self.port))
    }

    /// What it has logged, over all its starts.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            let log = self.log_text();
            let tail = log.char_indices().rev().nth(6_000).map_or(0, |(at, _)| at);
            #[expect(clippy::print_stderr, reason = "what the server of a failed test said")]
            {
                eprintln!("--- {} {}\n{}", self.name, self.port, &log[tail..]);
            }
        }
    }
}

/// A port that nobody uses, from where the system gives none to connections: it must stay free over a restart.
fn free_port() -> u16 {
    loop {
        let port = 10_000 + uuid::Uuid::new_v4().as_u128() as u16 % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
