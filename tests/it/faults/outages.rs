//! Postgres that is away for a while, and a key of which only a part was written.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Environment;
use crate::support::process::Process;

#[tokio::test]
async fn events_end_with_the_record_over_an_outage_of_the_database() {
    let source = Environment::start("test").await;
    let (target, commits) = Environment::behind_commits("production", "").await;
    let (from, to) = (source.admin(), target.admin());
    from.resource("c", "card", "Card", "/", json!({})).await;
    let record = to.upload(&from.export_all().await).await;
    let id = record["id"].as_str().unwrap();
    let mut stream = to.request(Method::GET, &format!("/api/v1/records/{id}/events")).send().await.unwrap();
    let mut heard = stream.chunk().await.unwrap().unwrap().to_vec();
    let outage = commits.outage();
    // Until then whoever follows has looked in vain.
    let looked = async || to.get("/readyz").await.status == 503;
    target.until(looked).await;
    let began = std::time::Instant::now();
    target.until(async || began.elapsed().as_secs() >= 7).await;
    drop(outage);
    target.until(async || to.get("/readyz").await.status == 200).await;
    let path = format!("/api/v1/imports/{id}/execute");
    while to.post(&path, json!({})).await.status == 503 {}
    while let Some(piece) = stream.chunk().await.unwrap() {
        heard.extend_from_slice(&piece);
    }
    let text = String::from_utf8(heard).unwrap();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["status"], "succeeded", "{last}");
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn half_a_key_is_made_anew_when_nothing_was_sealed_with_it_and_else_named() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("secret.key"), "AAAA").unwrap();
    let environment = Environment::on_files("test", files).await;
    environment.admin().get("/api/v1/environment").await.is(200);
    environment.end().await;

    let mut process = Process::start("test").await;
    process.kill();
    std::fs::write(process.files.path().join("secret.key"), "AAAA").unwrap();
    process.launch();
    assert!(!process.ended().await.success());
    assert!(
        process.log_text().contains("secret.key holds no key")
            || process.log_text().contains("secret.key: holds no key"),
        "{}",
        process.log_text()
    );
    process.end().await;
}

#[tokio::test]
async fn a_local_postgres_that_dies_is_started_again() {
    let folder = std::env::temp_dir().join(format!("ferry-restart-{}", uuid::Uuid::new_v4().simple()));
    let options = ferry::postgres::Options { max_connections: 10, durable: false };
    let started = {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || ferry::postgres::Postgres::start(&folder, &options))
    };
    let postgres = started.await.unwrap().unwrap();
    let url = postgres.url("postgres");
    let status = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let pid = status.lines().next().unwrap().to_owned();
    assert!(std::process::Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap().success());
    let began = std::time::Instant::now();
    loop {
        let status = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
        let another = status.lines().next().is_some_and(|now| now != pid);
        if another && <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.is_ok() {
            break;
        }
        assert!(began.elapsed().as_secs() < 30, "it does not come back");
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(move || drop(postgres)).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
