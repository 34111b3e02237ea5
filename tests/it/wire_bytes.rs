//! What both sides know does not travel: neither to the target nor back.

use serde_json::{Value, json};

use crate::support::package::{entries, lines};
use crate::support::proxy::{Fault, Proxy};
use crate::support::retail::load_retail;
use crate::support::{Environment, User, comparable};

/// A pair with the sample and many small resources; the target behind a proxy that counts.
async fn pair() -> (Environment, Environment, Proxy, String) {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let from = test.admin();
    load_retail(&from).await;
    from.batch(&(0..1_500).map(|n| card(n, "")).collect::<Vec<_>>()).await;
    let proxy = Proxy::before(production.server.address).await;
    let target = from.target("production", &proxy.url(), &production.admin().token).await;
    (test, production, proxy, target)
}

fn card(n: usize, more: &str) -> Value {
    let definition = json!({"text": format!("card {n} says {more}").repeat(20)});
    json!({"id": format!("c{n:05}"), "type": "card", "name": format!("Card {n}"), "directory": "/Cards", "definition": definition})
}

/// Migrates everything with some options until it waits or has ended.
async fn migrate(user: &User, target: &str, options: Value) -> Value {
    let mut body = json!({"target_id": target, "selection": {"all": true}});
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let record = user.post("/api/v1/migrations", body).await.is(202);
    user.wait(record["id"].as_str().unwrap(), |status| status != "queued" && status != "running").await
}

/// The items here are those of the target.
async fn assert_mirrored(from: &User, to: &User, record: &Value) {
    let here = from.items(record["id"].as_str().unwrap()).await;
    let there = to.items(record["remote_record_id"].as_str().unwrap()).await;
    assert!(here.len() > 1_500);
    assert_eq!(here, there);
}

#[tokio::test]
async fn items_that_both_sides_know_are_filled_in_as_the_target_has_them() {
    let (test, production, proxy, target) = pair().await;
    let (from, to) = (test.admin(), production.admin());
    migrate(&from, &target, json!({"directory_prefix": "/From test"})).await;
    for prefix in [json!({"directory_prefix": "/From test"}), json!({})] {
        // The first one moves what the one before put elsewhere.
        assert_eq!(migrate(&from, &target, prefix.clone()).await["status"], "succeeded");
        let before = proxy.received();
        let record = migrate(&from, &target, prefix.clone()).await;
        let counts = &record["counts"];
        assert_eq!((counts["unchanged"].as_u64() > Some(1_500), &counts["update"]), (true, &json!(0)), "{record}");
        assert_mirrored(&from, &to, &record).await;
        let there = record["remote_record_id"].as_str().unwrap();
        let told = to.get(&format!("/api/v1/records/{there}/items?but=unchanged")).await.is(200);
        assert_eq!((told["items"].as_array().unwrap().len(), &told["next_cursor"]), (0, &Value::Null));
        assert!(proxy.received() - before < 15_000, "{} bytes came back", proxy.received() - before);
    }
    // What says more than that is told: drifted, changed, mapped.
    to.resource("c00007", "card", "Card 7", "/Elsewhere", json!({})).await;
    from.resource("c00007", "card", "Card 7", "/Elsewhere", json!({})).await;
    from.batch(&[card(9, "something else")]).await;
    to.resource("own", "card", "Own", "/", json!({})).await;
    let mapped = json!({"confirm": true, "resolutions": {"c00011": {"action": "map", "target_id": "own"}}});
    let record = migrate(&from, &target, mapped).await;
    assert_eq!(record["status"], "awaiting_confirmation", "{record}");
    assert_mirrored(&from, &to, &record).await;
    let there = record["remote_record_id"].as_str().unwrap();
    let told = to.get(&format!("/api/v1/records/{there}/items?but=pending")).await.is(200);
    let told: Vec<&str> =
        told["items"].as_array().unwrap().iter().map(|item| item["resource_id"].as_str().unwrap()).collect();
    assert_eq!(told, ["c00007", "c00009", "c00011"]);
    to.get(&format!("/api/v1/records/{there}/items?but=nothing")).await.problem(422, "invalid_field");
    from.post(&format!("/api/v1/migrations/{}/confirm", record["id"].as_str().unwrap()), json!({})).await.is(202);
    let record = from.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_mirrored(&from, &to, &record).await;
    test.end().await;
    production.end().await;
}

