//! Each failure cause of the seed with its exact message, predicted in the parse list and equal at execution.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Environment, User};

/// `duplicate_name` of a dataset, and of what outputs it.
const SAME_FILE: &str = "A file with the same name already exists in the output dataset directory. Please modify it.";

/// Where resources come from, where they go to, and the administrators there.
pub struct Pair {
    pub test: Environment,
    pub production: Environment,
    pub from: User,
    pub to: User,
}

impl Pair {
    pub async fn start() -> Self {
        let (test, production) = tokio::join!(Environment::start("test"), Environment::start("production"));
        let (from, to) = (test.admin(), production.admin());
        Self { test, production, from, to }
    }

    pub async fn end(self) {
        tokio::join!(self.test.end(), self.production.end());
    }
}

/// An import from its parse list to its end.
#[derive(Debug)]
pub struct Run {
    /// As it was planned.
    pub planned: Value,
    /// As it ended.
    pub record: Value,
    pub items: BTreeMap<String, Value>,
}

impl Run {
    pub fn item(&self, id: &str) -> &Value {
        self.items.get(id).unwrap_or_else(|| panic!("no item {id}"))
    }

    /// The errors of an item as [code, message, related ID].
    pub fn errors(&self, id: &str) -> Value {
        let errors = self.item(id)["errors"].as_array().unwrap();
        errors.iter().map(|error| json!([error["code"], error["message"], error["related_id"]])).collect()
    }

    /// [method, status] of each item.
    pub fn outcome(&self) -> Value {
        self.items.iter().map(|(id, item)| (id.clone(), json!([item["method"], item["status"]]))).collect()
    }

    /// The words of the hints of an item, one after the other.
    fn hints(&self, id: &str) -> Vec<&str> {
        self.item(id)["errors"].as_array().unwrap().iter().map(|error| error["hint"].as_str().unwrap()).collect()
    }
}

/// Imports a package; nothing may come out of it but what its parse list said.
pub async fn run(to: &User, package: &[u8], options: Value) -> Run {
    let parsed = to.upload(package).await;
    assert_eq!(parsed["status"], "awaiting_confirmation", "{parsed}");
    let id = parsed["id"].as_str().unwrap();
    let planned = if options == json!({}) { parsed.clone() } else { to.plan(id, options).await };
    let list = to.items(id).await;
    let record = to.execute(id).await;
    let items = to.items(id).await;
    let applied = record["error"].is_null();
    assert_eq!(list.len(), items.len());
    let (mut succeeded, mut failed) = (0, 0);
    for (before, after) in list.iter().zip(&items) {
        assert_eq!(before["status"], "pending");
        let mut expected = before.clone();
        expected["status"] = match before["method"].as_str().unwrap() {
            "blocked" => json!("failed"),
            "create" | "update" if applied => json!("succeeded"),
            "unchanged" if applied => json!("unchanged"),
            _ => json!("skipped"),
        };
        assert_eq!(&expected, after, "the parse list is what happens: {record}");
        succeeded += i32::from(after["status"] == "succeeded");
        failed += i32::from(after["status"] == "failed");
        let errors = after["errors"].as_array().unwrap();
        assert_eq!(after["method"] == "blocked", !errors.is_empty(), "{after}");
        assert!(errors.iter().all(|error| !error["hint"].as_str().unwrap().is_empty()), "{after}");
    }
    assert_eq!([&record["counts"]["succeeded"], &record["counts"]["failed"]], [&json!(succeeded), &json!(failed)]);
    for method in ["create", "update", "unchanged", "skip", "map", "blocked"] {
        let count = items.iter().filter(|item| item["method"] == method).count();
        assert_eq!([&planned["counts"][method], &record["counts"][method]], [&json!(count), &json!(count)], "{method}");
    }
    let items = items.into_iter().map(|item| (item["resource_id"].as_str().unwrap().to_owned(), item)).collect();
    Run { planned, record, items }
}

/// The same resolution for some resources.
pub fn each(ids: &[&str], resolution: Value) -> Value {
    let lines: BTreeMap<&str, &Value> = ids.iter().map(|id| (*id, &resolution)).collect();
    json!({"resolutions": lines})
}

