//! Rolling imports back: all of it or nothing, and only while nothing of it was touched.

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

/// Asks for a roll back and waits until it is done or refused.
pub async fn roll_back(user: &User, record: &Value) -> Value {
    let queued = user.post(&format!("/api/v1/imports/{}/rollback", id(record)), json!({})).await.is(202);
    assert!(["queued", "running"].contains(&queued["status"].as_str().unwrap()), "{queued}");
    user.ended(id(record)).await
}

/// What a catalogue holds, without what counts on: revisions and times.
pub async fn content(user: &User) -> Vec<Value> {
    let strip = |mut resource: Value| {
        for key in ["revision", "updated_at", "updated_by", "created_at"] {
            resource.as_object_mut().unwrap().remove(key);
        }
        resource
    };
    user.catalogue().await.into_iter().map(strip).collect()
}

/// What an import of a package would do now; nothing stays of it.
pub async fn parse_list(user: &User, package: &[u8]) -> Vec<Value> {
    let parsed = user.upload(package).await;
    let items = user.items(id(&parsed)).await;
    user.post(&format!("/api/v1/records/{}/cancel", id(&parsed)), json!({})).await.is(200);
    items
}

async fn source(user: &User) {
    user.attachment("/img/a.png", b"one").await.is(201);
    user.resource("acc", "data_account", "Account", "/", json!({"host": "test", "password": "t0p"})).await;
    user.resource("ds", "dataset", "Orders", "/S", json!({"data_account_id": "acc", "fields": [{"id": "f1"}]})).await;
    user.resource("card", "card", "Card", "/S", json!({"dataset_id": "ds", "images": ["/img/a.png"]})).await;
}

#[tokio::test]
async fn what_an_import_made_goes_and_what_it_changed_is_as_before() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    source(from).await;
    to.resource("own", "dataset", "Own", "/", json!({})).await;
    let empty = content(to).await;
    let first = run(to, &from.export_all().await, json!({})).await.record;
    let account = to.get("/api/v1/resources/acc").await.is(200);
    let definition = json!({"host": "prod", "password": "pr0d"});
    to.resource("acc", "data_account", "Account", "/", definition).await;
    assert_eq!(account["content_hash"], to.get("/api/v1/resources/acc").await.is(200)["content_hash"]);
    let after_first = content(to).await;

    from.attachment("/img/a.png", b"two").await.is(200);
    from.resource(
        "acc",
        "data_account",
        "Account 2",
        "/New",
        json!({"host": "test2", "password": "t0p", "connector": "x"}),
    )
    .await;
    from.resource("ds", "dataset", "Orders 2", "/S", json!({"data_account_id": "acc", "fields": [{"id": "f2"}]})).await;
    from.resource("page", "page", "Page", "/S", json!({"cards": [{"card_id": "card"}]})).await;
    let package = from.export_all().await;
    let list = parse_list(to, &package).await;
    let second = run(to, &package, json!({})).await.record;
    assert_eq!(second["counts"]["succeeded"], 4, "{second}");
    assert_eq!(to.get("/api/v1/attachments/img/a.png").await.bytes, b"two");
    // The page was given its port meanwhile: that is no change, and it stays.
    to.resource(
        "acc",
        "data_account",
        "Account 2",
        "/New",
        json!({"host": "prod", "port": 7, "password": {"$secret": "set"}, "connector": "x"}),
    )
    .await;
    let undone = roll_back(to, &second).await;
    assert_eq!((&undone["status"], &undone["error"]), (&json!("rolled_back"), &Value::Null), "{undone}");
    assert_eq!(undone["rolled_back_by"], "admin");
    assert_eq!(undone["counts"], second["counts"]);
    assert_eq!(undone["checklist_total"], 0, "nothing of it is left to do");
    let mut expected = after_first.clone();
    expected[0]["definition"]["port"] = json!(7);
    assert_eq!(content(to).await, expected);
    assert_eq!(to.get("/api/v1/attachments/img/a.png").await.bytes, b"one");
    // The target is for the next import what it was for this one, and it goes through again.
    assert_eq!(parse_list(to, &package).await, list);
    let again = run(to, &package, json!({})).await.record;
    assert_eq!(again["counts"]["succeeded"], 4, "{again}");
    let revisions = to.get("/api/v1/resources/page/revisions").await.is(200);
    assert_eq!(revisions["items"].as_array().unwrap().iter().map(|one| &one["revision"]).collect::<Vec<_>>(), [2, 1]);
    roll_back(to, &again).await;

    let undone = roll_back(to, &first).await;
    assert_eq!(undone["status"], "rolled_back", "{undone}");
    assert_eq!(content(to).await, empty);
    assert_eq!(undone["warnings"][0]["code"], "secrets_lost", "{undone}");
    assert_eq!(undone["warnings"][0]["resource_id"], "acc");
    to.get("/api/v1/attachments/img/a.png").await.problem(404, "not_found");
    to.post(&format!("/api/v1/imports/{}/rollback", id(&first)), json!({})).await.problem(409, "wrong_state");
    to.post(&format!("/api/v1/records/{}/retry", id(&first)), json!({})).await.problem(409, "wrong_state");
    pair.end().await;
}

