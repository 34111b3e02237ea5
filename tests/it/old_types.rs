//! Type files that became others: servers that still have the old ones, and what the old ones left behind.

use ferry::app::StartError;
use serde_json::{Value, json};

use crate::support::{ADMIN, Environment, User};
use crate::types::{another, restarted, with_types};

const HEAD: &str = "key = \"thing\"\nlabel = { en = \"Thing\", zh = \"东西\", plural_en = \"Things\" }\norder = 200\nunique_name = \"none\"\n";
const SECRET: &str = "[secrets]\npaths = [\"$.token\", \"$.items[*].key\"]\n";

/// Folders with a type that has no slots, and with slots added.
fn folders(more: &str) -> [tempfile::TempDir; 2] {
    ["", more].map(|more| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thing.toml"), format!("{HEAD}{more}")).unwrap();
        folder
    })
}

async fn clear_bodies(environment: &Environment) -> i64 {
    let query = "select count(*) from definitions where body like '%canary%'";
    sqlx::query_scalar(query).fetch_one(&mut environment.sql().await).await.unwrap()
}

#[tokio::test]
async fn a_server_with_old_type_files_writes_nothing_and_does_no_work() {
    let [old, new] = folders(SECRET);
    let (test, production) = (with_types("test", old.path()).await, with_types("production", old.path()).await);
    let (from, to) = (test.admin(), production.admin());
    from.resource("t", "thing", "T", "/", json!({"token": "canary", "n": 1})).await;
    to.resource("mine", "thing", "Mine", "/", json!({})).await;
    let target = to.target("t", &test.server.url(), &from.token).await;
    let package = from.export_all().await;
    let waiting = to.upload(&package).await["id"].as_str().unwrap().to_owned();
    assert_eq!(clear_bodies(&production).await, 1);

    let beside = another(&production.database, &production.files, new.path()).await.unwrap();
    let now = User { client: to.client.clone(), base: beside.url(), token: ADMIN.to_owned() };
    assert_eq!(clear_bodies(&production).await, 0, "not even for a moment");
    let record = now.wait(&waiting, |status| status == "awaiting_confirmation").await;
    assert_eq!(clear_bodies(&production).await, 0);
    to.get("/readyz").await.problem(503, "not_ready");
    now.get("/readyz").await;
    to.put("/api/v1/resources/mine", json!({"type": "thing", "name": "M", "directory": "/", "definition": {}}))
        .await
        .is(503);
    to.delete("/api/v1/resources/mine").await.is(503);
    to.attachment("/a.txt", b"a").await.is(503);
    to.post_package(&package).await.is(503);
    to.post(&format!("/api/v1/imports/{waiting}/execute"), json!({})).await.is(503);
    to.post(&format!("/api/v1/records/{waiting}/cancel"), json!({})).await.is(503);
    to.post("/api/v1/migrations", json!({"target_id": target, "selection": {"all": true}})).await.is(503);
    to.get("/api/v1/resources/mine").await.is(200);
    let started = another(&production.database, &production.files, old.path()).await;
    assert!(matches!(started, Err(StartError::OldTypes)), "it would take the environment back");

    let record = now.execute(record["id"].as_str().unwrap()).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!(
        now.get("/api/v1/resources/t").await.is(200)["definition"],
        json!({"n": 1, "token": {"$secret": "missing"}})
    );
    // Where no server runs with the new ones, going back is a decision.
    beside.stop().await;
    let production = restarted(production, old.path()).await;
    production.admin().get("/readyz").await;
    production.end().await;
    test.end().await;
}

#[tokio::test]
async fn what_stops_being_secret_stays_sealed_and_what_is_read_may_be_put_back() {
    let [bare, secret] = folders(SECRET);
    let test = with_types("test", secret.path()).await;
    let definition = json!({"token": "canary", "items": [{"key": "k", "name": "a"}], "n": 1});
    test.admin().resource("t", "thing", "T", "/", definition).await;
    let test = restarted(test, bare.path()).await;
    let user = test.admin();
    let read = user.get("/api/v1/resources/t").await.is(200);
    assert_eq!(read["definition"]["token"], json!({"$secret": "set"}));
    let back = user.resource("t", "thing", "T", "/", read["definition"].clone()).await;
    assert_eq!((&back["revision"], &back["definition"]), (&json!(1), &read["definition"]));
    let mut changed = read["definition"].clone();
    changed["n"] = json!(2);
    let back = user.resource("t", "thing", "T", "/", changed.clone()).await;
    assert_eq!((&back["revision"], &back["definition"]), (&json!(2), &changed));
    changed["other"] = json!({"$secret": "set"});
    let body = json!({"type": "thing", "name": "T", "directory": "/", "definition": changed});
    user.put("/api/v1/resources/t", body).await.is(422);
    let test = restarted(test, secret.path()).await;
    let again = test.admin().get("/api/v1/resources/t").await.is(200);
    assert_eq!(
        again["definition"],
        json!({"token": {"$secret": "set"}, "items": [{"key": {"$secret": "set"}, "name": "a"}], "n": 2})
    );
    test.end().await;
}

