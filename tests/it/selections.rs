//! Saved selections, what changed since the last success, and previews that tell all that stands in the way.

use serde_json::{Value, json};

use crate::support::{Environment, User};

const ADDRESS: &str = "/api/v1/selections";

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

async fn fill(user: &User) {
    user.resource("da", "data_account", "Shop", "/Accounts", json!({"host": "db"})).await;
    user.resource("ds", "dataset", "Orders", "/Sales", json!({"data_account_id": "da"})).await;
    user.resource("cd", "card", "Revenue", "/Sales", json!({"dataset_id": "ds"})).await;
    user.resource("pg", "page", "Sales", "/Sales", json!({"cards": [{"card_id": "cd"}]})).await;
    user.resource("other", "page", "Other", "/Other", json!({})).await;
}

/// What a record is about: IDs in order.
async fn about(user: &User, record: &Value) -> Vec<String> {
    let items = user.items(id(record)).await;
    let mut ids: Vec<String> = items.iter().map(|item| item["resource_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

async fn exported(user: &User, mut body: Value) -> Vec<String> {
    body["name"] = json!("package");
    let record = user.post("/api/v1/exports", body).await.is(202);
    let record = user.ended(id(&record)).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    about(user, &record).await
}

async fn migrated(user: &User, body: Value) -> Vec<String> {
    let record = user.post("/api/v1/migrations", body).await.is(202);
    let record = user.ended(id(&record)).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    about(user, &record).await
}

#[tokio::test]
async fn a_selection_is_saved_read_changed_used_and_removed() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    fill(&admin).await;
    let body = json!({"name": " Sales ", "resource_ids": ["pg", "pg"], "export_upstream": true});
    let made = admin.post(ADDRESS, body.clone()).await.is(201);
    assert_eq!(
        json!([made["name"], made["owner"], made["resource_ids"], made["selection"], made["export_upstream"]]),
        json!(["Sales", "admin", ["pg"], null, true])
    );
    let path = format!("{ADDRESS}/{}", id(&made));
    assert_eq!(admin.get(&path).await.is(200), made);
    assert_eq!(admin.get(ADDRESS).await.is(200)["items"], json!([made]));
    admin.post(ADDRESS, body).await.problem(409, "conflict");
    for wrong in [
        json!({"name": "x"}),
        json!({"name": "", "resource_ids": ["pg"]}),
        json!({"name": "x", "resource_ids": ["nowhere"]}),
        json!({"name": "x", "resource_ids": []}),
        json!({"name": "x", "resource_ids": ["pg"], "selection": {"all": true}}),
        json!({"name": "x", "selection": {}}),
        json!({"name": "x", "selection": {"types": ["nothing"]}}),
        json!({"name": "x", "selection": {"directories": ["relative"]}}),
    ] {
        admin.post(ADDRESS, wrong).await.problem(422, "invalid_field");
    }
    let used = json!({"selection_id": made["id"]});
    assert_eq!(exported(&admin, used.clone()).await, ["cd", "da", "ds", "pg"]);
    let preview = admin.post("/api/v1/exports/preview", used.clone()).await.is(200);
    assert_eq!(preview["items"].as_array().unwrap().len(), 4);
    let both = json!({"selection_id": made["id"], "resource_ids": ["pg"]});
    admin.post("/api/v1/exports/preview", both).await.problem(422, "invalid_field");
    let unknown = json!({"selection_id": uuid::Uuid::now_v7()});
    admin.post("/api/v1/exports/preview", unknown).await.problem(422, "invalid_field");

    let change = json!({"name": "All", "selection": {"directories": ["/Other"]}, "export_upstream": false});
    let changed = admin.patch(&path, change).await.is(200);
    assert_eq!(json!([changed["name"], changed["resource_ids"]]), json!(["All", null]));
    assert_eq!(exported(&admin, used.clone()).await, ["other"]);
    // What has gone meanwhile is told, and stops nothing.
    admin.patch(&path, json!({"resource_ids": ["pg", "other"]})).await.is(200);
    admin.delete("/api/v1/resources/other").await.is(204);
    let preview = admin.post("/api/v1/exports/preview", used.clone()).await.is(200);
    assert_eq!(preview["gone"], json!(["other"]));
    assert_eq!(exported(&admin, used.clone()).await, ["cd", "ds", "pg"]);
    let audit = admin.get(&format!("/api/v1/audit?object={}", id(&made))).await.is(200);
    assert_eq!(audit["items"].as_array().unwrap().len(), 3);
    admin.delete(&path).await.is(204);
    admin.get(&path).await.problem(404, "not_found");
    admin.post("/api/v1/exports/preview", used).await.problem(422, "invalid_field");
    test.end().await;
}

#[tokio::test]
async fn a_selection_is_its_owners_and_tells_nobody_what_he_may_not_know() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    fill(&admin).await;
    let developer = test.new_user("default", "developer").await;
    developer.resource("mine", "page", "Mine", "/Mine", json!({})).await;
    let of_admin = admin.post(ADDRESS, json!({"name": "a", "resource_ids": ["pg"]})).await.is(201);
    let own = developer.post(ADDRESS, json!({"name": "b", "resource_ids": ["mine"]})).await.is(201);
    developer.post(ADDRESS, json!({"name": "c", "resource_ids": ["pg"]})).await.problem(403, "forbidden_resources");
    let listed = developer.get(ADDRESS).await.is(200);
    assert_eq!(
        json!([listed["items"][0]["resource_ids"], listed["items"][0]["hidden"], listed["items"][1]]),
        json!([[], 1, own])
    );
    let path = |selection: &Value| format!("{ADDRESS}/{}", id(selection));
    developer.patch(&path(&of_admin), json!({"name": "x"})).await.problem(403, "forbidden");
    developer.delete(&path(&of_admin)).await.problem(403, "forbidden");
    let used = developer.post("/api/v1/exports/preview", json!({"selection_id": of_admin["id"]})).await;
    let used = used.problem(403, "forbidden_resources");
    assert!(!used.to_string().contains("pg"), "{used}");
    let operator = test.new_user("default", "operator").await;
    operator.patch(&path(&own), json!({"name": "x"})).await.problem(403, "forbidden");
    assert_eq!(exported(&operator, json!({"selection_id": own["id"]})).await, ["mine"]);
    admin.patch(&path(&own), json!({"name": "of him"})).await.is(200);
    developer.patch(&path(&own), json!({"name": "mine"})).await.is(200);
    let viewer = test.new_user("default", "viewer").await;
    viewer.get(ADDRESS).await.problem(403, "forbidden");
    let stranger = test.new_user("elsewhere", "admin").await;
    stranger.get(&path(&own)).await.problem(404, "not_found");
    assert_eq!(stranger.get(ADDRESS).await.is(200)["items"], json!([]));
    test.end().await;
}

#[tokio::test]
async fn a_migration_takes_what_changed_since_the_last_one_of_the_same_to_its_target() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    fill(&from).await;
    let target = from.target("production", &to.base, &to.token).await;
    let saved = from.post(ADDRESS, json!({"name": "Sales", "resource_ids": ["pg"]})).await.is(201);
    let body = json!({"target_id": target, "selection_id": saved["id"], "changed_since_last": true});
    // Nothing went there before, so everything goes; but the account is further away.
    to.resource("da", "data_account", "Shop", "/Accounts", json!({})).await;
    assert_eq!(migrated(&from, body.clone()).await, ["cd", "ds", "pg"]);
    assert!(migrated(&from, body.clone()).await.is_empty(), "nothing changed");
    // A part that nobody selected has changed: it goes with what it needs.
    from.resource("cd", "card", "Revenue 2", "/Sales", json!({"dataset_id": "ds"})).await;
    assert_eq!(migrated(&from, body.clone()).await, ["cd", "ds"]);
    assert_eq!(to.get("/api/v1/resources/cd").await.is(200)["name"], "Revenue 2");
    // One that failed brings nothing forward.
    from.resource("pg", "page", "Sales 2", "/Sales", json!({"cards": [{"card_id": "cd"}, {"card_id": "none"}]})).await;
    let record = from.post("/api/v1/migrations", body.clone()).await.is(202);
    assert_eq!(from.ended(id(&record)).await["status"], "partially_succeeded");
    from.resource("pg", "page", "Sales 2", "/Sales", json!({"cards": [{"card_id": "cd"}]})).await;
    let preview = json!({"selection_id": saved["id"], "changed_since_last": true, "target_id": target});
    let preview = from.post("/api/v1/exports/preview", preview).await.is(200);
    assert_eq!(preview["items"].as_array().unwrap().len(), 3);
    assert_eq!(migrated(&from, body.clone()).await, ["cd", "ds", "pg"]);
    // Another selection, another target: everything.
    let other = json!({"target_id": target, "selection": {"all": true}, "changed_since_last": true});
    assert_eq!(migrated(&from, other.clone()).await.len(), 5);
    from.resource("other", "page", "Other 2", "/Other", json!({})).await;
    assert_eq!(migrated(&from, other.clone()).await, ["other"]);
    let again = from.target("again", &to.base, &to.token).await;
    let other = json!({"target_id": again, "selection": {"all": true}, "changed_since_last": true});
    assert_eq!(migrated(&from, other).await.len(), 5);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn an_export_takes_what_changed_since_the_last_one_of_its_selection() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    fill(&admin).await;
    let saved = admin.post(ADDRESS, json!({"name": "Sales", "selection": {"directories": ["/"]}})).await.is(201);
    let body = json!({"selection_id": saved["id"], "changed_since_last": true});
    assert_eq!(exported(&admin, body.clone()).await.len(), 5);
    admin.resource("ds", "dataset", "Orders 2", "/Sales", json!({"data_account_id": "da"})).await;
    admin.resource("new", "page", "New", "/New", json!({})).await;
    assert_eq!(exported(&admin, body.clone()).await, ["da", "ds", "new"]);
    assert!(exported(&admin, body.clone()).await.is_empty());
    // Another who exports it has not had it yet, unless he sees the same.
    let developer = test.new_user("default", "developer").await;
    developer.resource("mine", "page", "Mine", "/Mine", json!({})).await;
    assert_eq!(exported(&developer, body.clone()).await, ["mine"]);
    assert_eq!(exported(&admin, body.clone()).await, ["mine"]);
    admin.patch(&format!("{ADDRESS}/{}", id(&saved)), json!({"export_upstream": true})).await.is(200);
    assert_eq!(exported(&admin, body).await.len(), 7, "it is another selection now");
    let without = json!({"name": "x", "selection": {"all": true}, "changed_since_last": true});
    admin.post("/api/v1/exports", without).await.problem(422, "invalid_field");
    test.end().await;
}

