//! Exports with a passphrase, and imports of them.

use ferry::domain::overlay::{Location, Overlay, Step};
use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::package::{entries, names};
use crate::support::{Answer, Environment, User, secrets_missing};

pub const PASSPHRASE: &str = "Schlüssel zum Glück 🔑";

pub fn marked(state: &str) -> Value {
    json!({"$secret": state})
}

pub async fn get(user: &User, id: &str) -> Value {
    user.get(&format!("/api/v1/resources/{id}")).await.is(200)
}

/// Exports everything with a passphrase.
pub async fn export(user: &User) -> Vec<u8> {
    user.export(json!({"selection": {"all": true}, "passphrase": PASSPHRASE})).await
}

/// Uploads a package as a form.
pub async fn post_form(user: &User, package: &[u8], passphrase: Option<&str>, passphrase_first: bool) -> Answer {
    let part = |head: &str, bytes: &[u8]| {
        let head = format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n"].concat()
    };
    let mut parts = vec![part("name=\"package\"; filename=\"p.zip\"", package)];
    if let Some(text) = passphrase {
        parts.insert(if passphrase_first { 0 } else { 1 }, part("name=\"passphrase\"", text.as_bytes()));
    }
    parts.push(b"--b--\r\n".to_vec());
    let request = user.request(reqwest::Method::POST, "/api/v1/imports");
    user.send(request.header("content-type", "multipart/form-data; boundary=b").body(parts.concat())).await
}

/// Imports with a passphrase; returns the ended record.
pub async fn import(user: &User, package: &[u8], passphrase: &str, options: Value) -> Value {
    let record = post_form(user, package, Some(passphrase), true).await.is(202);
    let id = record["id"].as_str().unwrap();
    let record = user.wait(id, |status| !matches!(status, "queued" | "running")).await;
    assert_eq!(record["status"], "awaiting_confirmation", "{record}");
    user.plan(id, options).await;
    user.execute(id).await
}

/// What stands at a place of a stored definition (elements by `id`, else by position), opened with the environment's key; null: no secret.
pub async fn secret(environment: &Environment, id: &str, pointer: &str) -> Value {
    let overlay = "select coalesce(v.overlay, '[]') from resources r join resource_versions v
        on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision where r.id = $1";
    let text: String = sqlx::query_scalar(overlay).bind(id).fetch_one(&mut environment.sql().await).await.unwrap();
    let overlay: Overlay = serde_json::from_str(&text).unwrap();
    let stands = |location: &Location| {
        location.iter().fold(String::new(), |at, step| match step {
            Step::Key(key) => format!("{at}/{key}"),
            Step::Element(index, id) => format!("{at}/{}", id.clone().unwrap_or_else(|| index.to_string())),
        })
    };
    let found = overlay.sealed().find(|(location, _)| stands(location) == pointer);
    found.map_or(Value::Null, |(_, sealed)| json!(*environment.server.app.sealer.open_value(id, sealed).unwrap()))
}

fn account(note: &str) -> Value {
    json!({"note": note, "password": "s3cret-password", "private_key": "-----BEGIN\n\"s3cret\\key\"ü", "options": {"token": "s3cret-token"}})
}

