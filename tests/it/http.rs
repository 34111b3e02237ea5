//! What every connection and every body is held to, and what every answer says to browsers.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ADMIN, Environment, User};

const HASTY: &str = "server.head_seconds = 1\nserver.idle_seconds = 1";

/// Sends some bytes and reads until the server ends the connection, or has said a whole problem.
async fn raw(environment: &Environment, bytes: &str) -> String {
    let mut stream = TcpStream::connect(environment.server.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"}") {
        match tokio::time::timeout(Duration::from_secs(10), stream.read(&mut piece)).await.unwrap() {
            Ok(read) if read > 0 => answer.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(method: &Method, path: &str, media: &str, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {ADMIN}\r\ntus-resumable: 1.0.0\r\n\
         content-type: {media}\r\n{more}\r\n\r\n"
    )
}

#[tokio::test]
async fn no_route_takes_a_body_that_is_announced_as_too_large() {
    let test = Environment::start("test").await;
    let document: Value = serde_json::from_str(&ferry::api::document()).unwrap();
    let id = "00000000-0000-7000-8000-000000000000";
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            // The answer to HEAD has no body, so the end of it is not seen; an administrator does not approve.
            if method == Method::HEAD || operation["x-permission"] == "migration.approve" {
                continue;
            }
            let media = operation["requestBody"]["content"].as_object().and_then(|media| media.keys().next());
            let media = media.map_or("application/json", String::as_str);
            let address = path.replace("{id}", id).replace("{token_id}", id).replace("{path}", "a/b");
            let answer = raw(&test, &head(&method, &address, media, "content-length: 999999999999")).await;
            assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("too_large"), "{method} {path}: {answer}");
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
    test.end().await;
}

/// A body in pieces, of no announced length.
fn stream(head: &'static [u8], piece: Vec<u8>, count: usize) -> Body {
    let pieces = std::iter::once(head.to_vec()).chain(std::iter::repeat_n(piece, count));
    Body::wrap_stream(futures_util::stream::iter(pieces.map(Ok::<_, std::io::Error>)))
}

#[tokio::test]
async fn bodies_are_counted_as_they_come() {
    let limits = "limits.max_package_bytes = 300000\nlimits.max_attachment_bytes = 100000\n\
        limits.max_definition_bytes = 100000\nserver.idle_seconds = 5";
    let test = Environment::configured("test", limits).await;
    let user = test.admin();
    let form = "multipart/form-data; boundary=x";
    let field: &[u8] = b"--x\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\n";
    let head: &[u8] = b"{\"a\": \"";
    for (method, path, media, head) in [
        (Method::POST, "domains", "application/json", head),
        (Method::PUT, "resources/x", "application/json", head),
        (Method::POST, "imports", "application/zip", b"PK"),
        (Method::POST, "imports", "application/json", head),
        (Method::POST, "imports", form, field),
        (Method::POST, "imports", form, b"--x\r\ncontent-disposition: form-data; name=\"package\"\r\n\r\n"),
        (Method::POST, "resources/batch", "application/x-ndjson", b""),
        (Method::POST, "imports/lacking", "application/x-ndjson", b"{\"source_environment\": \"x\", \"types\": {}}\n"),
        (Method::PUT, "attachments/a.png", "image/png", b""),
    ] {
        for key in [None, Some(path)] {
            let mut request = user.request(method.clone(), &format!("/api/v1/{path}")).header("content-type", media);
            request = key.map_or(request.try_clone().unwrap(), |key| request.header("idempotency-key", key));
            let answer = user.send(request.body(stream(head, vec![b'\n'; 20_000], 25))).await;
            let told = format!("{method} {path} {media}: {}", answer.text());
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (413, &Value::from("too_large")), "{told}");
        }
    }
    assert_eq!(std::fs::read_dir(test.files.path().join("store/packages")).into_iter().flatten().count(), 0);
    test.end().await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let test = Environment::configured("test", HASTY).await;
    let user = test.admin();
    for (method, path, media) in [
        (Method::POST, "domains", "application/json"),
        (Method::POST, "imports", "application/zip"),
        (Method::POST, "imports", "multipart/form-data; boundary=x"),
        (Method::POST, "resources/batch", "application/x-ndjson"),
        (Method::PUT, "attachments/a.png", "image/png"),
    ] {
        let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>(b"{".to_vec())]);
        let body = Body::wrap_stream(pieces.chain(futures_util::stream::pending()));
        let request = user.request(method, &format!("/api/v1/{path}")).header("content-type", media).body(body);
        let began = Instant::now();
        user.send(request).await.problem(408, "request_timeout");
        assert!((1..8).contains(&began.elapsed().as_secs()), "{path}: {:?}", began.elapsed());
    }
    // One that comes slowly is taken.
    let slow = futures_util::stream::iter([b"{\"name\"", b": \"slow", b"ly\"}   "]).then(async |piece: &[u8; 7]| {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok::<_, std::io::Error>(piece.to_vec())
    });
    let request = user.request(Method::POST, "/api/v1/domains").header("content-type", "application/json");
    user.send(request.body(Body::wrap_stream(slow))).await.is(201);
    test.end().await;
}

