//! Speed beside `pg_dump` and `pg_restore`, on the product's own tables, in paired rounds of one run.
//!
//! `cargo bench --bench scale -- [RESOURCES] [ROUNDS]`, 10,000 and 5 unless given. Each operation counts from the
//! request to the ended record; starting servers does not count. Ratios are rates: 1.0 is as fast as Postgres' own
//! tool, 2.0 twice as fast. The catalogue has a fixed seed: about 2 KB of JSON and 3 references a resource, and 10 %
//! of it reach everything.
#![expect(clippy::print_stdout, reason = "the figures are for people")]

mod online;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ferry::config::Config;
use ferry::db;
use ferry::postgres::{Options, Postgres};
use ferry::remote::plain::Client;
use ferry::server::Server;
use serde_json::{Value, json};

const TOKEN: &str = "bench";
const TABLES: [&str; 4] = ["resources", "resource_references", "definitions", "resource_versions"];

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let count = numbers.first().copied().unwrap_or(10_000);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let folder = std::env::temp_dir().join("ferry-bench");
    let postgres = Postgres::start(&folder.join("postgres"), &Options { max_connections: 100, durable: true })?;
    let bench = Bench { admin: postgres.url("postgres"), folder, count };
    let test = bench.environment("test").await?;
    println!("{count} resources, {rounds} rounds");
    bench.load(&test, 0).await?;

    let mut table = Table::default();
    for round in 1..=rounds {
        let (dumped, dump) = bench.dump("test")?;
        let (exported, package) = bench.export(&test).await?;
        table.add("G1 export against pg_dump -Fc", dumped, exported);
        table.size("G10 package against dump, bytes", std::fs::metadata(&dump)?.len() as f64, package.len() as f64);

        let production = bench.environment("production").await?;
        let restored = bench.restore(&dump).await?;
        let created = bench.import(&production, &package, json!({}), "create").await?;
        table.add("G2 import, all new, against pg_restore -1", restored, created);
        let restored = bench.restore(&dump).await?;
        let unchanged = bench.import(&production, &package, json!({}), "unchanged").await?;
        table.add("G3 import, unchanged, against pg_restore -1", restored, unchanged);

        bench.load(&test, round).await?;
        let (_, package) = bench.export(&test).await?;
        let restored = bench.restore(&dump).await?;
        let updated = bench.import(&production, &package, json!({}), "update").await?;
        table.add("G4 import, all changed, against pg_restore -1", restored, updated);
        let renamed = bench
            .import(&production, &package, json!({"change_ids": true, "directory_prefix": "/Copy"}), "create")
            .await?;
        table.add("G7 import with changed IDs against G2", created, renamed);
        production.server.stop().await;
        online::round(&bench, &test, round, &mut table).await?;
    }
    test.server.stop().await;
    table.print();
    Ok(())
}

struct Bench {
    admin: String,
    folder: PathBuf,
    count: usize,
}

struct Environment {
    server: Server,
    client: Client,
}

impl Bench {
    async fn environment(&self, name: &str) -> anyhow::Result<Environment> {
        db::recreate_database(&self.admin, name).await?;
        let files = self.folder.join(name);
        if files.exists() {
            std::fs::remove_dir_all(&files)?;
        }
        let config = format!(
            "environment.name = {}\nserver.listen = \"127.0.0.1:0\"\nstorage.dir = {}\nsecurity.admin_token = \"{TOKEN}\"\n",
            json!(name),
            json!(files)
        );
        let server = Server::start(Config::from_toml(&config)?, &db::with_database(&self.admin, name)?).await?;
        let client = Client::new(&server.url(), TOKEN);
        Ok(Environment { server, client })
    }

    /// Writes the whole catalogue; another version changes every definition.
    async fn load(&self, test: &Environment, version: usize) -> anyhow::Result<()> {
        let mut random = Random(42);
        for first in (0..self.count).step_by(100_000) {
            let last = self.count.min(first + 100_000);
            let lines: String =
                (first..last).map(|n| format!("{}\n", resource(n, self.count, version, &mut random))).collect();
            test.client.post_lines("/api/v1/resources/batch", lines.into_bytes()).await?;
        }
        Ok(())
    }

    fn dump(&self, database: &str) -> anyhow::Result<(Duration, PathBuf)> {
        let file = self.folder.join("dump");
        let mut command = Command::new("pg_dump");
        command.args(["-Fc", "-f"]).arg(&file).args(TABLES.iter().flat_map(|table| ["-t", table]));
        command.arg(db::with_database(&self.admin, database)?);
        Ok((run(command)?, file))
    }

    /// Into an empty database of the product's schema without rows.
    async fn restore(&self, dump: &Path) -> anyhow::Result<Duration> {
        let url = self.empty().await?;
        let mut command = Command::new("pg_restore");
        command.args(["-1", "-d", &url]).arg(dump);
        run(command)
    }

    /// A database without the tables.
    async fn empty(&self) -> anyhow::Result<String> {
        db::recreate_database(&self.admin, "restored").await?;
        let url = db::with_database(&self.admin, "restored")?;
        let pool = db::connect(&url, 2, 60).await?;
        pool.close().await;
        let mut empty = Command::new("psql");
        empty.args([
            "-q",
            "-d",
            &url,
            "-c",
            "drop table resources, resource_references, definitions, resource_versions cascade",
        ]);
        run(empty)?;
        Ok(url)
    }