#[tokio::test]
async fn secrets_travel_with_a_passphrase_and_fill_only_what_is_missing() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Warehouse", "/", account("1")).await;
    from.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc"})).await;
    let package = export(from).await;
    assert_eq!(names(&package)[2..], ["values.ndjson", "secrets.sealed", "manifest.json", "signature.json"]);
    let ended = import(to, &package, PASSPHRASE, json!({})).await;
    assert_eq!(
        json!([ended["status"], secrets_missing(&ended), ended["counts"]["create"]]),
        json!(["succeeded", [], 2])
    );
    assert_eq!(secret(&pair.production, "acc", "/password").await, "s3cret-password");
    assert_eq!(secret(&pair.production, "acc", "/private_key").await, "-----BEGIN\n\"s3cret\\key\"ü");
    assert_eq!(secret(&pair.production, "acc", "/options/token").await, "s3cret-token");
    let arrived = get(to, "acc").await;
    assert_eq!(arrived["definition"]["password"], marked("set"));
    assert_eq!(arrived["content_hash"], get(from, "acc").await["content_hash"]);

    // One is set to another, one is missing, one was taken away: unchanged all the same, and filled.
    let own = json!({"note": "1", "password": "own", "private_key": marked("set"), "options": {}});
    to.resource("acc", "data_account", "Warehouse", "/", own).await;
    let before = get(to, "acc").await;
    let ended = import(to, &package, PASSPHRASE, json!({"on_drift": "block"})).await;
    assert_eq!(json!([ended["status"], ended["counts"]["unchanged"]]), json!(["succeeded", 2]), "{ended}");
    assert_eq!(secret(&pair.production, "acc", "/password").await, "own", "one that is set is never replaced");
    assert_eq!(secret(&pair.production, "acc", "/options/token").await, "s3cret-token");
    let after = get(to, "acc").await;
    for key in ["content_hash", "updated_by", "id"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    let next = before["revision"].as_i64().unwrap() + 1;
    assert_eq!(after["revision"], next, "whoever read it before must not write over the secret");

    // An update keeps what is set and fills what is not.
    let own = json!({"note": "1", "password": "own", "options": {"token": marked("set")}});
    to.resource("acc", "data_account", "Warehouse", "/", own).await;
    from.resource("acc", "data_account", "Warehouse", "/", account("2")).await;
    let ended = import(to, &export(from).await, PASSPHRASE, json!({})).await;
    assert_eq!(json!([ended["counts"]["update"], secrets_missing(&ended)]), json!([1, []]));
    assert_eq!(secret(&pair.production, "acc", "/password").await, "own");
    assert_eq!(secret(&pair.production, "acc", "/private_key").await, "-----BEGIN\n\"s3cret\\key\"ü");

    // With changed IDs they are sealed for the new one.
    let changed = import(to, &package, PASSPHRASE, json!({"change_ids": true, "on_name_clash": "rename"})).await;
    assert_eq!(changed["counts"]["create"], 2, "{changed}");
    let new_id = to.item(&changed, "acc").await["new_id"].as_str().unwrap().to_owned();
    assert_eq!(secret(&pair.production, &new_id, "/password").await, "s3cret-password");
    pair.end().await;
}

#[tokio::test]
async fn a_passphrase_is_asked_for_checked_and_forgotten() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Warehouse", "/", account("1")).await;
    let body = |passphrase: Value| json!({"name": "p", "selection": {"all": true}, "passphrase": passphrase});
    for wrong in
        [json!(""), json!("seven 7"), json!("x".repeat(1025)), json!(471147114711i64), json!(["canary-in-a-list"])]
    {
        let problem = from.post("/api/v1/exports", body(wrong)).await.problem(422, "invalid_field").to_string();
        assert!(
            problem.contains("passphrase") && !problem.contains("canary") && !problem.contains("4711"),
            "{problem}"
        );
    }
    let package = export(from).await;

    // Nothing is left of what was refused.
    to.post_package(&package).await.problem(422, "passphrase_required");
    post_form(to, &package, None, true).await.problem(422, "passphrase_required");
    post_form(to, &package, Some(""), true).await.problem(422, "passphrase_required");
    for first in [true, false] {
        let refused = post_form(to, &package, Some("Schlüssel zum Glück"), first).await;
        assert!(!refused.problem(422, "passphrase_wrong").to_string().contains("Glück"));
    }
    crate::support::package::assert_nothing_left(&pair.production, "refused passphrases").await;
    let upload = crate::uploads::complete(to, &package).await;
    to.post("/api/v1/imports", json!({"upload_id": upload})).await.problem(422, "passphrase_required");
    let wrong = json!({"upload_id": upload, "passphrase": "another one"});
    to.post("/api/v1/imports", wrong).await.problem(422, "passphrase_wrong");
    assert_eq!(to.get("/api/v1/records").await.is(200)["items"], json!([]));

    // The right one, in whatever form; an umlaut in two code points is the same.
    let right = json!({"upload_id": upload, "passphrase": PASSPHRASE.replace('ü', "u\u{308}")});
    let record = to.post("/api/v1/imports", right).await.is(202);
    let id = record["id"].as_str().unwrap();
    to.wait(id, |status| status == "awaiting_confirmation").await;
    let kept = async |id: &str| -> Option<String> {
        let found = sqlx::query_scalar("select passphrase from records where id = $1::uuid").bind(id);
        found.fetch_one(&mut pair.production.sql().await).await.unwrap()
    };
    assert!(!kept(id).await.unwrap().contains("Gl"), "it rests sealed");
    assert_eq!(to.execute(id).await["status"], "succeeded");
    assert_eq!(kept(id).await, None, "it is forgotten when the import ends");
    for passphrase_first in [true, false] {
        let record = post_form(to, &package, Some(PASSPHRASE), passphrase_first).await.is(202);
        let id = record["id"].as_str().unwrap();
        to.wait(id, |status| status == "awaiting_confirmation").await;
        to.post(&format!("/api/v1/records/{id}/cancel"), json!({})).await.is(200);
        assert_eq!(kept(id).await, None, "and when it is cancelled");
    }
    let left: i64 = sqlx::query_scalar("select count(passphrase) from records")
        .fetch_one(&mut pair.test.sql().await)
        .await
        .unwrap();
    assert_eq!(left, 0, "and when the export ends");

    // A passphrase that nothing asks for changes nothing; a package without any secret may have one too.
    run(to, &from.export_all().await, json!({})).await;
    from.delete("/api/v1/resources/acc").await;
    let empty = export(from).await;
    assert!(entries(&empty).contains_key("secrets.sealed"));
    to.post_package(&empty).await.problem(422, "passphrase_required");
    assert_eq!(import(to, &empty, PASSPHRASE, json!({})).await["status"], "succeeded");
    assert_eq!(import(to, &from.export_all().await, PASSPHRASE, json!({})).await["status"], "succeeded");
    pair.end().await;
}

