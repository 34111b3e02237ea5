//! Online and offline are one path.

use serde_json::json;

use crate::support::retail::load_retail;
use crate::support::{Environment, comparable, package};

#[tokio::test]
async fn online_and_offline_give_equal_catalogues() {
    let (test, online, offline) = (
        Environment::start("test").await,
        Environment::start("production").await,
        Environment::start("production").await,
    );
    let (from, on, off) = (test.admin(), online.admin(), offline.admin());
    load_retail(&from).await;

    let target = from
        .post("/api/v1/targets", json!({"name": "production", "url": online.server.url(), "token": on.token}))
        .await
        .is(201);
    assert!(target.get("token").is_none());
    let check =
        from.post(&format!("/api/v1/targets/{}/check", target["id"].as_str().unwrap()), json!({})).await.is(200);
    assert_eq!(check["reachable"], true, "{check}");
    assert_eq!(check["environment"]["kind"], "production");
    let body = json!({"target_id": target["id"], "name": "all", "selection": {"all": true}});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let record = from.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!(record["counts"]["create"], 70);

    let offline_record = off.import(&from.export_all().await, json!({})).await;
    assert_eq!(offline_record["status"], "succeeded", "{offline_record}");

    let source: Vec<_> = from.catalogue().await.iter().map(comparable).collect();
    let by_wire: Vec<_> = on.catalogue().await.iter().map(comparable).collect();
    let by_hand: Vec<_> = off.catalogue().await.iter().map(comparable).collect();
    assert_eq!(source.len(), 70);
    assert_eq!(source, by_wire);
    assert_eq!(by_wire, by_hand);
    for path in ["/images/retail/map-pin.png"] {
        let bytes = from.get(&format!("/api/v1/attachments{path}")).await;
        assert_eq!(bytes.status, 200);
        assert_eq!(bytes.bytes, on.get(&format!("/api/v1/attachments{path}")).await.bytes);
    }

    // One record here and one there, with the same items.
    let remote = on.get(&format!("/api/v1/records/{}", record["remote_record_id"].as_str().unwrap())).await.is(200);
    assert_eq!(remote["kind"], "import");
    assert_eq!(from.items(record["id"].as_str().unwrap()).await, on.items(remote["id"].as_str().unwrap()).await);
    for environment in [test, online, offline] {
        environment.end().await;
    }
}

#[tokio::test]
async fn export_import_export_gives_the_same_index() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    load_retail(&test.admin()).await;
    let first = test.admin().export_all().await;
    production.admin().import(&first, json!({})).await;
    let second = production.admin().export_all().await;
    let index = |bytes: &[u8]| String::from_utf8(package::entries(bytes)["index.ndjson"].clone()).unwrap();
    assert_eq!(index(&first), index(&second));
    assert_eq!(index(&first), index(&test.admin().export_all().await), "the same catalogue gives the same index");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn importing_again_leaves_everything_unchanged() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    load_retail(&test.admin()).await;
    let bytes = test.admin().export_all().await;
    production.admin().import(&bytes, json!({})).await;
    let before = production.admin().catalogue().await;
    let record = production.admin().import(&bytes, json!({})).await;
    assert_eq!(record["status"], "succeeded");
    assert_eq!(record["counts"]["unchanged"], 70, "{record}");
    assert_eq!(before, production.admin().catalogue().await);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn new_bytes_of_an_attachment_make_its_resource_an_update() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    from.attachment("/images/front.png", b"first").await.is(201);
    from.resource("card", "card", "Front", "/", json!({"images": ["/images/front.png"]})).await;
    from.resource("other", "card", "Other", "/", json!({})).await;
    to.import(&from.export_all().await, json!({})).await;

    from.attachment("/images/front.png", b"second").await.is(200);
    let record = to.import(&from.export_all().await, json!({})).await;
    assert_eq!(record["counts"]["update"], 1, "{record}");
    assert_eq!(record["counts"]["unchanged"], 1, "{record}");
    assert_eq!(to.get("/api/v1/attachments/images/front.png").await.bytes, b"second");
    assert_eq!(to.import(&from.export_all().await, json!({})).await["counts"]["unchanged"], 2);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_repeated_upload_with_the_same_key_is_the_same_record() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.resource("card", "card", "Front", "/", json!({})).await;
    let package = user.export_all().await;
    let post = |key: &'static str, bytes: Vec<u8>| {
        let request = user.request(reqwest::Method::POST, "/api/v1/imports").header("content-type", "application/zip");
        user.send(request.header("idempotency-key", key).body(bytes))
    };
    let (first, second) = (post("k", package.clone()).await.is(202), post("k", package.clone()).await.is(202));
    assert_eq!(first["id"], second["id"]);
    assert_ne!(first["id"], post("other", package.clone()).await.is(202)["id"]);
    user.resource("card", "card", "Changed", "/", json!({})).await;
    post("k", user.export_all().await).await.problem(422, "idempotency_key_reused");
    for record in user.get("/api/v1/records?kind=import").await.is(200)["items"].as_array().unwrap() {
        user.wait(record["id"].as_str().unwrap(), |status| status == "awaiting_confirmation").await;
    }
    test.end().await;
}
