//! Changed type files: what they make secret, and imports that are on their way meanwhile.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::User;
use crate::types::{REPORT, fill, report, restarted, with_types};

const BARE: &str = "key = \"report\"\nlabel = { en = \"Report\", zh = \"报告\", plural_en = \"Reports\" }\norder = 200\nunique_name = \"none\"\n";

/// Another rule before the others, so that each has another place.
fn with_a_rule_more() -> String {
    let rule = "[[reference]]\npath = \"$.first\"\nrole = \"First\"\nto = [\"card\"]\nkind = \"use\"\n\n[[reference]]\npath = \"$.sources\"";
    REPORT.replacen("[[reference]]\npath = \"$.sources\"", rule, 1)
}

/// Every file below a folder that holds the canary.
fn holding(folder: &Path) -> Vec<std::path::PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).unwrap().windows(11).any(|bytes| bytes == b"canary-4711") {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn what_becomes_secret_is_in_clear_nowhere_any_more() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("report.toml"), BARE).unwrap();
    let test = with_types("test", folder.path()).await;
    let user = test.admin();
    fill(&user).await;
    let mut second = report();
    second["title"] = json!("Second");
    user.resource("rp", "report", "Report", "/", second).await;
    user.delete("/api/v1/resources/rp0").await.is(204);
    let body = json!({"name": "old", "selection": {"all": true}});
    let record = user.post("/api/v1/exports", body).await.is(202)["id"].as_str().unwrap().to_owned();
    user.ended(&record).await;

    std::fs::write(folder.path().join("report.toml"), REPORT).unwrap();
    let test = restarted(test, folder.path()).await;
    let mut connection = test.sql().await;
    for table in ["definitions", "resource_versions", "resources", "import_entries", "records", "record_items"] {
        let query = format!("select coalesce(string_agg(t::text, ' '), '') from {table} t");
        let rests: String = sqlx::query_scalar(&query).fetch_one(&mut connection).await.unwrap();
        assert!(!rests.contains("canary-4711"), "{table}");
    }
    drop(connection);
    assert_eq!(holding(test.files.path()), Vec::<std::path::PathBuf>::new());
    test.admin().get(&format!("/api/v1/exports/{record}/package")).await.problem(410, "gone");
    let first = test.admin().get("/api/v1/resources/rp/revisions").await.is(200);
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    test.end().await;
}

async fn counts(user: &User, package: &[u8]) -> Value {
    let record = user
        .import(
            package,
            json!({"directory_prefix": "/P", "resolutions": {"ds2": {"action": "map", "target_id": "own"}}}),
        )
        .await;
    json!([record["status"], record["counts"]["unchanged"], record["counts"]["blocked"]])
}

