//! Definitions say after an import exactly what its mapping says, or the plan says that they cannot.

use serde_json::{Value, json};

use crate::failures::{Pair, each, run};
use crate::support::Environment;

/// A type whose objects name datasets by their keys, and whose texts can name those with numbers for IDs.
const BOARD: &str = r#"
key = "board"
label = { en = "Board", zh = "看板", plural_en = "Boards" }
order = 200
unique_name = "none"

[[reference]]
path = "$.parts[*].sources"
role = "Source"
to = ["dataset"]
kind = "use"
keys = true

[[text_reference]]
path = "$.text"
pattern = '#([0-9]+)'
to = "dataset"
by = "id"
role = "Mentioned Dataset"
kind = "use"
"#;

async fn pair_with_boards(folder: &std::path::Path) -> Pair {
    std::fs::write(folder.join("board.toml"), BOARD).unwrap();
    let more = format!("server.resource_types_dir = {}", json!(folder));
    let (test, production) =
        tokio::join!(Environment::configured("test", &more), Environment::configured("production", &more));
    let (from, to) = (test.admin(), production.admin());
    Pair { test, production, from, to }
}

#[tokio::test]
async fn what_a_text_or_the_keys_of_an_object_cannot_say_is_blocked() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair_with_boards(folder.path()).await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("par", "global_parameter", "region", "/", json!({})).await;
    from.resource("ds", "dataset", "Orders", "/", json!({"sql": "[DYNAMIC_PARAMS.region]"})).await;
    from.resource("other", "dataset", "Other", "/", json!({})).await;
    let together = json!({"parts": [{"sources": {"ds": 1, "other": 2}}]});
    let apart = json!({"parts": [{"sources": {"ds": 1}}, {"sources": {"other": 2}}]});
    from.resource("together", "board", "Together", "/", together).await;
    from.resource("apart", "board", "Apart", "/", apart).await;
    to.resource("odd", "global_parameter", "a]b", "/", json!({})).await;
    to.resource("one", "dataset", "One", "/", json!({})).await;
    let package = from.export_all().await;
    let rename = |name: &str| each(&["par"], json!({"action": "rename", "name": name}));

    let refused = json!([[
        "reference_not_writable",
        "The definition cannot be rewritten: a text that should name the Global Parameter a]b would read otherwise.",
        null
    ]]);
    let mapped = run(to, &package, each(&["par"], json!({"action": "map", "target_id": "odd"}))).await;
    assert_eq!(mapped.errors("ds"), refused);
    assert_eq!(mapped.item("together")["errors"][0]["code"], "reference_not_matched", "it needs the dataset");
    let text = "The definition cannot be rewritten: a text that should name the Global Parameter";
    for (name, options) in [("c]d", rename("c]d")), ("e] [DYNAMIC_PARAMS.region", rename("e] [DYNAMIC_PARAMS.region"))]
    {
        let renamed = run(to, &package, options).await;
        assert_eq!(renamed.errors("ds")[0][1], format!("{text} {name} would read otherwise."));
    }
    let changed = run(to, &package, json!({"change_ids": true, "resolutions": rename("x]y")["resolutions"]})).await;
    assert_eq!(changed.errors("ds")[0][0], "reference_not_writable");

    let one = each(&["ds", "other"], json!({"action": "map", "target_id": "one"}));
    let mapped = run(to, &package, one).await;
    let lost = "The definition cannot be rewritten: two keys of one object would become the Source one.";
    assert_eq!(mapped.errors("together"), json!([["reference_not_writable", lost, null]]));
    assert_eq!(mapped.outcome()["apart"], json!(["create", "succeeded"]));
    let apart = to.get("/api/v1/resources/apart").await.is(200);
    assert_eq!(apart["definition"], json!({"parts": [{"sources": {"one": 1}}, {"sources": {"one": 2}}]}));
    pair.end().await;
}

#[tokio::test]
async fn texts_that_cannot_take_new_ids_are_blocked_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair_with_boards(folder.path()).await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("123", "dataset", "Orders", "/", json!({})).await;
    for (id, definition) in [("b1", json!({"text": "#123"})), ("b2", json!({"text": "see #123"})), ("b3", json!({}))] {
        from.resource(id, "board", id, "/", definition).await;
    }
    let package = from.export_all().await;
    let ended = run(to, &package, json!({"change_ids": true})).await;
    for id in ["b1", "b2"] {
        assert_eq!(ended.errors(id)[0][0], "reference_not_writable");
    }
    assert_eq!(ended.record["counts"]["succeeded"], 2, "the dataset, and the board that names none");
    let kept = run(to, &package, json!({"on_name_clash": "rename"})).await;
    assert_eq!(kept.record["status"], "succeeded", "with its ID all can name it");
    pair.end().await;
}

#[tokio::test]
async fn a_name_that_this_import_takes_away_is_not_there_for_texts_that_name_it() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("par", "global_parameter", "region", "/", json!({})).await;
    let sql = |name: &str| json!({"sql": format!("[DYNAMIC_PARAMS.{name}]")});
    from.resource("ds", "dataset", "Orders", "/", sql("region")).await;
    assert_eq!(run(to, &from.export_all().await, json!({})).await.record["status"], "succeeded");
    from.resource("par", "global_parameter", "area", "/", json!({})).await;
    let package = from.export_all().await;
    let ended = run(to, &package, json!({})).await;
    assert_eq!(ended.outcome()["par"], json!(["update", "succeeded"]));
    assert_eq!(ended.errors("ds"), json!([["reference_not_matched", "Global Parameter region not matched", null]]));

    // The new name is in the texts of the source: all is well again; a chosen name is followed, too.
    from.resource("ds", "dataset", "Orders", "/", sql("area")).await;
    let package = from.export_all().await;
    let rename = each(&["par"], json!({"action": "rename", "name": "zone"}));
    let ended = run(to, &package, rename).await;
    assert_eq!(ended.record["status"], "succeeded");
    let found: Value = to.get("/api/v1/resources/ds").await.is(200);
    assert_eq!(found["definition"]["sql"], "[DYNAMIC_PARAMS.zone]");
    assert_eq!(found["references"][0]["found"], true);
    pair.end().await;
}

#[tokio::test]
async fn a_dataset_that_reads_itself_tells_its_name_clash_alone() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("ds", "dataset", "Orders", "/", json!({"sql": "{{dataset:ds}}"})).await;
    let outputs = json!({"outputs": [{"dataset_id": "ds"}, {"dataset_id": "out"}], "inputs": [{"dataset_id": "ds"}]});
    from.resource("out", "dataset", "Out", "/", json!({})).await;
    from.resource("etl", "etl", "Nightly", "/", outputs).await;
    for (id, name) in [("a", "Orders"), ("b", "Out")] {
        to.resource(id, "dataset", name, "/", json!({})).await;
    }
    let ended = run(to, &from.export_all().await, json!({})).await;
    let codes = |id: &str| {
        let errors = ended.item(id)["errors"].as_array().unwrap();
        let mut lines: Vec<Value> = errors.iter().map(|error| json!([error["code"], error["related_id"]])).collect();
        lines.sort_by_key(Value::to_string);
        json!(lines)
    };
    assert_eq!(codes("ds"), json!([["duplicate_name", "a"]]));
    // Once for each output; its input is told as such.
    let both = json!([["duplicate_name", "ds"], ["duplicate_name", "out"], ["reference_not_matched", "ds"]]);
    assert_eq!(codes("etl"), both);
    pair.end().await;
}