pub fn skip(ids: &[&str]) -> Value {
    each(ids, json!({"action": "skip"}))
}

#[track_caller]
fn assert_cause(record: &Value, code: &str, message: &str) {
    assert_eq!(json!([record["error"]["code"], record["error"]["message"]]), json!([code, message]));
    assert!(!record["error"]["hint"].as_str().unwrap().is_empty());
}

/// A package with a cause of its own waits, is cured by skipping, and writes nothing otherwise.
async fn package_cause(to: &User, package: &[u8], culprit: &str, code: &str, message: &str) {
    let before = to.catalogue().await;
    let record = to.upload(package).await;
    assert_eq!(record["status"], "awaiting_confirmation");
    assert_cause(&record, code, message);
    let id = record["id"].as_str().unwrap();
    assert!(to.plan(id, skip(&[culprit])).await["error"].is_null(), "skipping cures it");
    assert_cause(&to.plan(id, json!({"on_failure": "skip_failed"})).await, code, message);
    let record = to.execute(id).await;
    assert_eq!(record["status"], "failed");
    assert_cause(&record, code, message);
    assert_eq!(record["counts"]["succeeded"], 0);
    assert!(to.items(id).await.iter().all(|item| item["status"] == "skipped"));
    assert_eq!(before, to.catalogue().await, "nothing is written");
    let cured = run(to, package, skip(&[culprit])).await;
    assert_eq!(cured.record["status"], "succeeded");
}

#[tokio::test]
async fn a_feature_that_is_off_stops_the_package_until_its_resources_are_left_out() {
    let pair = Pair::start().await;
    pair.from.resource("w1", "data_visualization_wall", "销售大屏", "/Walls", json!({"cards": []})).await;
    pair.from.resource("d1", "dataset", "Orders", "/Data", json!({"fields": []})).await;
    let off = json!({"features": {"data_visualization_wall": false, "page": false}});
    pair.to.patch("/api/v1/environment", off).await.is(200);
    let message = "The feature switch for Data Visualization Wall is disabled in the target environment.";
    package_cause(&pair.to, &pair.from.export_all().await, "w1", "feature_disabled", message).await;
    pair.end().await;
}

#[tokio::test]
async fn the_licence_counts_what_is_used_in_all_domains_and_what_would_be_new() {
    let pair = Pair::start().await;
    let other = pair.production.new_user("other", "admin").await;
    other.resource("w0", "data_visualization_wall", "Theirs", "/", json!({})).await;
    pair.from.resource("w1", "data_visualization_wall", "Ours", "/Walls", json!({})).await;
    pair.from.resource("d1", "dataset", "Orders", "/Data", json!({})).await;
    let limit = |count: u64| json!({"license": {"data_visualization_wall": count}});
    pair.to.patch("/api/v1/environment", limit(1)).await.is(200);
    let message = "This application contains Data Visualization Walls, and the current number of Data Visualization Walls exceeds the upper limit.";
    let package = pair.from.export_all().await;
    package_cause(&pair.to, &package, "w1", "license_limit_exceeded", message).await;

    pair.to.patch("/api/v1/environment", limit(2)).await.is(200);
    assert_eq!(run(&pair.to, &package, json!({})).await.record["counts"]["create"], 1);
    // Updates do not count, nor does what is blocked anyway.
    pair.from.resource("w1", "data_visualization_wall", "Ours, again", "/Walls", json!({})).await;
    let blocked = json!({"cards": [{"card_id": "nowhere"}]});
    pair.from.resource("w2", "data_visualization_wall", "Blocked", "/Walls", blocked).await;
    let again = run(&pair.to, &pair.from.export_all().await, json!({})).await;
    assert_eq!(again.record["error"], Value::Null);
    assert_eq!(again.outcome()["w1"], json!(["update", "succeeded"]));
    assert_eq!(again.outcome()["w2"], json!(["blocked", "failed"]));
    pair.end().await;
}

