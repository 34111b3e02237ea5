//! What imports leave to do by hand.

use serde_json::{Value, json};

use crate::support::{Environment, User};

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

/// An account with a password, two datasets with schedules of which one runs, and an ETL.
async fn fill(user: &User) {
    user.resource("da", "data_account", "Shop", "/Accounts", json!({"host": "db", "password": "canary"})).await;
    let on = json!({"data_account_id": "da", "schedule": {"cron": "0 6 * * *", "enabled": true}});
    user.resource("on", "dataset", "On", "/Sales", on).await;
    user.resource("off", "dataset", "Off", "/Sales", json!({"schedule": {"enabled": false}})).await;
    // Without a word whether it runs.
    let silent = json!({"inputs": [{"dataset_id": "on"}], "schedule": {"cron": "0 7 * * *"}});
    user.resource("silent", "etl", "Silent", "/Sales", silent).await;
}

async fn entries(user: &User, record: &Value) -> Vec<Value> {
    let list = user.get(&format!("/api/v1/records/{}/checklist?limit=500", id(record))).await.is(200);
    list["items"].as_array().unwrap().clone()
}

/// Code and resource of what is not done.
async fn open(user: &User, record: &Value) -> Vec<String> {
    let entries = entries(user, record).await;
    let open = entries.iter().filter(|entry| entry["done"] == false);
    let mut open: Vec<String> = open
        .map(|entry| format!("{} {}", entry["code"].as_str().unwrap(), entry["resource_id"].as_str().unwrap()))
        .collect();
    open.sort();
    open
}

