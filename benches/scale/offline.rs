//! Exports and imports, from the request to the ended record.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use super::catalogue;
use super::environment::{Environment, TOKEN};

/// Exports everything; the package too.
pub async fn export(test: &Environment, count: usize) -> anyhow::Result<(Duration, Vec<u8>)> {
    let body = json!({"name": "bench", "resource_ids": catalogue::roots(count), "export_upstream": true});
    let begun = Instant::now();
    let record = test.client.post("/api/v1/exports", &body).await?;
    let record = test.ended(&record, "succeeded").await?;
    let took = begun.elapsed();
    if record["package"]["resources"] != count {
        bail!("the export holds {} resources", record["package"]["resources"]);
    }
    Ok((took, package(test, &record).await?))
}

pub async fn package(test: &Environment, record: &Value) -> anyhow::Result<Vec<u8>> {
    let path = format!("{}/api/v1/exports/{}/package", test.url, record["id"].as_str().unwrap_or_default());
    let package = reqwest::Client::new().get(path).bearer_auth(TOKEN).send().await?.error_for_status()?;
    Ok(package.bytes().await?.to_vec())
}

/// Imports a package, of which every resource must be counted as said.
pub async fn import(
    to: &Environment,
    package: &[u8],
    options: Value,
    counted: &str,
    count: usize,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let record = to.client.post_package(package.to_vec()).await?;
    let record = to.ended(&record, "awaiting_confirmation").await?;
    let id = record["id"].as_str().unwrap_or_default();
    let record = to.client.post(&format!("/api/v1/imports/{id}/execute"), &options).await?;
    let record = to.ended(&record, "succeeded").await?;
    let took = begun.elapsed();
    if record["counts"][counted] != count {
        bail!("the import counts {}", record["counts"]);
    }
    Ok(took)
}
