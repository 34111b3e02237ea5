//! Who signed a package, and whom an environment trusts.

use serde_json::{Value, json};

use crate::support::package::{Forge, assert_nothing_left, honest, verdict};
use crate::support::{Environment, User};

const STRICT: &str = "security.trust = \"trusted\"";

async fn trust(user: &User, name: &str, key: &Value) -> String {
    let made = user.post("/api/v1/trusted-sources", json!({"name": name, "public_key": key})).await.is(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn distrust(user: &User, id: &str) {
    user.delete(&format!("/api/v1/trusted-sources/{id}")).await.is(204);
}

#[tokio::test]
async fn trusted_sources_are_made_listed_and_removed() {
    let production = Environment::start("production").await;
    let user = production.admin();
    let key = Forge::of(&honest().await.package).manifest["environment"]["public_key"].clone();
    let id = trust(&user, " Test ", &key).await;
    let listed = user.get("/api/v1/trusted-sources").await.is(200);
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["public_key"]), (&json!("Test"), &key));
    assert_eq!(listed["items"][0]["id"], json!(id));
    let again = |name: &str, key: &Value| {
        let (user, body) = (user.clone(), json!({"name": name, "public_key": key}));
        async move { user.post("/api/v1/trusted-sources", body).await }
    };
    again("Test", &user.get("/api/v1/environment").await.is(200)["public_key"]).await.problem(409, "conflict");
    again("Other", &key).await.problem(409, "conflict");
    // Not base64, too short, too long, not a point of the curve, a point that any signature fits.
    let weak = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for wrong in ["", "?", "AAAA", &format!("{}AAAA", key.as_str().unwrap()), weak, &"_".repeat(44)] {
        let problem = again("Wrong", &json!(wrong)).await.problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], "public_key", "{wrong}");
    }
    again("", &key).await.problem(422, "invalid_field");
    distrust(&user, &id).await;
    user.delete(&format!("/api/v1/trusted-sources/{id}")).await.problem(404, "not_found");
    assert_eq!(user.get("/api/v1/trusted-sources").await.is(200)["items"], json!([]));
    production.end().await;
}

#[tokio::test]
async fn only_packages_of_trusted_sources_come_in_where_trust_is_needed() {
    let production = Environment::configured("production", STRICT).await;
    let user = production.admin();
    let package = &honest().await.package;
    let known = Forge::of(package);
    let problem = user.post_package(&known.build()).await.problem(422, "package_untrusted");
    assert!(problem["detail"].as_str().unwrap().contains("trusted sources"), "{problem}");
    assert_eq!(user.get("/api/v1/records").await.is(200)["items"], json!([]));
    assert_nothing_left(&production, "an untrusted package").await;

    trust(&user, "Test", &known.manifest["environment"]["public_key"]).await;
    let record = user.import(&known.build(), json!({})).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    let signature = json!({
        "environment": known.manifest["environment"]["name"], "key_id": known.manifest["environment"]["id"],
        "verified": true, "trusted_as": "Test",
    });
    assert_eq!(record["signature"], signature);
    // Someone else, and someone else under the same ID.
    user.post_package(&Forge::of(package).build()).await.problem(422, "package_untrusted");
    let mut impostor = Forge::of(package);
    impostor.manifest["environment"]["id"] = known.manifest["environment"]["id"].clone();
    user.post_package(&impostor.build()).await.problem(422, "package_untrusted");
    // A key that somebody named counts more than one that an import brought.
    trust(&user, "New", &impostor.manifest["environment"]["public_key"]).await;
    assert_eq!(user.import(&impostor.build(), json!({})).await["status"], "succeeded");
    let pins = user.get("/api/v1/pinned-sources").await.is(200)["items"].clone();
    assert_eq!(pins[0]["public_key"], impostor.manifest["environment"]["public_key"]);
    // A wrong signature is no better for a trusted key.
    let mut wrong = Forge::of(package);
    wrong.manifest["environment"] = known.manifest["environment"].clone();
    user.post_package(&wrong.build()).await.problem(422, "package_tampered");
    production.end().await;
}

#[tokio::test]
async fn a_record_says_whether_anyone_vouches_for_the_signer() {
    let production = Environment::start("production").await;
    let user = production.admin();
    let forge = Forge::of(&honest().await.package);
    let record = user.import(&forge.build(), json!({})).await;
    assert_eq!((&record["signature"]["verified"], &record["signature"]["trusted_as"]), (&json!(false), &Value::Null));
    assert_eq!(record["signature"]["key_id"], forge.manifest["environment"]["id"]);
    let exported = user.post("/api/v1/exports", json!({"name": "x", "selection": {"all": true}})).await.is(202);
    let exported = user.ended(exported["id"].as_str().unwrap()).await;
    assert_eq!(exported["signature"], Value::Null);
    production.end().await;
}

#[tokio::test]
async fn an_environment_takes_its_own_packages_without_a_word() {
    let production = Environment::configured("production", STRICT).await;
    let user = production.admin();
    user.resource("own", "card", "Own", "/", json!({})).await;
    let record = user.import(&user.export_all().await, json!({})).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!((&record["signature"]["verified"], &record["signature"]["trusted_as"]), (&json!(true), &Value::Null));
    production.end().await;
}

#[tokio::test]
async fn what_waits_is_not_imported_once_its_source_is_removed() {
    let production = Environment::configured("production", STRICT).await;
    let user = production.admin();
    let forge = Forge::of(&honest().await.package);
    let key = forge.manifest["environment"]["public_key"].clone();
    let source = trust(&user, "Test", &key).await;
    let record = user.upload(&forge.build()).await;
    assert_eq!(record["status"], "awaiting_confirmation", "{record}");
    let id = record["id"].as_str().unwrap();
    distrust(&user, &source).await;
    user.post(&format!("/api/v1/imports/{id}/execute"), json!({})).await.problem(422, "package_untrusted");
    assert_eq!(user.get(&format!("/api/v1/records/{id}")).await.is(200)["status"], "awaiting_confirmation");
    // Trusted again, it goes on.
    let source = trust(&user, "Again", &key).await;
    assert_eq!(user.execute(id).await["status"], "succeeded");

    // Parsed again without its source: refused, until it is trusted again.
    let record = user.upload(&forge.build()).await;
    let id = record["id"].as_str().unwrap();
    user.post(&format!("/api/v1/records/{id}/cancel"), json!({})).await.is(200);
    distrust(&user, &source).await;
    user.send(user.request(reqwest::Method::POST, &format!("/api/v1/records/{id}/retry"))).await.is(202);
    let record = user.ended(id).await;
    assert_eq!((&record["status"], &record["error"]["code"]), (&json!("failed"), &json!("package_untrusted")));
    let again = user.send(user.request(reqwest::Method::POST, &format!("/api/v1/records/{id}/retry"))).await;
    again.is(202);
    assert_eq!(user.ended(id).await["error"]["code"], "package_untrusted");
    assert!(verdict(&user, &forge.build()).await.starts_with("package_untrusted"));
    production.end().await;
}
