//! An environment: a database, files, and a server that is a process of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use ferry::db;
use ferry::remote::plain::Client;
use serde_json::{Value, json};

use super::Bench;

pub const TOKEN: &str = "bench";

pub struct Environment {
    pub client: Client,
    pub url: String,
    config: PathBuf,
    child: Child,
    /// What its memory was when it had started, in KiB.
    idle: u64,
}

impl Environment {
    /// An empty one.
    pub async fn new(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        Self::configured(bench, name, "").await
    }

    /// The same, with more settings in TOML.
    pub async fn configured(bench: &Bench, name: &str, more: &str) -> anyhow::Result<Self> {
        db::recreate_database(&bench.admin, name).await?;
        let files = bench.folder.join(name);
        if files.exists() {
            std::fs::remove_dir_all(&files)?;
        }
        std::fs::create_dir_all(&files)?;
        let settings = format!(
            "environment.name = {}\nserver.listen = \"127.0.0.1:0\"\nstorage.dir = {}\ndatabase.url = {}\n\
             security.admin_token = \"{TOKEN}\"\n{more}\n",
            json!(name),
            json!(files),
            json!(db::with_database(&bench.admin, name)?),
        );
        let config = files.join("ferry.toml");
        std::fs::write(&config, settings)?;
        Self::launch(config)
    }

    /// The same with a new server.
    pub async fn restarted(mut self) -> anyhow::Result<Self> {
        self.terminate()?;
        Self::launch(self.config.clone())
    }

    /// Stops the server.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.terminate()
    }

    fn launch(config: PathBuf) -> anyhow::Result<Self> {
        // It does not outlive this process.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_ferry"), "serve", "--config"]).arg(&config);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("setpriv")?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut told = String::new();
        BufReader::new(output).read_line(&mut told)?;
        let Some(url) = told.trim().strip_prefix("listening on ").map(str::to_owned) else {
            bail!("the server does not start: {told}");
        };
        let mut environment = Self { client: Client::new(&url, TOKEN), url, config, child, idle: 0 };
        environment.idle = environment.memory("VmRSS:")?;
        Ok(environment)
    }

    fn terminate(&mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }

    /// From now on another peak of its memory counts.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        let file = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(&file, "5").context(file)
    }

    /// The most memory that it has had, above what it had when idle, in MB.
    pub fn peak(&self) -> anyhow::Result<f64> {
        Ok(self.memory("VmHWM:")?.saturating_sub(self.idle) as f64 * 1024.0 / 1e6)
    }

    /// A line of the process' status, in KiB.
    fn memory(&self, line: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status.lines().find_map(|text| text.strip_prefix(line)).context("no such line in the status")?;
        Ok(value.trim().trim_end_matches(" kB").parse()?)
    }

    /// Waits until a record is in a state.
    pub async fn ended(&self, record: &Value, wanted: &str) -> anyhow::Result<Value> {
        let path = format!("/api/v1/records/{}?wait_seconds=10", record["id"].as_str().unwrap_or_default());
        loop {
            let record = self.client.get(&path).await?;
            match record["status"].as_str().unwrap_or_default() {
                status if status == wanted => return Ok(record),
                "queued" | "running" => {}
                other => bail!("the record is {other}: {}", record["error"]),
            }
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