#[tokio::test]
async fn a_task_names_each_reference_that_is_not_matched_in_the_order_of_its_definition() {
    let pair = Pair::start().await;
    let nodes = json!([
        {"id": 1, "type": "dataset", "dataset_id": "gone-ds"},
        {"id": 2, "type": "sql", "data_account_id": "gone-da", "sql": "select {{dataset:gone-sql}}, [DYNAMIC_PARAMS.gone par]"},
        {"id": 3, "type": "subprocess", "task_id": "gone-task"},
        {"id": 4, "type": "smart_etl", "etl_id": "gone-etl"},
        {"id": 5, "type": "python", "input_dataset_ids": ["gone-in"], "output_dataset_ids": ["gone-out"]},
    ]);
    pair.from.resource("t1", "offline_dev_task", "Load", "/Tasks", json!({"nodes": nodes})).await;
    pair.from.resource("e1", "etl", "Clean", "/", json!({"inputs": [{"dataset_id": "gone-ds"}]})).await;
    // What the target's domain has of another type, or another domain has, is no match either.
    pair.to.resource("gone-etl", "color_theme", "A theme", "/", json!({})).await;
    let other = pair.production.new_user("other", "admin").await;
    other.resource("gone-da", "data_account", "Secret of others", "/", json!({})).await;
    let package = pair.from.export_all().await;
    let ended = run(&pair.to, &package, json!({})).await;
    let line = |message: &str, id: &str| json!(["reference_not_matched", message, id]);
    let expected = json!([
        line("Input Dataset gone-ds not matched", "gone-ds"),
        line("Data Account gone-da not matched", "gone-da"),
        line("Input Dataset gone-sql not matched", "gone-sql"),
        ["reference_not_matched", "Global Parameter gone par not matched", null],
        line("Subprocess gone-task not matched", "gone-task"),
        line("ETL A theme not matched", "gone-etl"),
        line("Input Dataset gone-in not matched", "gone-in"),
        line("Output Dataset gone-out not matched", "gone-out"),
    ]);
    assert_eq!(ended.errors("t1"), expected);
    assert!(ended.hints("t1").iter().all(|hint| hint.contains("neither in the package nor in the target")));
    assert_eq!(ended.errors("e1"), json!([line("Input Dataset not matched", "gone-ds")]));
    assert_eq!(ended.record["status"], "failed");
    assert!(pair.to.get("/api/v1/resources/t1").await.status == 404);

    // The same package goes through once the target has what it lacks.
    pair.to.delete("/api/v1/resources/gone-etl").await.is(204);
    other.delete("/api/v1/resources/gone-da").await.is(204);
    for id in ["gone-ds", "gone-sql", "gone-in", "gone-out"] {
        pair.to.resource(id, "dataset", id, "/", json!({})).await;
    }
    for (id, kind) in [("da", "data_account"), ("task", "offline_dev_task"), ("etl", "etl"), ("p", "global_parameter")]
    {
        pair.to.resource(&format!("gone-{id}"), kind, "gone par", "/", json!({})).await;
    }
    assert_eq!(run(&pair.to, &package, json!({"on_failure": "abort"})).await.record["counts"]["create"], 2);
    pair.end().await;
}

#[tokio::test]
async fn the_hint_says_whether_a_reference_is_nowhere_left_out_or_failed_itself() {
    let pair = Pair::start().await;
    pair.from.resource("left", "dataset", "Left", "/", json!({})).await;
    pair.from.resource("there", "dataset", "There", "/", json!({})).await;
    pair.from.resource("dead", "dataset", "Dead", "/", json!({})).await;
    let parents = json!({"input_dataset_ids": ["nowhere", "left", "there", "dead"], "id": "n"});
    pair.from.resource("t1", "offline_dev_task", "Load", "/", json!({"nodes": [parents]})).await;
    pair.to.resource("there", "dataset", "There", "/", json!({})).await;
    pair.to.resource("dead", "dataset", "Dead", "/", json!({})).await;
    pair.to.delete("/api/v1/resources/dead").await.is(204);
    let ended = run(&pair.to, &pair.from.export_all().await, skip(&["left", "there"])).await;
    let line = |name: &str, id: &str| json!(["reference_not_matched", format!("Input Dataset {name} not matched"), id]);
    assert_eq!(ended.errors("t1"), json!([line("nowhere", "nowhere"), line("Left", "left"), line("Dead", "dead")]));
    let hints = ended.hints("t1");
    for (hint, words) in hints.iter().zip(["neither in the package nor in the target", "left out", "itself"]) {
        assert!(hint.contains(words), "{hint}");
    }
    assert_eq!(ended.record["status"], "failed", "nothing that was selected succeeded");
    pair.end().await;
}

