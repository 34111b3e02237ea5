//! The answer to each commit is lost, one at a time: what was done is looked up, never guessed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::audit::audited;
use crate::support::commits::Commits;
use crate::support::{ADMIN, Answer, Environment, User};

const PATH: &str = "/img/logo.png";

/// Sends a request until it is answered; the same key does it once.
async fn patiently(user: &User, method: Method, path: &str, key: &str, body: &[u8], kind: &str) -> Answer {
    loop {
        let request = user.request(method.clone(), path).header("idempotency-key", key);
        let request = request.header("content-type", kind).header("tus-resumable", "1.0.0").body(body.to_vec());
        let answer = user.send(request).await;
        if answer.status != 503 {
            return answer;
        }
    }
}

async fn post(user: &User, path: &str, key: &str, body: Value) -> Answer {
    patiently(user, Method::POST, path, key, body.to_string().as_bytes(), "application/json").await
}

/// Does something again and again, each time with the answer to another commit lost, until it needs no more commits.
async fn each_commit(commits: &Commits, round: impl AsyncFn(i64)) {
    for nth in 1.. {
        round(nth).await;
        if !commits.lost() {
            assert!(nth > 1, "it lost nothing");
            break;
        }
    }
    commits.lose(0);
}

async fn behind(name: &str) -> (Environment, Commits) {
    Environment::behind_commits(name, "jobs.lease_seconds = 2\n").await
}

/// Another catalogue at each call: a card and a picture.
async fn edit(user: &User, edition: i64) {
    user.attachment(PATH, format!("picture {edition}").as_bytes()).await;
    let definition = json!({"images": [PATH], "edition": edition});
    user.resource("c1", "card", "Card", "/", definition).await;
}

async fn assert_holds(user: &User, edition: i64) {
    assert_eq!(user.get("/api/v1/resources/c1").await.is(200)["definition"]["edition"], edition);
    assert_eq!(user.get(&format!("/api/v1/attachments{PATH}")).await.text(), format!("picture {edition}"));
}

#[tokio::test]
async fn an_export_loses_nothing_with_the_answer_to_a_commit() {
    let (environment, commits) = behind("test").await;
    let user = environment.admin();
    edit(&user, 1).await;
    each_commit(&commits, async |nth| {
        commits.lose(nth);
        let body = json!({"name": "package", "selection": {"all": true}});
        let record = post(&user, "/api/v1/exports", &format!("export {nth}"), body).await.is(202);
        let id = record["id"].as_str().unwrap();
        let ended = user.ended(id).await;
        assert_eq!(ended["status"], "succeeded", "{nth}: {ended}");
        let package = user.get(&format!("/api/v1/exports/{id}/package")).await;
        assert_eq!(package.bytes.len() as u64, ended["package"]["size"].as_u64().unwrap(), "{nth}");
    })
    .await;
    environment.end().await;
}

