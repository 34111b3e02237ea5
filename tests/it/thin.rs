//! Only what changed travels: what a target lacks, thin packages, and what happens when the target moves.

use serde_json::{Value, json};

use crate::support::package::{entries, lines};
use crate::support::proxy::{Fault, Proxy};
use crate::support::retail::retail_pair;
use crate::support::{Environment, User, comparable};

/// Migrates everything with some options; the record, and what travelled.
async fn migrate(user: &User, target: &str, options: Value) -> (Value, Package) {
    let mut body = json!({"target_id": target, "selection": {"all": true}});
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let record = user.post("/api/v1/migrations", body).await.is(202);
    let record = user.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    let package = package(user, &record).await;
    (record, package)
}

/// What a package holds.
struct Package {
    bytes: Vec<u8>,
    resources: Vec<String>,
    attachments: usize,
    listed: usize,
}

async fn package(user: &User, record: &Value) -> Package {
    let answer = user.get(&format!("/api/v1/exports/{}/package", record["id"].as_str().unwrap())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let unpacked = entries(&answer.bytes);
    let shards = unpacked.iter().filter(|(name, _)| name.starts_with("resources/"));
    let resources = shards.flat_map(|(_, bytes)| lines(bytes)).map(|line| line["id"].as_str().unwrap().to_owned());
    Package {
        resources: resources.collect(),
        attachments: unpacked.keys().filter(|name| name.starts_with("attachments/")).count(),
        listed: unpacked.get("index.ndjson").map_or(0, |index| lines(index).len()),
        bytes: answer.bytes,
    }
}

async fn catalogues(test: &User, production: &User) -> (Vec<Value>, Vec<Value>) {
    let all = |found: Vec<Value>| found.iter().map(comparable).collect();
    (all(test.catalogue().await), all(production.catalogue().await))
}

#[tokio::test]
async fn a_second_migration_of_an_unchanged_catalogue_sends_no_contents() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    let (record, first) = migrate(&from, &target, json!({})).await;
    assert_eq!(first.resources.len(), first.listed);
    assert!(first.attachments > 0);
    let all = record["counts"]["create"].clone();
    let (record, second) = migrate(&from, &target, json!({})).await;
    assert_eq!((second.resources.len(), second.attachments), (0, 0));
    assert_eq!(record["counts"]["unchanged"], all);
    assert_eq!(record["counts"]["create"], 0);

    // One resource and one attachment changed: they travel, and nothing else.
    let card = from.get("/api/v1/resources?type=card&limit=1").await.is(200)["items"][0].clone();
    let mut body = json!({"type": "card", "name": "Änderung 変更", "directory": card["directory"]});
    body["definition"] =
        from.get(&format!("/api/v1/resources/{}", card["id"].as_str().unwrap())).await.is(200)["definition"].clone();
    from.put(&format!("/api/v1/resources/{}", card["id"].as_str().unwrap()), body).await.is(200);
    let (record, third) = migrate(&from, &target, json!({})).await;
    assert_eq!(third.resources, [card["id"].as_str().unwrap()]);
    assert_eq!((&record["counts"]["update"], third.attachments), (&json!(1), 0));
    let (here, there) = catalogues(&from, &to).await;
    assert_eq!(here, there);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn new_bytes_of_an_attachment_travel_with_what_names_it() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    from.resource("with_file", "card", "With file", "/Files", json!({"images": ["/files/new.bin"]})).await;
    from.attachment("/files/new.bin", b"one").await;
    migrate(&from, &target, json!({})).await;
    from.attachment("/files/new.bin", b"two").await;
    let (_, sent) = migrate(&from, &target, json!({})).await;
    assert_eq!((sent.resources, sent.attachments), (vec!["with_file".to_owned()], 1));
    assert_eq!(to.get("/api/v1/attachments/files/new.bin").await.bytes, b"two");
    // Bytes that the target has under another path need not travel again.
    from.attachment("/files/copy.bin", b"two").await;
    from.resource("with_copy", "card", "With copy", "/Files", json!({"images": ["/files/copy.bin"]})).await;
    let (_, sent) = migrate(&from, &target, json!({})).await;
    assert_eq!((sent.resources, sent.attachments), (vec!["with_copy".to_owned()], 0));
    assert_eq!(to.get("/api/v1/attachments/files/copy.bin").await.bytes, b"two");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn what_names_a_picture_that_only_the_target_has_is_sent_once() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    to.attachment("/files/theirs.bin", b"theirs").await.is(201);
    from.attachment("/files/mine.bin", b"mine").await.is(201);
    let definition = json!({"images": ["/files/theirs.bin", "/files/mine.bin"]});
    from.resource("half_mine", "card", "Half mine", "/Files", definition).await;
    let (record, first) = migrate(&from, &target, json!({})).await;
    assert_eq!(first.resources.len(), first.listed);
    assert_eq!(record["counts"]["create"], first.listed);
    let (record, second) = migrate(&from, &target, json!({})).await;
    assert_eq!(record["counts"]["unchanged"], first.listed);
    assert_eq!((second.resources, second.attachments), (vec![], 0));
    assert_eq!(to.get("/api/v1/attachments/files/theirs.bin").await.bytes, b"theirs");

    // Other bytes there make it another: it is sent, and then it is not.
    to.attachment("/files/theirs.bin", b"theirs, too").await.is(200);
    let (_, third) = migrate(&from, &target, json!({})).await;
    assert_eq!((third.resources, third.attachments), (vec!["half_mine".to_owned()], 0));
    assert_eq!(to.get("/api/v1/attachments/files/theirs.bin").await.bytes, b"theirs, too");
    let (record, fourth) = migrate(&from, &target, json!({})).await;
    assert_eq!(record["counts"]["unchanged"], first.listed);
    assert_eq!(fourth.resources, Vec::<String>::new());
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn what_was_remapped_is_left_out_under_the_same_remapping_alone() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    let account = from.get("/api/v1/resources?type=data_account&limit=1").await.is(200)["items"][0].clone();
    let account = account["id"].as_str().unwrap();
    to.resource("own_account", "data_account", "Own", "/", json!({})).await;
    let mapped = json!({
        "directory_prefix": "/From test",
        "resolutions": {account: {"action": "map", "target_id": "own_account"}},
    });
    migrate(&from, &target, mapped.clone()).await;
    let (record, again) = migrate(&from, &target, mapped).await;
    // The mapped account itself was never imported, so its contents are not there to be left out.
    assert_eq!(again.resources, [account]);
    assert_eq!(record["counts"]["create"].as_u64().unwrap() + record["counts"]["update"].as_u64().unwrap(), 0);
    // Elsewhere it would be an update.
    let (record, other) = migrate(&from, &target, json!({"directory_prefix": "/Elsewhere"})).await;
    assert!(record["counts"]["update"].as_u64().unwrap() > 0);
    assert_eq!(other.resources.len(), other.listed);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn with_changed_ids_everything_is_sent() {
    let (test, production, target) = retail_pair("").await;
    let from = test.admin();
    migrate(&from, &target, json!({})).await;
    let (_, changed) =
        migrate(&from, &target, json!({"change_ids": true, "directory_prefix": "/Copy", "on_name_clash": "rename"}))
            .await;
    assert_eq!(changed.resources.len(), changed.listed);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn what_moved_in_the_target_after_it_was_left_out_is_sent_after_all() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    migrate(&from, &target, json!({})).await;
    let body = json!({"target_id": target, "selection": {"all": true}, "confirm": true});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let id = record["id"].as_str().unwrap();
    let record = from.wait(id, |status| status != "queued" && status != "running").await;
    assert_eq!((&record["status"], &record["error"]), (&json!("awaiting_confirmation"), &Value::Null));
    // What is deleted and written anew has other contents than those that were left out.
    let card = from.get("/api/v1/resources?type=card&limit=1").await.is(200)["items"][0].clone();
    let path = format!("/api/v1/resources/{}", card["id"].as_str().unwrap());
    to.put(&path, json!({"type": "card", "name": "Moved", "directory": "/", "definition": {}})).await.is(200);
    from.post(&format!("/api/v1/migrations/{id}/confirm"), json!({})).await.is(202);
    let record = from.ended(id).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!(record["counts"]["update"], 1);
    let (here, there) = catalogues(&from, &to).await;
    assert_eq!(here, there);
    let records = to.get("/api/v1/records?kind=import").await.is(200);
    assert_eq!(records["items"].as_array().unwrap().len(), 2, "one import for each migration");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_thin_package_by_hand_is_told_incomplete_with_the_list() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    migrate(&from, &target, json!({})).await;
    let (_, thin) = migrate(&from, &target, json!({})).await;
    let card = from.get("/api/v1/resources?type=card&limit=1").await.is(200)["items"][0]["id"].clone();
    let path = format!("/api/v1/resources/{}", card.as_str().unwrap());
    to.put(&path, json!({"type": "card", "name": "Moved", "directory": "/", "definition": {}})).await.is(200);
    let record = to.upload(&thin.bytes).await;
    assert_eq!(
        (&record["status"], &record["error"]["code"]),
        (&json!("awaiting_confirmation"), &json!("package_incomplete"))
    );
    let id = record["id"].as_str().unwrap();
    let refused = to.post(&format!("/api/v1/imports/{id}/execute"), json!({"on_drift": "overwrite"})).await;
    let refused = refused.problem(409, "package_incomplete");
    assert_eq!(refused["errors"].as_array().unwrap().len(), 1);
    assert_eq!(refused["errors"][0]["field"], card);
    // Without what it lacks it is an import like any other.
    to.plan(id, json!({"resolutions": {card.as_str().unwrap(): {"action": "skip"}}})).await;
    assert_eq!(to.execute(id).await["status"], "succeeded");
    // Made for one environment, it is nothing to another.
    let third = Environment::start("third").await;
    let record = third.admin().upload(&thin.bytes).await;
    assert_eq!((&record["status"], &record["error"]["code"]), (&json!("failed"), &json!("package_incomplete")));
    for environment in [test, production, third] {
        environment.end().await;
    }
}

#[tokio::test]
async fn what_a_domain_lacks_is_told_of_that_domain_alone() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    from.resource("with_file", "card", "With file", "/Files", json!({"images": ["/files/new.bin"]})).await;
    from.attachment("/files/new.bin", b"one").await;
    migrate(&from, &target, json!({})).await;
    let source = from.get("/api/v1/environment").await.is(200)["id"].clone();
    let digests: serde_json::Map<String, Value> =
        from.get("/api/v1/environment").await.is(200)["types"].as_object().unwrap().clone();
    let found = from.get("/api/v1/resources/with_file").await.is(200);
    let file = format!("sha256:{}", ferry::domain::resource::Hash::of(b"one").hex());
    let ask = |types: Value| {
        let lines = [
            json!({"source_environment": source, "types": types}),
            json!({"id": "with_file", "content_hash": found["content_hash"]}),
            json!({"id": "unknown", "content_hash": found["content_hash"]}),
            json!({"attachment": file}),
            json!({"attachment": format!("sha256:{}", "0".repeat(64))}),
        ];
        lines.iter().map(|line| format!("{line}\n")).collect::<String>()
    };
    let lacking = async |user: &User, body: String| {
        let request = user.request(reqwest::Method::POST, "/api/v1/imports/lacking");
        user.send(request.header("content-type", "application/x-ndjson").body(body)).await
    };
    let answer = lacking(&to, ask(Value::Object(digests.clone()))).await.is(200);
    assert_eq!(answer["ids"], json!(["unknown"]));
    assert_eq!(answer["attachments"], json!([format!("sha256:{}", "0".repeat(64))]));
    // Another description of the type may mean another content by the same hash.
    let answer = lacking(&to, ask(json!({}))).await.is(200);
    assert_eq!(answer["ids"], json!(["with_file", "unknown"]));
    // Another domain knows of neither.
    let other = production.new_user("other", "admin").await;
    let answer = lacking(&other, ask(Value::Object(digests))).await.is(200);
    assert_eq!((answer["ids"].as_array().unwrap().len(), answer["attachments"].as_array().unwrap().len()), (2, 2));
    let viewer = production.new_user("default", "viewer").await;
    lacking(&viewer, ask(json!({}))).await.problem(403, "forbidden");
    for (body, code) in [
        ("", "invalid_body"),
        ("{}\n", "invalid_field"),
        ("{\"source_environment\":\"x\",\"types\":{}}\n{\"id\":\"a b\",\"content_hash\":\"x\"}\n", "invalid_field"),
        ("{\"source_environment\":\"x\",\"types\":{}}\n{\"id\":\"a\",\"content_hash\":\"x\"}\n", "invalid_field"),
        ("{\"source_environment\":\"x\",\"types\":{}}\n{\"id\":\"a\"}\n", "invalid_body"),
        ("{\"source_environment\":\"x\",\"types\":{}}\nnonsense\n", "invalid_body"),
    ] {
        lacking(&to, body.to_owned()).await.problem(422, code);
    }
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn attachment_bytes_that_moved_in_the_target_after_they_were_left_out_are_sent_after_all() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    from.attachment("/files/new.bin", b"mine").await;
    from.resource("with_file", "card", "With file", "/Files", json!({"images": ["/files/new.bin"]})).await;
    migrate(&from, &target, json!({})).await;
    // The definition is to be sent, its bytes are not: the target has them.
    from.resource("with_file", "card", "With another name", "/Files", json!({"images": ["/files/new.bin"]})).await;
    let proxy = Proxy::before(production.server.address).await;
    let slow = from.target("slow", &proxy.url(), &to.token).await;
    let import = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    proxy.once(Fault::Answer("POST /api/v1/imports ", import));
    let body = json!({"target_id": slow, "selection": {"all": true}});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    test.until(async || proxy.done() == 1).await;
    to.attachment("/files/new.bin", b"edited in production").await;
    let record = from.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!(to.get("/api/v1/attachments/files/new.bin").await.bytes, b"mine");
    let (here, there) = catalogues(&from, &to).await;
    assert_eq!(here, there);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn whole_contents_are_sent_once_however_often_that_is_interrupted() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    let card = json!({"dataset_id": "source", "chart": "bar"});
    from.resource("source", "dataset", "Source", "/", json!({})).await;
    from.resource("mapped", "card", "Mapped", "/", card).await;
    to.resource("own", "dataset", "Own", "/", json!({})).await;
    let map = json!({"source": {"action": "map", "target_id": "own"}});
    migrate(&from, &target, json!({"resolutions": map})).await;
    let proxy = Proxy::before(production.server.address).await;
    let cut = from.target("cut", &proxy.url(), &to.token).await;
    let body = json!({"target_id": cut, "selection": {"all": true}, "confirm": true, "resolutions": map});
    let record = from.post("/api/v1/migrations", body).await.is(202);
    let id = record["id"].as_str().unwrap();
    from.wait(id, |status| status == "awaiting_confirmation").await;
    // What it became there cannot be turned back into what it was here.
    to.resource("mapped", "card", "Moved", "/", json!({"dataset_id": "own"})).await;
    // The answer to the package that replaces the thin one is lost: the request comes again.
    proxy.once(Fault::LoseAnswer("PUT /api/v1/imports/"));
    from.post(&format!("/api/v1/migrations/{id}/confirm"), json!({})).await.is(202);
    let record = from.ended(id).await;
    assert_eq!((&record["status"], proxy.done()), (&json!("succeeded"), 1), "{record}");
    let arrived = to.get("/api/v1/resources/mapped").await.is(200);
    assert_eq!((&arrived["name"], &arrived["definition"]["dataset_id"]), (&json!("Mapped"), &json!("own")));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn what_a_target_edited_after_the_plan_is_taken_from_its_earlier_versions() {
    let (test, production, target) = retail_pair("").await;
    let (from, to) = (test.admin(), production.admin());
    migrate(&from, &target, json!({})).await;
    let package = from.export_all().await;
    for (id, thin) in [("gp_region", true), ("gp_region", false)] {
        let (record, waits) = match thin {
            true => {
                let body = json!({"target_id": target, "selection": {"all": true}, "confirm": true});
                (from.post("/api/v1/migrations", body).await.is(202), &from)
            }
            false => (to.post_package(&package).await.is(202), &to),
        };
        let record = record["id"].as_str().unwrap();
        waits.wait(record, |status| status == "awaiting_confirmation").await;
        let edited =
            json!({"type": "global_parameter", "name": "Moved", "directory": "/", "definition": {"data_type": "text"}});
        to.put(&format!("/api/v1/resources/{id}"), edited).await.is(200);
        match thin {
            true => from.post(&format!("/api/v1/migrations/{record}/confirm"), json!({})).await.is(202),
            false => to.post(&format!("/api/v1/imports/{record}/execute"), json!({})).await.is(202),
        };
        let ended = waits.ended(record).await;
        assert_eq!(json!([ended["status"], ended["counts"]["update"]]), json!(["succeeded", 1]), "{ended}");
        let (here, there) = catalogues(&from, &to).await;
        assert_eq!(here, there);
    }
    test.end().await;
    production.end().await;
}