#[tokio::test]
async fn nothing_is_rolled_back_while_something_was_touched_since_and_it_is_named() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    source(from).await;
    let record = run(to, &from.export_all().await, json!({})).await.record;
    let path = format!("/api/v1/imports/{}/rollback", id(&record));
    let fields = |problem: &Value| {
        problem["errors"].as_array().unwrap().iter().map(|one| one["field"].clone()).collect::<Vec<_>>()
    };

    to.resource("mine", "card", "Mine", "/", json!({"dataset_id": "ds", "images": ["/img/a.png"]})).await;
    let problem = to.post(&path, json!({})).await.problem(409, "touched_since");
    assert_eq!(fields(&problem), ["mine"]);
    assert!(problem["detail"].as_str().unwrap().contains("Mine was changed since the import"), "{problem}");
    to.delete("/api/v1/resources/mine").await.is(204);

    to.resource("ds", "dataset", "Orders", "/S", json!({"sql": "select 1", "fields": [{"id": "f1"}]})).await;
    to.delete("/api/v1/resources/card").await.is(204);
    to.attachment("/img/a.png", b"theirs").await.is(200);
    let before = content(to).await;
    let problem = to.post(&path, json!({})).await.problem(409, "touched_since");
    assert_eq!(fields(&problem), ["card", "ds", "/img/a.png"]);
    assert_eq!(content(to).await, before);
    assert_eq!(to.get(&format!("/api/v1/records/{}", id(&record))).await.is(200)["status"], "succeeded");

    // What is as it was written again does not stand in the way.
    to.attachment("/img/a.png", b"one").await.is(200);
    to.resource("card", "card", "Card", "/S", json!({"dataset_id": "ds", "images": ["/img/a.png"]})).await;
    to.resource("ds", "dataset", "Orders", "/S", json!({"data_account_id": "acc", "fields": [{"id": "f1"}]})).await;
    assert_eq!(roll_back(to, &record).await["status"], "rolled_back");
    assert_eq!(content(to).await, Vec::<Value>::new());
    pair.end().await;
}

#[tokio::test]
async fn a_taken_name_and_a_new_circle_stop_a_roll_back_and_the_import_stands() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("ds", "dataset", "Orders", "/", json!({})).await;
    from.resource("inner", "offline_dev_task", "Inner", "/", json!({"nodes": []})).await;
    from.resource("task", "offline_dev_task", "Task", "/", json!({"nodes": [{"id": "a", "task_id": "inner"}]})).await;
    run(to, &from.export_all().await, json!({})).await;
    from.resource("ds", "dataset", "Orders 2", "/", json!({})).await;
    from.resource("task", "offline_dev_task", "Task", "/", json!({"nodes": []})).await;
    let record = run(to, &from.export_all().await, json!({})).await.record;
    // Whoever took the name may keep it; the circle would be closed by what comes back.
    to.resource("other", "dataset", "Orders", "/", json!({})).await;
    let before = content(to).await;
    let stands = roll_back(to, &record).await;
    assert_eq!(
        (&stands["status"], &stands["error"]["code"]),
        (&json!("succeeded"), &json!("touched_since")),
        "{stands}"
    );
    assert!(stands["error"]["message"].as_str().unwrap().contains("Orders has taken a name"), "{stands}");
    to.delete("/api/v1/resources/other").await.is(204);
    to.resource("inner", "offline_dev_task", "Inner", "/", json!({"nodes": [{"id": "a", "task_id": "task"}]})).await;
    let stands = roll_back(to, &record).await;
    assert!(stands["error"]["message"].as_str().unwrap().contains("its own subprocess"), "{stands}");
    assert_eq!(stands["rolled_back_by"], Value::Null);
    to.resource("inner", "offline_dev_task", "Inner", "/", json!({"nodes": []})).await;
    assert_eq!(content(to).await.len(), before.len() - 1);
    assert_eq!(roll_back(to, &record).await["status"], "rolled_back");
    assert_eq!(to.get("/api/v1/resources/ds").await.is(200)["name"], "Orders");
    pair.end().await;
}