#[tokio::test]
async fn a_strangers_body_has_to_be_there_within_a_time_however_steadily_it_comes() {
    let test = Environment::configured("test", "server.head_seconds = 1\nserver.idle_seconds = 20").await;
    let user = test.admin();
    let trickle = futures_util::stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Ok::<_, std::io::Error>(b" ".to_vec()), ()))
    });
    let ask = user.client.post(format!("{}/api/v1/session", user.base)).header("content-type", "application/json");
    let began = Instant::now();
    user.send(ask.body(Body::wrap_stream(trickle.take(100)))).await.problem(408, "request_timeout");
    assert!((1..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    test.end().await;
}

#[tokio::test]
async fn a_connection_without_a_whole_request_head_is_closed() {
    let test = Environment::configured("test", HASTY).await;
    for sent in ["", "G", "GET /healthz HTTP/1.1\r\nhost: here\r\nx-slow: ", "GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(test.server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let (began, mut all) = (Instant::now(), Vec::new());
        let (mut from, mut to) = stream.split();
        // A byte of a header now and then does not help.
        let trickle = async {
            while !sent.is_empty() && to.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = tokio::time::timeout(Duration::from_secs(8), from.read_to_end(&mut all)) => drop(read.unwrap()),
            () = trickle => {}
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{sent:?}");
        assert_eq!(all.starts_with(b"HTTP/1.1 200"), sent.ends_with("\r\n\r\n"), "{}", String::from_utf8_lossy(&all));
    }
    // Whoever asks on meanwhile is answered.
    test.admin().get("/api/v1/session").await.is(200);
    test.end().await;
}

#[tokio::test]
async fn every_answer_tells_browsers_to_make_no_page_of_it() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.attachment("/a.html", b"<script>").await.is(201);
    let nobody = User { token: "none".to_owned(), ..user.clone() };
    for (user, path) in [
        (&user, "/api/v1/session"),
        (&user, "/api/v1/audit?format=csv"),
        (&user, "/api/v1/attachments/a.html"),
        (&user, "/api/v1/none"),
        (&nobody, "/api/v1/session"),
        (&nobody, "/healthz"),
        (&nobody, "/metrics"),
        (&nobody, "/api/v1/openapi.json"),
        (&nobody, "/nowhere"),
        (&nobody, "/docs"),
        (&nobody, "/docs/none.js"),
    ] {
        let headers = user.get(path).await.headers;
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'") || policy.starts_with("sandbox;"), "{path}: {policy}");
        assert!(!headers.contains_key("strict-transport-security"), "{path}: there is no TLS");
    }
    test.end().await;
}

#[tokio::test]
async fn a_proxy_is_believed_only_where_it_is_trusted() {
    let plain = Environment::start("test").await;
    let behind = Environment::configured("test", "server.trusted_proxies = [\"127.0.0.1\"]").await;
    for (environment, expected) in [(&plain, "127.0.0.1"), (&behind, "198.51.100.7")] {
        let user = environment.admin();
        let body = json!({"name": "from-afar"});
        let request = user.request(Method::POST, "/api/v1/domains").header("x-forwarded-for", "6.6.6.6, 198.51.100.7");
        user.send(request.json(&body)).await.is(201);
        let told = user.get("/api/v1/audit?action=domain").await.is(200);
        assert_eq!(told["items"][0]["address"], expected);
    }
    plain.end().await;
    behind.end().await;
}
