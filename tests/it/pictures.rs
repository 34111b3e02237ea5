//! Attachments that several resources share, and that were changed in the target.

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;

const PATH: &str = "/img/logo.png";

async fn card(user: &User, id: &str) {
    user.resource(id, "card", &format!("Card {id}"), "/", json!({"images": [PATH]})).await;
}

async fn bytes(user: &User) -> Vec<u8> {
    user.get(&format!("/api/v1/attachments{PATH}")).await.bytes
}

async fn some(user: &User, ids: &[&str]) -> Vec<u8> {
    user.export(json!({"resource_ids": ids})).await
}

fn warnings(item: &Value) -> Vec<(&str, &str)> {
    let lines = item["warnings"].as_array().unwrap().iter();
    lines.map(|line| (line["code"].as_str().unwrap(), line["message"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_picture_changed_in_the_target_is_protected_and_those_who_share_it_are_told() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    for id in ["c1", "c2"] {
        card(from, id).await;
    }
    from.attachment(PATH, b"one").await.is(201);
    run(to, &from.export_all().await, json!({})).await;
    // Changed on both sides, and brought by a card that is new.
    to.attachment(PATH, b"theirs").await.is(200);
    from.attachment(PATH, b"two").await.is(200);
    card(from, "c3").await;
    let package = some(from, &["c3"]).await;
    let blocked = run(to, &package, json!({"on_drift": "block"})).await;
    assert_eq!((&blocked.item("c3")["method"], &blocked.item("c3")["drifted"]), (&json!("blocked"), &json!(true)));
    assert_eq!(blocked.item("c3")["errors"][0]["code"], "changed_in_target");
    assert_eq!(bytes(to).await, b"theirs");

    let written = run(to, &package, json!({})).await;
    let changed = format!(
        "The attachment {PATH} was changed in the target since it was last imported; that change will be overwritten."
    );
    let shared = format!(
        "The attachment {PATH} gets other bytes. It is also used by Card c1, Card c2, outside the package: they change with it."
    );
    let told = vec![("changed_in_target", changed.as_str()), ("attachment_shared", shared.as_str())];
    assert_eq!(warnings(written.item("c3")), told);
    assert_eq!(written.planned["warnings"][0]["code"], "attachment_shared");
    assert_eq!(bytes(to).await, b"two");

    // What this import left behind is no change of the target's.
    from.attachment(PATH, b"three").await.is(200);
    card(from, "c4").await;
    let again = run(to, &some(from, &["c4"]).await, json!({"on_drift": "block"})).await;
    assert_eq!(again.record["status"], "succeeded");
    assert_eq!(warnings(again.item("c4")).iter().map(|line| line.0).collect::<Vec<_>>(), ["attachment_shared"]);
    // The new path of changed IDs replaces nothing.
    from.attachment(PATH, b"four").await.is(200);
    let copied = run(to, &some(from, &["c4"]).await, json!({"change_ids": true, "on_drift": "block"})).await;
    assert_eq!((&copied.record["status"], warnings(copied.item("c4"))), (&json!("succeeded"), vec![]));
    pair.end().await;
}

#[tokio::test]
async fn one_card_that_brings_a_shared_picture_leaves_the_other_without_drift() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    for id in ["c1", "c2"] {
        card(from, id).await;
    }
    from.attachment(PATH, b"one").await.is(201);
    run(to, &from.export_all().await, json!({})).await;
    let before = to.get("/api/v1/resources/c2").await.is(200);
    from.attachment(PATH, b"two").await.is(200);
    let alone = run(to, &some(from, &["c1"]).await, json!({})).await;
    assert_eq!(alone.outcome(), json!({"c1": ["update", "succeeded"]}));
    let after = to.get("/api/v1/resources/c2").await.is(200);
    assert_ne!(after["content_hash"], before["content_hash"]);
    assert_eq!(after["revision"], before["revision"]);
    let since = after["updated_at"].as_str().unwrap().replace('+', "%2B");
    let changed = to.get(&format!("/api/v1/resources?updated_since={since}")).await.is(200);
    let ids: Vec<&Value> = changed["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert!(ids.contains(&&json!("c2")) && after["updated_at"] != before["updated_at"], "{changed}");
    from.attachment(PATH, b"three").await.is(200);
    let all = run(to, &from.export_all().await, json!({"on_drift": "block"})).await;
    for id in ["c1", "c2"] {
        assert_eq!((&all.item(id)["drifted"], &all.item(id)["status"]), (&json!(false), &json!("succeeded")), "{id}");
    }
    pair.end().await;
}