/// The package that a migration sent: its size, the lines of its index, its resources.
async fn package(user: &User, record: &Value) -> (usize, Vec<Value>, Vec<Value>) {
    let answer = user.get(&format!("/api/v1/exports/{}/package", record["id"].as_str().unwrap())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let unpacked = entries(&answer.bytes);
    let of = |prefix: &str| {
        let found = unpacked.iter().filter(|(name, _)| name.starts_with(prefix));
        found.flat_map(|(_, bytes)| lines(bytes)).collect::<Vec<_>>()
    };
    (answer.bytes.len(), of("index.ndjson"), of("resources/"))
}

async fn catalogues(test: &User, production: &User) -> (Vec<Value>, Vec<Value>) {
    let all = |found: Vec<Value>| found.iter().map(comparable).collect();
    (all(test.catalogue().await), all(production.catalogue().await))
}

#[tokio::test]
async fn an_index_that_the_target_knows_is_named_in_pages() {
    let (test, production, proxy, target) = pair().await;
    let (from, to) = (test.admin(), production.admin());
    let first = migrate(&from, &target, json!({})).await;
    assert_eq!(first["status"], "succeeded", "{first}");
    let (_, listed, resources) = package(&from, &first).await;
    assert_eq!(listed.len(), resources.len());
    let count = listed.len();

    // Nothing changed: nothing is listed, and next to nothing travels.
    let before = (proxy.sent(), proxy.received());
    let second = migrate(&from, &target, json!({})).await;
    let bytes = (proxy.sent() - before.0, proxy.received() - before.1);
    assert_eq!((&second["status"], &second["counts"]["unchanged"]), (&json!("succeeded"), &json!(count)), "{second}");
    let (size, listed, resources) = package(&from, &second).await;
    assert_eq!((listed.len(), resources.len()), (0, 0));
    assert!(bytes.0 < 16_000 && bytes.1 < 16_000, "{bytes:?} bytes, {size} of them the package");
    assert_mirrored(&from, &to, &second).await;

    // One changed, one new, one deleted: their pages alone are listed, which are as long as chance has it.
    from.batch(&[card(700, "something else"), card(9_000, "new")]).await;
    from.delete("/api/v1/resources/c00100").await.is(204);
    let third = migrate(&from, &target, json!({})).await;
    assert_eq!((&third["counts"]["update"], &third["counts"]["create"]), (&json!(1), &json!(1)), "{third}");
    let (_, listed, resources) = package(&from, &third).await;
    assert_eq!(resources.len(), 2);
    assert!((2..count * 2 / 3).contains(&listed.len()), "{} of {count}", listed.len());
    assert_mirrored(&from, &to, &third).await;
    to.delete("/api/v1/resources/c00100").await.is(204);
    let (here, there) = catalogues(&from, &to).await;
    assert_eq!(here, there);

    // What the target changed since is sent, though its page is known.
    to.batch(&[card(800, "changed there")]).await;
    let fourth = migrate(&from, &target, json!({})).await;
    assert_eq!(fourth["counts"]["update"], json!(1), "{fourth}");
    assert_eq!(package(&from, &fourth).await.2.len(), 1);
    assert_mirrored(&from, &to, &fourth).await;
    let (here, there) = catalogues(&from, &to).await;
    assert_eq!(here, there);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn pages_that_the_target_forgot_meanwhile_are_sent_after_all() {
    let (test, production, proxy, target) = pair().await;
    let (from, to) = (test.admin(), production.admin());
    migrate(&from, &target, json!({})).await;
    let import = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    proxy.once(Fault::Answer("POST /api/v1/imports ", import));
    let record =
        from.post("/api/v1/migrations", json!({"target_id": target, "selection": {"all": true}})).await.is(202);
    test.until(async || proxy.done() == 1).await;
    sqlx::query("delete from index_pages").execute(&mut production.sql().await).await.unwrap();
    let record = from.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    let (_, listed, resources) = package(&from, &record).await;
    assert_eq!((listed.len() > 1_500, listed.len()), (true, resources.len()));
    assert_mirrored(&from, &to, &record).await;
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn pages_are_known_to_the_domain_alone_that_got_them() {
    let (test, production, _proxy, target) = pair().await;
    let (from, to) = (test.admin(), production.admin());
    migrate(&from, &target, json!({})).await;
    let source = from.get("/api/v1/environment").await.is(200)["id"].clone();
    let names: Vec<Vec<u8>> =
        sqlx::query_scalar("select name from index_pages").fetch_all(&mut production.sql().await).await.unwrap();
    let name: String = names[0].iter().map(|byte| format!("{byte:02x}")).collect();
    let ask = async |user: &User, source: &Value, pages: Value| {
        let head = json!({"source_environment": source, "types": {}, "pages": pages});
        let request = user.request(reqwest::Method::POST, "/api/v1/imports/lacking");
        user.send(request.header("content-type", "application/x-ndjson").body(format!("{head}\n"))).await
    };
    let answer = ask(&to, &source, json!([name, "0".repeat(64)])).await.is(200);
    assert_eq!(answer["unknown_pages"], json!(["0".repeat(64)]));
    // Nothing is the same where types are described otherwise.
    assert!(!answer["ids"].as_array().unwrap().is_empty());
    let other = production.new_user("other", "admin").await;
    assert_eq!(ask(&other, &source, json!([name])).await.is(200)["unknown_pages"], json!([name]));
    assert_eq!(ask(&to, &json!("another"), json!([name])).await.is(200)["unknown_pages"], json!([name]));
    ask(&to, &source, json!(["nonsense"])).await.problem(422, "invalid_field");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_compressed_question_counts_as_unpacked() {
    let production = Environment::configured("production", "[limits]\nmax_package_bytes = 1048576\n").await;
    let to = production.admin();
    let ask = async |bytes: usize| {
        let mut text = json!({"source_environment": "x", "types": {}}).to_string().into_bytes();
        text.resize(text.len() + bytes, b'\n');
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &text).unwrap();
        let request = to.request(reqwest::Method::POST, "/api/v1/imports/lacking").header("content-encoding", "gzip");
        to.send(request.header("content-type", "application/x-ndjson").body(packed.finish().unwrap())).await
    };
    ask(1_000).await.is(200);
    ask(64 * 1_048_576).await.problem(413, "too_large");
    production.end().await;
}