#[tokio::test]
async fn a_name_that_is_taken_blocks_the_resource_and_what_outputs_it() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    for (user, tail) in [(from, ""), (to, "-there")] {
        user.resource(&format!("acc{tail}"), "data_account", "仓库", "/", json!({})).await;
        user.resource(&format!("ds{tail}"), "dataset", "Orders", "/Data", json!({})).await;
        user.resource(&format!("page{tail}"), "page", "Home", "/Pages", json!({})).await;
        user.resource(&format!("par{tail}"), "global_parameter", "region", "/", json!({})).await;
    }
    to.resource("free", "dataset", "Orders", "/Elsewhere", json!({})).await;
    from.resource("etl", "etl", "Nightly", "/", json!({"outputs": [{"dataset_id": "ds"}]})).await;
    let nodes = json!({"nodes": [{"id": 1, "output_dataset_ids": ["ds"]}]});
    from.resource("task", "offline_dev_task", "Load", "/", nodes).await;
    from.resource("card", "card", "Sum", "/", json!({"dataset_id": "ds"})).await;
    let ended = run(to, &from.export_all().await, json!({})).await;
    let line = |message: &str, id: &str| json!([["duplicate_name", message, id]]);
    assert_eq!(ended.errors("acc"), line("Duplicate Data Account name", "acc-there"));
    assert_eq!(ended.errors("ds"), line(SAME_FILE, "ds-there"));
    assert_eq!(ended.errors("etl"), line(SAME_FILE, "ds"));
    assert_eq!(ended.errors("task"), line(SAME_FILE, "ds"));
    assert_eq!(ended.errors("card"), json!([["reference_not_matched", "Dataset Orders not matched", "ds"]]));
    let page = "A file with the same name already exists in the Page directory. Please modify it.";
    assert_eq!(ended.errors("page"), line(page, "page-there"));
    assert_eq!(ended.errors("par"), line("Duplicate Global Parameter name", "par-there"));
    assert_eq!(ended.record["status"], "failed");
    pair.end().await;
}

#[tokio::test]
async fn an_attachment_without_bytes_is_invalid_unless_the_target_has_it_and_ids_are_kept() {
    let pair = Pair::start().await;
    let path = "/guandata-store/images/bb021cf8dd1004239939ede7.jpg";
    pair.from.resource("51", "card", "Logo", "/", json!({"images": [path]})).await;
    pair.from.resource("home", "page", "Home", "/", json!({"cards": [{"card_id": "51"}]})).await;
    let package = pair.from.export_all().await;
    let message = format!("The attachment file path [{path}](51) is invalid.");
    for options in [json!({}), json!({"change_ids": true})] {
        let ended = run(&pair.to, &package, options).await;
        assert_eq!(ended.errors("51"), json!([["attachment_invalid", message, null]]));
        assert_eq!(ended.errors("home"), json!([["reference_not_matched", "Card Logo not matched", "51"]]));
    }
    assert!(pair.to.attachment(path, b"the target's own").await.status.is_success());
    let ended = run(&pair.to, &package, json!({"change_ids": true})).await;
    assert_eq!(ended.errors("51"), json!([["attachment_invalid", message, null]]), "nobody gives the new path bytes");
    assert_eq!(run(&pair.to, &package, json!({})).await.record["status"], "succeeded");
    pair.end().await;
}

