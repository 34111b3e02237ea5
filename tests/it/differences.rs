//! What differs: before an import, after it, between revisions, here and at a target.

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

async fn difference(user: &User, record: &Value, resource: &str) -> Value {
    user.get(&format!("/api/v1/imports/{}/items/{resource}/diff", id(record))).await.is(200)
}

fn paths(difference: &Value) -> Vec<(String, String)> {
    let text = |change: &Value, key: &str| change[key].as_str().unwrap().to_owned();
    difference["changes"].as_array().unwrap().iter().map(|one| (text(one, "path"), text(one, "kind"))).collect()
}

/// A source that was imported once, and then changed on both sides.
async fn changed(pair: &Pair) -> Vec<u8> {
    let (from, to) = (&pair.from, &pair.to);
    from.attachment("/img/a.png", b"one").await.is(201);
    let account = json!({"host": "test", "password": "t0p", "options": {"a": 1}});
    from.resource("acc", "data_account", "Account", "/", account).await;
    let fields = json!([{"id": "f1", "name": "a"}, {"id": "f2"}, {"id": "f3"}]);
    from.resource("ds", "dataset", "Orders", "/S", json!({"data_account_id": "acc", "fields": fields})).await;
    from.resource("card", "card", "Card", "/", json!({"dataset_id": "ds", "images": ["/img/a.png"]})).await;
    run(to, &from.export_all().await, json!({})).await;
    to.resource(
        "acc",
        "data_account",
        "Account",
        "/",
        json!({"host": "prod", "password": "pr0d", "options": {"a": 1}}),
    )
    .await;
    to.resource("card", "card", "Card", "/", json!({"dataset_id": "ds", "images": ["/img/a.png"], "chart": "bar"}))
        .await;
    from.attachment("/img/a.png", b"two").await.is(200);
    from.resource(
        "acc",
        "data_account",
        "Account",
        "/",
        json!({"host": "test", "password": "t0p2", "options": {"a": 2}}),
    )
    .await;
    let fields = json!([{"id": "f3"}, {"id": "f1", "name": "b"}, {"id": "f4"}]);
    from.resource("ds", "dataset", "Orders 2", "/T", json!({"data_account_id": "acc", "fields": fields})).await;
    from.resource("new", "dataset", "New", "/", json!({"schedule": {"enabled": true}})).await;
    from.export_all().await
}

#[tokio::test]
async fn a_difference_tells_both_sides_the_patch_and_changes_by_id_and_no_secret() {
    let pair = Pair::start().await;
    let package = changed(&pair).await;
    let to = &pair.to;
    let parsed = to.upload(&package).await;
    let found = difference(to, &parsed, "ds").await;
    assert_eq!(found["target"], to.get("/api/v1/resources/ds").await.is(200)["definition"]);
    assert_eq!(found["incoming"], pair.from.get("/api/v1/resources/ds").await.is(200)["definition"]);
    assert_eq!(found["name"], json!({"before": "Orders", "after": "Orders 2"}));
    assert_eq!(found["directory"], json!({"before": "/S", "after": "/T"}));
    let expected = [
        ("/fields/id=f2", "removed"),
        ("/fields/id=f3", "moved"),
        ("/fields/id=f1/name", "changed"),
        ("/fields/id=f4", "added"),
    ];
    assert_eq!(paths(&found), expected.map(|(path, kind)| (path.to_owned(), kind.to_owned())));
    assert_eq!((&found["changes_total"], &found["method"]), (&json!(4), &json!("update")));
    let patch: json_patch::Patch = serde_json::from_value(found["patch"].clone()).unwrap();
    let mut patched = found["target"].clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched, found["incoming"]);

    // What belongs to the target stays there, and is no difference.
    let account = difference(to, &parsed, "acc").await;
    assert_eq!(account["incoming"], json!({"host": "prod", "password": {"$secret": "set"}, "options": {"a": 2}}));
    assert_eq!(paths(&account), [("/options/a".to_owned(), "changed".to_owned())]);
    let card = difference(to, &parsed, "card").await;
    assert_eq!(card["attachments"].as_array().unwrap().len(), 1);
    assert_eq!(card["attachments"][0]["path"], "/img/a.png");
    assert_ne!(card["attachments"][0]["before"], card["attachments"][0]["after"]);
    // What is new arrives paused.
    let new = difference(to, &parsed, "new").await;
    assert_eq!((&new["target"], &new["incoming"]), (&Value::Null, &json!({"schedule": {"enabled": false}})));

    let list = to.get(&format!("/api/v1/imports/{}/diff", id(&parsed))).await.is(200);
    let shown = list["items"].as_array().unwrap();
    let totals = shown.iter().map(|one| (one["resource_id"].as_str().unwrap(), one["changes_total"].as_u64().unwrap()));
    assert_eq!(totals.collect::<Vec<_>>(), [("acc", 1), ("ds", 4), ("card", 1)]);
    let page = to.get(&format!("/api/v1/imports/{}/diff?limit=2", id(&parsed))).await.is(200);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = to.get(&format!("/api/v1/imports/{}/diff?limit=2&cursor={next}", id(&parsed))).await.is(200);
    assert_eq!((rest["items"][0].clone(), &rest["next_cursor"]), (shown[2].clone(), &Value::Null));
    to.get(&format!("/api/v1/imports/{}/items/nowhere/diff", id(&parsed))).await.problem(404, "not_found");

    // Executed, it says the same of what was done, though the target goes on.
    to.execute(id(&parsed)).await;
    to.resource("ds", "dataset", "Later", "/", json!({})).await;
    let after = difference(to, &parsed, "ds").await;
    for key in ["target", "incoming", "name", "directory", "changes", "patch"] {
        assert_eq!(after[key], found[key], "{key}");
    }
    assert_eq!(difference(to, &parsed, "new").await["method"], "create");
    pair.end().await;
}

