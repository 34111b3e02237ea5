//! Targets that are not there, do not accept the token, or are crowded.

use serde_json::json;

use super::invariants::{catalogue, contents};
use super::online::{begin, new_target, until};
use crate::support::Environment;
use crate::support::gate::Gate;
use crate::support::process::Process;

fn is_final(record: &serde_json::Value) -> bool {
    !matches!(record["status"].as_str().unwrap(), "queued" | "running" | "awaiting_confirmation")
}

#[tokio::test]
async fn a_target_that_comes_up_later_gets_the_migration() {
    let source = Environment::start("test").await;
    let mut target = Process::start("production").await;
    target.kill();
    let from = source.admin();
    from.batch(&catalogue(30, 1)).await;
    let id = begin(&from, &new_target(&from, &target.url(), &target.admin().token).await).await;
    // It has tried in vain at least once.
    until(&from, &id, |record| record["phase"] == "negotiating").await;
    let record = from.get(&format!("/api/v1/records/{id}")).await.is(200);
    assert!(matches!(record["status"].as_str().unwrap(), "queued" | "running"), "{record}");
    target.restart().await;
    let record = from.ended(&id).await;
    assert_eq!((&record["status"], &record["counts"]["create"]), (&json!("succeeded"), &json!(30)), "{record}");
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_target_that_stays_away_past_the_deadline_is_unreachable_and_retry_finishes_it() {
    let source = Environment::configured("test", "jobs.target_deadline_seconds = 2").await;
    let mut target = Process::start("production").await;
    target.kill();
    let from = source.admin();
    from.batch(&catalogue(30, 1)).await;
    let id = begin(&from, &new_target(&from, &target.url(), &target.admin().token).await).await;
    let record = from.ended(&id).await;
    assert_eq!(
        (&record["status"], &record["error"]["code"]),
        (&json!("failed"), &json!("target_unreachable")),
        "{record}"
    );
    assert!(!record["error"]["hint"].as_str().unwrap().is_empty());
    target.restart().await;
    from.post(&format!("/api/v1/records/{id}/retry"), json!({})).await.is(202);
    let record = from.ended(&id).await;
    assert_eq!((&record["status"], &record["error"]), (&json!("succeeded"), &json!(null)), "{record}");
    assert!(contents(&from).await == contents(&target.admin()).await);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_token_revoked_in_the_middle_fails_and_a_new_one_with_retry_finishes() {
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    from.batch(&catalogue(30, 1)).await;
    let name = json!({"username": "mover", "password": "long enough to keep", "role": "operator"});
    let user = to.post("/api/v1/users", name).await.is(201)["id"].as_str().unwrap().to_owned();
    let tokens = format!("/api/v1/users/{user}/tokens");
    let token = to.post(&tokens, json!({"name": "first"})).await.is(201);
    let target_id = new_target(&from, &target.server.url(), token["token"].as_str().unwrap()).await;
    let mut gate = Gate::shut(&target.database, "import_entries").await;
    let id = begin(&from, &target_id).await;
    gate.reached().await;
    to.delete(&format!("{tokens}/{}", token["id"].as_str().unwrap())).await.is(204);
    let record = from.ended(&id).await;
    gate.open().await;
    assert_eq!(
        (&record["status"], &record["error"]["code"]),
        (&json!("failed"), &json!("target_unauthorized")),
        "{record}"
    );
    assert!(record["error"]["message"].as_str().unwrap().contains("token"), "{record}");
    let token = to.post(&tokens, json!({"name": "second"})).await.is(201);
    from.patch(&format!("/api/v1/targets/{target_id}"), json!({"token": token["token"]})).await.is(200);
    from.post(&format!("/api/v1/records/{id}/retry"), json!({})).await.is(202);
    let record = from.ended(&id).await;
    assert_eq!((&record["status"], &record["counts"]["create"]), (&json!("succeeded"), &json!(30)), "{record}");
    let imports = to.get("/api/v1/records?kind=import").await.is(200);
    assert_eq!(imports["items"].as_array().unwrap().len(), 1, "the import that had begun was used");
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn two_environments_that_push_to_each_other_do_not_wait_for_each_other() {
    const EACH: usize = 6;
    let one_at_a_time = "jobs.concurrency = 1";
    let left = Environment::configured("test", one_at_a_time).await;
    let right = Environment::configured("production", one_at_a_time).await;
    let (l, r) = (left.admin(), right.admin());
    let mut started = Vec::new();
    for (user, other, prefix) in [(&l, &right, "l"), (&r, &left, "r")] {
        let target = new_target(user, &other.server.url(), &user.token).await;
        for at in 0..EACH {
            user.resource(&format!("{prefix}{at}"), "card", "Card", "/", json!({"title": at})).await;
            let body = json!({"target_id": target, "resource_ids": [format!("{prefix}{at}")]});
            let record = user.post("/api/v1/migrations", body).await.is(202);
            started.push((user, record["id"].as_str().unwrap().to_owned()));
        }
    }
    for (user, id) in started {
        let record = until(user, &id, is_final).await;
        assert_eq!((&record["status"], &record["counts"]["create"]), (&json!("succeeded"), &json!(1)), "{record}");
    }
    let both = contents(&l).await;
    assert_eq!(both.len(), 2 * EACH);
    assert!(both == contents(&r).await);
    left.end().await;
    right.end().await;
}
