//! Packages of which all stands in the target as it comes: nothing is planned for them, and yet all is told as for any.

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;

/// A dataset that refers to what its source does not have, a card with a picture, a page.
async fn fill(from: &User) {
    let dataset = json!({"data_account_id": "acc", "fields": [{"id": "f1", "name": "a"}, {"id": "f2", "name": "b"}]});
    from.resource("ds", "dataset", "Orders", "/Sales", dataset).await;
    from.attachment("/img/a.png", b"picture").await.is(201);
    from.resource("card", "card", "Sum", "/", json!({"dataset_id": "ds", "images": ["/img/a.png"]})).await;
    from.resource("page", "page", "Home", "/", json!({"cards": [{"card_id": "card"}]})).await;
}

/// The package of a pair that has imported it once.
async fn imported(pair: &Pair) -> Vec<u8> {
    fill(&pair.from).await;
    pair.to.resource("acc", "data_account", "Production", "/", json!({})).await;
    let package = pair.from.export_all().await;
    assert_eq!(run(&pair.to, &package, json!({})).await.record["counts"]["create"], 3);
    package
}

/// Uploads a package, all of which must be found to stand as it comes, or not.
async fn parsed(pair: &Pair, package: &[u8], stands: i64) -> String {
    let record = pair.to.upload(package).await;
    let noted: i64 = sqlx::query_scalar("select count(*) from standing_imports where record_id = $1::uuid")
        .bind(record["id"].as_str().unwrap())
        .fetch_one(&mut pair.production.sql().await)
        .await
        .unwrap();
    assert_eq!(noted, stands, "{record}");
    record["id"].as_str().unwrap().to_owned()
}

fn told(items: &[Value]) -> Vec<Value> {
    items.iter().map(|item| json!([item["resource_id"], item["method"], item["errors"], item["drifted"]])).collect()
}

#[tokio::test]
async fn what_stands_as_it_comes_is_told_as_a_plan_of_everything_tells_it() {
    let pair = Pair::start().await;
    let package = imported(&pair).await;
    let again = run(&pair.to, &package, json!({})).await;
    assert_eq!(again.record["counts"]["unchanged"], 3);

    let id = parsed(&pair, &package, 1).await;
    let (seen, record) = (pair.to.items(&id).await, pair.to.get(&format!("/api/v1/records/{id}")).await.is(200));
    let planned = pair.to.plan(&id, json!({})).await;
    assert_eq!((&record["plan_digest"], &record["counts"]), (&planned["plan_digest"], &planned["counts"]));
    assert_eq!(seen, pair.to.items(&id).await);

    // Other options need what was not read at first.
    let copied = pair.to.plan(&id, json!({"change_ids": true, "directory_prefix": "/Copy"})).await;
    assert_eq!(copied["counts"]["create"], 3);
    assert_eq!(pair.to.execute(&id).await["status"], "succeeded");
    let items = pair.to.items(&id).await;
    let new = |id: &str| items.iter().find(|item| item["resource_id"] == id).unwrap()["new_id"].clone();
    let card = pair.to.get(&format!("/api/v1/resources/{}", new("card").as_str().unwrap())).await.is(200);
    assert_eq!(card["references"][0]["resource_id"], new("ds"));
    assert_ne!(card["definition"]["images"][0], "/img/a.png");
    pair.end().await;
}

#[tokio::test]
async fn what_moved_since_it_stood_is_found_before_and_at_execution() {
    type Move = (&'static str, &'static str, fn(&Pair) -> futures_util::future::LocalBoxFuture<'_, ()>);
    let moves: [Move; 4] = [
        ("ds", "update", |pair| {
            Box::pin(async { drop(pair.to.resource("ds", "dataset", "Other", "/Sales", json!({})).await) })
        }),
        ("card", "update", |pair| Box::pin(async { drop(pair.to.attachment("/img/a.png", b"theirs").await.is(200)) })),
        ("page", "blocked", |pair| Box::pin(async { drop(pair.to.delete("/api/v1/resources/page").await.is(204)) })),
        ("ds", "blocked", |pair| {
            Box::pin(async { drop(pair.to.delete("/api/v1/resources/acc?force=true").await.is(204)) })
        }),
    ];
    for (culprit, method, moved) in moves {
        let pair = Pair::start().await;
        let package = imported(&pair).await;
        let waiting = parsed(&pair, &package, 1).await;
        moved(&pair).await;
        let fresh = pair.to.items(&parsed(&pair, &package, 0).await).await;
        let found = fresh.iter().find(|item| item["resource_id"] == culprit).unwrap();
        assert_eq!(found["method"], method, "{found}");
        pair.to.execute(&waiting).await;
        assert_eq!(told(&pair.to.items(&waiting).await), told(&fresh));
        pair.end().await;
    }
}

#[tokio::test]
async fn a_feature_that_was_switched_off_stops_what_stands_too() {
    let pair = Pair::start().await;
    let package = imported(&pair).await;
    let waiting = parsed(&pair, &package, 1).await;
    pair.to.patch("/api/v1/environment", json!({"features": {"card": false}})).await.is(200);
    parsed(&pair, &package, 0).await;
    let ended = pair.to.execute(&waiting).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("feature_disabled")));
    assert!(pair.to.items(&waiting).await.iter().all(|item| item["status"] == "skipped"));
    pair.end().await;
}