#[tokio::test]
async fn an_import_and_its_upload_lose_nothing_with_the_answer_to_a_commit() {
    let source = Environment::start("test").await;
    let (target, commits) = behind("production").await;
    let (from, to) = (source.admin(), target.admin());
    each_commit(&commits, async |nth| {
        edit(&from, nth).await;
        let package = from.export_all().await;
        commits.lose(nth);
        let body = json!({"upload_id": uploaded(&to, &package, &format!("u {nth}")).await});
        let record = post(&to, "/api/v1/imports", &format!("import {nth}"), body).await.is(202);
        execute(&to, &record, nth).await;
        assert_holds(&to, nth).await;
        let records = to.get("/api/v1/records?kind=import&limit=500").await.is(200);
        assert_eq!(records["items"].as_array().unwrap().len() as i64, nth, "one import for each upload");
    })
    .await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn an_import_in_one_request_loses_nothing_with_the_answer_to_a_commit() {
    let source = Environment::start("test").await;
    let (target, commits) = behind("production").await;
    let (from, to) = (source.admin(), target.admin());
    each_commit(&commits, async |nth| {
        edit(&from, nth).await;
        let package = from.export_all().await;
        commits.lose(nth);
        let key = format!("import {nth}");
        let answer = patiently(&to, Method::POST, "/api/v1/imports", &key, &package, "application/zip").await;
        execute(&to, &answer.is(202), nth).await;
        assert_holds(&to, nth).await;
    })
    .await;
    source.end().await;
    target.end().await;
}

/// Uploads a package; returns the upload's ID.
async fn uploaded(user: &User, package: &[u8], key: &str) -> String {
    let upload = loop {
        let request = user.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
        let request = request.header("upload-length", package.len()).header("idempotency-key", key);
        let answer = user.send(request).await;
        if answer.status != 503 {
            assert_eq!(answer.status, 201, "{key}: {}", answer.text());
            break answer.headers["location"].to_str().unwrap().to_owned();
        }
    };
    while offset(user, &upload).await < package.len() {
        let at = offset(user, &upload).await;
        let request = user.request(Method::PATCH, &upload).header("tus-resumable", "1.0.0");
        let request = request.header("content-type", "application/offset+octet-stream").header("upload-offset", at);
        let answer = user.send(request.body(package[at..].to_vec())).await;
        assert!(matches!(answer.status.as_u16(), 204 | 503), "{key}: {}", answer.text());
    }
    upload.rsplit('/').next().unwrap().to_owned()
}

async fn offset(user: &User, upload: &str) -> usize {
    loop {
        let answer = user.send(user.request(Method::HEAD, upload).header("tus-resumable", "1.0.0")).await;
        if answer.status != 503 {
            return answer.headers["upload-offset"].to_str().unwrap().parse().unwrap();
        }
    }
}

async fn execute(user: &User, record: &Value, nth: i64) {
    let id = record["id"].as_str().unwrap();
    let parsed = user.wait(id, |status| !matches!(status, "queued" | "running")).await;
    assert_eq!(parsed["status"], "awaiting_confirmation", "{nth}: {parsed}");
    let path = format!("/api/v1/imports/{id}/execute");
    let answer = post(user, &path, &format!("execute {nth}"), json!({})).await;
    assert!(matches!(answer.status.as_u16(), 202 | 409), "{nth}: {}", answer.text());
    let ended = user.ended(id).await;
    assert_eq!(ended["status"], "succeeded", "{nth}: {ended}");
}

/// Which side of a migration loses answers.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

async fn migrations(side: Side) {
    let ((source, there), (target, here)) = (behind("test").await, behind("production").await);
    let commits = match side {
        Side::Source => &there,
        Side::Target => &here,
    };
    let (from, to) = (source.admin(), target.admin());
    let target_id = from.target("production", &target.server.url(), ADMIN).await;
    each_commit(commits, async |nth| {
        edit(&from, nth).await;
        commits.lose(nth);
        let body = json!({"target_id": target_id, "selection": {"all": true}});
        let record = post(&from, "/api/v1/migrations", &format!("migration {nth}"), body).await.is(202);
        let ended = from.ended(record["id"].as_str().unwrap()).await;
        assert_eq!(ended["status"], "succeeded", "{nth}: {ended}");
        assert_holds(&to, nth).await;
        let records = to.get("/api/v1/records?kind=import&limit=500").await.is(200);
        assert_eq!(records["items"].as_array().unwrap().len() as i64, nth, "one import for each migration");
    })
    .await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_migration_loses_nothing_with_the_answer_to_a_commit_at_its_source() {
    migrations(Side::Source).await;
}

#[tokio::test]
async fn a_migration_loses_nothing_with_the_answer_to_a_commit_at_its_target() {
    migrations(Side::Target).await;
}

#[tokio::test]
async fn an_attachment_loses_nothing_with_the_answer_to_a_commit() {
    let (environment, commits) = behind("test").await;
    let user = environment.admin();
    edit(&user, 0).await;
    let path = format!("/api/v1/attachments{PATH}");
    each_commit(&commits, async |nth| {
        let before = user.get("/api/v1/resources/c1").await.is(200);
        commits.lose(nth);
        let bytes = format!("picture {nth}");
        let answer = patiently(&user, Method::PUT, &path, "none", bytes.as_bytes(), "image/png").await;
        answer.is(200);
        let after = user.get("/api/v1/resources/c1").await.is(200);
        assert_ne!(after["content_hash"], before["content_hash"], "{nth}");
        assert_eq!(user.get(&path).await.text(), bytes, "{nth}");
        // The same again changes nothing.
        patiently(&user, Method::PUT, &path, "none", bytes.as_bytes(), "image/png").await.is(200);
        assert_eq!(user.get("/api/v1/resources/c1").await.is(200), after, "{nth}");
    })
    .await;
    environment.end().await;
}

#[tokio::test]
async fn another_package_of_an_import_loses_nothing_with_the_answer_to_a_commit() {
    let source = Environment::start("test").await;
    let (target, commits) = behind("production").await;
    let (from, to) = (source.admin(), target.admin());
    each_commit(&commits, async |nth| {
        edit(&from, nth).await;
        let package = from.export_all().await;
        let record = to.upload(&package).await;
        let path = format!("/api/v1/imports/{}/package", record["id"].as_str().unwrap());
        let body = json!({"upload_id": uploaded(&to, &package, &format!("u {nth}")).await}).to_string();
        commits.lose(nth);
        let answer = patiently(&to, Method::PUT, &path, "none", body.as_bytes(), "application/json").await;
        assert_eq!(answer.is(202)["id"], record["id"], "{nth}");
        execute(&to, &record, nth).await;
        assert_holds(&to, nth).await;
        // Not one package more than there are records of it.
        let packages = std::fs::read_dir(target.files.path().join("store/packages")).unwrap().count();
        assert_eq!(packages as i64, nth, "packages are left over");
    })
    .await;
    source.end().await;
    target.end().await;
}

async fn act(user: &User, id: &str, action: &str, nth: i64) -> Answer {
    post(user, &format!("/api/v1/records/{id}/{action}"), &format!("{action} {nth}"), json!({})).await
}

#[tokio::test]
async fn a_cancel_and_a_retry_lose_nothing_with_the_answer_to_a_commit() {
    let source = Environment::start("test").await;
    let (target, commits) = behind("production").await;
    let (from, to) = (source.admin(), target.admin());
    each_commit(&commits, async |nth| {
        edit(&from, nth).await;
        let record = to.upload(&from.export_all().await).await;
        let id = record["id"].as_str().unwrap();
        commits.lose(nth);
        assert_eq!(act(&to, id, "cancel", nth).await.is(200)["status"], "cancelled", "{nth}");
        act(&to, id, "retry", nth).await.is(202);
        execute(&to, &record, nth).await;
        assert_holds(&to, nth).await;
        audited(&mut target.sql().await, &to.get(&format!("/api/v1/records/{id}")).await.is(200)).await;
    })
    .await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_confirmation_loses_nothing_with_the_answer_to_a_commit() {
    let ((source, commits), target) = (behind("test").await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    let there = from.target("production", &target.server.url(), ADMIN).await;
    each_commit(&commits, async |nth| {
        edit(&from, nth).await;
        let body = json!({"target_id": there, "selection": {"all": true}, "confirm": true});
        let record = from.post("/api/v1/migrations", body).await.is(202);
        let id = record["id"].as_str().unwrap();
        let shown = from.wait(id, |status| !matches!(status, "queued" | "running")).await;
        assert_eq!(shown["status"], "awaiting_confirmation", "{nth}: {shown}");
        commits.lose(nth);
        let body = json!({"plan_digest": shown["plan_digest"]});
        post(&from, &format!("/api/v1/migrations/{id}/confirm"), &format!("confirm {nth}"), body).await.is(202);
        let ended = from.ended(id).await;
        assert_eq!(ended["status"], "succeeded", "{nth}: {ended}");
        assert_holds(&to, nth).await;
        let records = to.get("/api/v1/records?kind=import&limit=500").await.is(200);
        assert_eq!(records["items"].as_array().unwrap().len() as i64, nth, "one import for each migration");
    })
    .await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_cancelled_migration_is_cancelled_at_its_target_whatever_answer_to_a_commit_is_lost() {
    let ((source, commits), target) = (behind("test").await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    let there = from.target("production", &target.server.url(), ADMIN).await;
    each_commit(&commits, async |nth| {
        edit(&from, nth).await;
        let body = json!({"target_id": there, "selection": {"all": true}, "confirm": true});
        let record = from.post("/api/v1/migrations", body).await.is(202);
        let id = record["id"].as_str().unwrap();
        let shown = from.wait(id, |status| !matches!(status, "queued" | "running")).await;
        commits.lose(nth);
        assert_eq!(act(&from, id, "cancel", nth).await.is(200)["status"], "cancelled", "{nth}");
        let remote = to.ended(shown["remote_record_id"].as_str().unwrap()).await;
        assert_eq!(remote["status"], "cancelled", "{nth}: {remote}");
    })
    .await;
    source.end().await;
    target.end().await;
}