#[tokio::test]
async fn with_changed_ids_and_maps_the_incoming_definition_is_as_it_arrives() {
    let pair = Pair::start().await;
    let package = changed(&pair).await;
    let to = &pair.to;
    to.resource("own", "data_account", "Own", "/", json!({})).await;
    let parsed = to.upload(&package).await;
    to.plan(id(&parsed), json!({"resolutions": {"acc": {"action": "map", "target_id": "own"}}})).await;
    let found = difference(to, &parsed, "ds").await;
    assert_eq!(found["incoming"]["data_account_id"], "own");
    assert!(paths(&found).contains(&("/data_account_id".to_owned(), "changed".to_owned())));
    to.plan(id(&parsed), json!({"change_ids": true, "on_name_clash": "rename"})).await;
    let found = difference(to, &parsed, "card").await;
    let items = to.items(id(&parsed)).await;
    let dataset = items.iter().find(|item| item["resource_id"] == "ds").unwrap();
    assert_eq!((&found["incoming"]["dataset_id"], &found["target"]), (&dataset["new_id"], &Value::Null));
    to.execute(id(&parsed)).await;
    assert_eq!(difference(to, &parsed, "card").await["incoming"], found["incoming"]);
    pair.end().await;
}

#[tokio::test]
async fn drift_says_which_side_changed_and_who() {
    let pair = Pair::start().await;
    let package = changed(&pair).await;
    let to = &pair.to;
    let parsed = to.upload(&package).await;
    let items = to.items(id(&parsed)).await;
    let drift = |id: &str| items.iter().find(|item| item["resource_id"] == id).unwrap()["drift"].clone();
    assert_eq!(
        [drift("ds"), drift("card"), drift("new"), drift("acc")],
        [json!("source"), json!("both"), json!(null), json!("source")]
    );
    let card = items.iter().find(|item| item["resource_id"] == "card").unwrap();
    let there = to.get("/api/v1/resources/card").await.is(200);
    assert_eq!(card["target_changed"], json!({"by": "admin", "at": there["updated_at"]}));
    // Taken back at the source, it is the target's alone.
    pair.from.attachment("/img/a.png", b"one").await.is(200);
    let parsed = to.upload(&pair.from.export_all().await).await;
    assert_eq!(to.item(&parsed, "card").await["drift"], "target");
    pair.end().await;
}

#[tokio::test]
async fn two_revisions_are_compared_and_each_can_be_read() {
    let pair = Pair::start().await;
    let user = &pair.from;
    for (name, n) in [("One", 1), ("Two", 2), ("Two", 3)] {
        user.resource("ds", "dataset", name, "/", json!({"sql": format!("select {n}")})).await;
    }
    let found = user.get("/api/v1/resources/ds/diff?from=1&to=2").await.is(200);
    assert_eq!(found["name"], json!({"before": "One", "after": "Two"}));
    assert_eq!(paths(&found), [("/sql".to_owned(), "changed".to_owned())]);
    assert_eq!((&found["before"]["sql"], &found["after"]["sql"]), (&json!("select 1"), &json!("select 2")));
    assert_eq!(user.get("/api/v1/resources/ds/diff?from=1").await.is(200)["to"], 3);
    let first = user.get("/api/v1/resources/ds/revisions/1").await.is(200);
    assert_eq!((&first["name"], &first["definition"]), (&json!("One"), &json!({"sql": "select 1"})));
    user.get("/api/v1/resources/ds/revisions/9").await.problem(404, "not_found");
    user.get("/api/v1/resources/ds/diff?from=9").await.problem(404, "not_found");
    let last = user.get("/api/v1/resources/ds/diff").await.is(200);
    assert_eq!((&last["from"], &last["to"]), (&json!(2), &json!(3)));
    // What one may not read now, one may not read as it was.
    let other = pair.test.new_user("default", "developer").await;
    other.get("/api/v1/resources/ds/revisions/1").await.problem(404, "not_found");
    other.get("/api/v1/resources/ds/diff?from=1").await.problem(404, "not_found");
    pair.end().await;
}

