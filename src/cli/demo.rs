//! `ferry demo`: a test and a production environment on one machine, the sample catalogue in the first,
//! and real online migrations into the second.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use rust_embed::RustEmbed;
use serde_json::{Value, json};

use crate::config::Config;
use crate::postgres::{self, Options as PostgresOptions, Postgres};
use crate::remote::plain::Client;
use crate::server::Server;
use crate::{db, secrets, telemetry};

use super::{say, serve};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// End after the migration instead of leaving the two environments open.
    #[arg(long)]
    once: bool,
    /// Where the two environments keep their files; absent: a folder of the user's in the system's temporary one.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Port of the test environment; production takes the next one. 0: any.
    #[arg(long, default_value_t = 8081)]
    port: u16,
    /// An existing Postgres to use, as a URL of a user who may make databases; absent: one of our own.
    #[arg(long)]
    database_url: Option<String>,
}

#[derive(RustEmbed)]
#[folder = "examples/retail"]
struct Sample;

pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    telemetry::log("warn");
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        // The user who runs Postgres for root is kept out of many folders, a home among them.
        None => std::env::temp_dir().join(format!("ferry-demo-{}", std::fs::metadata("/proc/self")?.uid())),
    };
    postgres::make_passable(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let postgres = match &options.database_url {
        Some(_) => None,
        None => Some(Postgres::start(&dir.join("postgres"), &PostgresOptions { max_connections: 100, durable: true })?),
    };
    let (admin, names) = match (&options.database_url, &postgres) {
        (Some(url), _) => (url.clone(), ["ferry_demo_test", "ferry_demo_production"]),
        (None, Some(postgres)) => (postgres.url("postgres"), ["ferry_demo_test", "ferry_demo_production"]),
        (None, None) => bail!("no database"),
    };
    let production_port = if options.port == 0 { 0 } else { options.port + 1 };
    let test = Environment::start(&dir, &admin, names[0], "test", options.port).await?;
    let production = Environment::start(&dir, &admin, names[1], "production", production_port).await?;
    let outcome = show(&test, &production).await;
    if outcome.is_ok() && !options.once {
        open(&test, &production);
        serve::stopped().await?;
    }
    test.server.stop().await;
    production.server.stop().await;
    drop(postgres);
    outcome
}

/// One environment and a client of it.
struct Environment {
    server: Server,
    name: &'static str,
    token: String,
    client: Client,
}

impl Environment {
    /// Starts an environment with an empty catalogue.
    async fn start(
        dir: &std::path::Path,
        admin: &str,
        database: &str,
        name: &'static str,
        port: u16,
    ) -> anyhow::Result<Self> {
        db::recreate_database(admin, database).await?;
        let files = dir.join(name);
        if files.exists() {
            std::fs::remove_dir_all(&files)?;
        }
        let token = secrets::new_token()?.to_string();
        let config = Config::from_toml(&format!(
            "environment = {{ name = {}, kind = {} }}\nserver.listen = \"127.0.0.1:{port}\"\nstorage.dir = {}\nsecurity.admin_token = {}\n",
            json!(name),
            json!(name),
            json!(files),
            json!(token),
        ))?;
        let server = Server::start(config, &db::with_database(admin, database)?).await?;
        let client = Client::new(&server.url(), &token);
        Ok(Self { server, name, token, client })
    }
}

