//! Requests that arrive twice: with an `Idempotency-Key` the second one is answered like the first.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::invariants::editions;
use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Answer, Environment, User, package};

fn keyed(user: &User, path: &str, body: &Value, key: &str) -> RequestBuilder {
    user.request(Method::POST, path).header("idempotency-key", key).json(body)
}

async fn post(user: &User, path: &str, body: &Value, key: &str) -> Answer {
    user.send(keyed(user, path, body, key)).await
}

/// How many there are in a list.
async fn count(user: &User, path: &str) -> usize {
    user.get(path).await.is(200)["items"].as_array().unwrap().len()
}

/// What each POST makes: its path, two bodies, the list that shows what was made.
fn makers(target: &str) -> Vec<(&'static str, Value, Value, &'static str)> {
    let migration = |name: &str| json!({"target_id": target, "name": name, "resource_ids": ["c"]});
    let target = |name: &str| json!({"name": name, "url": "http://127.0.0.1:9", "token": "t"});
    let user = |name: &str| json!({"username": name, "password": "long enough to keep", "role": "viewer"});
    let export = |name: &str| json!({"name": name, "resource_ids": ["c"]});
    vec![
        ("/api/v1/exports", export("one"), export("two"), "/api/v1/records?kind=export"),
        ("/api/v1/migrations", migration("one"), migration("two"), "/api/v1/records?kind=online"),
        ("/api/v1/targets", target("one"), target("two"), "/api/v1/targets"),
        ("/api/v1/users", user("one"), user("two"), "/api/v1/users"),
        ("/api/v1/domains", json!({"name": "one"}), json!({"name": "two"}), "/api/v1/domains"),
    ]
}

/// An environment with a resource, and a target of its own that leads to it again.
async fn environment() -> (Environment, String) {
    let environment = Environment::start("test").await;
    let user = environment.admin();
    user.resource("c", "card", "Card", "/", json!({})).await;
    let target = user.target("self", &user.base, &user.token).await;
    (environment, target)
}

/// Waits for all records, so that no job is left over.
async fn all_ended(user: &User) {
    for kind in ["export", "online", "import"] {
        let records = user.get(&format!("/api/v1/records?kind={kind}")).await.is(200);
        for record in records["items"].as_array().unwrap() {
            let id = record["id"].as_str().unwrap();
            user.wait(id, |status| !matches!(status, "queued" | "running")).await;
        }
    }
}

#[tokio::test]
async fn the_same_request_again_makes_nothing_and_has_the_same_answer() {
    let (environment, target) = environment().await;
    let user = environment.admin();
    for (path, body, other, list) in makers(&target) {
        let before = count(&user, list).await;
        let first = post(&user, path, &body, "key").await;
        assert!(first.status.is_success(), "{path}: {}", first.text());
        let again = post(&user, path, &body, "key").await;
        assert_eq!(again.status, first.status, "{path}: {}", again.text());
        assert_eq!(again.headers.get("location"), first.headers.get("location"), "{path}");
        let (first, again) = (first.json(), again.json());
        let fixed = |answer: &Value| (answer["id"].clone(), answer["created_at"].clone(), answer["name"].clone());
        assert_eq!(fixed(&again), fixed(&first), "{path}");
        assert_eq!(count(&user, list).await, before + 1, "{path}");

        post(&user, path, &other, "key").await.problem(422, "idempotency_key_reused");
        assert_eq!(count(&user, list).await, before + 1, "{path}");
        let second = post(&user, path, &other, "another key").await;
        assert!(second.status.is_success(), "{path}: {}", second.text());
        assert_eq!(count(&user, list).await, before + 2, "{path}");
    }
    all_ended(&user).await;
    environment.end().await;
}

#[tokio::test]
async fn the_same_request_many_times_at_once_makes_one() {
    let (environment, target) = environment().await;
    let user = environment.admin();
    for (path, body, _, list) in makers(&target) {
        let before = count(&user, list).await;
        let sent = (0..6).map(|_| post(&user, path, &body, "at once"));
        let mut answers = futures_util::future::join_all(sent).await;
        // One that came while the first was still worked on may be told to come again.
        answers.retain(|answer| answer.status != 409);
        answers.push(post(&user, path, &body, "at once").await);
        assert!(answers.len() > 1, "{path}: nobody had an answer");
        let first = answers[0].json();
        for answer in &answers {
            assert!(answer.status.is_success(), "{path}: {}", answer.text());
            assert_eq!(answer.json()["id"], first["id"], "{path}");
            assert_eq!(answer.json()["created_at"], first["created_at"], "{path}");
        }
        assert_eq!(count(&user, list).await, before + 1, "{path}");
    }
    all_ended(&user).await;
    environment.end().await;
}

