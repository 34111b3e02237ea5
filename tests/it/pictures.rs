//! Attachments that several resources share, and that were changed in the target.

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;
use crate::support::gate::Gate;

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

/// What the cards have to be with these bytes: as in an environment that never had others.
async fn hashes_with(user: &User, bytes: &[u8]) -> Vec<Value> {
    user.attachment(PATH, bytes).await;
    hashes(user).await
}

async fn hashes(user: &User) -> Vec<Value> {
    let mut found = user.catalogue().await;
    found.sort_by_key(|resource| resource["id"].to_string());
    found.iter().map(|resource| json!([resource["id"], resource["content_hash"]])).collect()
}

/// A source and a target with two cards that share a picture; a package of one of them, the target's own parse list of
/// it, and what the cards are with the bytes of either.
struct Shared {
    pair: Pair,
    package: Vec<u8>,
    with_mine: Vec<Value>,
    with_theirs: Vec<Value>,
}

impl Shared {
    async fn start() -> Self {
        let pair = Pair::start().await;
        let (from, to) = (&pair.from, &pair.to);
        for id in ["c1", "c2"] {
            card(from, id).await;
        }
        let with_theirs = hashes_with(from, b"theirs").await;
        let with_mine = hashes_with(from, b"mine").await;
        let package = some(from, &["c1"]).await;
        card(to, "c1").await;
        card(to, "c2").await;
        to.attachment(PATH, b"before").await.is(201);
        Self { pair, package, with_mine, with_theirs }
    }

    async fn parsed(&self) -> String {
        let record = self.pair.to.upload(&self.package).await;
        assert_eq!(record["status"], "awaiting_confirmation", "{record}");
        record["id"].as_str().unwrap().to_owned()
    }

    /// The target holds these bytes, and both cards are what they are with them, in what an export says too.
    async fn assert_holds(&self, expected: &[u8], with: &[Value]) {
        let to = &self.pair.to;
        assert_eq!(bytes(to).await, expected);
        assert_eq!(hashes(to).await, with);
        let there = run(&self.pair.from, &to.export_all().await, json!({})).await;
        let method = if with == self.with_mine { "unchanged" } else { "update" };
        for id in ["c1", "c2"] {
            assert_eq!(
                (&there.item(id)["method"], &there.item(id)["status"] != "failed"),
                (&json!(method), true),
                "{id}"
            );
        }
        assert_eq!(hashes(&self.pair.from).await, with);
    }

    /// A later import tells what was changed in the target, and what was not.
    async fn assert_drifted(&self, expected: bool) {
        let parsed = self.parsed().await;
        let item = self.pair.to.item(&json!({"id": parsed}), "c1").await;
        assert_eq!(item["drifted"], expected, "{item}");
        self.pair.to.post(&format!("/api/v1/records/{parsed}/cancel"), json!({})).await.is(200);
    }
}

#[tokio::test]
async fn a_picture_written_after_the_parse_list_was_made_is_replaced_by_the_import() {
    let shared = Shared::start().await;
    let to = &shared.pair.to;
    for method in ["update", "unchanged"] {
        let id = shared.parsed().await;
        assert_eq!(to.item(&json!({"id": id}), "c1").await["method"], method);
        to.attachment(PATH, b"theirs").await.is(200);
        assert_eq!(hashes(to).await, shared.with_theirs);
        let ended = to.execute(&id).await;
        assert_eq!((&ended["status"], &ended["counts"]["update"]), (&json!("succeeded"), &json!(1)), "{ended}");
        assert_eq!(bytes(to).await, b"mine");
        assert_eq!(hashes(to).await, shared.with_mine);
        shared.assert_drifted(false).await;
    }
    shared.assert_holds(b"mine", &shared.with_mine).await;
    shared.pair.end().await;
}

#[tokio::test]
async fn a_picture_written_while_an_import_applies_comes_after_it() {
    let shared = Shared::start().await;
    let to = &shared.pair.to;
    let id = shared.parsed().await;
    let mut gate = Gate::shut(&shared.pair.production.database, "resources").await;
    let importing = to.execute(&id);
    let writing = async {
        gate.reached().await;
        let open = async {
            gate.queued_behind().await;
            gate.open().await;
        };
        tokio::join!(to.attachment(PATH, b"theirs"), open).0.is(200);
    };
    let (ended, ()) = tokio::join!(importing, writing);
    assert_eq!((&ended["status"], &ended["counts"]["update"]), (&json!("succeeded"), &json!(1)), "{ended}");
    assert_eq!(bytes(to).await, b"theirs");
    shared.assert_drifted(true).await;
    shared.assert_holds(b"theirs", &shared.with_theirs).await;
    shared.pair.end().await;
}

#[tokio::test]
async fn a_picture_being_written_when_an_import_comes_to_apply_is_replaced_by_it() {
    let shared = Shared::start().await;
    let to = &shared.pair.to;
    let id = shared.parsed().await;
    let mut gate = Gate::shut(&shared.pair.production.database, "attachments").await;
    let importing = async {
        gate.reached().await;
        let open = async {
            gate.queued_behind().await;
            gate.open().await;
        };
        tokio::join!(to.execute(&id), open).0
    };
    let (written, ended) = tokio::join!(to.attachment(PATH, b"theirs"), importing);
    written.is(200);
    assert_eq!((&ended["status"], &ended["counts"]["update"]), (&json!("succeeded"), &json!(1)), "{ended}");
    shared.assert_drifted(false).await;
    shared.assert_holds(b"mine", &shared.with_mine).await;
    shared.pair.end().await;
}