#[tokio::test]
async fn a_preview_tells_all_that_stands_in_the_way() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    fill(&from).await;
    let sql = json!({"sql": "select [DYNAMIC_PARAMS.region] from {{dataset:nowhere}}", "data_account_id": "none"});
    from.resource("asks", "dataset", "Asks", "/Sales", sql).await;
    from.resource("gp", "global_parameter", "region", "/", json!({})).await;
    let body = |target: &Value| json!({"resource_ids": ["asks", "pg"], "target_id": target});
    let target = json!(from.target("production", &to.base, &to.token).await);
    to.patch("/api/v1/environment", json!({"features": {"card": false, "etl": false}})).await.is(200);
    let preview = from.post("/api/v1/exports/preview", body(&target)).await.is(200);
    let missing = preview["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 2, "{preview}");
    assert_eq!(json!([preview["ambiguous"], preview["forbidden"], preview["target_error"]]), json!([[], [], null]));
    let refused = &preview["refused_types"];
    assert_eq!(refused.as_array().unwrap().len(), 1, "{refused}");
    assert_eq!(
        json!([refused[0]["code"], refused[0]["type"], refused[0]["count"], refused[0]["message"]]),
        json!(["feature_disabled", "card", 1, "The feature switch for Card is disabled in the target environment."])
    );
    // All that is not there is named at once.
    let unknown = from.post("/api/v1/exports/preview", json!({"resource_ids": ["no1", "pg", "no2"]})).await;
    assert_eq!(unknown.problem(422, "invalid_field")["errors"].as_array().unwrap().len(), 2);
    // A target that cannot be asked hides nothing else.
    let dead = json!(from.target("dead", "http://127.0.0.1:9", "token").await);
    let preview = from.post("/api/v1/exports/preview", body(&dead)).await.is(200);
    assert_eq!(json!([preview["target_error"]["code"], preview["missing"]]), json!(["target_unreachable", missing]));
    let unknown = json!(uuid::Uuid::now_v7());
    from.post("/api/v1/exports/preview", body(&unknown)).await.problem(422, "invalid_field");
    let exporter = test.holder(&from, "default", "exporter", &["migration.export", "resource.read"]).await;
    exporter.post("/api/v1/exports/preview", body(&target)).await.problem(403, "forbidden");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_preview_tells_which_names_mean_more_than_one() {
    // Names of this type may repeat.
    let files = tempfile::tempdir().unwrap();
    let plugin = "key = \"thing\"\nlabel = { en = \"Thing\", zh = \"物\", plural_en = \"Things\" }\norder = 1\nunique_name = \"none\"\n\
        [[text_reference]]\npath = \"$.text\"\npattern = 'see:([a-z]+)'\nto = \"thing\"\nby = \"name\"\nrole = \"Thing\"\nkind = \"use\"\n";
    std::fs::write(files.path().join("thing.toml"), plugin).unwrap();
    let more = format!("server.resource_types_dir = {}", json!(files.path()));
    let test = Environment::configured("test", &more).await;
    let admin = test.admin();
    let developer = test.new_user("default", "developer").await;
    admin.resource("t1", "thing", "twice", "/", json!({})).await;
    developer.resource("t2", "thing", "twice", "/mine", json!({})).await;
    admin.resource("once", "thing", "once", "/", json!({})).await;
    admin.resource("asks", "thing", "asks", "/", json!({"text": "see:twice see:once"})).await;
    let preview = admin.post("/api/v1/exports/preview", json!({"resource_ids": ["asks"]})).await.is(200);
    let expected = json!([{
        "type": "thing", "name": "twice", "role": "Thing", "referenced_by": "asks", "resource_ids": ["t1", "t2"], "count": 2
    }]);
    assert_eq!(preview["ambiguous"], expected);
    // He is told of his own alone.
    developer.resource("own", "thing", "own", "/mine", json!({"text": "see:twice"})).await;
    let preview = developer.post("/api/v1/exports/preview", json!({"resource_ids": ["own"]})).await.is(200);
    assert_eq!(json!([preview["ambiguous"][0]["resource_ids"], preview["ambiguous"][0]["count"]]), json!([["t2"], 2]));
    test.end().await;
}