    async fn export(&self, test: &Environment) -> anyhow::Result<(Duration, Vec<u8>)> {
        let roots: Vec<String> = (0..self.count / 10).map(id).collect();
        let begun = Instant::now();
        let body = json!({"name": "bench", "resource_ids": roots, "export_upstream": true});
        let record = test.client.post("/api/v1/exports", &body).await?;
        let record = ended(test, &record, "succeeded").await?;
        let took = begun.elapsed();
        if record["package"]["resources"] != self.count {
            bail!("the export holds {} resources", record["package"]["resources"]);
        }
        let path =
            format!("{}/api/v1/exports/{}/package", test.server.url(), record["id"].as_str().unwrap_or_default());
        let package = reqwest::Client::new().get(path).bearer_auth(TOKEN).send().await?.error_for_status()?;
        Ok((took, package.bytes().await?.to_vec()))
    }

    async fn import(
        &self,
        to: &Environment,
        package: &[u8],
        options: Value,
        counted: &str,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let record = to.client.post_package(package.to_vec()).await?;
        let record = ended(to, &record, "awaiting_confirmation").await?;
        let id = record["id"].as_str().unwrap_or_default();
        let record = to.client.post(&format!("/api/v1/imports/{id}/execute"), &options).await?;
        let record = ended(to, &record, "succeeded").await?;
        let took = begun.elapsed();
        if record["counts"][counted] != self.count {
            bail!("the import counts {}", record["counts"]);
        }
        Ok(took)
    }
}

fn run(mut command: Command) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if status.success() { Ok(begun.elapsed()) } else { bail!("{command:?} failed") }
}

async fn ended(environment: &Environment, record: &Value, wanted: &str) -> anyhow::Result<Value> {
    let path = format!("/api/v1/records/{}?wait_seconds=10", record["id"].as_str().unwrap_or_default());
    loop {
        let record = environment.client.get(&path).await?;
        match record["status"].as_str().unwrap_or_default() {
            status if status == wanted => return Ok(record),
            "queued" | "running" => {}
            other => bail!("the record is {other}: {}", record["error"]),
        }
    }
}

/// A linear congruential generator: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}

fn id(n: usize) -> String {
    format!("bench_{n:07}")
}

/// The n-th dataset. The first tenth are roots; each names three of the second layer, each of those two of the
/// third and one at random, so that the roots reach all.
fn resource(n: usize, count: usize, version: usize, random: &mut Random) -> Value {
    let (roots, middle) = (count / 10, count / 10 * 4);
    let parents: Vec<String> = match n {
        _ if n < roots => (0..3).map(|k| id(roots + n * 3 + k)).collect(),
        _ if n < middle => {
            let below = (0..2).map(|k| middle + (n - roots) * 2 + k).chain([middle + random.below(count - middle)]);
            below.filter(|n| *n < count).map(id).collect()
        }
        _ => (0..3).map(|_| n + 1 + random.below(count - n)).filter(|n| *n < count).map(id).collect(),
    };
    let fields: Vec<Value> = (0..14)
        .map(|k| json!({"id": format!("f{k}"), "name": format!("column_{k}_{:x}", random.below(1 << 30)), "type": "string", "length": random.below(255)}))
        .collect();
    let columns: Vec<String> =
        (0..12).map(|k| format!("t.column_{k} as \"Column {:x}\"", random.below(1 << 30))).collect();
    json!({
        "id": id(n), "type": "dataset", "name": format!("Dataset {n}"), "directory": format!("/Bench/{}", n % 97),
        "definition": {
            "source": "view", "parent_dataset_ids": parents, "fields": fields, "version": version,
            "sql": format!("select {} from warehouse.table_{n} t where t.day >= current_date - {}", columns.join(", "), random.below(90)),
            "note": format!("{:x}{:x}{:x}{:x}", random.below(1 << 31), random.below(1 << 31), random.below(1 << 31), random.below(1 << 31)),
        },
    })
}

/// Ratios by operation.
#[derive(Default)]
struct Table(Vec<(String, Vec<(f64, f64)>)>);

impl Table {
    fn add(&mut self, what: &str, limit: Duration, ours: Duration) {
        self.size(what, limit.as_secs_f64(), ours.as_secs_f64());
    }

    fn size(&mut self, what: &str, limit: f64, ours: f64) {
        match self.0.iter_mut().find(|(known, _)| known == what) {
            Some((_, pairs)) => pairs.push((limit, ours)),
            None => self.0.push((what.to_owned(), vec![(limit, ours)])),
        }
    }

    fn print(self) {
        println!("{:<46} {:>10} {:>10} {:>8}  (medians; ratio = theirs / ours)", "", "theirs", "ours", "ratio");
        for (what, pairs) in self.0 {
            let median = |mut of: Vec<f64>| {
                of.sort_by(f64::total_cmp);
                of[of.len() / 2]
            };
            let theirs = median(pairs.iter().map(|pair| pair.0).collect());
            let ours = median(pairs.iter().map(|pair| pair.1).collect());
            let ratio = median(pairs.iter().map(|pair| pair.0 / pair.1).collect());
            println!("{what:<46} {theirs:>10.3} {ours:>10.3} {ratio:>8.2}");
        }
    }
}
