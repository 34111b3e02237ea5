//! Online migrations beside the pipe of `pg_dump` and `pg_restore`, and beside empty requests.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use ferry::db;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Bench, Environment, TABLES, TOKEN, Table, ended, id, resource};

/// Migrations of one resource in a round.
const SINGLES: usize = 10;

/// G5, G6 and G12 of one round, into an environment of their own.
pub async fn round(bench: &Bench, test: &Environment, round: usize, table: &mut Table) -> anyhow::Result<()> {
    let production = bench.environment("online").await?;
    let wire = Wire::before(&production.server.address.to_string()).await?;
    let body = json!({"name": format!("target {round}"), "url": wire.url, "token": TOKEN});
    let target = test.client.post("/api/v1/targets", &body).await?["id"].clone();
    let roots: Vec<String> = (0..bench.count / 10).map(id).collect();
    let all = json!({"target_id": target, "resource_ids": roots, "export_upstream": true});

    let piped = pipe(bench).await?;
    let created = migrate(test, &all, "create", bench.count).await?;
    table.add("G5 online, all new, against the pipe", piped, created);
    let piped = pipe(bench).await?;
    let before = wire.bytes();
    let unchanged = migrate(test, &all, "unchanged", bench.count).await?;
    table.add("G6 online, unchanged, against the pipe", piped, unchanged);
    let definitions: usize = {
        let mut random = super::Random(42);
        (0..bench.count).map(|n| resource(n, bench.count, 0, &mut random)["definition"].to_string().len()).sum()
    };
    table.size("G6 definitions against bytes on the wire", definitions as f64, (wire.bytes() - before) as f64);

    let one = json!({"target_id": target, "resource_ids": [id(bench.count - 1)]});
    for number in 0..SINGLES {
        let path = format!("/api/v1/resources/{}", id(bench.count - 1));
        let mut line = resource(bench.count - 1, bench.count, 0, &mut super::Random(42));
        line["definition"]["version"] = json!(format!("{round}/{number}"));
        test.client.put(&path, &line).await?;
        let begun = Instant::now();
        test.client.get("/api/v1/session").await?;
        production.client.get("/api/v1/session").await?;
        let empty = begun.elapsed();
        let single = migrate(test, &one, "update", 1).await?;
        table.add("G12 empty requests to both against one resource", empty, single);
    }
    production.server.stop().await;
    Ok(())
}

async fn migrate(test: &Environment, body: &Value, counted: &str, count: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let record = test.client.post("/api/v1/migrations", body).await?;
    let record = ended(test, &record, "succeeded").await?;
    let took = begun.elapsed();
    if record["counts"][counted] != count {
        bail!("the migration counts {}", record["counts"]);
    }
    Ok(took)
}

/// `pg_dump | pg_restore -1` into empty tables.
async fn pipe(bench: &Bench) -> anyhow::Result<Duration> {
    let url = bench.empty().await?;
    let begun = Instant::now();
    let mut dump = Command::new("pg_dump");
    dump.arg("-Fc").args(TABLES.iter().flat_map(|table| ["-t", table]));
    let mut dump = dump.arg(db::with_database(&bench.admin, "test")?).stdout(Stdio::piped()).spawn()?;
    let Some(output) = dump.stdout.take() else { bail!("pg_dump has no output") };
    let restored = Command::new("pg_restore").args(["-1", "-d", &url]).stdin(output).status()?;
    if !dump.wait()?.success() || !restored.success() {
        bail!("the pipe failed");
    }
    Ok(begun.elapsed())
}

/// Counts what passes on its way to a server and back.
struct Wire {
    url: String,
    bytes: Arc<AtomicU64>,
}

impl Wire {
    async fn before(address: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let bytes = Arc::new(AtomicU64::new(0));
        let (address, counted) = (address.to_owned(), bytes.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&address).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(carry(from_client, to_server, counted.clone()));
                tokio::spawn(carry(from_server, to_client, counted.clone()));
            }
        });
        Ok(Self { url, bytes })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn carry(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, bytes: Arc<AtomicU64>) {
    let mut piece = vec![0; 256 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
