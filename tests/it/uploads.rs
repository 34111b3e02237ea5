//! Resumable uploads (tus 1.0): pieces, refusals, what survives a cut and a kill.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::Digest;

use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Answer, Environment, User, comparable, package, scratch};

const PIECE: &str = "application/offset+octet-stream";

fn tus(user: &User, method: &str, path: &str) -> RequestBuilder {
    user.request(Method::from_bytes(method.as_bytes()).unwrap(), path).header("tus-resumable", "1.0.0")
}

/// Begins an upload of a length; its path.
async fn begin(user: &User, length: usize) -> String {
    let metadata = format!("filename {}", BASE64.encode("package.zip"));
    let request = tus(user, "POST", "/api/v1/uploads").header("upload-length", length);
    let answer = user.send(request.header("upload-metadata", metadata)).await;
    answer.is(201);
    assert_eq!(answer.headers["tus-resumable"], "1.0.0");
    let location = answer.headers["location"].to_str().unwrap();
    location[location.find("/api/v1/uploads/").unwrap()..].to_owned()
}

fn piece(user: &User, path: &str, offset: usize, bytes: &[u8]) -> RequestBuilder {
    let request = tus(user, "PATCH", path).header("upload-offset", offset).header("content-type", PIECE);
    request.body(bytes.to_vec())
}

/// With its checksum.
fn checked(user: &User, path: &str, offset: usize, bytes: &[u8]) -> RequestBuilder {
    let checksum = format!("sha256 {}", BASE64.encode(sha2::Sha256::digest(bytes)));
    piece(user, path, offset, bytes).header("upload-checksum", checksum)
}

/// Sends a piece and expects it to be taken.
async fn send(user: &User, path: &str, offset: usize, bytes: &[u8]) {
    let answer = user.send(checked(user, path, offset, bytes)).await;
    answer.is(204);
    assert_eq!(answer.headers["upload-offset"], (offset + bytes.len()).to_string().as_str());
    assert_eq!(answer.headers["tus-resumable"], "1.0.0");
    assert!(answer.headers["upload-expires"].to_str().unwrap().ends_with("GMT"));
}

/// Where the server stands.
async fn offset(user: &User, path: &str) -> usize {
    let answer = user.send(tus(user, "HEAD", path)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["cache-control"].to_str().unwrap().contains("no-store"));
    answer.headers["upload-offset"].to_str().unwrap().parse().unwrap()
}

/// A complete upload; its ID.
pub async fn complete(user: &User, bytes: &[u8]) -> String {
    let path = begin(user, bytes.len()).await;
    send(user, &path, 0, bytes).await;
    path.rsplit('/').next().unwrap().to_owned()
}

async fn import(user: &User, path: &str) -> Answer {
    let id = path.rsplit('/').next().unwrap();
    user.post("/api/v1/imports", json!({"upload_id": id})).await
}

/// Imports a finished upload: all of the honest package arrives.
async fn arrives(user: &User, path: &str) {
    let record = import(user, path).await.is(202);
    let id = record["id"].as_str().unwrap();
    user.wait(id, |status| !matches!(status, "queued" | "running")).await;
    let record = user.execute(id).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    let there: Vec<Value> = user.catalogue().await.iter().map(comparable).collect();
    assert_eq!(there, package::honest().await.catalogue);
}

#[tokio::test]
async fn a_package_in_pieces_is_imported() {
    let environment = Environment::start("production").await;
    let user = environment.admin();
    let bytes = &package::honest().await.package;
    let path = begin(&user, bytes.len()).await;
    let head = user.send(tus(&user, "HEAD", &path)).await;
    assert_eq!(head.headers["upload-length"], bytes.len().to_string().as_str());
    assert_eq!(head.headers["upload-offset"], "0");
    assert_eq!(head.headers["upload-metadata"], format!("filename {}", BASE64.encode("package.zip")).as_str());
    import(&user, &path).await.problem(409, "wrong_state");
    let (first, rest) = bytes.split_at(100);
    let (second, third) = rest.split_at(1);
    let sha1 = format!("sha1 {}", BASE64.encode(sha1::Sha1::digest(first)));
    user.send(piece(&user, &path, 0, first).header("upload-checksum", sha1)).await.is(204);
    send(&user, &path, 100, second).await;
    assert_eq!(offset(&user, &path).await, 101);
    user.send(piece(&user, &path, 101, third)).await.is(204);
    assert_eq!(offset(&user, &path).await, bytes.len());
    arrives(&user, &path).await;
    environment.end().await;
}