#[tokio::test]
async fn a_migration_shows_what_its_target_says_with_the_rights_of_its_token() {
    let pair = Pair::start().await;
    changed(&pair).await;
    let (from, to) = (&pair.from, &pair.to);
    let target = from.target("production", &pair.production.server.url(), &to.token).await;
    let body = json!({"target_id": target, "selection": {"all": true}, "confirm": true});
    let started = from.post("/api/v1/migrations", body).await.is(202);
    let shown = from.wait(id(&started), |status| status == "awaiting_confirmation").await;
    let path = format!("/api/v1/migrations/{}", id(&shown));
    let relayed = from.get(&format!("{path}/items/ds/diff")).await.is(200);
    let there = json!({"id": shown["remote_record_id"]});
    assert_eq!(relayed, difference(to, &there, "ds").await);
    let list = from.get(&format!("{path}/diff?limit=1")).await.is(200);
    assert_eq!((list["items"].as_array().unwrap().len(), list["next_cursor"].is_string()), (1, true));
    let found = from.get(&format!("{path}/target-resources?type=dataset&q=ord%26rs%2b")).await.is(200);
    assert_eq!(found["items"], json!([]));
    let found = from.get(&format!("{path}/target-resources?type=dataset&q=ord")).await.is(200);
    assert_eq!(found["items"], json!([{"id": "ds", "type": "dataset", "name": "Orders", "directory": "/S"}]));
    from.get(&format!("{path}/items/nowhere/diff")).await.problem(409, "not_found");
    let may_not = pair.production.new_user("default", "viewer").await;
    from.patch(&format!("/api/v1/targets/{target}"), json!({"token": may_not.token})).await.is(200);
    let refused = from.get(&format!("{path}/items/ds/diff")).await;
    assert!(refused.text().contains("migration.import"), "{}", refused.text());
    from.get(&format!("/api/v1/migrations/{}/diff", uuid::Uuid::nil())).await.problem(404, "not_found");
    from.patch(&format!("/api/v1/targets/{target}"), json!({"token": to.token})).await.is(200);
    from.post(&format!("/api/v1/records/{}/cancel", id(&shown)), json!({})).await.is(200);
    pair.end().await;
}

#[tokio::test]
async fn impact_names_who_outside_uses_what_changes_and_the_fields_that_they_lose() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let fields = |ids: &[&str]| ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>();
    from.resource("ds", "dataset", "Orders", "/", json!({"fields": fields(&["f1", "f2", "f3"])})).await;
    from.resource("same", "dataset", "Same", "/", json!({"fields": fields(&["f1"])})).await;
    from.resource("card", "card", "Card", "/", json!({"dataset_id": "ds", "metrics": [{"field_id": "f1"}]})).await;
    run(to, &from.export_all().await, json!({})).await;
    let uses = |dataset: &str| json!({"dataset_id": dataset, "metrics": [{"field_id": "f1"}], "dimensions": [{"field_id": "f2"}, {"field_id": "f3"}]});
    to.resource("mine", "card", "Mine", "/M", uses("ds")).await;
    to.resource("other", "card", "Other", "/", uses("same")).await;
    to.resource("child", "dataset", "Child", "/", json!({"parent_dataset_ids": ["ds"], "sql": "select f1"})).await;
    from.resource("ds", "dataset", "Orders 2", "/", json!({"fields": fields(&["f3", "f4"])})).await;
    from.resource("card", "card", "Card", "/", json!({"dataset_id": "ds", "metrics": []})).await;
    let parsed = to.upload(&from.export_all().await).await;
    let path = format!("/api/v1/imports/{}/impact", id(&parsed));
    let found = to.get(&path).await.is(200);
    let used = |lost: &[&str]| {
        let lost: Vec<_> = lost.iter().map(|id| json!({"key": "ds_fd", "id": id})).collect();
        json!({"resource_id": "ds", "type": "dataset", "name": "Orders 2", "method": "update", "disappearing": lost})
    };
    let with_role = |mut used: Value, role: &str| {
        used["role"] = json!(role);
        used
    };
    let expected = json!([
        {"resource_id": "child", "type": "dataset", "name": "Child", "directory": "/", "uses": [with_role(used(&[]), "Input Dataset")]},
        {"resource_id": "mine", "type": "card", "name": "Mine", "directory": "/M", "uses": [with_role(used(&["f1", "f2"]), "Dataset")]},
    ]);
    assert_eq!(found, json!({"items": expected, "next_cursor": null}));
    let first = to.get(&format!("{path}?limit=1")).await.is(200);
    let rest = to.get(&format!("{path}?limit=1&cursor={}", first["next_cursor"].as_str().unwrap())).await.is(200);
    assert_eq!((&rest["items"][0], &rest["next_cursor"]), (&expected[1], &Value::Null));
    to.post(&format!("/api/v1/records/{}/cancel", id(&parsed)), json!({})).await.is(200);
    to.get(&path).await.problem(409, "wrong_state");
    pair.end().await;
}