#[tokio::test]
async fn a_changed_id_attempt_is_cleaned_up_and_lifted_tombstones_come_back() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    source(from).await;
    let package = from.export_all().await;
    let copied = run(to, &package, json!({"change_ids": true})).await.record;
    assert_eq!(content(to).await.len(), 3);
    assert_eq!(roll_back(to, &copied).await["status"], "rolled_back");
    assert_eq!(content(to).await, Vec::<Value>::new());

    run(to, &package, json!({})).await;
    to.resource("ds", "dataset", "Orders", "/S", json!({"data_account_id": "acc"})).await;
    to.delete("/api/v1/resources/card").await.is(204);
    to.delete("/api/v1/resources/ds").await.is(204);
    let list = parse_list(to, &package).await;
    let (before, restore) = (content(to).await, json!({"action": "restore"}));
    let restored = run(to, &package, json!({"resolutions": {"card": restore, "ds": restore}})).await.record;
    assert_eq!(restored["counts"]["create"], 2, "{restored}");
    assert_eq!(roll_back(to, &restored).await["status"], "rolled_back");
    assert_eq!(content(to).await, before);
    // Deleted as they were, the fields too.
    assert_eq!(parse_list(to, &package).await, list);
    assert_eq!(list.iter().find(|item| item["resource_id"] == "ds").unwrap()["errors"][0]["code"], "deleted_in_target");
    pair.end().await;
}

#[tokio::test]
async fn a_migration_is_rolled_back_at_its_target_with_the_rights_of_its_token() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    source(from).await;
    let target = from.target("production", &pair.production.server.url(), &to.token).await;
    let started =
        from.post("/api/v1/migrations", json!({"target_id": target, "selection": {"all": true}})).await.is(202);
    let migrated = from.ended(id(&started)).await;
    assert_eq!(migrated["status"], "succeeded");
    let path = format!("/api/v1/migrations/{}/rollback", id(&migrated));
    to.resource("ds", "dataset", "Orders", "/S", json!({"fields": []})).await;
    let problem = from.post(&path, json!({})).await.problem(409, "touched_since");
    assert!(problem["detail"].as_str().unwrap().contains("Orders was changed since"), "{problem}");
    to.resource("ds", "dataset", "Orders", "/S", json!({"data_account_id": "acc", "fields": [{"id": "f1"}]})).await;

    let may_not = pair.production.new_user("default", "viewer").await;
    from.patch(&format!("/api/v1/targets/{target}"), json!({"token": may_not.token})).await.is(200);
    let problem = from.post(&path, json!({})).await;
    assert!(problem.text().contains("migration.import"), "{}", problem.text());
    from.patch(&format!("/api/v1/targets/{target}"), json!({"token": to.token})).await.is(200);

    from.post(&path, json!({})).await.is(202);
    let undone = from.ended(id(&migrated)).await;
    assert_eq!(undone["status"], "rolled_back", "{undone}");
    assert_eq!(content(to).await, Vec::<Value>::new());
    let there = to.get(&format!("/api/v1/records/{}", migrated["remote_record_id"].as_str().unwrap())).await.is(200);
    assert_eq!(there["status"], "rolled_back");
    // It can be migrated again.
    let started =
        from.post("/api/v1/migrations", json!({"target_id": target, "selection": {"all": true}})).await.is(202);
    assert_eq!(from.ended(id(&started)).await["counts"]["create"], 3);
    pair.end().await;
}

#[tokio::test]
async fn of_two_roll_backs_at_once_one_is_done() {
    let pair = Pair::start().await;
    source(&pair.from).await;
    let record = run(&pair.to, &pair.from.export_all().await, json!({})).await.record;
    let path = format!("/api/v1/imports/{}/rollback", id(&record));
    let (one, two) = tokio::join!(pair.to.post(&path, json!({})), pair.to.post(&path, json!({})));
    let mut answers = [one.status.as_u16(), two.status.as_u16()];
    answers.sort_unstable();
    assert_eq!(answers, [202, 409]);
    let cancel = pair.to.post(&format!("/api/v1/records/{}/cancel", id(&record)), json!({})).await;
    cancel.problem(409, "wrong_state");
    assert_eq!(pair.to.ended(id(&record)).await["status"], "rolled_back");
    assert_eq!(content(&pair.to).await, Vec::<Value>::new());
    pair.end().await;
}
