//! Postgres' own tools, on the tables that hold what travels.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ferry::db;

use super::Bench;

const TABLES: [&str; 4] = ["resources", "resource_references", "definitions", "resource_versions"];

impl Bench {
    pub fn dump(&self, database: &str) -> anyhow::Result<(Duration, PathBuf)> {
        let file = self.folder.join("dump");
        let mut command = self.dumping(database)?;
        command.arg("-f").arg(&file);
        Ok((run(command)?, file))
    }

    /// Into an empty database of the product's schema without rows.
    pub async fn restore(&self, dump: &Path) -> anyhow::Result<Duration> {
        let url = self.empty().await?;
        let mut command = Command::new("pg_restore");
        command.args(["-1", "-d", &url]).arg(dump);
        run(command)
    }

    /// `pg_dump | pg_restore -1` into empty tables.
    pub async fn pipe(&self) -> anyhow::Result<Duration> {
        let url = self.empty().await?;
        let begun = Instant::now();
        let mut dump = self.dumping("test")?.stdout(Stdio::piped()).spawn()?;
        let Some(output) = dump.stdout.take() else { bail!("pg_dump has no output") };
        let restored = Command::new("pg_restore").args(["-1", "-d", &url]).stdin(output).status()?;
        if !dump.wait()?.success() || !restored.success() {
            bail!("the pipe failed");
        }
        Ok(begun.elapsed())
    }

    fn dumping(&self, database: &str) -> anyhow::Result<Command> {
        let mut command = Command::new("pg_dump");
        command.arg("-Fc").args(TABLES.iter().flat_map(|table| ["-t", table]));
        command.arg("-d").arg(db::with_database(&self.admin, database)?);
        Ok(command)
    }

    /// A database without the tables.
    async fn empty(&self) -> anyhow::Result<String> {
        db::recreate_database(&self.admin, "restored").await?;
        let url = db::with_database(&self.admin, "restored")?;
        let pool = db::connect(&url, 2, 60, "").await?;
        pool.close().await;
        let mut empty = Command::new("psql");
        empty.args(["-q", "-d", &url, "-c", &format!("drop table {} cascade", TABLES.join(", "))]);
        run(empty)?;
        Ok(url)
    }
}

fn run(mut command: Command) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if status.success() { Ok(begun.elapsed()) } else { bail!("{command:?} failed") }
}