#[tokio::test]
async fn what_was_deleted_in_the_target_comes_back_with_restore_or_changed_ids_only() {
    let pair = Pair::start().await;
    let fields = json!({"fields": [{"id": "f1"}]});
    pair.from.resource("ds", "dataset", "Orders", "/", fields.clone()).await;
    pair.from.resource("etl", "etl", "Nightly", "/", json!({"inputs": [{"dataset_id": "ds"}]})).await;
    pair.from.resource("acc", "data_account", "Warehouse", "/", json!({})).await;
    let package = pair.from.export_all().await;
    run(&pair.to, &package, json!({})).await;
    for id in ["etl", "ds", "acc"] {
        pair.to.delete(&format!("/api/v1/resources/{id}")).await.is(204);
    }
    let message = |what: &str| {
        format!("The current {what} has been deleted in the target environment and cannot be imported again.")
    };
    let ended = run(&pair.to, &package, json!({})).await;
    assert_eq!(ended.errors("ds"), json!([["deleted_in_target", message("dataset"), null]]));
    assert_eq!(ended.errors("acc"), json!([["deleted_in_target", message("data account"), null]]));
    let own_first = json!([
        ["deleted_in_target", message("ETL"), null],
        ["reference_not_matched", "Input Dataset not matched", "ds"],
    ]);
    assert_eq!(ended.errors("etl"), own_first);
    assert_eq!(ended.record["status"], "failed");

    let changed = run(&pair.to, &package, json!({"change_ids": true})).await;
    assert_eq!(changed.record["counts"]["succeeded"], 3);
    for id in ["etl", "ds", "acc"] {
        pair.to.delete(&format!("/api/v1/resources/{}", changed.item(id)["new_id"].as_str().unwrap())).await.is(204);
    }
    let restored = run(&pair.to, &package, each(&["etl", "ds", "acc"], json!({"action": "restore"}))).await;
    assert_eq!(restored.outcome()["ds"], json!(["create", "succeeded"]));
    assert_eq!(restored.record["status"], "succeeded");
    assert_eq!(pair.to.get("/api/v1/resources/ds").await.is(200)["definition"], fields);
    // Nothing is left of the deletion, and what is not needed is accepted.
    let again = run(&pair.to, &package, each(&["etl", "ds", "acc"], json!({"action": "restore"}))).await;
    assert_eq!(again.record["counts"]["unchanged"], 3);
    pair.end().await;
}

#[tokio::test]
async fn an_id_of_another_domain_blocks_unless_ids_change_and_its_tombstone_does_not() {
    let pair = Pair::start().await;
    let other = pair.production.new_user("other", "admin").await;
    other.resource("ds", "dataset", "A secret name", "/", json!({})).await;
    other.resource("gone", "dataset", "Gone", "/", json!({})).await;
    other.delete("/api/v1/resources/gone").await.is(204);
    pair.from.resource("ds", "dataset", "Orders", "/", json!({})).await;
    pair.from.resource("gone", "dataset", "Free again", "/", json!({})).await;
    pair.from.resource("card", "card", "Sum", "/", json!({"dataset_id": "ds"})).await;
    let package = pair.from.export_all().await;
    let ended = run(&pair.to, &package, json!({})).await;
    let message = "Another domain already contains the same dataset ID, so the dataset cannot be imported again into the current domain.";
    assert_eq!(ended.errors("ds"), json!([["exists_in_other_domain", message, null]]));
    assert_eq!(ended.errors("card"), json!([["reference_not_matched", "Dataset Orders not matched", "ds"]]));
    assert_eq!(ended.outcome()["gone"], json!(["create", "succeeded"]));
    assert_eq!(ended.record["status"], "partially_succeeded");
    assert!(!format!("{ended:?}").contains("A secret name"));
    let changed = run(&pair.to, &package, json!({"change_ids": true, "on_name_clash": "rename"})).await;
    assert_eq!(changed.record["counts"]["succeeded"], 3);
    pair.end().await;
}

