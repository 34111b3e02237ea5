//! Nobody gets, gives or takes away what goes beyond his own rights.

use serde_json::json;

use crate::grants::{grant, id_of};
use crate::support::Environment;

#[tokio::test]
async fn reading_a_resource_is_not_reading_its_secrets() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    admin.resource("a", "data_account", "A", "/Open", json!({"password": "secret"})).await;
    let target = admin.target("there", "http://localhost:1", "t").await;
    let export = json!({"name": "x", "resource_ids": ["a"], "passphrase": "a phrase that nobody guesses 47"});
    let migrate = json!({"target_id": target, "resource_ids": ["a"], "carry_secrets": true});
    let developer = test.new_user("default", "developer").await;
    grant(&admin, &developer, "/Open", "read").await;
    for (path, body) in [("exports", &export), ("migrations", &migrate)] {
        let problem = developer.post(&format!("/api/v1/{path}"), body.clone()).await.problem(403, "forbidden");
        assert!(problem["detail"].as_str().unwrap().contains("secret.carry"), "{problem}");
    }
    let operator = test.new_user("default", "operator").await;
    let record = operator.post("/api/v1/exports", export).await.is(202);
    assert_eq!(operator.ended(record["id"].as_str().unwrap()).await["status"], "succeeded");
    test.end().await;
}

#[tokio::test]
async fn naming_an_attachment_does_not_open_it() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    admin.attachment("/hidden.png", b"hidden").await.is(201);
    admin.resource("theirs", "card", "Theirs", "/Theirs", json!({"images": ["/hidden.png"]})).await;
    let user = test.new_user("default", "developer").await;
    let card = json!({"type": "card", "name": "n", "directory": "/", "definition": {"images": ["/hidden.png"]}});
    user.put("/api/v1/resources/mine", card.clone()).await.problem(422, "resource_invalid");
    user.get("/api/v1/attachments/hidden.png").await.problem(404, "not_found");
    // His own upload, one that nobody has, and one that he may read.
    user.attachment("/own.png", b"own").await.is(201);
    user.resource("own", "card", "Own", "/", json!({"images": ["/own.png", "/none.png"]})).await;
    grant(&admin, &user, "/Theirs", "read").await;
    user.put("/api/v1/resources/mine", card).await.is(201);
    test.end().await;
}

#[tokio::test]
async fn nobody_takes_away_what_goes_beyond_his_rights() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let role = json!({"name": "people", "permissions": ["domain.manage", "resource.read"]});
    admin.post("/api/v1/roles", role).await.is(201);
    admin.post("/api/v1/roles", json!({"name": "packers", "permissions": ["migration.export"]})).await.is(201);
    let manager = test.new_user("default", "people").await;
    let (operator, viewer) = (test.new_user("default", "operator").await, test.new_user("default", "viewer").await);
    for (user, status) in [(&operator, 403), (&viewer, 204)] {
        let address = format!("/api/v1/users/{}", id_of(user).await);
        let token = admin.get(&format!("{address}/tokens")).await.is(200)["items"][0]["id"].clone();
        manager.delete(&format!("{address}/tokens/{}", token.as_str().unwrap())).await.is(status);
        manager.delete(&address).await.is(status);
    }
    manager.delete("/api/v1/roles/packers").await.problem(403, "forbidden");
    let body = json!({"user_id": id_of(&operator).await, "directory": "/", "access": "write"});
    manager.post("/api/v1/grants", body).await.problem(403, "forbidden");
    // Who approves is said by who manages the domain, but not of himself.
    admin.post("/api/v1/roles", json!({"name": "approver", "permissions": ["migration.approve"]})).await.is(201);
    admin.post("/api/v1/users", json!({"username": "a", "role": "approver"})).await.is(201);
    let other = test.new_user("default", "admin").await;
    let approver = json!({"role": "approver"});
    other.patch(&format!("/api/v1/users/{}", id_of(&other).await), approver).await.problem(403, "forbidden");
    test.end().await;
}

#[tokio::test]
async fn a_token_makes_none_that_lasts_longer() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let tokens = format!("/api/v1/users/{}/tokens", id_of(&admin).await);
    let (soon, late) = ("2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z");
    let short = admin.post(&tokens, json!({"name": "short", "expires_at": soon})).await.is(201);
    let short = test.user(short["token"].as_str().unwrap());
    short.post(&tokens, json!({"name": "late", "expires_at": late})).await.problem(403, "forbidden");
    assert_eq!(short.post(&tokens, json!({"name": "same"})).await.is(201)["expires_at"], soon);
    assert!(admin.post(&tokens, json!({"name": "for ever"})).await.is(201)["expires_at"].is_null());
    test.end().await;
}

#[tokio::test]
async fn a_new_user_inherits_nothing_from_an_old_name() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let user = test.new_user("default", "developer").await;
    let name = user.get("/api/v1/session").await.is(200)["username"].clone();
    let new = json!({"username": name, "role": "viewer"});
    user.resource("left", "card", "Left", "/", json!({})).await;
    admin.delete(&format!("/api/v1/users/{}", id_of(&user).await)).await.is(204);
    admin.post("/api/v1/users", new.clone()).await.problem(409, "conflict");
    admin.delete("/api/v1/resources/left").await.is(204);
    admin.post("/api/v1/users", new).await.is(201);
    test.end().await;
}

#[tokio::test]
async fn a_circle_names_only_what_one_may_read() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let task = |id: &str| json!({"nodes": [{"id": 1, "type": "subprocess", "task_id": id}]});
    admin.resource("hidden", "offline_dev_task", "Hidden", "/Hidden", task("mine")).await;
    let user = test.new_user("default", "developer").await;
    let body = json!({"type": "offline_dev_task", "name": "Mine", "directory": "/", "definition": task("hidden")});
    let problem = user.put("/api/v1/resources/mine", body).await.problem(422, "subprocess_cycle");
    assert!(!problem.to_string().contains("hidden"), "{problem}");
    test.end().await;
}
