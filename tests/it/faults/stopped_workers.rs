//! A worker that is stopped past its lease while another server takes its job over; servers that are told to end.

use serde_json::{Value, json};

use super::invariants::{editions, invariants, start};
use crate::support::gate::Gate;
use crate::support::process::Process;

async fn run_numbers(process: &Process) -> Vec<i32> {
    let mut connection = process.sql().await;
    sqlx::query_scalar("select run_no from jobs order by id").fetch_all(&mut connection).await.unwrap()
}

/// Waits until a job has been taken for so many times.
async fn taken(process: &Process, times: i32) {
    while run_numbers(process).await.last() != Some(&times) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Everything about a record and the catalogue that late writes could change.
async fn state(process: &Process, id: &str) -> (Value, Vec<Value>, Vec<Value>) {
    let user = process.admin();
    (user.get(&format!("/api/v1/records/{id}")).await.is(200), user.items(id).await, user.catalogue().await)
}

/// Stops the first server at a write, lets a second one end the work, and continues the first.
async fn stopped_at(table: &'static str, execute: bool) {
    let editions = editions().await;
    let package = &editions.packages[0];
    let mut first = Process::start("production").await;
    let user = first.admin();
    let mut gate = None;
    if !execute {
        gate = Some(Gate::shut(&first.database, table).await);
    }
    let record = user.post_package(package).await.is(202);
    let id = record["id"].as_str().unwrap().to_owned();
    if execute {
        user.wait(&id, |status| status == "awaiting_confirmation").await;
        gate = Some(Gate::shut(&first.database, table).await);
        start(&user, &id).await;
    }
    let mut gate = gate.unwrap();
    gate.reached().await;
    first.stop();
    // Its transaction stays open, with what it has written and the locks that it holds.
    gate.open().await;
    let second = first.replica().await;
    taken(&second, 2).await;
    let there = second.admin();
    there.wait(&id, |status| if execute { status == "succeeded" } else { status == "awaiting_confirmation" }).await;
    let before = state(&second, &id).await;
    first.cont();
    // Its job is lost: it finds out, and works for others again.
    first.ready().await;
    drop(second);
    assert!(first.admin().upload(package).await["status"] == "awaiting_confirmation");
    assert!(state(&first, &id).await == before, "late writes changed something");
    assert_eq!(run_numbers(&first).await[..if execute { 2 } else { 1 }].last(), Some(&2), "taken over once");
    let ended = if execute { before.0 } else { first.admin().execute(&id).await };
    // The second upload waits for nobody: it is executed as well, and finds nothing to do.
    let waiting = first.admin().get("/api/v1/records?status=awaiting_confirmation").await.is(200);
    for record in waiting["items"].as_array().unwrap() {
        let done = first.admin().execute(record["id"].as_str().unwrap()).await;
        assert_eq!((&done["status"], &done["counts"]["unchanged"]), (&json!("succeeded"), &json!(before.1.len())));
    }
    invariants(&first, &ended, package, &editions.catalogues[0]).await;
    first.end().await;
}

#[tokio::test]
async fn a_worker_stopped_while_it_writes_the_catalogue_changes_nothing_when_it_goes_on() {
    stopped_at("import_bases", true).await;
}

#[tokio::test]
async fn a_worker_stopped_while_it_keeps_a_parsed_package_changes_nothing_when_it_goes_on() {
    stopped_at("record_items", false).await;
}

#[tokio::test]
async fn a_server_told_to_end_hands_its_import_back_and_another_finishes_it() {
    let editions = editions().await;
    let package = &editions.packages[0];
    let mut first = Process::start("production").await;
    let mut gate = Gate::shut(&first.database, "import_entries").await;
    let record = first.admin().post_package(package).await.is(202);
    let id = record["id"].as_str().unwrap().to_owned();
    gate.reached().await;
    assert!(first.terminate().await.success(), "{}", first.log_text());
    gate.open().await;

    let mut second = first.replica().await;
    second.admin().wait(&id, |status| status == "awaiting_confirmation").await;
    let mut gate = Gate::shut(&second.database, "import_bases").await;
    start(&second.admin(), &id).await;
    gate.reached().await;
    assert!(second.terminate().await.success(), "{}", second.log_text());
    gate.open().await;
    first.restart().await;
    let ended = first.admin().ended(&id).await;
    invariants(&first, &ended, package, &editions.catalogues[0]).await;
    first.end().await;
}
