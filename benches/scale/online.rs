//! Online migrations beside the pipe of `pg_dump` and `pg_restore`, and beside empty requests.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use super::environment::{Environment, TOKEN};
use super::figures::Figures;
use super::wire::Wire;
use super::{Bench, catalogue, gates};

/// Migrations of one resource in a round.
const SINGLES: usize = 10;

/// G5, G6 and G12 of one round, into an environment of their own.
pub async fn round(bench: &Bench, test: &Environment, round: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let count = figures.count;
    let production = Environment::new(bench, "online").await?;
    let wire = Wire::before(&production.url).await?;
    let target = target(test, &wire.url, &format!("target {round}")).await?;
    let all = json!({"target_id": target, "resource_ids": catalogue::roots(count), "export_upstream": true});

    let piped = bench.pipe().await?;
    let watched = [("online, all new: source", test), ("online, all new: target", &production)];
    let created = figures.watch(&watched, migrate(test, &all, "create", count)).await?;
    figures.time(&gates::ONLINE, piped, created);
    let piped = bench.pipe().await?;
    let before = wire.bytes();
    let watched = [("online, nothing changed: source", test), ("online, nothing changed: target", &production)];
    let unchanged = figures.watch(&watched, migrate(test, &all, "unchanged", count)).await?;
    figures.time(&gates::ONLINE_UNCHANGED, piped, unchanged);
    figures.bytes(&gates::WIRE, catalogue::definition_bytes(count), wire.bytes() - before);

    let one = json!({"target_id": target, "resource_ids": [catalogue::id(count - 1)]});
    for number in 0..SINGLES {
        change_one(test, count, &format!("{round}/{number}")).await?;
        let begun = Instant::now();
        test.client.get("/api/v1/session").await?;
        production.client.get("/api/v1/session").await?;
        let empty = begun.elapsed();
        let single = migrate(test, &one, "update", 1).await?;
        figures.time(&gates::SINGLE, empty, single);
    }
    production.stop()
}

/// Makes a target and gives its ID.
pub async fn target(test: &Environment, url: &str, name: &str) -> anyhow::Result<Value> {
    let body = json!({"name": name, "url": url, "token": TOKEN});
    Ok(test.client.post("/api/v1/targets", &body).await?["id"].clone())
}

/// Writes the last resource anew.
pub async fn change_one(test: &Environment, count: usize, version: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/resources/{}", catalogue::id(count - 1));
    let mut line = catalogue::resource(count - 1, count, 0, &mut catalogue::Random::new());
    line["definition"]["version"] = json!(version);
    test.client.put(&path, &line).await?;
    Ok(())
}

pub async fn migrate(test: &Environment, body: &Value, counted: &str, count: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let record = test.client.post("/api/v1/migrations", body).await?;
    let record = test.ended(&record, "succeeded").await?;
    let took = begun.elapsed();
    if record["counts"][counted] != count {
        bail!("the migration counts {}", record["counts"]);
    }
    Ok(took)
}
