//! The hours in which an environment lets imports be applied.

use chrono::{Datelike, Duration, SecondsFormat, Timelike, Utc};
use serde_json::{Value, json};

use crate::support::{Environment, User};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// An hour of a day that begins so many hours from now.
fn window_in(hours: i64) -> Value {
    let begin = Utc::now() + Duration::hours(hours);
    let day = DAYS[begin.weekday().num_days_from_monday() as usize];
    let (from, to) = (format!("{:02}:00", begin.hour()), format!("{:02}:00", (begin.hour() + 1) % 24));
    json!({"time_zone": "UTC", "hours": [{"days": [day], "from": from, "to": to}]})
}

async fn windows(user: &User, windows: Value) -> Value {
    user.patch("/api/v1/environment", json!({"windows": windows})).await.is(200)["windows"].clone()
}

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

#[tokio::test]
async fn an_import_waits_for_its_window_and_a_changed_one_is_heeded() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    assert_eq!(to.get("/api/v1/environment").await.is(200)["windows"], Value::Null);
    let later = window_in(5);
    assert_eq!(windows(&to, later.clone()).await, later);
    from.resource("ds", "dataset", "Orders", "/Sales", json!({})).await;
    let record = to.upload(&from.export_all().await).await;
    assert_eq!(record["status"], "awaiting_confirmation", "parsing waits for nothing");
    let path = format!("/api/v1/imports/{}/execute", id(&record));
    let waits = to.post(&path, json!({})).await.is(202);
    let until = (Utc::now() + Duration::hours(5)).with_minute(0).unwrap().with_second(0).unwrap().with_nanosecond(0);
    let until = until.unwrap().to_rfc3339_opts(SecondsFormat::Secs, true);
    assert_eq!(json!([waits["status"], waits["waits_until"]]), json!(["queued", until]));
    to.post(&path, json!({})).await.problem(409, "wrong_state");
    assert!(to.catalogue().await.is_empty());
    // Another window: it waits for that.
    windows(&to, window_in(9)).await;
    let waits = to.get(&format!("/api/v1/records/{}", id(&record))).await.is(200);
    assert_ne!(json!([waits["status"], waits["waits_until"]]), json!(["queued", until]));
    // What is left out stays.
    to.patch("/api/v1/environment", json!({"features": {"etl": true}})).await.is(200);
    assert_ne!(to.get("/api/v1/environment").await.is(200)["windows"], Value::Null);
    assert_eq!(windows(&to, Value::Null).await, Value::Null);
    let ended = to.ended(id(&record)).await;
    assert_eq!(json!([ended["status"], ended["waits_until"]]), json!(["succeeded", null]));

    // One that is open stops nothing; one that waits may be cancelled.
    windows(&to, window_in(0)).await;
    from.resource("ds", "dataset", "Orders 2", "/Sales", json!({})).await;
    let package = from.export_all().await;
    if Utc::now().minute() < 58 {
        assert_eq!(to.import(&package, json!({})).await["status"], "succeeded");
    }
    windows(&to, window_in(5)).await;
    let record = to.upload(&package).await;
    to.post(&format!("/api/v1/imports/{}/execute", id(&record)), json!({})).await.is(202);
    to.post(&format!("/api/v1/records/{}/cancel", id(&record)), json!({})).await.is(200);
    let ended = to.ended(id(&record)).await;
    assert_eq!(json!([ended["status"], ended["waits_until"]]), json!(["cancelled", null]));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn windows_that_would_never_open_are_refused() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    for wrong in [
        json!({"time_zone": "UTC", "hours": []}),
        json!({"time_zone": "UTC", "hours": [{"days": [], "from": "01:00", "to": "02:00"}]}),
        json!({"time_zone": "Nowhere", "hours": [{"days": ["mon"], "from": "01:00", "to": "02:00"}]}),
        json!({"time_zone": "UTC", "hours": [{"days": ["mon"], "from": "1 am", "to": "02:00"}]}),
        json!({"time_zone": "UTC", "hours": [{"days": ["today"], "from": "01:00", "to": "02:00"}]}),
        json!({"time_zone": "UTC"}),
    ] {
        admin.patch("/api/v1/environment", json!({"windows": wrong})).await.problem(422, "invalid_field");
    }
    let viewer = test.new_user("default", "viewer").await;
    viewer.patch("/api/v1/environment", json!({"windows": null})).await.problem(403, "forbidden");
    test.end().await;
}

#[tokio::test]
async fn an_approved_migration_waits_for_the_window_of_its_target() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    windows(&to, window_in(5)).await;
    to.patch("/api/v1/environment", json!({"approval": {"required": true}})).await.is(200);
    let second = production.holder(&to, "default", "second", &["migration.approve"]).await;
    let target = from.target("production", &to.base, &to.token).await;
    from.resource("ds", "dataset", "Orders", "/Sales", json!({})).await;
    let record = from.post("/api/v1/migrations", json!({"target_id": target, "resource_ids": ["ds"]})).await.is(202);
    let waits = from.wait(id(&record), |status| status == "awaiting_approval").await;
    assert_eq!(waits["waits_until"], Value::Null);
    let approve = format!("/api/v1/approvals/{}/approve", waits["remote_record_id"].as_str().unwrap());
    let approved = second.post(&approve, json!({})).await.is(202);
    assert!(approved["waits_until"].is_string(), "{approved}");
    let waits = from.wait_for(id(&record), |record| record["waits_until"].is_string()).await;
    assert_eq!(
        json!([waits["status"], waits["waits_until"], waits["approval"]["state"]]),
        json!(["running", approved["waits_until"], "approved"])
    );
    windows(&to, Value::Null).await;
    let ended = from.ended(id(&record)).await;
    assert_eq!(json!([ended["status"], ended["waits_until"]]), json!(["succeeded", null]));
    test.end().await;
    production.end().await;
}
