//! Whoever waits holds nothing that others need, and domains take turns.

use serde_json::json;

use super::invariants::catalogue;
use super::online::{begin, new_target};
use crate::support::gate::Gate;
use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{ADMIN, Environment, User};

async fn export(user: &User) -> String {
    let body = json!({"name": "package", "selection": {"all": true}});
    user.post("/api/v1/exports", body).await.is(202)["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_domain_does_not_wait_behind_all_the_work_of_another() {
    let environment = Environment::configured("test", "jobs.concurrency = 1\n").await;
    let (one, other) = (environment.admin(), environment.new_user("other", "admin").await);
    for (user, id) in [(&one, "a"), (&other, "b")] {
        user.resource(id, "card", "Card", "/", json!({})).await;
    }
    let mut gate = Gate::shut(&environment.database, "record_items").await;
    let mut many = vec![export(&one).await];
    gate.reached().await;
    for _ in 0..10 {
        many.push(export(&one).await);
    }
    let single = export(&other).await;
    gate.open().await;
    let single = other.ended(&single).await;
    assert_eq!(single["status"], "succeeded");
    let mut before = 0;
    for id in &many {
        let ended = one.ended(id).await;
        before += usize::from(ended["started_at"].as_str() < single["started_at"].as_str());
    }
    assert_eq!(before, 1, "exports of the other domain that began before it");
    environment.end().await;
}

#[tokio::test]
async fn migrations_that_wait_for_a_silent_target_hold_nothing() {
    const MANY: usize = 30;
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let from = source.admin();
    from.batch(&catalogue(3, 1)).await;
    let proxy = Proxy::before(target.server.address).await;
    for _ in 0..MANY {
        proxy.once(Fault::SwallowAfter("POST /api/v1/imports/lacking", 0));
    }
    let silent = new_target(&from, &proxy.url(), ADMIN).await;
    let mut waiting = Vec::new();
    for _ in 0..MANY {
        waiting.push(begin(&from, &silent).await);
    }
    source.until(async || proxy.done() == MANY as u64).await;
    let held = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and (state like 'idle in transaction%' or backend_xmin is not null)";
    source
        .until(async || sqlx::query_scalar::<_, i64>(held).fetch_one(&mut source.sql().await).await.unwrap() == 0)
        .await;
    // Others are not held up.
    let healthy = begin(&from, &new_target(&from, &target.server.url(), ADMIN).await).await;
    assert_eq!(from.ended(&healthy).await["status"], "succeeded");
    assert_eq!(from.ended(&export(&from).await).await["status"], "succeeded");
    for id in &waiting {
        let record = from.get(&format!("/api/v1/records/{id}")).await.is(200);
        assert_eq!(record["status"], "running", "{record}");
        from.post(&format!("/api/v1/records/{id}/cancel"), json!({})).await.is(200);
    }
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn what_the_source_was_down_for_is_not_the_targets_silence() {
    let mut source = Process::configured("test", "jobs.target_deadline_seconds = 4\n").await;
    let mut target = Process::start("production").await;
    let from = source.admin();
    from.batch(&catalogue(3, 1)).await;
    let there = new_target(&from, &target.url(), ADMIN).await;
    target.kill();
    let migration = begin(&from, &there).await;
    from.wait_for(&migration, |record| record["phase"] == "negotiating").await;
    source.kill();
    let mut sql = source.sql().await;
    let long_ago = "select clock_timestamp() - started_at > interval '5 seconds' from jobs where kind = 'migrate'";
    while !sqlx::query_scalar::<_, bool>(long_ago).fetch_one(&mut sql).await.unwrap() {}
    let silent = "select failing_seconds from jobs where kind = 'migrate'";
    let before: f64 = sqlx::query_scalar(silent).fetch_one(&mut sql).await.unwrap();
    source.restart().await;
    // It tries in vain once more.
    while sqlx::query_scalar::<_, f64>(silent).fetch_one(&mut sql).await.unwrap() <= before {}
    target.restart().await;
    let ended = from.ended(&migration).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    source.end().await;
    target.end().await;
}
