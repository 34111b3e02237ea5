//! A target that is killed while it imports.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::invariants::{MANY, contents, editions, hashes, hashes_of, invariants, settled, start};
use crate::support::gate::{Gate, advisory_awaited, hold_rows};
use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{User, scratch};

/// Kills it where it stands at a gate, in a phase.
async fn killed_in(process: &mut Process, mut gate: Gate, id: &str, phase: &str) {
    gate.reached().await;
    let record = process.admin().get(&format!("/api/v1/records/{id}")).await.is(200);
    assert_eq!((&record["status"], &record["phase"]), (&json!("running"), &json!(phase)), "{record}");
    process.kill();
    gate.open().await;
}

/// Kills it when somebody is about to write to a table.
async fn killed_at(process: &mut Process, mut gate: Gate) {
    gate.reached().await;
    process.kill();
    gate.open().await;
}

#[tokio::test]
async fn an_import_killed_at_every_step_is_done_once() {
    let editions = editions().await;
    let mut target = Process::start("production").await;
    for (edition, package) in editions.packages.iter().enumerate() {
        // While it looks what of the package is here, before it keeps what it read, while it does.
        let gate = Gate::shut_to_all(&target.database, "resources").await;
        let record = target.admin().post_package(package).await.is(202);
        let id = record["id"].as_str().unwrap().to_owned();
        killed_in(&mut target, gate, &id, "parsing").await;
        for table in ["import_entries", "record_items"] {
            let gate = Gate::shut(&target.database, table).await;
            target.launch();
            killed_at(&mut target, gate).await;
        }
        target.restart().await;
        let parsed = target.admin().wait(&id, |status| !matches!(status, "queued" | "running")).await;
        assert_eq!(parsed["status"], "awaiting_confirmation", "{parsed}");
        let before = hashes(&target).await;

        let gate = Gate::shut_to_all(&target.database, "import_entries").await;
        start(&target.admin(), &id).await;
        killed_in(&mut target, gate, &id, "applying").await;
        // Inside the transaction that applies: at its first write of the catalogue, in the midst, at its end.
        let tables = ["resources", "resource_versions", "resource_references", "import_bases", "import_entries"];
        for table in &tables {
            let gate = Gate::shut(&target.database, table).await;
            target.launch();
            killed_at(&mut target, gate).await;
            assert!(hashes(&target).await == before, "killed at {table}, a part of it was written");
        }
        target.restart().await;
        let ended = target.admin().ended(&id).await;
        assert_eq!(ended["id"], record["id"]);
        assert!(hashes(&target).await == hashes_of(&editions.catalogues[edition]));
        invariants(&target, &ended, package, &editions.catalogues[edition]).await;
    }
    target.end().await;
}

#[tokio::test]
async fn an_import_with_new_ids_killed_in_its_transaction_creates_each_resource_once() {
    let editions = editions().await;
    let mut target = Process::start("production").await;
    let parsed = target.admin().upload(&editions.packages[0]).await;
    let id = parsed["id"].as_str().unwrap().to_owned();
    target.admin().plan(&id, json!({"change_ids": true})).await;
    let planned: Vec<_> = target.admin().items(&id).await.iter().map(|item| item["new_id"].clone()).collect();
    let gate = Gate::shut(&target.database, "record_items").await;
    start(&target.admin(), &id).await;
    killed_at(&mut target, gate).await;
    assert!(hashes(&target).await.is_empty());
    target.restart().await;
    let ended = target.admin().ended(&id).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    settled(&target, &ended).await;
    let items = target.admin().items(&id).await;
    let written: Vec<_> = items.iter().map(|item| item["new_id"].clone()).collect();
    assert_eq!(written, planned, "the plan's IDs are kept over the restart");
    let there = hashes(&target).await;
    assert_eq!(there.len(), items.len());
    assert!(written.iter().all(|id| there.contains_key(id.as_str().unwrap())));
    target.end().await;
}