/// Loads the sample catalogue into test and migrates it to production, twice.
async fn show(test: &Environment, production: &Environment) -> anyhow::Result<()> {
    let loaded = load(test).await?;
    say(&format!("Sample catalogue in {}: {loaded} resources, see examples/retail.", test.name));

    let target = json!({"name": "production", "url": production.server.url(), "token": production.token});
    let target = test.client.post("/api/v1/targets", &target).await?;
    let id = target["id"].as_str().unwrap_or_default().to_owned();
    let check = test.client.post(&format!("/api/v1/targets/{id}/check"), &json!({})).await?;
    if check["reachable"] != true {
        bail!("the production environment is not reachable: {}", check["error"]["message"]);
    }
    say("");
    say("First online migration, everything:");
    let record = migrate(test, &id, "first").await?;
    report(test, &record).await?;

    let mut dataset = test.client.get("/api/v1/resources/ds_orders").await?;
    dataset["name"] = json!("Orders (all shops)");
    test.client.put("/api/v1/resources/ds_orders", &dataset).await?;
    say("");
    say("One dataset was renamed in test. Second migration, everything again:");
    let record = migrate(test, &id, "second").await?;
    report(test, &record).await
}

async fn load(test: &Environment) -> anyhow::Result<u64> {
    for path in Sample::iter() {
        if let (Some(file), Some(found)) = (path.strip_prefix("attachments/"), Sample::get(&path)) {
            test.client.put_bytes(&format!("/api/v1/attachments/{file}"), found.data.into_owned()).await?;
        }
    }
    let catalogue = Sample::get("resources.ndjson").context("the sample catalogue is missing")?;
    let done = test.client.post_lines("/api/v1/resources/batch", catalogue.data.into_owned()).await?;
    Ok(done["created"].as_u64().unwrap_or_default())
}

/// Migrates the whole catalogue and waits for the end.
async fn migrate(test: &Environment, target: &str, name: &str) -> anyhow::Result<Value> {
    let body = json!({"target_id": target, "name": name, "selection": {"all": true}, "export_upstream": true});
    let mut record = test.client.post("/api/v1/migrations", &body).await?;
    while record["finished_at"].is_null() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        record = test.client.get(&format!("/api/v1/records/{}", record["id"].as_str().unwrap_or_default())).await?;
    }
    if record["status"] != "succeeded" {
        bail!("the migration ended {}: {}", record["status"], record["error"]);
    }
    Ok(record)
}

/// Prints what a migration did: counts, then the first items that are not unchanged.
async fn report(test: &Environment, record: &Value) -> anyhow::Result<()> {
    let counts = &record["counts"];
    say(&format!(
        "  {}: {} created, {} updated, {} unchanged, {} failed  (package {} bytes, record {})",
        record["status"].as_str().unwrap_or_default(),
        counts["create"],
        counts["update"],
        counts["unchanged"],
        counts["failed"],
        record["package"]["size"],
        record["id"].as_str().unwrap_or_default(),
    ));
    let id = record["id"].as_str().unwrap_or_default();
    let items = test.client.get(&format!("/api/v1/records/{id}/items?limit=500")).await?;
    let changed: Vec<&Value> =
        items["items"].as_array().into_iter().flatten().filter(|item| item["status"] != "unchanged").collect();
    for item in changed.iter().take(8) {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let path = format!("{}/{}", text("directory").trim_end_matches('/'), text("name"));
        say(&format!("  {:<9} {:<10} {:<24} {path}", text("method"), text("status"), text("type")));
    }
    if changed.len() > 8 {
        say(&format!("  … and {} more", changed.len() - 8));
    }
    let left: Vec<&Value> = record["checklist"].as_array().into_iter().flatten().collect();
    for entry in left.iter().take(3) {
        say(&format!("  to do in production: {}", entry["message"].as_str().unwrap_or_default()));
    }
    let total = record["checklist_total"].as_u64().unwrap_or_default();
    if total > 3 {
        say(&format!("  … and {} more on the record's checklist", total - 3));
    }
    Ok(())
}

fn open(test: &Environment, production: &Environment) {
    say("");
    for environment in [test, production] {
        say(&format!("{:<11} {}", environment.name, environment.server.url()));
        say(&format!("            token of admin: {}", environment.token));
    }
    say(&format!(
        "Try: curl -H 'Authorization: Bearer {}' {}/api/v1/records",
        production.token,
        production.server.url()
    ));
    say("Ctrl-C ends both.");
}