#[tokio::test]
async fn a_field_that_the_target_deleted_is_a_duplicate_and_one_that_an_import_removed_is_not() {
    let pair = Pair::start().await;
    let (ds, field) = ("t991094c76a394229b308950", "a23d2757620fc47b7a6e0534");
    let (both, one) = (json!({"fields": [{"id": "f1"}, {"id": field}]}), json!({"fields": [{"id": "f1"}]}));
    pair.from.resource(ds, "dataset", "Orders", "/", both.clone()).await;
    let package = pair.from.export_all().await;
    run(&pair.to, &package, json!({})).await;
    // The source takes it away and brings it back.
    pair.from.resource(ds, "dataset", "Orders", "/", one.clone()).await;
    run(&pair.to, &pair.from.export_all().await, json!({})).await;
    assert_eq!(run(&pair.to, &package, json!({})).await.outcome()[ds], json!(["update", "succeeded"]));
    // The target takes it away.
    pair.to.resource(ds, "dataset", "Orders", "/", one).await;
    let ended = run(&pair.to, &package, json!({})).await;
    let message = format!("Duplicate entry '{ds}-{field}' for key 'ds_fd'");
    assert_eq!(ended.errors(ds), json!([["duplicate_child", message, null]]));
    let changed = json!({"change_ids": true, "on_name_clash": "rename"});
    assert_eq!(run(&pair.to, &package, changed).await.outcome()[ds], json!(["create", "succeeded"]));
    let restored = run(&pair.to, &package, each(&[ds], json!({"action": "restore"}))).await;
    assert_eq!(restored.outcome()[ds], json!(["update", "succeeded"]));
    assert_eq!(pair.to.get(&format!("/api/v1/resources/{ds}")).await.is(200)["definition"], both);
    assert_eq!(run(&pair.to, &package, json!({})).await.outcome()[ds], json!(["unchanged", "unchanged"]));
    pair.end().await;
}

#[tokio::test]
async fn an_id_that_has_another_type_in_the_target_is_a_type_mismatch() {
    let pair = Pair::start().await;
    pair.from.resource("x", "dataset", "Orders", "/", json!({})).await;
    pair.from.resource("card", "card", "Sum", "/", json!({"dataset_id": "x"})).await;
    pair.to.resource("x", "etl", "Nightly", "/", json!({})).await;
    let package = pair.from.export_all().await;
    let ended = run(&pair.to, &package, json!({})).await;
    assert_eq!(ended.item("x")["errors"][0]["code"], "type_mismatch");
    assert_eq!(ended.item("x")["errors"][0]["related_id"], "x");
    assert_eq!(ended.errors("card"), json!([["reference_not_matched", "Dataset Orders not matched", "x"]]));
    assert_eq!(run(&pair.to, &package, json!({"change_ids": true})).await.record["counts"]["succeeded"], 2);
    pair.end().await;
}

#[tokio::test]
async fn a_cycle_survives_or_falls_together_with_all_that_depends_on_it() {
    let pair = Pair::start().await;
    let view = |parents: &[&str]| json!({"parent_dataset_ids": parents});
    let from = &pair.from;
    from.resource("a", "dataset", "A", "/", view(&["b", "nowhere"])).await;
    from.resource("b", "dataset", "B", "/", json!({"sql": "select * from {{dataset:a}}"})).await;
    let both = json!({"inputs": [{"dataset_id": "b"}], "outputs": [{"dataset_id": "c"}]});
    from.resource("e", "etl", "E", "/", both.clone()).await;
    // A healthy one: what the ETL makes feeds what it reads.
    from.resource("c", "dataset", "C", "/", view(&["d"])).await;
    from.resource("d", "dataset", "D", "/", view(&["c"])).await;
    from.resource("e2", "etl", "E2", "/", json!({"inputs": [{"dataset_id": "c"}], "outputs": [{"dataset_id": "d"}]}))
        .await;
    // An ETL that writes into the fallen cycle.
    from.resource("e3", "etl", "E3", "/", json!({"inputs": [{"dataset_id": "b"}], "outputs": [{"dataset_id": "a"}]}))
        .await;
    from.resource("t", "offline_dev_task", "T", "/", json!({"nodes": [{"id": 1, "etl_id": "e3"}]})).await;
    let ended = run(&pair.to, &from.export_all().await, json!({})).await;
    let line = |message: &str, id: &str| json!(["reference_not_matched", message, id]);
    let input = |name: &str, id: &str| line(&format!("Input Dataset {name} not matched"), id);
    assert_eq!(ended.errors("a"), json!([input("B", "b"), input("nowhere", "nowhere")]));
    assert_eq!(ended.errors("b"), json!([input("A", "a")]));
    assert_eq!(ended.errors("e"), json!([line("Input Dataset not matched", "b")]));
    let writes = json!([line("Input Dataset not matched", "b"), line("Output Dataset A not matched", "a")]);
    assert_eq!(ended.errors("e3"), writes);
    assert_eq!(ended.errors("t"), json!([line("ETL E3 not matched", "e3")]));
    for id in ["c", "d", "e2"] {
        assert_eq!(ended.outcome()[id], json!(["create", "succeeded"]));
    }
    assert_eq!(ended.record["status"], "partially_succeeded");
    pair.end().await;
}

