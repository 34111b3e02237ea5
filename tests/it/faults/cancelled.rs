//! A cancel reaches the target whatever is down meanwhile; what failed can be tried again, and loses nothing by that.

use std::path::Path;

use serde_json::{Value, json};

use super::invariants::catalogue;
use super::online::{begin, new_target, until};
use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{ADMIN, Environment, User};

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

async fn cancel(user: &User, id: &str) -> Value {
    user.post(&format!("/api/v1/records/{id}/cancel"), json!({})).await.is(200)
}

async fn retry(user: &User, id: &str) -> crate::support::Answer {
    user.post(&format!("/api/v1/records/{id}/retry"), json!({})).await
}

async fn imports(user: &User) -> Vec<Value> {
    user.get("/api/v1/records?kind=import").await.is(200)["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_cancel_reaches_a_target_that_was_down_when_it_was_asked_over_a_restart_of_the_source() {
    let (mut source, mut target) = (Process::start("test").await, Process::start("production").await);
    let from = source.admin();
    from.batch(&catalogue(3, 1)).await;
    let there = new_target(&from, &target.url(), ADMIN).await;
    let body = json!({"target_id": there, "selection": {"all": true}, "confirm": true});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let record = from.wait(id(&record), |status| status == "awaiting_confirmation").await;
    target.kill();
    assert_eq!(cancel(&from, id(&record)).await["status"], "cancelled");
    source.kill();
    source.restart().await;
    target.restart().await;
    let there = record["remote_record_id"].as_str().unwrap();
    until(&target.admin(), there, |record| record["status"] == "cancelled").await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_cancel_reaches_an_import_of_which_the_source_has_not_heard() {
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    from.batch(&catalogue(3, 1)).await;
    let proxy = Proxy::before(target.server.address).await;
    for _ in 0..200 {
        proxy.once(Fault::LoseAnswer("POST /api/v1/imports HTTP"));
    }
    let migration = begin(&from, &new_target(&from, &proxy.url(), ADMIN).await).await;
    target.until(async || !imports(&to).await.is_empty()).await;
    assert_eq!(cancel(&from, &migration).await["remote_record_id"], Value::Null);
    proxy.forget();
    let there = imports(&to).await;
    assert_eq!(to.ended(id(&there[0])).await["status"], "cancelled");
    assert_eq!(imports(&to).await.len(), 1);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn what_was_refused_while_it_was_parsed_is_cured_by_a_retry() {
    let source = Environment::start("test").await;
    source.admin().resource("c", "card", "Card", "/", json!({"title": "x".repeat(100_000)})).await;
    let package = source.admin().export_all().await;
    let mut target = Process::configured("production", "limits.max_definition_bytes = 1000\n").await;
    let user = target.admin();
    let answer = user.post_package(&package).await;
    let record = user.ended(id(&answer.is(202))).await;
    assert_eq!((&record["status"], &record["error"]["code"]), (&json!("failed"), &json!("package_limit_exceeded")));
    // Tried again in vain, it says the same.
    retry(&user, id(&record)).await.is(202);
    assert_eq!(user.ended(id(&record)).await["error"], record["error"]);
    target.set_more("limits.max_definition_bytes = 200000\n");
    target.kill();
    target.restart().await;
    retry(&user, id(&record)).await.is(202);
    user.wait(id(&record), |status| status == "awaiting_confirmation").await;
    assert_eq!(user.execute(id(&record)).await["status"], "succeeded");
    source.end().await;
    target.end().await;
}

fn packages(files: &Path) -> usize {
    std::fs::read_dir(files.join("store/packages")).into_iter().flatten().count()
}

#[tokio::test]
async fn an_import_that_nobody_confirms_is_cancelled_after_a_while_with_its_package() {
    let source = Environment::start("test").await;
    source.admin().batch(&catalogue(3, 1)).await;
    let target = Environment::configured("production", "retention = { waiting_days = 0, every_seconds = 1 }\n").await;
    let user = target.admin();
    let record = user.post_package(&source.admin().export_all().await).await.is(202);
    let record = user.ended(id(&record)).await;
    assert_eq!((&record["status"], &record["error"]), (&json!("cancelled"), &Value::Null), "{record}");
    target.until(async || packages(target.files.path()) == 0).await;
    retry(&user, id(&record)).await.problem(410, "gone");
    let audit = user.get("/api/v1/audit?action=record.cancel").await.is(200);
    assert_eq!(audit["items"][0]["object_id"], record["id"], "{audit}");
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_retry_whose_target_is_down_keeps_what_had_succeeded() {
    let source = Environment::configured("test", "jobs.target_deadline_seconds = 1\n").await;
    let mut target = Process::start("production").await;
    let (from, to) = (source.admin(), target.admin());
    from.resource("a1", "data_account", "Warehouse", "/", json!({})).await;
    from.resource("a2", "data_account", "Lake", "/", json!({})).await;
    to.resource("taken", "data_account", "Warehouse", "/", json!({})).await;
    let migration = begin(&from, &new_target(&from, &target.url(), ADMIN).await).await;
    let first = from.ended(&migration).await;
    assert_eq!(first["status"], "partially_succeeded", "{first}");
    target.kill();
    retry(&from, &migration).await.is(202);
    let second = from.ended(&migration).await;
    assert_eq!(
        (&second["status"], &second["error"]["code"], &second["counts"]),
        (&first["status"], &json!("target_unreachable"), &first["counts"]),
        "{second}"
    );
    assert_eq!(from.item(&second, "a2").await["status"], "succeeded");
    target.restart().await;
    to.delete("/api/v1/resources/taken").await.is(204);
    retry(&from, &migration).await.is(202);
    assert_eq!(from.ended(&migration).await["status"], "succeeded");
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn an_address_that_is_corrected_is_used_by_what_is_on_its_way() {
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let from = source.admin();
    from.batch(&catalogue(3, 1)).await;
    let wrong = new_target(&from, "http://127.0.0.1:9", ADMIN).await;
    let migration = begin(&from, &wrong).await;
    // It has tried in vain at least once.
    until(&from, &migration, |record| record["phase"] == "negotiating").await;
    from.patch(&format!("/api/v1/targets/{wrong}"), json!({"url": target.server.url(), "token": ADMIN})).await.is(200);
    assert_eq!(from.ended(&migration).await["status"], "succeeded");
    source.end().await;
    target.end().await;
}