#[tokio::test]
async fn an_upload_that_breaks_the_rules_is_refused_and_changes_nothing() {
    let environment = Environment::configured("production", "limits.max_package_bytes = 10000").await;
    let user = environment.admin();
    let path = begin(&user, 1_000).await;
    send(&user, &path, 0, &[7; 100]).await;
    let code = async |request: RequestBuilder| {
        let answer = user.send(request).await;
        (answer.status.as_u16(), answer.headers.get("tus-version").cloned())
    };
    // Another version of the protocol, or none: the server says which it speaks.
    for version in [None, Some("0.2.2")] {
        for method in ["POST", "HEAD", "PATCH", "DELETE"] {
            let at = if method == "POST" { "/api/v1/uploads" } else { &path };
            let mut request = user.request(Method::from_bytes(method.as_bytes()).unwrap(), at);
            request = request.header("upload-offset", 100).header("upload-length", 10).header("content-type", PIECE);
            request = version.into_iter().fold(request, |request, version| request.header("tus-resumable", version));
            let (status, speaks) = code(request).await;
            assert_eq!(status, 412, "{method} {version:?}");
            assert_eq!(speaks.unwrap(), "1.0.0", "{method} {version:?}");
        }
    }
    assert_eq!(code(tus(&user, "POST", "/api/v1/uploads").header("upload-length", 10_001)).await.0, 413);
    for wrong in ["-1", "x", "1.5", "99999999999999999999999"] {
        let status = code(tus(&user, "POST", "/api/v1/uploads").header("upload-length", wrong)).await.0;
        assert!((400..500).contains(&status), "{wrong}: {status}");
    }
    for wrong in [0, 99, 101, 1_000] {
        assert_eq!(code(checked(&user, &path, wrong, &[7; 100])).await.0, 409, "{wrong}");
    }
    let typed = |kind: &str| tus(&user, "PATCH", &path).header("upload-offset", 100).header("content-type", kind);
    assert_eq!(code(typed("application/zip").body(vec![7; 10])).await.0, 415);
    let other = format!("sha256 {}", BASE64.encode(sha2::Sha256::digest(b"other")));
    assert_eq!(code(piece(&user, &path, 100, &[7; 100]).header("upload-checksum", other)).await.0, 460);
    for unknown in ["md5 AAAA", "sha256", "sha256 !", ""] {
        let status = code(piece(&user, &path, 100, &[7; 100]).header("upload-checksum", unknown)).await.0;
        assert!((400..500).contains(&status) && status != 404, "{unknown}: {status}");
    }
    let status = code(checked(&user, &path, 100, &[7; 901])).await.0;
    assert!((400..500).contains(&status), "more than was announced: {status}");
    assert_eq!(offset(&user, &path).await, 100, "none of it was kept");
    environment.end().await;
}

/// All files below a folder.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn an_upload_is_its_users_alone_and_can_be_ended() {
    let environment = Environment::start("production").await;
    let admin = environment.admin();
    let bytes = &package::honest().await.package;
    let path = begin(&admin, bytes.len()).await;
    send(&admin, &path, 0, &bytes[..10]).await;
    for (domain, role) in [("default", "operator"), ("default", "admin"), ("branch", "admin")] {
        let other = environment.new_user(domain, role).await;
        assert_eq!(other.send(tus(&other, "HEAD", &path)).await.status, 404, "{domain} {role}");
        assert_eq!(other.send(checked(&other, &path, 10, &bytes[10..])).await.status, 404, "{domain} {role}");
        assert_eq!(other.send(tus(&other, "DELETE", &path)).await.status, 404, "{domain} {role}");
        let refused = import(&other, &path).await;
        assert!(refused.status.is_client_error() && refused.status != 409, "{}", refused.text());
    }
    let viewer = environment.new_user("default", "viewer").await;
    viewer.send(tus(&viewer, "POST", "/api/v1/uploads").header("upload-length", 10)).await.problem(403, "forbidden");
    assert_eq!(offset(&admin, &path).await, 10);

    admin.send(tus(&admin, "DELETE", &path)).await.is(204);
    for request in [tus(&admin, "HEAD", &path), checked(&admin, &path, 10, &bytes[10..])] {
        let status = admin.send(request).await.status.as_u16();
        assert!(matches!(status, 404 | 410), "{status}");
    }
    assert!(import(&admin, &path).await.status.is_client_error());
    let kept = files(&environment.files.path().join("store"));
    assert_eq!(kept, Vec::<std::path::PathBuf>::new(), "bytes of an ended upload are kept");
    assert_eq!(scratch(environment.files.path()), Vec::<std::path::PathBuf>::new());
    environment.end().await;
}

