//! A server with a certificate of its own.

use std::path::Path;
use std::time::Duration;

use ferry::config::Config;
use ferry::server::Server;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{Environment, User};

/// Writes a certificate for `localhost` and its key; gives the certificate.
fn certificate(folder: &Path, name: &str) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join(format!("{name}.crt")), cert.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), signing_key.serialize_pem()).unwrap();
    cert.pem()
}

fn settings(folder: &Path, cert: &str, key: &str) -> String {
    format!("server.tls_cert = {}\nserver.tls_key = {}\n", json!(folder.join(cert)), json!(folder.join(key)))
}

#[tokio::test]
async fn with_a_certificate_tls_is_spoken_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let pem = certificate(folder.path(), "a");
    let more = settings(folder.path(), "a.crt", "a.key") + "server.head_seconds = 1";
    let production = Environment::configured("production", &more).await;
    let url = production.server.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let base = url.replace("127.0.0.1", "localhost");
    let root = Certificate::from_pem(pem.as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]).https_only(true).build().unwrap();
    let user = User { client, base: base.clone(), ..production.admin() };
    let answer = user.get("/api/v1/session").await;
    assert_eq!(answer.headers["strict-transport-security"], "max-age=31536000");
    answer.is(200);
    user.resource("c", "card", "Card", "/", json!({})).await;
    let plain = Client::new().get(format!("http://{}/healthz", production.server.address)).send().await;
    assert!(plain.is_err(), "it answers without TLS");

    // A hand-shake that never comes holds nothing for long.
    let mut silent = TcpStream::connect(production.server.address).await.unwrap();
    let mut said = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut said);
    drop(tokio::time::timeout(Duration::from_secs(8), ended).await.unwrap());

    // Nobody vouches for the certificate.
    let test = Environment::start("test").await;
    let admin = test.admin();
    let target = admin.target("production", &base, &user.token).await;
    let check = admin.post(&format!("/api/v1/targets/{target}/check"), json!({})).await.is(200);
    assert_eq!((&check["reachable"], &check["error"]["code"]), (&json!(false), &json!("target_tls")), "{check}");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "a");
    certificate(folder.path(), "b");
    std::fs::write(folder.path().join("empty"), "").unwrap();
    std::fs::write(folder.path().join("broken"), "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n")
        .unwrap();
    let config = |more: &str| {
        let text = format!("server.listen = \"127.0.0.1:0\"\nstorage.dir = {}\n{more}", json!(folder.path()));
        Config::from_toml(&text)
    };
    for (cert, key, told) in [
        ("none.crt", "a.key", ["server.tls_cert", "none.crt"]),
        ("empty", "a.key", ["server.tls_cert", "holds no certificate"]),
        ("broken", "a.key", ["server.tls_cert", "cannot be read"]),
        ("a.key", "a.key", ["server.tls_cert", "holds no certificate"]),
        ("a.crt", "none.key", ["server.tls_key", "none.key"]),
        ("a.crt", "empty", ["server.tls_key", "no private key"]),
        ("a.crt", "a.crt", ["server.tls_key", "no private key"]),
        ("a.crt", "b.key", ["server.tls_key", "does not fit server.tls_cert"]),
    ] {
        let config = config(&settings(folder.path(), cert, key)).unwrap();
        // It is told before anything else is done: the database is not even asked.
        let error = Server::start(config, "postgres://nobody@localhost:1/none").await.err().unwrap().to_string();
        assert!(told.iter().all(|word| error.contains(word)), "{cert} {key}: {error}");
    }
    for half in ["server.tls_cert = \"a.crt\"", "server.tls_key = \"a.key\""] {
        let error = config(half).unwrap_err().to_string();
        assert!(error.contains("must be given together"), "{error}");
    }
}
