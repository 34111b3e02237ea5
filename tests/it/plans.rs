//! A plan that went stale says what moved.

use serde_json::{Value, json};

use crate::failures::{Pair, each};

fn fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_stale_plan_names_the_map_the_resource_or_the_cause_that_moved() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Test", "/", json!({})).await;
    from.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc"})).await;
    to.resource("prod", "data_account", "Production", "/", json!({})).await;
    let record = to.upload(&from.export_all().await).await;
    let id = record["id"].as_str().unwrap();
    let execute = async |body: Value| to.post(&format!("/api/v1/imports/{id}/execute"), body).await;

    let map = each(&["acc"], json!({"action": "map", "target_id": "prod"}));
    let mapped = json!({"plan_digest": to.plan(id, map.clone()).await["plan_digest"]});
    to.delete("/api/v1/resources/prod").await.is(204);
    let stale = execute(mapped.clone()).await.problem(409, "plan_stale");
    assert!(fields(&stale).contains(&"resolutions.acc"), "{stale}");
    // Options that come along are refused as options are.
    let mut again = map.clone();
    again["plan_digest"] = mapped["plan_digest"].clone();
    execute(again).await.problem(422, "invalid_field");

    let plain = json!({"plan_digest": to.plan(id, json!({"on_failure": "skip_failed"})).await["plan_digest"]});
    let off = json!({"features": {"dataset": false}});
    to.patch("/api/v1/environment", off).await.is(200);
    let stale = execute(plain.clone()).await.problem(409, "plan_stale");
    assert_eq!(fields(&stale), ["error"], "{stale}");
    let stale = execute(json!({"plan_digest": "sha256:other"})).await.problem(409, "plan_stale");
    assert!(fields(&stale).contains(&"error"), "{stale}");
    to.patch("/api/v1/environment", json!({"features": {"dataset": true}})).await.is(200);
    let stale = execute(json!({"plan_digest": "sha256:other"})).await.problem(409, "plan_stale");
    assert_eq!(fields(&stale), ["plan_digest"], "{stale}");
    execute(plain).await.is(202);
    assert_eq!(to.ended(id).await["status"], "succeeded");
    pair.end().await;
}
