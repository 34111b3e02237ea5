//! Targets that are no Ferry, or answer as one should not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::online::{begin, new_target};
use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::strange::{Manner, Strange};
use crate::support::{Environment, User};

const JSON: &str = "content-type: application/json\r\n";

async fn source(more: &str) -> Process {
    let source = Process::configured("test", more).await;
    source.admin().resource("c", "card", "Card", "/", json!({})).await;
    source
}

/// A migration to it fails with a code, and its check says the same.
async fn fails(user: &User, url: &str, code: &str) -> Value {
    let target = new_target(user, url, "token").await;
    let checked = user.post(&format!("/api/v1/targets/{target}/check"), json!({})).await.is(200);
    assert_eq!(checked["reachable"], false, "{checked}");
    let record = user.ended(&begin(user, &target).await).await;
    for error in [&checked["error"], &record["error"]] {
        assert_eq!(error["code"], code, "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty() && !error["hint"].as_str().unwrap().is_empty());
        assert!(!error.to_string().contains("<html") && !error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(record["status"], "failed", "{record}");
    record
}

#[tokio::test]
async fn answers_that_are_not_ferrys_are_refused_with_a_clear_code() {
    let source = source("jobs.target_deadline_seconds = 2").await;
    let user = source.admin();
    for (status, body, code) in [
        ("200 OK", "<html><body>secret welcome</body></html>", "target_refused"),
        ("202 Accepted", "{\"id\": \"secret", "target_refused"),
        ("200 OK", "", "target_refused"),
        ("200 OK", "null", "target_refused"),
        ("500 Internal Server Error", "<html>secret</html>", "target_refused"),
        ("404 Not Found", "<html>secret</html>", "target_refused"),
        ("401 Unauthorized", "secret", "target_unauthorized"),
        ("503 Service Unavailable", "<html>secret</html>", "target_unreachable"),
    ] {
        fails(&user, &Strange::saying(status, JSON, body).await.url(), code).await;
    }
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    fails(&user, &Strange::saying("200 OK", JSON, &deep).await.url(), "target_refused").await;
    // Neither HTTP nor the whole of an answer: it may be there the next time, until the deadline.
    for text in ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"id\":"] {
        let strange = Strange::server(Manner::Says(text.to_owned())).await;
        fails(&user, &strange.url(), "target_unreachable").await;
    }
    source.end().await;
}

#[tokio::test]
async fn an_answer_without_end_is_given_up_and_takes_no_memory() {
    let source = source("").await;
    let before = source.peak_memory();
    let line = "x".repeat(1024 * 1024);
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"id\": \"x\r\n".to_owned();
    let endless = Strange::server(Manner::NeverEnds(head, chunk)).await;
    fails(&source.admin(), &endless.url(), "target_refused").await;
    let asked = endless.asked();
    assert!(asked <= 4, "an answer without end was asked for {asked} times");
    let more = source.peak_memory() - before;
    assert!(more < 256 * 1024, "{more} KiB more");
    source.end().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let source = source("").await;
    let user = source.admin();
    let other = Strange::saying("200 OK", JSON, "{}").await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: {}/api/v1/environment\r\n", other.url());
        let record = fails(&user, &Strange::saying(status, &location, "").await.url(), "target_refused").await;
        assert!(!record["error"].to_string().contains(&other.address.port().to_string()));
    }
    assert_eq!(other.asked(), 0);
    source.end().await;
}

#[tokio::test]
async fn a_busy_target_is_tried_again_and_not_before_it_said() {
    let source = source("").await;
    let target = Environment::start("production").await;
    let proxy = Proxy::before(target.server.address).await;
    let user = source.admin();
    let target_id = new_target(&user, &proxy.url(), &target.admin().token).await;
    proxy.once(Fault::Answer(
        "",
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ));
    let began = Instant::now();
    let record = user.ended(&begin(&user, &target_id).await).await;
    assert_eq!((&record["status"], &record["counts"]["create"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert!(began.elapsed() >= Duration::from_secs(2), "it did not wait as long as it was told to");
    for answer in [
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        proxy.once(Fault::Answer("", answer));
    }
    let record = user.ended(&begin(&user, &target_id).await).await;
    assert_eq!((&record["status"], &record["counts"]["unchanged"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert_eq!(proxy.done(), 5);
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_silent_target_keeps_nobody_else_from_migrating() {
    let source = source("jobs.concurrency = 1\njobs.target_deadline_seconds = 2").await;
    let target = Environment::start("production").await;
    let user = source.admin();
    let silent = Strange::server(Manner::Silent).await;
    let first = begin(&user, &new_target(&user, &silent.url(), "token").await).await;
    while silent.asked() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = Instant::now();
    let healthy = new_target(&user, &target.server.url(), &target.admin().token).await;
    let record = user.ended(&begin(&user, &healthy).await).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
    let record = user.ended(&first).await;
    assert_eq!(
        (&record["status"], &record["error"]["code"]),
        (&json!("failed"), &json!("target_unreachable")),
        "{record}"
    );
    source.end().await;
    target.end().await;
}
