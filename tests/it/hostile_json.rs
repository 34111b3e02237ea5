//! JSON that does harm to whoever reads it: nested, numerous, or in the words of the parser itself.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::package::{Forge, assert_refused, case, honest};
use crate::support::process::Process;
use crate::support::{Answer, Environment, User};

/// A text inside a text: each level starts a parser of its own, where a parser falls for it.
fn nested(levels: usize, key: &str) -> String {
    let mut text = "[".repeat(100) + &"]".repeat(100);
    for _ in 0..levels {
        text = format!("{{\"{key}\":{}}}", json!(text));
    }
    text
}

/// The words of the parser, in several spellings.
fn reserved() -> Vec<String> {
    let keys = [
        "$serde_json::private::RawValue",
        "$serde_json::private::Number",
        r"\u0024serde_json::private::RawValue",
        r"$serde_json::private\u003a:Number",
    ];
    let mut texts: Vec<String> = keys.iter().map(|key| format!("{{\"{key}\":\"1\"}}")).collect();
    texts.push(nested(5, keys[0]));
    texts.push(nested(5, keys[2]));
    texts
}

async fn send(user: &User, method: Method, path: &str, media_type: &str, body: String) -> Answer {
    user.send(user.request(method, path).header("content-type", media_type).body(body)).await
}

fn resource(definition: &str) -> String {
    format!(r#"{{"id":"x","type":"card","name":"n","directory":"/","definition":{{"a":[{definition}]}}}}"#)
}

#[tokio::test]
async fn words_of_the_parser_are_no_keys() {
    let test = Environment::start("test").await;
    let user = test.admin();
    for text in reserved() {
        let (json, lines) = ("application/json", "application/x-ndjson");
        send(&user, Method::PUT, "/api/v1/resources/x", json, resource(&text)).await.problem(422, "invalid_body");
        let batch = format!("{}\n{}\n", resource("1").replace("\"x\"", "\"y\""), resource(&text));
        let problem = send(&user, Method::POST, "/api/v1/resources/batch", lines, batch).await;
        assert!(problem.problem(422, "invalid_body")["detail"].as_str().unwrap().contains("line 2"));
        let head = format!("{{\"source_environment\":\"e\",\"types\":{{}},\"options\":{text}}}\n");
        send(&user, Method::POST, "/api/v1/imports/lacking", lines, head).await.problem(422, "invalid_body");
        for (method, path) in [
            (Method::POST, "session"),
            (Method::POST, "exports"),
            (Method::POST, "migrations"),
            (Method::PATCH, "environment"),
            (Method::POST, "imports"),
        ] {
            let body = format!("{{\"x\":{text}}}");
            send(&user, method, &format!("/api/v1/{path}"), json, body).await.problem(422, "invalid_body");
        }
        let cursor = URL_SAFE_NO_PAD.encode(&text);
        user.get(&format!("/api/v1/resources?cursor={cursor}")).await.problem(422, "invalid_field");
    }
    assert_eq!(user.catalogue().await, Vec::<Value>::new());
    // As a text it is as good as any.
    let text = "$serde_json::private::RawValue";
    user.resource("t", "card", "Text", "/", json!({"a": text})).await;
    assert_eq!(user.get("/api/v1/resources/t").await.is(200)["definition"]["a"], text);
    test.end().await;
}

#[tokio::test]
async fn a_package_speaks_no_words_of_the_parser() {
    let honest = honest().await;
    let mut cases = Vec::new();
    for text in reserved() {
        // A line, its last brace replaced by one more member.
        let with = |name: &str| {
            let mut forge = Forge::of(&honest.package);
            let file = &mut forge.files.iter_mut().find(|(known, _)| known == name).unwrap().1;
            let lines = String::from_utf8(file.clone()).unwrap();
            *file = lines.replacen("}\n", &format!(",\"x\":{text}}}\n"), 1).into_bytes();
            forge.build()
        };
        cases.push(case("the index", with("index.ndjson"), "package_tampered"));
        cases.push(case("a shard", with("resources/00001.ndjson"), "package_tampered"));
        let mut forge = Forge::of(&honest.package);
        let shard = &mut forge.files.iter_mut().find(|(known, _)| known == "resources/00001.ndjson").unwrap().1;
        let lines = String::from_utf8(shard.clone()).unwrap();
        *shard = lines.replacen("\"definition\":{", &format!("\"definition\":{{\"x\":{text},"), 1).into_bytes();
        cases.push(case("a definition", forge.build(), "package_tampered"));
        cases.push(case("the values", with("values.ndjson"), "package_tampered"));
        let forge = Forge::of(&honest.package);
        let manifest = serde_json::to_string(&forge.manifest).unwrap();
        let manifest = format!("{{\"x\":{text},{}", &manifest[1..]);
        cases.push(case(
            "the manifest",
            crate::support::package::packed(&forge.signed(manifest.as_bytes())),
            "package_foreign",
        ));
    }
    assert_refused("", cases).await;
}

#[tokio::test]
async fn a_body_of_very_many_values_is_too_large_and_takes_no_memory() {
    let test = Process::configured("test", "").await;
    let user = test.admin();
    let before = test.peak_memory();
    let zeros = resource(&format!("{}0", "0,".repeat(8 * 1024 * 1024 - 200)));
    send(&user, Method::PUT, "/api/v1/resources/x", "application/json", zeros).await.problem(413, "too_large");
    let more = test.peak_memory() - before;
    assert!(more < 64 * 1024, "{more} KiB more for 16 MiB of zeros");
    let honest = resource(&format!("{}0", "0,".repeat(200_000)));
    send(&user, Method::PUT, "/api/v1/resources/x", "application/json", honest).await.is(201);
    test.end().await;
}

#[tokio::test]
async fn a_body_holds_no_more_than_its_address_needs() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let body = |size: usize| json!({"name": "x".repeat(size)}).to_string();
    for (method, path, most) in [
        (Method::POST, "session", 16 * 1024),
        (Method::POST, "users", 64 * 1024),
        (Method::POST, "targets", 64 * 1024),
        (Method::POST, "domains", 64 * 1024),
        (Method::PATCH, "environment", 64 * 1024),
    ] {
        let path = format!("/api/v1/{path}");
        send(&user, method.clone(), &path, "application/json", body(most)).await.problem(413, "too_large");
        let within = send(&user, method, &path, "application/json", body(most - 200)).await;
        assert!(matches!(within.status.as_u16(), 200 | 422), "{path}: {}", within.text());
    }
    test.end().await;
}