#[tokio::test]
async fn an_import_killed_while_it_rewrites_is_taken_over_by_another_server() {
    let editions = editions().await;
    let mut first = Process::start("production").await;
    let parsed = first.admin().upload(&editions.packages[0]).await;
    let id = parsed["id"].as_str().unwrap().to_owned();
    first.admin().plan(&id, json!({"change_ids": true})).await;
    // The first portion of what it rewrites is committed, the second one never is.
    let second_portion = "(new.id - 1) % 16777216 > 1100";
    let mut holder = hold_rows(&first.database, "definitions", second_portion).await;
    start(&first.admin(), &id).await;
    advisory_awaited(&mut holder).await;
    let count = "select (select count(*) from runs), (select count(*) from definitions)";
    let (runs, bodies): (i64, i64) = sqlx::query_as(count).fetch_one(&mut holder).await.unwrap();
    assert!(runs == 2 && bodies > MANY as i64, "nothing is rewritten yet: {runs} runs, {bodies} bodies");
    first.kill();
    sqlx::Connection::close(holder).await.unwrap();
    assert!(hashes(&first).await.is_empty());

    let second = first.replica().await;
    let ended = second.admin().ended(&id).await;
    assert_eq!((&ended["status"], &ended["counts"]["create"]), (&json!("succeeded"), &json!(MANY)), "{ended}");
    settled(&second, &ended).await;
    // What is there is what came, under its new IDs.
    let old: HashMap<Value, Value> = second
        .admin()
        .items(&id)
        .await
        .into_iter()
        .map(|item| (item["new_id"].clone(), item["resource_id"].clone()))
        .collect();
    let back = |mut resource: Value| {
        resource["id"] = old[&resource["id"]].clone();
        for reference in resource["references"].as_array_mut().unwrap() {
            reference["resource_id"] = old[&reference["resource_id"]].clone();
        }
        resource["content_hash"] = Value::Null;
        resource
    };
    let mut there: Vec<Value> = contents(&second.admin()).await.into_iter().map(back).collect();
    there.sort_by_key(|resource| resource["id"].as_str().unwrap().to_owned());
    let mut expected = editions.catalogues[0].clone();
    for resource in &mut expected {
        resource["content_hash"] = Value::Null;
    }
    expected.sort_by_key(|resource| resource["id"].as_str().unwrap().to_owned());
    assert!(there == expected, "the target does not hold what the source holds");
    second.end().await;
}

#[tokio::test]
async fn a_worker_that_dies_each_time_ends_with_worker_lost() {
    let editions = editions().await;
    let mut target = Process::start("production").await;
    let gate = Gate::shut(&target.database, "import_entries").await;
    let record = target.admin().post_package(&editions.packages[0]).await.is(202);
    let id = record["id"].as_str().unwrap().to_owned();
    // As if it had been taken by nine workers before.
    let mut connection = target.sql().await;
    sqlx::query("update jobs set run_no = max_runs").execute(&mut connection).await.unwrap();
    killed_at(&mut target, gate).await;
    target.restart().await;
    let ended = target.admin().ended(&id).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("worker_lost")), "{ended}");
    assert!(hashes(&target).await.is_empty());
    target.end().await;
}

#[tokio::test]
async fn a_server_killed_while_it_receives_a_package_keeps_none_of_it() {
    let package = &editions().await.packages[0];
    let mut target = Process::start("production").await;
    let proxy = Proxy::before(target.address()).await;
    let through = User { base: proxy.url(), ..target.admin() };
    let half = package.len() as u64 / 2;
    proxy.once(Fault::SwallowAfter("POST /api/v1/imports", half));
    let request = through.request(reqwest::Method::POST, "/api/v1/imports").header("content-type", "application/zip");
    let sending = tokio::spawn(request.body(package.clone()).send());
    let folder = target.files.clone();
    let received =
        || scratch(folder.path()).iter().map(|file| file.metadata().map_or(0, |file| file.len())).sum::<u64>();
    while proxy.sent() < half || received() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    target.kill();
    sending.await.unwrap().unwrap_err();
    target.restart().await;
    assert_eq!(target.admin().get("/api/v1/records").await.is(200)["items"], json!([]));
    assert_eq!(received(), 0, "what a killed server had received stays on the disk for ever");
    target.end().await;
}
