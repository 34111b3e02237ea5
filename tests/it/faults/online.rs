//! Online migrations of which one end is killed, unreachable or cut off.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::invariants::{catalogue, contents, settled};
use crate::support::gate::Gate;
use crate::support::process::Process;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Environment, User};

const SOME: usize = 600;
const PIECE: u64 = 5 * 1024 * 1024;

pub async fn new_target(user: &User, url: &str, token: &str) -> String {
    user.target(&uuid::Uuid::new_v4().to_string(), url, token).await
}

/// Starts a migration of the whole catalogue.
pub async fn begin(user: &User, target: &str) -> String {
    let body = json!({"target_id": target, "selection": {"all": true}});
    user.post("/api/v1/migrations", body).await.is(202)["id"].as_str().unwrap().to_owned()
}

/// Asks for a record until it is as wanted, also over a restart of its server.
pub async fn until(user: &User, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = std::time::Instant::now();
    loop {
        let answer = user.request(reqwest::Method::GET, &format!("/api/v1/records/{id}")).send().await;
        if let Ok(answer) = answer
            && answer.status() == StatusCode::OK
        {
            let record: Value = answer.json().await.unwrap();
            if wanted(&record) {
                return record;
            }
            assert!(began.elapsed().as_secs() < 90, "it does not get there: {record}");
        }
        assert!(began.elapsed().as_secs() < 120, "nobody shows record {id}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn is_final(record: &Value) -> bool {
    !matches!(record["status"].as_str().unwrap(), "queued" | "running" | "awaiting_confirmation")
}

/// One import record there; both ends agree, are settled, and the same again changes nothing.
async fn agreed(source: &Process, target: &Process, target_id: &str, record: &Value) {
    assert_eq!(record["status"], "succeeded", "{record}");
    settled(source, record).await;
    let (from, to) = (source.admin(), target.admin());
    let imports = to.get("/api/v1/records?kind=import").await.is(200);
    assert_eq!(imports["items"].as_array().unwrap().len(), 1, "one import there for one migration here");
    assert_eq!(imports["items"][0]["id"], record["remote_record_id"]);
    settled(target, &imports["items"][0]).await;
    assert!(contents(&from).await == contents(&to).await, "the two catalogues differ");
    let again = from.ended(&begin(&from, target_id).await).await;
    let all = &record["package"]["resources"];
    assert_eq!((&again["status"], &again["counts"]["unchanged"]), (&json!("succeeded"), all), "{again}");
}

async fn pair() -> (Process, Process, String) {
    let (source, target) = (Process::start("test").await, Process::start("production").await);
    source.admin().batch(&catalogue(SOME, 1)).await;
    let id = new_target(&source.admin(), &target.url(), &target.admin().token).await;
    (source, target, id)
}

/// Kills the source when it is in a phase, as often as there are phases, in one migration.
#[tokio::test]
async fn a_source_killed_in_each_phase_finishes_its_migration() {
    let (mut source, target, target_id) = pair().await;
    // Each gate holds one of the two where the phase wants something written.
    let gate = Gate::shut(&source.database, "record_items").await;
    let id = begin(&source.admin(), &target_id).await;
    kill_at(&mut source, gate).await;
    for (table, phase) in [("import_entries", "parsing"), ("import_bases", "applying")] {
        let mut gate = Gate::shut(&target.database, table).await;
        source.restart().await;
        gate.reached().await;
        until(&source.admin(), &id, |record| record["phase"] == phase).await;
        source.kill();
        gate.open().await;
    }
    // All is done there; the outcome is not mirrored yet.
    let gate = Gate::shut(&source.database, "record_items").await;
    source.launch();
    kill_at(&mut source, gate).await;
    source.restart().await;
    let record = until(&source.admin(), &id, is_final).await;
    agreed(&source, &target, &target_id, &record).await;
    source.end().await;
    target.end().await;
}

async fn kill_at(process: &mut Process, mut gate: Gate) {
    gate.reached().await;
    process.kill();
    gate.open().await;
}

#[tokio::test]
async fn a_source_killed_while_it_uploads_makes_one_import() {
    let (mut source, target, _) = pair().await;
    let from = source.admin();
    let attachment = random_bytes(12 * 1024 * 1024, 3);
    from.attachment("/a.bin", &attachment).await;
    from.resource("r1", "card", "Resource 1", "/Sales/1", json!({"dataset_id": "r0", "images": ["/a.bin"]})).await;
    let proxy = Proxy::before(target.address()).await;
    let target_id = new_target(&from, &proxy.url(), &target.admin().token).await;
    proxy.once(Fault::SwallowAfter("PATCH /api/v1/uploads", PIECE + PIECE / 2));
    let id = begin(&from, &target_id).await;
    let began = std::time::Instant::now();
    while proxy.sent() < PIECE + PIECE / 2 {
        assert!(began.elapsed().as_secs() < 30, "it does not upload in pieces");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    source.kill();
    source.restart().await;
    let record = until(&source.admin(), &id, is_final).await;
    let again = proxy.sent() - record["package"]["size"].as_u64().unwrap();
    assert!(again <= PIECE + 1024 * 1024, "the upload began anew: {again} bytes more than the package were sent");
    agreed(&source, &target, &target_id, &record).await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_migration_survives_a_target_killed_in_each_of_its_phases() {
    let (source, mut target, target_id) = pair().await;
    let gate = Gate::shut(&target.database, "import_entries").await;
    let id = begin(&source.admin(), &target_id).await;
    kill_at(&mut target, gate).await;
    for table in ["import_entries", "record_items", "resources", "import_bases"] {
        let gate = Gate::shut(&target.database, table).await;
        target.launch();
        kill_at(&mut target, gate).await;
    }
    // And while nothing but its answer is missing.
    target.restart().await;
    let remote = until(&source.admin(), &id, |record| record["remote_record_id"].is_string()).await;
    until(&target.admin(), remote["remote_record_id"].as_str().unwrap(), is_final).await;
    target.kill();
    target.restart().await;
    let record = until(&source.admin(), &id, is_final).await;
    agreed(&source, &target, &target_id, &record).await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_source_told_to_end_hands_its_migration_to_another() {
    let (mut source, target, target_id) = pair().await;
    let mut gate = Gate::shut(&target.database, "import_entries").await;
    let id = begin(&source.admin(), &target_id).await;
    gate.reached().await;
    let second = source.replica().await;
    assert!(source.terminate().await.success(), "{}", source.log_text());
    gate.open().await;
    let record = until(&second.admin(), &id, is_final).await;
    agreed(&second, &target, &target_id, &record).await;
    drop(source);
    second.end().await;
    target.end().await;
}

/// Bytes that do not get smaller when packed; the same for the same seed.
pub fn random_bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test]
async fn an_upload_cut_at_any_byte_goes_on_and_sends_no_more_than_a_piece_again() {
    let (source, target) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (source.admin(), target.admin());
    let mut images = Vec::new();
    for at in 0..4 {
        let path = format!("/images/{at}.bin");
        from.attachment(&path, &random_bytes(6 * 1024 * 1024, at)).await.is(201);
        images.push(path);
    }
    from.resource("c", "card", "Card", "/", json!({"images": images})).await;
    let size = from.export_all().await.len() as u64;
    assert!(size > 24 * 1024 * 1024, "{size}");
    let proxy = Proxy::before(target.server.address).await;
    let target_id = new_target(&from, &proxy.url(), &to.token).await;
    // Within the headers, at both ends of a piece, in its midst; each in whatever piece is next.
    let places = [1, 200, 1_000, 100_000, PIECE / 2, PIECE - 1, PIECE, PIECE + 1_000];
    for place in places {
        proxy.once(Fault::CutAfter("PATCH /api/v1/uploads", place));
    }
    let record = until(&from, &begin(&from, &target_id).await, is_final).await;
    assert_eq!((&record["status"], &record["counts"]["create"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert_eq!(proxy.done(), places.len() as u64, "every cut was made");
    assert!(contents(&from).await == contents(&to).await);
    for path in &images {
        let sent = from.get(&format!("/api/v1/attachments{path}")).await.bytes;
        assert!(to.get(&format!("/api/v1/attachments{path}")).await.bytes == sent, "{path}");
    }
    // What had gone up of a piece that was cut, and nothing else; and the heads of some requests.
    let again = proxy.sent().checked_sub(size).unwrap();
    let most = places.iter().sum::<u64>() + 64 * 1024;
    assert!(again <= most, "{again} bytes more than the package were sent, not {most}");
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn lost_answers_and_doubled_requests_of_a_migration_make_one_import() {
    let (source, target, _) = pair().await;
    let proxy = Proxy::before(target.address()).await;
    let from = source.admin();
    let target_id = new_target(&from, &proxy.url(), &target.admin().token).await;
    // What has more bytes than a piece travels in pieces.
    from.attachment("/large.bin", &random_bytes(6 * 1024 * 1024, 1)).await.is(201);
    from.resource("large", "card", "Large", "/", json!({"images": ["/large.bin"]})).await;
    for fault in [
        Fault::Refuse,
        Fault::LoseAnswer("POST /api/v1/uploads"),
        Fault::LoseAnswer("PATCH /api/v1/uploads"),
        Fault::LoseAnswer("POST /api/v1/imports "),
        Fault::Twice("POST /api/v1/imports "),
        Fault::LoseAnswer("POST /api/v1/imports/"),
        Fault::LoseAnswer("GET /api/v1/records"),
    ] {
        proxy.once(fault);
    }
    let record = until(&from, &begin(&from, &target_id).await, is_final).await;
    assert_eq!(proxy.done(), 7, "every fault was met");
    agreed(&source, &target, &target_id, &record).await;
    source.end().await;
    target.end().await;
}

#[tokio::test]
async fn a_small_package_whose_answer_is_lost_or_that_arrives_twice_makes_one_import() {
    let (source, target, _) = pair().await;
    let proxy = Proxy::before(target.address()).await;
    let from = source.admin();
    let target_id = new_target(&from, &proxy.url(), &target.admin().token).await;
    for fault in [
        Fault::CutAfter("POST /api/v1/imports ", 1_000),
        Fault::LoseAnswer("POST /api/v1/imports "),
        Fault::Twice("POST /api/v1/imports "),
    ] {
        proxy.once(fault);
    }
    let record = until(&from, &begin(&from, &target_id).await, is_final).await;
    assert_eq!(proxy.done(), 3, "every fault was met");
    agreed(&source, &target, &target_id, &record).await;
    source.end().await;
    target.end().await;
}
