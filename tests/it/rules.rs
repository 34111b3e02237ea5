//! Rules that change values on their way from another environment.

use serde_json::{Value, json};

use crate::failures::{Pair, run};
use crate::support::User;

async fn source(user: &User) -> String {
    user.resource("acc", "data_account", "Account", "/", json!({"host": "test.local", "connector": "x"})).await;
    let sql = "select * from test_dw.orders join {{dataset:other}} where [DYNAMIC_PARAMS.day]";
    user.resource("day", "global_parameter", "day", "/", json!({})).await;
    user.resource("other", "dataset", "Other", "/", json!({"data_account_id": "acc"})).await;
    user.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc", "sql": sql, "zone": "test"})).await;
    user.get("/api/v1/environment").await.is(200)["id"].as_str().unwrap().to_owned()
}

fn rule(source: &str, name: &str, path: &str, action: Value) -> Value {
    let mut rule = json!({"source_environment": source, "name": name, "type": "dataset", "path": path});
    rule.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
    rule
}

fn replace(find: &str, with: &str) -> Value {
    json!({"action": "replace", "find": find, "with": with})
}

#[tokio::test]
async fn rules_change_what_arrives_in_their_order_and_the_plan_says_so() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let test = source(from).await;
    // The second sees what the first has made.
    let second = to.post("/api/v1/rules", rule(&test, "second", "$.sql", replace("live_dw", "prod_dw"))).await.is(201);
    let mut first = rule(&test, "first", "$.sql", replace("test_dw", "live_dw"));
    first["position"] = json!(-1);
    to.post("/api/v1/rules", first).await.is(201);
    let zones = json!({"action": "map", "table": {"test": "production"}});
    to.post("/api/v1/rules", rule(&test, "zones", "$.zone", zones)).await.is(201);
    to.post("/api/v1/rules", rule("another", "not ours", "$.sql", json!({"action": "set", "value": "x"})))
        .await
        .is(201);
    let names = to.get(&format!("/api/v1/rules?source_environment={test}")).await.is(200);
    let names: Vec<_> = names["items"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["first", "second", "zones"]);
    let page = to.get(&format!("/api/v1/rules?source_environment={test}&limit=2")).await.is(200);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = to.get(&format!("/api/v1/rules?source_environment={test}&limit=2&cursor={next}")).await.is(200);
    assert_eq!((&rest["items"][0]["name"], &rest["next_cursor"]), (&json!("zones"), &Value::Null));

    let package = from.export_all().await;
    let done = run(to, &package, json!({})).await;
    assert_eq!(done.record["status"], "succeeded", "{}", done.record);
    let sql = "select * from prod_dw.orders join {{dataset:other}} where [DYNAMIC_PARAMS.day]";
    let expected = json!({"data_account_id": "acc", "sql": sql, "zone": "production"});
    assert_eq!(to.get("/api/v1/resources/ds").await.is(200)["definition"], expected);
    let effects: Vec<_> = done.item("ds")["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["name"], one["found"], one["changed"]]))
        .collect();
    assert_eq!(effects, [json!(["first", 1, 1]), json!(["second", 1, 1]), json!(["zones", 1, 1])]);
    let told: Vec<_> =
        done.record["warnings"].as_array().unwrap().iter().map(|one| one["message"].as_str().unwrap()).collect();
    assert_eq!(
        told,
        [
            "The rule first finds nothing at its path in 1 of type dataset: Other.",
            "The rule second finds nothing at its path in 1 of type dataset: Other.",
            "The rule zones finds nothing at its path in 1 of type dataset: Other."
        ]
    );

    // Part of the remapping: the same again is nothing, another rule is an update, here and online.
    let again = run(to, &package, json!({})).await;
    assert_eq!(again.record["counts"]["unchanged"], 4, "{}", again.record);
    let path = format!("/api/v1/rules/{}", second["id"].as_str().unwrap());
    let changed = to.put(&path, rule(&test, "second", "$.sql", replace("live_dw", "pd"))).await.is(200);
    assert_eq!(changed["revision"], 2);
    let target = from.target("production", &pair.production.server.url(), &to.token).await;
    let body = json!({"target_id": target, "selection": {"all": true}});
    let started = from.post("/api/v1/migrations", body.clone()).await.is(202);
    let migrated = from.ended(started["id"].as_str().unwrap()).await;
    assert_eq!((&migrated["status"], &migrated["counts"]["update"]), (&json!("succeeded"), &json!(1)), "{migrated}");
    assert!(to.get("/api/v1/resources/ds").await.is(200)["definition"]["sql"].as_str().unwrap().contains("pd.orders"));
    let started = from.post("/api/v1/migrations", body).await.is(202);
    let migrated = from.ended(started["id"].as_str().unwrap()).await;
    assert_eq!(migrated["counts"]["unchanged"], 4, "{migrated}");
    // With changed IDs too, beside the references.
    let copied = run(to, &package, json!({"change_ids": true, "on_name_clash": "rename"})).await;
    let copy = to.get(&format!("/api/v1/resources/{}", copied.item("ds")["new_id"].as_str().unwrap())).await.is(200);
    let other = copied.item("other")["new_id"].as_str().unwrap();
    let sql = copy["definition"]["sql"].as_str().unwrap();
    assert!(
        sql.contains("pd.orders")
            && sql.contains(&format!("{{{{dataset:{other}}}}}"))
            && sql.contains("[DYNAMIC_PARAMS.day (2)]"),
        "{sql}"
    );
    // What differs shows what arrives.
    from.resource(
        "ds",
        "dataset",
        "Orders",
        "/",
        json!({"data_account_id": "acc", "sql": "select 1 from test_dw.x", "zone": "test"}),
    )
    .await;
    let parsed = to.upload(&from.export_all().await).await;
    let found = to.get(&format!("/api/v1/imports/{}/items/ds/diff", parsed["id"].as_str().unwrap())).await.is(200);
    assert_eq!(found["incoming"]["sql"], "select 1 from pd.x");
    pair.end().await;
}