#[tokio::test]
async fn what_was_remapped_stands_when_both_sides_changed_a_type_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.toml");
    std::fs::write(&file, REPORT).unwrap();
    let (test, production) = (with_types("test", folder.path()).await, with_types("production", folder.path()).await);
    let (from, to) = (test.admin(), production.admin());
    fill(&from).await;
    to.resource("gone", "card", "gone", "/", json!({})).await;
    to.resource("own", "dataset", "own", "/", json!({})).await;
    assert_eq!(counts(&to, &from.export_all().await).await, json!(["succeeded", 0, 0]));
    let target = from.target("p", &production.server.url(), &to.token).await;

    std::fs::write(&file, with_a_rule_more()).unwrap();
    let (test, production) = (restarted(test, folder.path()).await, restarted(production, folder.path()).await);
    let (from, to) = (test.admin(), production.admin());
    assert_eq!(counts(&to, &from.export_all().await).await, json!(["succeeded", 7, 0]));
    from.patch(&format!("/api/v1/targets/{target}"), json!({"url": production.server.url(), "token": to.token}))
        .await
        .is(200);
    let body = json!({"target_id": target, "selection": {"all": true}, "directory_prefix": "/P", "resolutions": {"ds2": {"action": "map", "target_id": "own"}}});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let record = from.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(json!([record["status"], record["counts"]["unchanged"]]), json!(["succeeded", 7]), "{record}");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn an_import_that_waits_over_a_changed_type_file_is_parsed_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.toml");
    std::fs::write(&file, REPORT).unwrap();
    let (test, production) = (with_types("test", folder.path()).await, with_types("production", folder.path()).await);
    fill(&test.admin()).await;
    production.admin().resource("gone", "card", "gone", "/", json!({})).await;
    let waiting = production.admin().upload(&test.admin().export_all().await).await;
    let id = waiting["id"].as_str().unwrap();

    std::fs::write(&file, with_a_rule_more()).unwrap();
    let production = restarted(production, folder.path()).await;
    let to = production.admin();
    to.wait(id, |status| status == "awaiting_confirmation").await;
    let record = to.execute(id).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    let arrived = to.get("/api/v1/resources/rp").await.is(200);
    let expected = test.admin().get("/api/v1/resources/rp").await.is(200);
    assert_eq!(arrived["references"].as_array().unwrap().len(), expected["references"].as_array().unwrap().len());
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn values_of_the_environment_alone_are_neither_content_nor_drift() {
    let test = crate::support::Environment::start("test").await;
    let production = crate::support::Environment::start("production").await;
    let (from, to) = (test.admin(), production.admin());
    from.resource("acc", "data_account", "A", "/", json!({"connector": "x"})).await;
    from.resource("ds", "dataset", "D", "/", json!({"data_account_id": "acc"})).await;
    let package = from.export_all().await;
    to.import(&package, json!({})).await;
    let before = [to.get("/api/v1/resources/acc").await.is(200), to.get("/api/v1/resources/ds").await.is(200)];
    // Where none was, with the object that holds it.
    let acc = json!({"connector": "x", "options": {"token": "t"}});
    let acc = to.resource("acc", "data_account", "A", "/", acc).await;
    let ds = json!({"data_account_id": "acc", "schedule": {"enabled": true}});
    let ds = to.resource("ds", "dataset", "D", "/", ds).await;
    assert_eq!([&acc["content_hash"], &ds["content_hash"]], [&before[0]["content_hash"], &before[1]["content_hash"]]);
    let record = to.upload(&package).await;
    let items = to.items(record["id"].as_str().unwrap()).await;
    assert!(items.iter().all(|item| item["method"] == "unchanged" && item["drifted"] == false), "{items:?}");
    to.execute(record["id"].as_str().unwrap()).await;
    // An update keeps them, object and all.
    from.resource("ds", "dataset", "D2", "/", json!({"data_account_id": "acc", "sql": "select 1"})).await;
    from.resource("acc", "data_account", "A", "/", json!({"connector": "y"})).await;
    to.import(&from.export_all().await, json!({})).await;
    let (acc, ds) = (to.get("/api/v1/resources/acc").await.is(200), to.get("/api/v1/resources/ds").await.is(200));
    assert_eq!(acc["definition"], json!({"connector": "y", "options": {"token": {"$secret": "set"}}}));
    assert_eq!(ds["definition"], json!({"data_account_id": "acc", "sql": "select 1", "schedule": {"enabled": true}}));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn an_import_whose_staged_bodies_are_gone_is_parsed_again_and_goes_on() {
    let test = crate::support::Environment::start("test").await;
    let production = crate::support::Environment::start("production").await;
    let (from, to) = (test.admin(), production.admin());
    from.resource("ds", "dataset", "D", "/", json!({"sql": "select 1"})).await;
    let record = to.upload(&from.export_all().await).await;
    let mut connection = production.sql().await;
    sqlx::raw_sql("delete from definitions; delete from runs").execute(&mut connection).await.unwrap();
    let record = to.execute(record["id"].as_str().unwrap()).await;
    assert_eq!(json!([record["status"], record["counts"]["create"]]), json!(["succeeded", 1]), "{record}");
    assert_eq!(to.get("/api/v1/resources/ds").await.is(200)["definition"], json!({"sql": "select 1"}));
    // Nothing staged remains, neither of this nor of one that is cancelled.
    from.resource("ds", "dataset", "D", "/", json!({"sql": "select 2"})).await;
    let other = to.upload(&from.export_all().await).await;
    to.post(&format!("/api/v1/records/{}/cancel", other["id"].as_str().unwrap()), json!({})).await.is(200);
    let left: (i64, i64) = sqlx::query_as("select (select count(*) from definitions), (select count(*) from runs)")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(left, (1, 0));
    drop(connection);
    test.end().await;
    production.end().await;
}
