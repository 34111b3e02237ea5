//! Servers that are told to end while requests are under way.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::ADMIN;
use crate::support::gate::Gate;
use crate::support::process::Process;

/// What is left of the seconds that a server gives to those who work.
const SOON: Duration = Duration::from_secs(12);

/// Sends some bytes, and leaves it at that.
async fn begun(process: &Process, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(process.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// What the server says until it ends the connection, and how.
async fn last_words(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn half(request: &str, media: &str) -> String {
    format!(
        "{request} HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {ADMIN}\r\ncontent-type: {media}\r\n\
         content-length: 1000\r\n\r\n{{\"name\":"
    )
}

#[tokio::test]
async fn half_a_request_does_not_hold_a_server_up_and_a_whole_one_is_done() {
    let mut process = Process::start("test").await;
    let user = process.admin();
    let mut gate = Gate::shut(&process.database, "resources").await;
    let written = tokio::spawn(async move {
        let body = json!({"type": "card", "name": "Card", "directory": "/", "definition": {}});
        user.put("/api/v1/resources/c", body).await
    });
    gate.reached().await;
    let mut halves = Vec::new();
    for (request, media) in [
        ("POST /api/v1/domains", "application/json"),
        ("POST /api/v1/imports", "application/zip"),
        ("POST /api/v1/resources/batch", "application/x-ndjson"),
        ("PUT /api/v1/attachments/a.png", "image/png"),
    ] {
        halves.push((request, begun(&process, &half(request, media)).await));
    }
    let unheard = begun(&process, "GET /api/v1/records HTTP/1.1\r\nhost: he").await;
    process.ask_to_end();
    let began = Instant::now();
    for (request, stream) in halves {
        let answer = last_words(stream).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after"), "{request}: {answer}");
    }
    assert_eq!(last_words(unheard).await, "");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // Only now is the one that works let go on.
    gate.open().await;
    written.await.unwrap().is(201);
    assert!(process.ended().await.success(), "{}", process.log_text());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    process.restart().await;
    assert_eq!(process.admin().get("/api/v1/resources/c").await.is(200)["name"], "Card");
    process.end().await;
}

#[tokio::test]
async fn a_request_that_arrives_in_time_is_done_though_the_server_stops() {
    let mut process = Process::start("test").await;
    let body = json!({"name": "late"}).to_string();
    let (first, rest) = body.split_at(5);
    let head = half("POST /api/v1/domains", "application/json").replace("1000", &body.len().to_string());
    let head = head.split_once("\r\n\r\n").unwrap().0;
    let mut stream = begun(&process, &format!("{head}\r\n\r\n{first}")).await;
    process.ask_to_end();
    let user = process.admin();
    // It takes no new connections any more.
    while user.request(reqwest::Method::GET, "/healthz").send().await.is_ok() {}
    stream.write_all(rest.as_bytes()).await.unwrap();
    let answer = last_words(stream).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(process.ended().await.success(), "{}", process.log_text());
    process.end().await;
}