#[tokio::test]
async fn a_rule_that_breaks_a_definition_blocks_it_and_says_so() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let test = source(from).await;
    let made =
        to.post("/api/v1/rules", rule(&test, "number", "$.sql", json!({"action": "set", "value": 7}))).await.is(201);
    let done = run(to, &from.export_all().await, json!({})).await;
    let error = &done.item("ds")["errors"][0];
    assert_eq!(
        (&done.item("ds")["method"], &error["code"]),
        (&json!("blocked"), &json!("reference_not_writable")),
        "{error}"
    );
    assert!(error["message"].as_str().unwrap().contains("a rule makes it unfit"), "{error}");
    // What grows without bounds.
    let path = format!("/api/v1/rules/{}", made["id"].as_str().unwrap());
    from.resource("long", "dataset", "Long", "/", json!({"sql": "e".repeat(1_000)})).await;
    to.put(&path, rule(&test, "grows", "$.sql", replace("e", &"x".repeat(60_000)))).await.is(200);
    let done = run(to, &from.export_all().await, json!({})).await;
    let error = &done.item("long")["errors"][0];
    assert!(error["message"].as_str().unwrap().contains("too large"), "{error}");
    // A text that no longer names what it named.
    to.put(&path, rule(&test, "reference", "$.sql", replace("{{dataset:other}}", "other"))).await.is(200);
    let done = run(to, &from.export_all().await, json!({})).await;
    assert_eq!(done.item("ds")["method"], "blocked", "{}", done.item("ds"));
    to.delete(&path).await.is(204);
    assert_eq!(run(to, &from.export_all().await, json!({})).await.item("ds")["method"], "create");
    pair.end().await;
}

#[tokio::test]
async fn a_rule_is_tried_on_a_resource_and_never_meets_secrets_or_references() {
    let pair = Pair::start().await;
    let user = &pair.from;
    let test = source(user).await;
    let tried = user
        .post(
            "/api/v1/rules/try",
            json!({"resource_id": "ds", "path": "$.sql", "action": "replace", "find": "test_dw", "with": "x"}),
        )
        .await
        .is(200);
    assert_eq!(json!([tried["found"], tried["changed"], tried["changes"][0]["path"]]), json!([1, 1, "/sql"]));
    assert!(tried["after"]["sql"].as_str().unwrap().contains("from x.orders"));
    assert!(user.get("/api/v1/resources/ds").await.is(200)["definition"]["sql"].as_str().unwrap().contains("test_dw"));
    let nothing = user
        .post("/api/v1/rules/try", json!({"resource_id": "other", "path": "$.sql", "action": "set", "value": 1}))
        .await
        .is(200);
    assert_eq!((&nothing["found"], &nothing["changes"]), (&json!(0), &json!([])));
    for (kind, path, reason) in [
        ("dataset", "$.data_account_id", "a reference"),
        ("dataset", "$.fields[*].id", "the ID of a child"),
        ("dataset", "$.schedule.enabled", "belongs to each environment"),
        ("dataset", "$[*]", "belongs to each environment"),
        ("dataset", "$..sql", "must begin with a key"),
        ("data_account", "$.password", "a secret"),
        ("data_account", "$.options", "a secret"),
        ("card", "$.images[0]", "the path of an attachment"),
        ("dataset", "$.[", ""),
    ] {
        let mut body = rule(&test, "x", path, json!({"action": "set", "value": 1}));
        body["type"] = json!(kind);
        let problem = user.post("/api/v1/rules", body).await.problem(422, "invalid_field");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{path}: {problem}");
    }
    user.post("/api/v1/rules", rule(&test, "x", "$.sql", replace("", "y"))).await.problem(422, "invalid_field");
    let operator = pair.test.new_user("default", "operator").await;
    operator.get("/api/v1/rules").await.is(200);
    operator.post("/api/v1/rules", rule(&test, "x", "$.sql", replace("x", "y"))).await.problem(403, "forbidden");
    pair.test.new_user("default", "viewer").await.get("/api/v1/rules").await.problem(403, "forbidden");
    pair.end().await;
}