#[tokio::test]
async fn an_import_lists_what_is_left_to_do_and_ticks_off_what_is_done() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    fill(&from).await;
    let record = to.import(&from.export_all().await, json!({})).await;
    assert_eq!(
        open(&to, &record).await,
        [
            "arrived_paused on",
            "arrived_paused silent",
            "permissions_to_grant da",
            "permissions_to_grant off",
            "refresh_needed off",
            "refresh_needed on",
            "refresh_needed silent",
            "secret_missing da"
        ]
    );
    let listed = entries(&to, &record).await;
    let places: Vec<u64> = listed.iter().map(|entry| entry["id"].as_u64().unwrap()).collect();
    assert_eq!(places, (0..8).collect::<Vec<u64>>());
    assert!(!listed.iter().any(|entry| entry.to_string().contains("cron") || entry["by"] != Value::Null));
    let path = |code: &str, resource: &str| {
        let entry = listed.iter().find(|entry| entry["code"] == code && entry["resource_id"] == resource).unwrap();
        format!("/api/v1/records/{}/checklist/{}", id(&record), entry["id"])
    };
    // By hand what does not tick itself off, and back.
    let refreshed = to.patch(&path("refresh_needed", "on"), json!({"done": true})).await.is(200);
    assert_eq!(json!([refreshed["done"], refreshed["done_by"]]), json!([true, "admin"]));
    assert!(refreshed["done_at"].is_string());
    to.patch(&path("permissions_to_grant", "da"), json!({"done": true})).await.is(200);
    let back = to.patch(&path("permissions_to_grant", "da"), json!({"done": false})).await.is(200);
    assert_eq!(json!([back["done"], back["done_by"]]), json!([false, null]));
    for (code, resource) in [("secret_missing", "da"), ("arrived_paused", "on")] {
        to.patch(&path(code, resource), json!({"done": true})).await.problem(422, "invalid_field");
    }
    to.patch(&format!("/api/v1/records/{}/checklist/99", id(&record)), json!({"done": true}))
        .await
        .problem(404, "not_found");
    to.patch(&path("refresh_needed", "on"), json!({})).await.problem(422, "invalid_field");
    // One schedule switched on as anybody would, and a password.
    let on = json!({"data_account_id": "da", "schedule": {"cron": "0 6 * * *", "enabled": true}});
    to.resource("on", "dataset", "On", "/Sales", on).await;
    to.resource("da", "data_account", "Shop", "/Accounts", json!({"host": "db", "password": "given"})).await;
    assert_eq!(
        open(&to, &record).await,
        [
            "arrived_paused silent",
            "permissions_to_grant da",
            "permissions_to_grant off",
            "refresh_needed off",
            "refresh_needed silent"
        ]
    );
    let shown = to.get(&format!("/api/v1/records/{}", id(&record))).await.is(200);
    assert_eq!(shown["checklist"], json!(entries(&to, &record).await), "the record says the same");
    assert_eq!(to.get("/api/v1/records").await.is(200)["items"][0], shown);

    // What changed is to be refreshed; nothing is new.
    from.resource("off", "dataset", "Off", "/Sales", json!({"sql": "select 1", "schedule": {"enabled": true}})).await;
    let record = to.import(&from.export_all().await, json!({})).await;
    assert_eq!(open(&to, &record).await, ["refresh_needed off"]);
    // What is not there any more needs no secret and no schedule.
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn all_schedules_are_switched_on_at_once_or_none() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    fill(&from).await;
    let record = to.import(&from.export_all().await, json!({})).await;
    let path = format!("/api/v1/records/{}/checklist/schedules", id(&record));
    let operator = production.new_user("default", "operator").await;
    operator.post(&path, json!({})).await.problem(403, "forbidden");
    let before = to.get("/api/v1/resources/on").await.is(200);
    assert_eq!(before["definition"]["schedule"]["enabled"], false);
    let done = to.post(&path, json!({})).await.is(200);
    assert_eq!(done, json!({"created": 0, "updated": 2, "unchanged": 0}));
    for resource in ["on", "off", "silent"] {
        let (here, there) = (format!("/api/v1/resources/{resource}"), format!("/api/v1/resources/{resource}"));
        let (here, there) = (to.get(&here).await.is(200), from.get(&there).await.is(200));
        assert_eq!(here["definition"], there["definition"], "as it came");
    }
    let after = to.get("/api/v1/resources/on").await.is(200);
    assert_eq!(json!([after["content_hash"], after["revision"]]), json!([before["content_hash"], 2]));
    assert!(!open(&to, &record).await.iter().any(|entry| entry.starts_with("arrived_paused")));
    assert_eq!(to.post(&path, json!({})).await.is(200), json!({"created": 0, "updated": 0, "unchanged": 0}));
    let audit = to.get(&format!("/api/v1/audit?object={}", id(&record))).await.is(200);
    assert!(audit["items"].as_array().unwrap().iter().any(|entry| entry["action"] == "checklist.switch_on"));
    // The password that the account waits for is not touched: it is still missing.
    assert!(open(&to, &record).await.contains(&"secret_missing da".to_owned()));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_feature_that_is_off_here_is_listed_until_it_is_on() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    fill(&from).await;
    let switch = async |on: bool| to.patch("/api/v1/environment", json!({"features": {"etl": on}})).await.is(200);
    switch(false).await;
    let record = to.import(&from.export_all().await, json!({"resolutions": {"silent": {"action": "skip"}}})).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert!(open(&to, &record).await.contains(&"feature_differs silent".to_owned()));
    switch(true).await;
    assert!(!open(&to, &record).await.contains(&"feature_differs silent".to_owned()));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn one_list_goes_across_the_imports_that_somebody_sees() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    let lines: Vec<Value> = (0..130)
        .map(|n| json!({"id": format!("ds{n:03}"), "type": "dataset", "name": format!("{n}"), "directory": "/d", "definition": {}}))
        .collect();
    from.batch(&lines).await;
    let first = to.import(&from.export_all().await, json!({})).await;
    from.resource("etl", "etl", "ETL", "/d", json!({})).await;
    let second = to.import(&from.export_all().await, json!({})).await;
    let all = async |user: &User, query: &str| {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = user.get(&format!("/api/v1/checklist?limit=40{query}{cursor}")).await.is(200);
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    };
    let items = all(&to, "").await;
    assert_eq!(items.len(), 2 + 131);
    let of = |record: &Value| items.iter().filter(|item| item["record_id"] == record["id"]).count();
    assert_eq!((of(&first), of(&second)), (131, 2));
    assert_eq!(json!([items[0]["record_id"], items[0]["record_name"]]), json!([second["id"], "package"]));
    let of_first: Vec<Value> = items[2..].iter().map(|item| item["id"].clone()).collect();
    assert_eq!(of_first, (0..131).map(Value::from).collect::<Vec<_>>());
    assert_eq!(all(&to, "&code=permissions_to_grant").await.len(), 2);
    to.get("/api/v1/checklist?code=nothing").await.problem(422, "invalid_field");
    to.patch(&format!("/api/v1/records/{}/checklist/120", id(&first)), json!({"done": true})).await.is(200);
    let done = all(&to, "&done=true").await;
    assert_eq!(json!([done.len(), done[0]["id"], done[0]["done_by"]]), json!([1, 120, "admin"]));
    assert_eq!(all(&to, "&done=false").await.len(), 132);
    let viewer = production.new_user("default", "viewer").await;
    assert!(all(&viewer, "").await.is_empty());
    let stranger = production.new_user("elsewhere", "admin").await;
    assert!(all(&stranger, "").await.is_empty());
    let path = format!("/api/v1/records/{}/checklist/0", id(&first));
    stranger.patch(&path, json!({"done": true})).await.problem(404, "not_found");
    test.end().await;
    production.end().await;
}
