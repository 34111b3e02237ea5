//! What somebody finds who asks again and again for what changed since he asked last.

use chrono::{DateTime, SecondsFormat, Utc};
use ferry::db::locks;
use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;
use crate::support::gate::advisory_awaited;

/// The IDs of what changed since a time.
async fn changed(user: &User, since: &str) -> Vec<String> {
    let path = format!("/api/v1/resources?limit=500&updated_since={}", since.replace('+', "%2B"));
    let page = user.get(&path).await.is(200);
    let mut ids: Vec<String> =
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

fn time(of: &Value) -> DateTime<Utc> {
    of.as_str().unwrap().parse().unwrap()
}

async fn fill(user: &User, edition: u32) {
    user.resource("same", "card", "Same", "/", json!({})).await;
    user.resource("old", "card", "Old", "/", json!({"edition": edition})).await;
    if edition > 1 {
        user.resource("new", "card", "New", "/", json!({"edition": edition})).await;
    }
}

/// A target that has a first edition, and waits with the parse list of the second.
async fn parsed() -> (Pair, String) {
    let pair = Pair::start().await;
    fill(&pair.from, 1).await;
    run(&pair.to, &pair.from.export_all().await, json!({})).await;
    fill(&pair.from, 2).await;
    let record = pair.to.upload(&pair.from.export_all().await).await;
    assert_eq!(record["status"], "awaiting_confirmation", "{record}");
    let id = record["id"].as_str().unwrap().to_owned();
    (pair, id)
}

#[tokio::test]
async fn what_was_parsed_long_before_is_found_from_its_execution_on() {
    let (pair, id) = parsed().await;
    let to = &pair.to;
    let between = to.resource("between", "card", "Between", "/", json!({})).await;
    let since = between["updated_at"].as_str().unwrap();
    assert_eq!(changed(to, since).await, ["between"]);
    assert_eq!(to.execute(&id).await["status"], "succeeded");
    assert_eq!(changed(to, since).await, ["between", "new", "old"]);
    let new = to.get("/api/v1/resources/new").await.is(200);
    for key in ["created_at", "updated_at"] {
        assert!(time(&new[key]) > time(&between["updated_at"]), "{new}");
    }
    assert_eq!(new["imported"]["at"], new["updated_at"]);
    let old = to.get("/api/v1/resources/old").await.is(200);
    assert!(time(&old["created_at"]) < time(&between["updated_at"]), "{old}");
    assert_eq!(old["imported"]["at"], new["updated_at"]);
    let revisions = to.get("/api/v1/resources/old/revisions").await.is(200);
    let times: Vec<&Value> = revisions["items"].as_array().unwrap().iter().map(|item| &item["updated_at"]).collect();
    assert!(times.contains(&&new["updated_at"]) && times.len() == 2, "{revisions}");
    pair.end().await;
}

#[tokio::test]
async fn what_waits_for_the_domain_is_found_by_who_asked_while_it_waited() {
    let (pair, id) = parsed().await;
    let to = &pair.to;
    let mut holder = pair.production.sql().await;
    sqlx::raw_sql("begin").execute(&mut holder).await.unwrap();
    let domain: i32 =
        sqlx::query_scalar("select id from domains where name = 'default'").fetch_one(&mut holder).await.unwrap();
    locks::share_catalogue(&mut holder, domain).await.unwrap();
    let asked = async {
        advisory_awaited(&mut holder).await;
        // The import has begun its transaction; whoever asks now sees nothing of it yet.
        let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut holder).await.unwrap();
        let now = now.to_rfc3339_opts(SecondsFormat::Micros, true);
        assert_eq!(changed(to, &now).await, Vec::<String>::new());
        sqlx::raw_sql("commit").execute(&mut holder).await.unwrap();
        now
    };
    let (ended, since) = tokio::join!(to.execute(&id), asked);
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(changed(to, &since).await, ["new", "old"]);
    pair.end().await;
}