#[tokio::test]
async fn a_key_belongs_to_its_user_and_a_refused_request_does_not_take_it() {
    let (environment, _) = environment().await;
    let user = environment.admin();
    let other = environment.new_user("default", "admin").await;
    let body = json!({"name": "mine", "resource_ids": ["c"]});
    let mine = post(&user, "/api/v1/exports", &body, "shared").await.is(202);
    let theirs = post(&other, "/api/v1/exports", &body, "shared").await.is(202);
    assert_ne!(mine["id"], theirs["id"]);
    assert_eq!(theirs["requested_by"].as_str().unwrap().split('-').next(), Some("admin"));

    let wrong = json!({"name": "w", "resource_ids": ["nowhere"]});
    post(&user, "/api/v1/exports", &wrong, "corrected").await.problem(422, "invalid_field");
    user.resource("nowhere", "card", "Now it is there", "/", json!({})).await;
    let record = post(&user, "/api/v1/exports", &wrong, "corrected").await.is(202);
    assert_eq!(user.ended(record["id"].as_str().unwrap()).await["status"], "succeeded");
    for key in [String::new(), "k".repeat(256)] {
        let answer = post(&user, "/api/v1/exports", &body, &key).await;
        answer.problem(422, "invalid_field");
    }
    all_ended(&user).await;
    environment.end().await;
}

async fn import(user: &User, package: &[u8], key: &str) -> Answer {
    let request = user.request(Method::POST, "/api/v1/imports").header("content-type", "application/zip");
    user.send(request.header("idempotency-key", key).body(package.to_vec())).await
}

#[tokio::test]
async fn a_package_that_arrives_twice_is_one_import() {
    let environment = Environment::start("production").await;
    let user = environment.admin();
    let package = &package::honest().await.package;
    let first = import(&user, package, "in turn").await.is(202);
    let again = import(&user, package, "in turn").await.is(202);
    assert_eq!(again["id"], first["id"]);
    import(&user, &editions().await.packages[0], "in turn").await.problem(422, "idempotency_key_reused");

    let sent = (0..6).map(|_| import(&user, package, "at once"));
    let mut answers = futures_util::future::join_all(sent).await;
    answers.retain(|answer| answer.status != 409);
    answers.push(import(&user, package, "at once").await);
    let ids: Vec<Value> = answers.iter().map(|answer| answer.is(202)["id"].clone()).collect();
    assert!(ids.len() > 1 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(count(&user, "/api/v1/records?kind=import").await, 2);
    all_ended(&user).await;
    environment.end().await;
}

#[tokio::test]
async fn a_lost_answer_is_given_again_also_after_a_kill() {
    let mut target = Process::start("production").await;
    let proxy = Proxy::before(target.address()).await;
    let direct = target.admin();
    let through = User { base: proxy.url(), ..direct.clone() };
    let package = &package::honest().await.package;
    direct.resource("c", "card", "Card", "/", json!({})).await;
    let body = json!({"name": "lost", "resource_ids": ["c"]});
    proxy.once(Fault::LoseAnswer("POST /api/v1/exports"));
    keyed(&through, "/api/v1/exports", &body, "export").send().await.unwrap_err();
    proxy.once(Fault::LoseAnswer("POST /api/v1/imports"));
    let request = through.request(Method::POST, "/api/v1/imports").header("content-type", "application/zip");
    request.header("idempotency-key", "import").body(package.clone()).send().await.unwrap_err();
    assert_eq!(proxy.done(), 2);
    target.kill();
    target.restart().await;
    let direct = target.admin();
    let exported = post(&direct, "/api/v1/exports", &body, "export").await.is(202);
    let imported = import(&direct, package, "import").await.is(202);
    for (kind, id) in [("export", &exported["id"]), ("import", &imported["id"])] {
        let records = direct.get(&format!("/api/v1/records?kind={kind}")).await.is(200);
        assert_eq!(records["items"].as_array().unwrap().len(), 1, "{kind}");
        assert_eq!(records["items"][0]["id"], *id, "{kind}");
    }
    assert_eq!(direct.ended(exported["id"].as_str().unwrap()).await["status"], "succeeded");
    let id = imported["id"].as_str().unwrap();
    direct.wait(id, |status| status == "awaiting_confirmation").await;
    assert_eq!(direct.execute(id).await["status"], "succeeded");
    target.end().await;
}