#[tokio::test]
async fn two_exports_differ_in_what_is_sealed_alone() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.resource("acc", "data_account", "Warehouse", "/", account("1")).await;
    let (one, two, plain) =
        (entries(&export(&user).await), entries(&export(&user).await), entries(&user.export_all().await));
    for (name, bytes) in &one {
        let same = two[name] == *bytes;
        assert_eq!(same, !matches!(name.as_str(), "secrets.sealed" | "manifest.json" | "signature.json"), "{name}");
        assert!(
            matches!(name.as_str(), "secrets.sealed" | "manifest.json" | "signature.json") || plain[name] == *bytes
        );
    }
    test.end().await;
}

#[tokio::test]
async fn the_checklist_ticks_itself_off_once_the_secrets_are_there() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Warehouse", "/", account("1")).await;
    from.resource("acb", "data_account", "Other", "/", json!({"password": "s3cret"})).await;
    let record = run(to, &from.export_all().await, json!({})).await.record;
    let done = async || {
        let record = to.get(&format!("/api/v1/records/{}", record["id"].as_str().unwrap())).await.is(200);
        let listed = to.get("/api/v1/records?kind=import").await.is(200)["items"].as_array().unwrap().clone();
        assert_eq!(listed.iter().find(|other| other["id"] == record["id"]).unwrap()["checklist"], record["checklist"]);
        secrets_missing(&record).iter().map(|entry| entry["done"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(done().await, [false, false]);
    let some = json!({"note": "1", "password": "a", "private_key": "b", "options": {"token": marked("missing")}});
    to.resource("acc", "data_account", "Warehouse", "/", some.clone()).await;
    assert_eq!(done().await, [false, false]);
    import(to, &export(from).await, PASSPHRASE, json!({})).await;
    assert_eq!(done().await, [true, true]);
    assert_eq!(secret(&pair.production, "acc", "/password").await, "a");
    pair.end().await;
}

#[tokio::test]
async fn what_is_tried_again_asks_for_its_passphrase_again() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Warehouse", "/", account("1")).await;
    let package = export(from).await;
    let record = post_form(to, &package, Some(PASSPHRASE), true).await.is(202);
    let id = record["id"].as_str().unwrap();
    to.wait(id, |status| status == "awaiting_confirmation").await;
    to.post(&format!("/api/v1/records/{id}/cancel"), json!({})).await.is(200);
    let retry = format!("/api/v1/records/{id}/retry");
    to.post(&retry, json!({})).await.problem(422, "passphrase_required");
    to.post(&retry, json!({"passphrase": "wrong one"})).await.problem(422, "passphrase_wrong");
    to.post(&retry, json!({"passphrase": PASSPHRASE})).await.is(202);
    to.wait(id, |status| status == "awaiting_confirmation").await;
    to.execute(id).await;
    assert_eq!(secret(&pair.production, "acc", "/password").await, "s3cret-password");
    pair.end().await;
}
