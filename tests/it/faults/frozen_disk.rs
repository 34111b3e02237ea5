//! A disk that does not answer: who asks it waits, nobody else does.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::process::Process;

/// More than a server has threads that may wait for a disk.
const MANY: usize = 600;

#[tokio::test]
async fn a_disk_that_does_not_answer_stops_neither_others_nor_the_end_of_the_server() {
    let mut process = Process::start("test").await;
    let user = process.admin();
    user.resource("c", "card", "Card", "/", json!({})).await;
    let body = json!({"name": "package", "selection": {"all": true}});
    let id = user.post("/api/v1/exports", body).await.is(202)["id"].as_str().unwrap().to_owned();
    assert_eq!(user.ended(&id).await["status"], "succeeded");
    // Whoever opens a pipe to which nobody writes waits for ever.
    let packages = process.files.path().join("store/packages");
    let package = std::fs::read_dir(packages).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&package).unwrap();
    assert!(Command::new("mkfifo").arg(&package).status().unwrap().success());
    let mut stuck = Vec::new();
    for _ in 0..MANY {
        let (user, path) = (user.clone(), format!("/api/v1/exports/{id}/package"));
        stuck.push(tokio::spawn(async move { user.request(reqwest::Method::GET, &path).send().await.is_ok() }));
    }
    // They all wait once their requests are there: as many as there may be threads.
    let threads = || std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().count();
    let began = Instant::now();
    while threads() < 500 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} threads wait", threads());
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    assert_eq!(user.get("/healthz").await.status, 200);
    user.get("/api/v1/resources/c").await.is(200);
    assert_eq!(user.catalogue().await.len(), 1);
    user.put("/api/v1/resources/d", json!({"type": "card", "name": "Other", "directory": "/", "definition": {}}))
        .await
        .is(201);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(process.terminate().await.success(), "{}", process.log_text());
    for request in stuck {
        assert!(!request.await.unwrap(), "it was answered");
    }
    process.end().await;
}
