//! What the database holds and cannot be read: a record that needs it fails at once, says where, and keeps its
//! package.

use serde_json::{Value, json};

use crate::support::retail::{load_retail, retail_pair};
use crate::support::{Environment, User};

fn path(record: &Value, more: &str) -> String {
    format!("/api/v1/imports/{}{more}", record["id"].as_str().unwrap())
}

async fn damage(environment: &Environment, statement: &str) {
    let mut connection = environment.sql().await;
    let done = sqlx::query(statement).execute(&mut connection).await.unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
}

/// The record has failed at its first run, and says why.
async fn failed(environment: &Environment, user: &User, record: &Value, column: &str) {
    let id = record["id"].as_str().unwrap();
    let ended = user.ended(id).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("storage_corrupt")), "{ended}");
    assert!(ended["error"]["message"].as_str().unwrap().contains(column), "{ended}");
    let runs = "select max(run_no) from jobs where record_id = $1::text::uuid";
    let runs: i32 = sqlx::query_scalar(runs).bind(id).fetch_one(&mut environment.sql().await).await.unwrap();
    assert_eq!(runs, 1, "nobody tries again what cannot succeed");
}

#[tokio::test]
async fn an_import_whose_rows_are_damaged_fails_at_once_and_keeps_its_package() {
    let (test, production, _) = retail_pair("").await;
    let to = production.admin();
    let package = test.admin().export_all().await;
    let entries = "update import_entries set entries = '[{'";
    let cases: [(&str, &[&str], Value); 4] = [
        (
            "records.options",
            &["update records set options = '{\"change_ids\": 7}' where status = 'awaiting_confirmation'"],
            json!({}),
        ),
        ("definitions.body", &["update definitions set body = '{'"], json!({"change_ids": true})),
        ("import_entries.entries", &[entries, "update record_items set items = '[{'"], json!({})),
        ("import_entries.entries", &[entries], json!({})),
    ];
    let mut record = Value::Null;
    for (column, statements, options) in cases {
        record = to.upload(&package).await;
        to.plan(record["id"].as_str().unwrap(), options).await;
        for statement in statements {
            damage(&production, statement).await;
        }
        to.post(&path(&record, "/execute"), json!({})).await.is(202);
        failed(&production, &to, &record, column).await;
        assert!(to.catalogue().await.is_empty());
    }
    let items = to.items(record["id"].as_str().unwrap()).await;
    assert!(items.iter().all(|item| item["status"] == "skipped"), "what can be read has an end");
    to.post(&format!("/api/v1/records/{}/retry", record["id"].as_str().unwrap()), json!({})).await.is(202);
    assert_eq!(to.ended(record["id"].as_str().unwrap()).await["status"], "succeeded");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn an_export_of_what_is_damaged_fails_at_once() {
    let test = Environment::start("test").await;
    let user = test.admin();
    load_retail(&user).await;
    for (column, statement) in [
        ("resource_versions.overlay", "update resource_versions set overlay = '[' where overlay is not null"),
        ("definitions.body", "delete from definitions"),
    ] {
        damage(&test, statement).await;
        let record = user.post("/api/v1/exports", json!({"name": "x", "selection": {"all": true}})).await.is(202);
        failed(&test, &user, &record, column).await;
        damage(&test, "update resource_versions set overlay = null").await;
    }
    test.end().await;
}