#[tokio::test]
async fn abort_writes_nothing_where_skip_failed_writes_what_it_can() {
    let pair = Pair::start().await;
    pair.from.resource("good", "dataset", "Good", "/", json!({})).await;
    pair.from.resource("bad", "dataset", "Bad", "/", json!({"data_account_id": "nowhere"})).await;
    let package = pair.from.export_all().await;
    let aborted = run(&pair.to, &package, json!({"on_failure": "abort"})).await;
    assert_eq!(aborted.record["status"], "failed");
    assert_eq!(aborted.outcome(), json!({"bad": ["blocked", "failed"], "good": ["create", "skipped"]}));
    assert!(aborted.record["error"]["message"].is_string());
    assert!(pair.to.catalogue().await.is_empty());
    let ended = run(&pair.to, &package, json!({"on_failure": "skip_failed"})).await;
    assert_eq!(ended.record["status"], "partially_succeeded");
    assert_eq!(ended.outcome(), json!({"bad": ["blocked", "failed"], "good": ["create", "succeeded"]}));
    let nothing_blocked = json!({"on_failure": "abort", "resolutions": {"bad": {"action": "skip"}}});
    assert_eq!(run(&pair.to, &package, nothing_blocked).await.record["status"], "succeeded");
    pair.end().await;
}

#[tokio::test]
async fn a_resource_lists_every_failure_its_own_first_in_the_order_of_the_table() {
    let pair = Pair::start().await;
    let fields = json!([{"id": "f1"}, {"id": "f2"}]);
    pair.from
        .resource("ds", "dataset", "Orders", "/", json!({"parent_dataset_ids": ["nowhere"], "fields": fields}))
        .await;
    pair.to.resource("ds", "dataset", "Orders", "/", json!({"fields": fields})).await;
    pair.to.resource("ds", "dataset", "Old name", "/", json!({"fields": []})).await;
    pair.to.resource("holder", "dataset", "Orders", "/", json!({})).await;
    let package = pair.from.export_all().await;
    let ended = run(&pair.to, &package, json!({})).await;
    let expected = json!([
        ["duplicate_name", SAME_FILE, "holder"],
        ["duplicate_child", "Duplicate entry 'ds-f1' for key 'ds_fd'", null],
        ["duplicate_child", "Duplicate entry 'ds-f2' for key 'ds_fd'", null],
        ["reference_not_matched", "Input Dataset nowhere not matched", "nowhere"],
    ]);
    assert_eq!(ended.errors("ds"), expected, "the list shows every failure that would happen");
    pair.end().await;
}

#[tokio::test]
async fn an_import_may_not_close_a_circle_of_subprocesses() {
    let pair = Pair::start().await;
    let calls = |id: &str| json!({"nodes": [{"id": 1, "type": "subprocess", "task_id": id}]});
    pair.from.resource("inner", "offline_dev_task", "Inner", "/", json!({})).await;
    pair.from.resource("outer", "offline_dev_task", "Outer", "/", calls("inner")).await;
    pair.from.resource("user", "offline_dev_task", "User", "/", calls("outer")).await;
    pair.to.resource("outer", "offline_dev_task", "Outer", "/", json!({})).await;
    pair.to.resource("inner", "offline_dev_task", "Inner", "/", calls("outer")).await;
    let package = pair.from.export_all().await;
    let ended = run(&pair.to, &package, skip(&["inner"])).await;
    assert_eq!(ended.item("outer")["errors"][0]["code"], "subprocess_cycle");
    assert_eq!(ended.errors("user"), json!([["reference_not_matched", "Subprocess Outer not matched", "outer"]]));
    assert_eq!(run(&pair.to, &package, json!({})).await.record["status"], "succeeded", "taken whole it is no circle");
    pair.end().await;
}