#[tokio::test]
async fn what_becomes_secret_and_is_no_string_is_kept_sealed() {
    let [bare, secret] = folders(SECRET);
    let test = with_types("test", bare.path()).await;
    test.admin().resource("t", "thing", "T", "/", json!({"token": {"user": "u", "password": "canary"}})).await;
    test.admin().resource("n", "thing", "N", "/", json!({"token": 12345})).await;
    test.admin().resource("z", "thing", "Z", "/", json!({"token": null})).await;
    let test = restarted(test, secret.path()).await;
    for (id, read) in [("t", "set"), ("n", "set"), ("z", "missing")] {
        let found = test.admin().get(&format!("/api/v1/resources/{id}")).await.is(200);
        assert_eq!(found["definition"], json!({"token": {"$secret": read}}), "{id}");
    }
    assert_eq!(clear_bodies(&test).await, 0);
    test.end().await;
}

#[tokio::test]
async fn elements_without_an_id_keep_their_secrets_whatever_stands_between_them() {
    let [_, secret] = folders(SECRET);
    let (test, production) = (with_types("test", secret.path()).await, with_types("production", secret.path()).await);
    let (from, to) = (test.admin(), production.admin());
    from.resource("t", "thing", "T", "/", json!({"items": [{"n": "mail", "key": "MAIL"}, {"n": "ftp"}]})).await;
    let set = json!({"$secret": "set"});
    let moved = json!({"items": [{"id": "new"}, {"n": "mail", "key": set}, {"n": "ftp"}]});
    let kept = from.resource("t", "thing", "T", "/", moved.clone()).await;
    assert_eq!(kept["definition"], moved, "the second of those without an ID never had one");
    to.resource("t", "thing", "T", "/", json!({"items": [{"id": "mine"}, {"n": "mail", "key": "HERE"}, {"n": "ftp"}]}))
        .await;
    to.import(&from.export_all().await, json!({})).await;
    assert_eq!(to.get("/api/v1/resources/t").await.is(200)["definition"], moved);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn what_the_target_set_for_itself_is_protected_once_it_is_content() {
    let [content, own] = folders("[environment_specific]\npaths = [\"$.host\"]\n");
    let (test, production) = (with_types("test", content.path()).await, with_types("production", own.path()).await);
    let (from, to) = (test.admin(), production.admin());
    from.resource("t", "thing", "T", "/", json!({"host": "TEST"})).await;
    let package = from.export_all().await;
    to.import(&package, json!({})).await;
    to.resource("t", "thing", "T", "/", json!({"host": "PROD"})).await;
    let production = restarted(production, content.path()).await;
    let to = production.admin();
    let record = to.upload(&package).await;
    let record = to.plan(record["id"].as_str().unwrap(), json!({"on_drift": "block"})).await;
    let items: Vec<Value> = to.items(record["id"].as_str().unwrap()).await;
    assert_eq!((&items[0]["drifted"], &items[0]["method"]), (&json!(true), &json!("blocked")), "{items:?}");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_package_that_holds_in_clear_what_is_secret_here_goes_with_its_record() {
    let [bare, secret] = folders(SECRET);
    let test = with_types("test", bare.path()).await;
    let more = format!("server.resource_types_dir = {}\nretention.every_seconds = 1", json!(secret.path()));
    let production = Environment::configured("production", &more).await;
    test.admin().resource("t", "thing", "T", "/", json!({"token": "canary"})).await;
    let to = production.admin();
    let record = to.upload(&test.admin().export_all().await).await;
    let id = record["id"].as_str().unwrap().to_owned();
    assert_eq!(to.execute(&id).await["status"], "succeeded");
    production
        .until(async || {
            let kept = "select count(*) from records where package_key is not null";
            sqlx::query_scalar::<_, i64>(kept).fetch_one(&mut production.sql().await).await.unwrap() == 0
        })
        .await;
    test.end().await;
    production.end().await;
}