#[tokio::test]
async fn a_cut_piece_is_kept_as_far_as_it_came_and_with_a_checksum_not_at_all() {
    let environment = Environment::start("production").await;
    let user = environment.admin();
    let proxy = Proxy::before(environment.server.address).await;
    let through = User { base: proxy.url(), ..user.clone() };
    let bytes = &package::honest().await.package;
    // More than the package, so that a part of it is in the midst: the rest never comes.
    let padded = [bytes.as_slice(), &[0; 300_000]].concat();
    let path = begin(&user, padded.len()).await;
    proxy.once(Fault::CutAfter("PATCH", 200_000));
    checked(&through, &path, 0, &padded).send().await.unwrap_err();
    assert_eq!(proxy.done(), 1);
    assert_eq!(offset(&user, &path).await, 0);

    proxy.once(Fault::CutAfter("PATCH", 200_000));
    piece(&through, &path, 0, &padded).send().await.unwrap_err();
    assert_eq!(proxy.done(), 2);
    // The server sees the end of the connection a moment later than we do.
    let mut kept = 0;
    for _ in 0..1_000 {
        kept = offset(&user, &path).await;
        if kept > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!((190_000..200_000).contains(&kept), "{kept}");
    // What is left goes in one piece; the late rest of the first attempt does not count.
    send(&user, &path, kept, &padded[kept..]).await;
    for (late, bytes) in [(kept, &padded[kept..]), (0, &padded[..kept])] {
        assert_eq!(user.send(checked(&user, &path, late, bytes)).await.status, 409, "{late}");
    }
    assert_eq!(offset(&user, &path).await, padded.len());
    environment.end().await;
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let mut target = Process::start("production").await;
    let bytes = &package::honest().await.package;
    let (half, path) = (bytes.len() / 2, begin(&target.admin(), bytes.len()).await);
    send(&target.admin(), &path, 0, &bytes[..half]).await;
    target.kill();
    target.restart().await;
    assert_eq!(offset(&target.admin(), &path).await, half);
    // And a kill while a piece is on its way: with its checksum, nothing of it is kept.
    let proxy = Proxy::before(target.address()).await;
    let through = User { base: proxy.url(), ..target.admin() };
    proxy.once(Fault::SwallowAfter("PATCH", 400));
    let before = proxy.sent();
    let sending = tokio::spawn(checked(&through, &path, half, &bytes[half..]).send());
    while proxy.sent() < before + 400 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    target.kill();
    sending.await.unwrap().unwrap_err();
    target.restart().await;
    let user = target.admin();
    assert_eq!(offset(&user, &path).await, half);
    send(&user, &path, half, &bytes[half..]).await;
    target.kill();
    target.restart().await;
    arrives(&target.admin(), &path).await;
    target.end().await;
}

#[tokio::test]
async fn of_two_writers_at_once_one_wins() {
    let environment = Environment::start("production").await;
    let user = environment.admin();
    let bytes = &package::honest().await.package;
    for with_checksum in [true, false] {
        let path = begin(&user, bytes.len()).await;
        let mut at = 0;
        for part in bytes.chunks(bytes.len() / 5 + 1) {
            let write = || if with_checksum { checked(&user, &path, at, part) } else { piece(&user, &path, at, part) };
            let answers = futures_util::future::join_all((0..4).map(|_| user.send(write()))).await;
            let won = answers.iter().filter(|answer| answer.status == 204).count();
            let codes: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
            assert!(won == 1 && codes.iter().all(|code| matches!(code, 204 | 409 | 423)), "{codes:?}");
            at += part.len();
            assert_eq!(offset(&user, &path).await, at);
        }
        arrives(&user, &path).await;
    }
    environment.end().await;
}
