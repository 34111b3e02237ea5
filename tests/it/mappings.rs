//! Choices that are remembered: made again at the next import from the same environment.

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;

async fn mappings(user: &User) -> Vec<Value> {
    user.get("/api/v1/mappings").await.is(200)["items"].as_array().unwrap().clone()
}

async fn source(user: &User) {
    user.resource("acc", "data_account", "Account", "/", json!({"connector": "x"})).await;
    user.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc"})).await;
    user.resource("card", "card", "Card", "/", json!({"dataset_id": "ds"})).await;
}

#[tokio::test]
async fn a_map_and_a_rename_are_chosen_again_marked_and_can_be_overridden_and_forgotten() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    source(from).await;
    to.resource("own", "data_account", "Account", "/", json!({})).await;
    to.resource("orders", "dataset", "Orders", "/", json!({})).await;
    let package = from.export_all().await;
    let parsed = to.upload(&package).await;
    let account = to.item(&parsed, "acc").await;
    assert_eq!(account["errors"][0]["message"], "Duplicate Data Account name");
    assert_eq!(account["suggestion"], json!({"action": "map", "target_id": "own"}));

    let chosen =
        json!({"resolutions": {"acc": account["suggestion"], "ds": {"action": "rename", "name": "Orders (test)"}}});
    let first = run(to, &package, chosen).await;
    assert_eq!(first.record["status"], "succeeded", "{}", first.record);
    assert_eq!(first.item("acc")["remembered"], Value::Null);
    let known = mappings(to).await;
    let shown: Vec<_> = known
        .iter()
        .map(|one| json!([one["source_id"], one["action"], one["target_id"], one["new_name"], one["chosen_by"]]))
        .collect();
    assert_eq!(
        shown,
        [json!(["acc", "map", "own", null, "admin"]), json!(["ds", "rename", null, "Orders (test)", "admin"])]
    );
    assert_eq!(known[0]["source_environment"], from.get("/api/v1/environment").await.is(200)["id"]);

    // Nobody says anything: a migration that nobody watches goes the same way.
    let again = run(to, &package, json!({})).await;
    assert_eq!((&again.record["status"], &again.record["counts"]["map"]), (&json!("succeeded"), &json!(1)));
    assert_eq!([&again.item("acc")["remembered"], &again.item("ds")["remembered"]], [true, true]);
    assert_eq!(
        (&again.item("ds")["method"], &again.item("ds")["new_name"]),
        (&json!("unchanged"), &json!("Orders (test)"))
    );
    let target = from.target("production", &pair.production.server.url(), &to.token).await;
    from.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc", "sql": "select 1"})).await;
    let started =
        from.post("/api/v1/migrations", json!({"target_id": target, "selection": {"all": true}})).await.is(202);
    let migrated = from.ended(started["id"].as_str().unwrap()).await;
    assert_eq!((&migrated["status"], &migrated["counts"]["update"]), (&json!("succeeded"), &json!(1)), "{migrated}");
    assert_eq!(
        to.get("/api/v1/resources/ds").await.is(200)["definition"],
        json!({"data_account_id": "own", "sql": "select 1"})
    );

    // The newest choice counts, and `import` forgets.
    to.resource("orders", "dataset", "Others", "/", json!({})).await;
    let other = json!({"resolutions": {"acc": {"action": "import"}, "ds": {"action": "rename", "name": "Orders"}}});
    let overridden = run(to, &package, other).await;
    assert_eq!(overridden.item("acc")["method"], "blocked");
    let known = mappings(to).await;
    assert_eq!(known.len(), 0, "its own name is no other name: {known:?}");
    pair.end().await;
}

#[tokio::test]
async fn a_remembered_map_to_what_is_gone_stops_nothing_and_is_told() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    source(from).await;
    to.resource("own", "data_account", "Other", "/", json!({})).await;
    let package = from.export_all().await;
    run(to, &package, json!({"resolutions": {"acc": {"action": "map", "target_id": "own"}}})).await;
    to.resource("ds", "dataset", "Orders", "/", json!({})).await;
    to.delete("/api/v1/resources/own").await.is(204);
    let again = run(to, &package, json!({})).await;
    assert_eq!(again.record["status"], "succeeded", "{}", again.record);
    assert_eq!((&again.item("acc")["method"], &again.item("acc")["remembered"]), (&json!("create"), &Value::Null));
    let told: Vec<_> = again.record["warnings"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert_eq!(told, ["mapping_gone"]);
    let one = mappings(to).await.pop().unwrap();
    let path = format!("/api/v1/mappings/{}", one["id"].as_str().unwrap());
    let viewer = pair.production.new_user("default", "viewer").await;
    viewer.get("/api/v1/mappings").await.problem(403, "forbidden");
    viewer.delete(&path).await.problem(403, "forbidden");
    pair.production.new_user("branch", "admin").await.delete(&path).await.problem(404, "not_found");
    to.delete(&path).await.is(204);
    to.delete(&path).await.problem(404, "not_found");
    pair.end().await;
}
