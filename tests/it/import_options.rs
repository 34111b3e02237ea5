//! Changed IDs, resolutions, prefixes, owners, drift.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::failures::{Pair, Run, each, run, skip};
use crate::support::{User, package, secrets_missing};

/// A resource of a user.
async fn get(user: &User, id: &str) -> Value {
    user.get(&format!("/api/v1/resources/{id}")).await.is(200)
}

/// The new ID of an item.
fn new_id<'a>(run: &'a Run, id: &str) -> &'a str {
    run.item(id)["new_id"].as_str().unwrap()
}

/// What a resource has of its own, secrets sealed, by its last key: no route shows it.
async fn stored(pair: &Pair, id: &str) -> Value {
    let overlay = "select coalesce(jsonb_object_agg(own -> 0 -> -1 ->> 'key', own -> 1), '{}')::text from resources r
        join resource_versions v on v.domain_id = r.domain_id and v.resource_id = r.id and v.revision = r.revision,
        jsonb_array_elements(v.overlay::jsonb) own where r.id = $1";
    let text: String = sqlx::query_scalar(overlay).bind(id).fetch_one(&mut pair.production.sql().await).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A catalogue with every way to refer: what is declared goes through `at`, the rest stays.
fn catalogue(at: &dyn Fn(&str) -> String, parameter: &str) -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let sql = format!(
        "select '{{{{dataset:{0}}}}}' from {{{{dataset:{0}}}}} -- raw, [DYNAMIC_PARAMS.{parameter}]",
        at("raw")
    );
    let nodes = json!([
        {"id": "raw", "type": "dataset", "dataset_id": at("raw"), "input_dataset_ids": [at("raw"), at("view")]},
        {"id": "n2", "output_dataset_ids": [at("out")], "data_account_id": at("acc"), "etl_id": at("etl"), "sql": sql},
        {"id": "n3", "type": "subprocess", "task_id": at("sub"), "comment": "sub"},
    ]);
    vec![
        ("acc", "data_account", "Warehouse", json!({"connector": "postgres", "note": "acc"})),
        ("par", "global_parameter", "region", json!({"default": "raw"})),
        ("raw", "dataset", "Raw", json!({"data_account_id": at("acc"), "fields": [{"id": "raw"}, {"id": "f2"}]})),
        (
            "view",
            "dataset",
            "视图",
            json!({"parent_dataset_ids": [at("raw")], "sql": sql, "extra": {"dataset_id": "raw"}}),
        ),
        ("out", "dataset", "Out", json!({"source": "etl"})),
        (
            "etl",
            "etl",
            "Nightly",
            json!({"inputs": [{"dataset_id": at("raw")}], "outputs": [{"dataset_id": at("out")}], "steps": ["raw"]}),
        ),
        ("sub", "offline_dev_task", "Sub", json!({"nodes": [], "parameters": {"task_id": "main"}})),
        ("main", "offline_dev_task", "Main", json!({"nodes": nodes, "edges": [{"from": "raw", "to": "n2"}]})),
        (
            "card",
            "card",
            "Sum",
            json!({"dataset_id": at("view"), "parameter_ids": [at("par")], "metrics": {"dataset_id": "raw"},
            "images": [at("/img/a.png"), at("/img/b.png")], "background": {"image": at("/img/a.png")}, "alt": "/img/a.png"}),
        ),
        ("card2", "card", "Picture", json!({"images": [at("/img/a.png")]})),
        (
            "page",
            "page",
            "Home",
            json!({"cards": [{"card_id": at("card"), "layout": {"card_id": "card"}}], "filters": [{"dataset_id": at("raw")}]}),
        ),
        (
            "wall",
            "data_visualization_wall",
            "Wall",
            json!({"cards": [{"card_id": at("card2")}], "background": {"image": at("/img/b.png")}}),
        ),
        (
            "app",
            "application",
            "App",
            json!({"pages": [{"page_id": at("page")}], "walls": [{"wall_id": at("wall")}],
            "menu": [{"title": "page", "page_id": at("page")}, {"wall_id": at("wall")}]}),
        ),
    ]
}

#[tokio::test]
async fn changed_ids_rewrite_what_is_declared_and_nothing_else_and_create_each_time() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    for path in ["/img/a.png", "/img/b.png"] {
        assert_eq!(from.attachment(path, path.as_bytes()).await.status, 201);
    }
    for (id, kind, name, definition) in catalogue(&|text| text.to_owned(), "region") {
        from.resource(id, kind, name, "/Sales", definition).await;
    }
    let package = from.export_all().await;
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    for (attempt, suffix) in ["", " (2)", " (3)"].into_iter().enumerate() {
        if attempt > 0 {
            let clash = run(to, &package, json!({"change_ids": true})).await;
            assert_eq!(
                clash.item("acc")["errors"][0]["code"],
                "duplicate_name",
                "created again, and its name is taken"
            );
            assert_eq!(clash.outcome()["sub"], json!(["create", "succeeded"]), "its name is unique nowhere");
        }
        let ended = run(to, &package, json!({"change_ids": true, "on_name_clash": "rename"})).await;
        assert_eq!(ended.record["counts"]["create"], 13, "{}", ended.record);
        assert_eq!(ended.record["status"], "succeeded");
        let card = get(to, new_id(&ended, "card")).await;
        for (at, path) in ["/img/a.png", "/img/b.png"].into_iter().enumerate() {
            let new = card["definition"]["images"][at].as_str().unwrap().to_owned();
            assert_eq!(to.get(&format!("/api/v1/attachments{new}")).await.bytes, path.as_bytes());
            assert_eq!(to.get(&format!("/api/v1/attachments{path}")).await.status, 404);
            assert_ne!(paths.insert(path.to_owned(), new.clone()), Some(new), "new paths with each import");
        }
        let at = |text: &str| paths.get(text).cloned().unwrap_or_else(|| new_id(&ended, text).to_owned());
        for (id, kind, name, definition) in catalogue(&at, &format!("region{suffix}")) {
            let found = get(to, new_id(&ended, id)).await;
            assert_eq!(found["definition"], definition, "{id}");
            assert_eq!([&found["type"], &found["directory"]], [&json!(kind), &json!("/Sales")]);
            assert!(found["references"].as_array().unwrap().iter().all(|reference| reference["found"] == true));
            let unique = !matches!(kind, "offline_dev_task" | "card" | "application");
            assert_eq!(found["name"], format!("{name}{}", if unique { suffix } else { "" }));
            assert!(uuid::Uuid::parse_str(new_id(&ended, id)).is_ok());
            assert_eq!(to.get(&format!("/api/v1/resources/{id}")).await.status, 404);
        }
    }
    pair.end().await;
}

#[tokio::test]
async fn with_changed_ids_what_is_left_out_keeps_its_id_and_must_be_there() {
    let pair = Pair::start().await;
    let calls = |id: &str| json!({"nodes": [{"id": 1, "task_id": id}]});
    pair.from.resource("sub", "offline_dev_task", "Sub", "/", calls("deep")).await;
    pair.from.resource("deep", "offline_dev_task", "Deep", "/", json!({})).await;
    pair.from.resource("outside", "offline_dev_task", "Outside", "/", calls("sub")).await;
    let package = pair.from.export(json!({"resource_ids": ["sub"]})).await;
    let options = json!({"change_ids": true, "resolutions": {"deep": {"action": "skip"}}});
    let lacking = run(&pair.to, &package, options.clone()).await;
    assert_eq!(lacking.errors("sub"), json!([["reference_not_matched", "Subprocess Deep not matched", "deep"]]));
    pair.to.resource("deep", "offline_dev_task", "Deep", "/", json!({})).await;
    let ended = run(&pair.to, &package, options).await;
    assert_eq!(get(&pair.to, new_id(&ended, "sub")).await["definition"], calls("deep"));
    // Who uses it from outside the package keeps the old one; with IDs kept nothing is to be said.
    let shared = |run: &Run| {
        run.planned["warnings"].as_array().unwrap().iter().filter(|line| line["code"] == "shared_part").count()
    };
    assert_eq!((shared(&ended), shared(&run(&pair.to, &package, skip(&["deep"])).await)), (1, 0));
    // The same resource in another domain of the target.
    let other = pair.production.new_user("other", "admin").await;
    assert_eq!(run(&other, &package, json!({"change_ids": true})).await.record["counts"]["succeeded"], 2);
    pair.end().await;
}

#[tokio::test]
async fn what_is_mapped_is_used_instead_and_stays_unchanged_under_the_same_mapping() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Test", "/", json!({})).await;
    from.resource("par", "global_parameter", "region", "/", json!({})).await;
    let definition = |account: &str, name: &str| json!({"data_account_id": account, "sql": format!("[DYNAMIC_PARAMS.{name}]"), "note": "acc"});
    from.resource("ds", "dataset", "Orders", "/", definition("acc", "region")).await;
    to.resource("prod", "data_account", "Production", "/", json!({})).await;
    to.resource("land", "global_parameter", "Land / 国", "/", json!({})).await;
    let package = from.export_all().await;
    let map = json!({"resolutions": {"acc": {"action": "map", "target_id": "prod"}, "par": {"action": "map", "target_id": "land"}}});
    let ended = run(to, &package, map.clone()).await;
    assert_eq!(ended.record["status"], "succeeded", "mapped items never lower it");
    assert_eq!(
        ended.outcome(),
        json!({"acc": ["map", "skipped"], "par": ["map", "skipped"], "ds": ["create", "succeeded"]})
    );
    assert_eq!([&ended.item("acc")["selected"], &ended.item("acc")["new_id"]], [&json!(false), &json!("prod")]);
    assert_eq!(get(to, "ds").await["definition"], definition("prod", "Land / 国"));
    assert_eq!(to.get("/api/v1/resources/acc").await.status, 404);

    assert_eq!(run(to, &package, map.clone()).await.outcome()["ds"], json!(["unchanged", "unchanged"]));
    // Another remapping is a change; a change of the target to what would come is none.
    let other = json!({"resolutions": {"acc": {"action": "map", "target_id": "prod"}, "par": {"action": "import"}}});
    let other = run(to, &package, other).await;
    assert_eq!(other.outcome()["ds"], json!(["update", "succeeded"]));
    to.resource("ds", "dataset", "Orders", "/", definition("prod", "Land / 国")).await;
    assert_eq!(run(to, &package, map).await.outcome()["ds"], json!(["unchanged", "unchanged"]));

    let id = to.upload(&package).await["id"].as_str().unwrap().to_owned();
    let others = pair.production.new_user("other", "admin").await;
    others.resource("theirs", "data_account", "Theirs", "/", json!({})).await;
    for target in ["land", "ds", "nowhere", "theirs", "not an ID"] {
        let body = each(&["acc"], json!({"action": "map", "target_id": target}));
        to.put(&format!("/api/v1/imports/{id}/plan"), body).await.problem(422, "invalid_field");
    }
    pair.end().await;
}

#[tokio::test]
async fn texts_follow_a_renamed_resource_and_two_may_swap_names() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("par", "global_parameter", "region", "/", json!({})).await;
    from.resource("a", "dataset", "A", "/", json!({"sql": "[DYNAMIC_PARAMS.region] [DYNAMIC_PARAMS.region]"})).await;
    from.resource("b", "dataset", "B", "/", json!({})).await;
    to.resource("holder", "global_parameter", "region", "/", json!({})).await;
    let rename = each(&["par"], json!({"action": "rename", "name": "région"}));
    let package = from.export_all().await;
    let ended = run(to, &package, rename.clone()).await;
    assert_eq!(ended.record["status"], "succeeded");
    assert_eq!(ended.item("par")["new_name"], "région");
    assert_eq!(get(to, "par").await["name"], "région");
    assert_eq!(get(to, "a").await["definition"]["sql"], "[DYNAMIC_PARAMS.région] [DYNAMIC_PARAMS.région]");
    assert_eq!(run(to, &package, rename.clone()).await.record["counts"]["unchanged"], 3);

    for (id, name) in [("a", "C"), ("b", "A"), ("a", "B")] {
        from.resource(id, "dataset", name, "/", get(from, id).await["definition"].clone()).await;
    }
    let swapped = run(to, &from.export_all().await, rename.clone()).await;
    assert_eq!(swapped.record["counts"]["update"], 2);
    assert_eq!([&get(to, "a").await["name"], &get(to, "b").await["name"]], ["B", "A"]);
    // A name is not free where its holder fails to move away.
    from.resource("a", "dataset", "Away", "/", json!({"data_account_id": "nowhere"})).await;
    from.resource("c", "dataset", "B", "/", json!({})).await;
    let package = from.export_all().await;
    let kept = run(to, &package, rename).await;
    assert_eq!(kept.item("c")["errors"][0]["code"], "duplicate_name");
    assert_eq!(kept.item("c")["errors"][0]["related_id"], "a");
    let renamed = run(to, &package, json!({"on_name_clash": "rename"})).await;
    assert_eq!(renamed.item("c")["new_name"], "B (2)");
    // Names chosen for clashes are chosen again, so that nothing changes.
    let again = run(to, &package, json!({"on_name_clash": "rename"})).await;
    assert_eq!(
        (again.item("c")["new_name"].as_str(), &again.record["counts"]["unchanged"]),
        (Some("B (2)"), &json!(3))
    );
    pair.end().await;
}

#[tokio::test]
async fn a_name_chosen_for_a_clash_reaches_those_that_refer_to_it_by_name() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Test", "/", json!({})).await;
    from.resource("par", "global_parameter", "region", "/", json!({})).await;
    from.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc", "sql": "[DYNAMIC_PARAMS.region]"}))
        .await;
    to.resource("prod", "data_account", "Production", "/", json!({})).await;
    let package = from.export_all().await;
    let mut options = json!({"on_name_clash": "rename", "resolutions": {
        "acc": {"action": "map", "target_id": "prod"}, "par": {"action": "restore"}}});
    run(to, &package, options.clone()).await;
    to.delete("/api/v1/resources/par?force=true").await.is(204);
    to.resource("holder", "global_parameter", "region", "/", json!({})).await;
    let ended = run(to, &package, options.take()).await;
    assert_eq!(ended.item("par")["new_name"], "region (2)");
    assert_eq!(
        get(to, "ds").await["definition"],
        json!({"data_account_id": "prod", "sql": "[DYNAMIC_PARAMS.region (2)]"})
    );
    assert_eq!(ended.outcome()["ds"], json!(["update", "succeeded"]));
    pair.end().await;
}

#[tokio::test]
async fn the_longest_names_find_a_free_one_too() {
    let pair = Pair::start().await;
    let name = "名".repeat(255);
    pair.from.resource("ds", "dataset", &name, "/", json!({})).await;
    let package = pair.from.export_all().await;
    for suffix in ["", " (2)", " (3)"] {
        let ended = run(&pair.to, &package, json!({"change_ids": true, "on_name_clash": "rename"})).await;
        assert_eq!(ended.record["status"], "succeeded", "{}", ended.record);
        let found = get(&pair.to, new_id(&ended, "ds")).await["name"].as_str().unwrap().to_owned();
        assert!(found.ends_with(suffix) && found.chars().count() == 255, "{found}");
    }
    pair.end().await;
}

#[tokio::test]
async fn a_change_made_in_the_target_is_told_blocked_or_overwritten_as_wanted() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let version = |text: &str| json!({"source": text});
    to.resource("old", "dataset", "Old", "/", version("theirs")).await;
    to.resource("same", "dataset", "Same", "/", version("1")).await;
    for id in ["ds", "old", "same"] {
        let name = format!("{}{}", id[..1].to_uppercase(), &id[1..]);
        from.resource(id, "dataset", &name, "/", version("1")).await;
    }
    let codes = |run: &Run, id: &str| {
        run.item(id)["warnings"].as_array().unwrap().iter().map(|line| line["code"].clone()).collect::<Value>()
    };
    let package = from.export_all().await;
    let first = run(to, &package, json!({})).await;
    assert_eq!(
        first.outcome(),
        json!({"ds": ["create", "succeeded"], "old": ["update", "succeeded"], "same": ["unchanged", "unchanged"]})
    );
    assert_eq!((codes(&first, "old"), &first.item("old")["drifted"]), (json!(["not_imported_before"]), &json!(false)));
    assert_eq!([codes(&first, "ds"), codes(&first, "same")], [json!([]), json!([])]);

    to.resource("ds", "dataset", "Ds", "/", version("changed there")).await;
    let blocked = run(to, &package, json!({"on_drift": "block"})).await;
    assert_eq!(
        (&blocked.item("ds")["errors"][0]["code"], &blocked.item("ds")["drifted"]),
        (&json!("changed_in_target"), &json!(true))
    );
    assert_eq!(blocked.outcome()["old"], json!(["unchanged", "unchanged"]));
    assert_eq!(get(to, "ds").await["definition"], version("changed there"));
    let one =
        json!({"on_drift": "block", "resolutions": {"ds": {"action": "overwrite"}, "old": {"action": "overwrite"}}});
    assert_eq!(run(to, &package, one).await.outcome()["ds"], json!(["update", "succeeded"]));
    to.resource("ds", "dataset", "Ds", "/Elsewhere", version("1")).await;
    let moved = run(to, &package, json!({})).await;
    assert_eq!((codes(&moved, "ds"), &moved.item("ds")["drifted"]), (json!(["changed_in_target"]), &json!(true)));
    assert_eq!(get(to, "ds").await["directory"], "/");
    // A change to what comes anyway is drift, but there is nothing to do.
    to.resource("ds", "dataset", "Ds", "/", version("2")).await;
    from.resource("ds", "dataset", "Ds", "/", version("2")).await;
    let equal = run(to, &from.export_all().await, json!({"on_drift": "block"})).await;
    assert_eq!((&equal.outcome()["ds"], codes(&equal, "ds")), (&json!(["unchanged", "unchanged"]), json!([])));
    pair.end().await;
}

#[tokio::test]
async fn a_prefix_puts_everything_below_another_directory_and_owners_follow_their_names() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let person = |name: &str| json!({"username": name, "password": "long enough to keep", "role": "developer"});
    let alice = from.post("/api/v1/users", person("alice")).await.is(201)["id"].as_str().unwrap().to_owned();
    let token = from.post(&format!("/api/v1/users/{alice}/tokens"), json!({"name": "t"})).await.is(201);
    pair.test
        .user(token["token"].as_str().unwrap())
        .resource("hers", "dataset", "Hers", "/Sales/日报", json!({}))
        .await;
    from.resource("root", "dataset", "Root", "/", json!({})).await;
    let package = from.export_all().await;
    let options = json!({"directory_prefix": "/From test"});
    let ended = run(to, &package, options.clone()).await;
    for (id, directory) in [("hers", "/From test/Sales/日报"), ("root", "/From test")] {
        assert_eq!(ended.item(id)["new_directory"], directory);
        assert_eq!(get(to, id).await["directory"], directory);
    }
    assert_eq!(run(to, &package, options).await.record["counts"]["unchanged"], 2);
    assert_eq!(run(to, &package, json!({})).await.record["counts"]["update"], 2, "back to the original path");
    assert_eq!(get(to, "hers").await["directory"], "/Sales/日报");
    let same = run(to, &package, json!({"directory_prefix": "/"})).await;
    assert_eq!(same.record["counts"]["unchanged"], 2);

    assert_eq!(get(to, "hers").await["owner"], "admin", "nobody here has her name, so it is who imports");
    for name in ["alice", "bob"] {
        to.post("/api/v1/users", person(name)).await.is(201);
    }
    let owned = run(to, &package, json!({"directory_prefix": "/2", "change_ids": true})).await;
    assert_eq!(get(to, new_id(&owned, "hers")).await["owner"], "alice");
    assert_eq!(get(to, new_id(&owned, "root")).await["owner"], "admin");
    let fixed = run(to, &package, json!({"directory_prefix": "/3", "change_ids": true, "owner": "bob"})).await;
    assert_eq!(get(to, new_id(&fixed, "hers")).await["owner"], "bob");
    run(to, &package, json!({"directory_prefix": "/4", "owner": "bob"})).await;
    assert_eq!(get(to, "hers").await["owner"], "admin", "an update leaves the owner");
    pair.end().await;
}

#[tokio::test]
async fn environment_specific_values_arrive_with_what_is_new_and_stay_afterwards() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let account = |host: &str, port: Value| json!({"connector": "postgres", "host": host, "port": port});
    let task = |enabled: bool, cron: &str| json!({"nodes": [], "schedule": {"cron": cron, "enabled": enabled}});
    from.resource("acc", "data_account", "Warehouse", "/", account("test.host", json!(5432))).await;
    from.resource("par", "global_parameter", "region", "/", json!({"data_type": "text", "default": "north"})).await;
    from.resource("task", "offline_dev_task", "Load", "/", task(true, "0 1 * * *")).await;
    from.resource("plain", "etl", "No schedule", "/", json!({"steps": []})).await;
    run(to, &from.export_all().await, json!({})).await;
    assert_eq!(get(to, "acc").await["definition"], account("test.host", json!(5432)));
    assert_eq!(get(to, "par").await["definition"]["default"], "north");
    assert_eq!(get(to, "task").await["definition"], task(false, "0 1 * * *"), "schedules arrive paused");
    assert_eq!(get(to, "plain").await["definition"], json!({"steps": []}));

    to.resource("acc", "data_account", "Warehouse", "/", json!({"connector": "postgres", "host": "prod.host"})).await;
    to.resource("task", "offline_dev_task", "Load", "/", task(true, "0 1 * * *")).await;
    to.resource("par", "global_parameter", "region", "/", json!({"data_type": "text", "default": "south"})).await;
    let before = to.catalogue().await;
    from.resource("acc", "data_account", "Warehouse", "/", account("test2.host", json!(6000))).await;
    let none = run(to, &from.export_all().await, json!({"on_drift": "block"})).await;
    assert_eq!(none.record["counts"]["unchanged"], 4, "they are never a change and never drift");
    assert_eq!(before, to.catalogue().await);
    let mut changed = account("test2.host", json!(6000));
    changed["note"] = json!("new");
    from.resource("acc", "data_account", "Warehouse", "/", changed).await;
    from.resource("task", "offline_dev_task", "Load", "/", task(false, "0 2 * * *")).await;
    from.resource("par", "global_parameter", "region", "/", json!({"data_type": "code", "default": "x"})).await;
    assert_eq!(run(to, &from.export_all().await, json!({})).await.record["counts"]["update"], 3);
    let mut expected = account("prod.host", json!(6000));
    expected["note"] = json!("new");
    assert_eq!(get(to, "acc").await["definition"], expected, "its own host; the port that it lacked");
    assert_eq!(get(to, "task").await["definition"], task(true, "0 2 * * *"));
    assert_eq!(get(to, "par").await["definition"], json!({"data_type": "code", "default": "south"}));
    pair.end().await;
}

#[tokio::test]
async fn secrets_stay_where_they_are_and_the_checklist_names_those_that_are_missing() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let account = |note: &str, password: Value| json!({"note": note, "password": password, "options": {"token": "s3cret-token", "mode": 1}});
    let marked = |state: &str| json!({"$secret": state});
    let shown = from.resource("acc", "data_account", "Warehouse", "/", account("1", json!("s3cret-password"))).await;
    assert_eq!(shown["definition"]["password"], marked("set"));
    let bytes = from.export_all().await;
    let ended = run(to, &bytes, json!({})).await;
    let missing = secrets_missing(&ended.record);
    assert_eq!(missing.len(), 1);
    let todo = &missing[0];
    assert_eq!(json!([todo["code"], todo["resource_id"], todo["done"]]), json!(["secret_missing", "acc", false]));
    let arrived = get(to, "acc").await["definition"].clone();
    assert_eq!(
        arrived,
        json!({"note": "1", "password": marked("missing"), "options": {"token": marked("missing"), "mode": 1}})
    );
    let put =
        |password: Value| json!({"note": "1", "password": password, "options": {"token": marked("set"), "mode": 1}});
    let set = to.resource("acc", "data_account", "Warehouse", "/", put(json!("s3cret-production"))).await;
    assert_eq!(set["definition"]["options"]["token"], marked("missing"), "there is none to keep");
    let sealed = stored(&pair, "acc").await["password"].clone();
    to.resource("acc", "data_account", "Warehouse again", "/", put(marked("set"))).await;
    assert_eq!(stored(&pair, "acc").await["password"], sealed, "the marker keeps it");

    from.resource("acc", "data_account", "Warehouse", "/", account("2", json!("s3cret-new"))).await;
    let second = from.export_all().await;
    let updated = run(to, &second, json!({})).await;
    assert_eq!(updated.outcome()["acc"], json!(["update", "succeeded"]));
    assert_eq!(stored(&pair, "acc").await["password"], sealed, "an update keeps it");
    assert_eq!(get(to, "acc").await["definition"]["note"], "2");
    from.resource("acc", "data_account", "Warehouse", "/", account("2", json!("s3cret-other"))).await;
    assert_eq!(run(to, &from.export_all().await, json!({"on_drift": "block"})).await.record["counts"]["unchanged"], 1);
    let removed = to.resource("acc", "data_account", "Warehouse", "/", json!({"note": "2"})).await;
    assert!(removed["definition"].get("password").is_none(), "leaving the key out removes it");

    let unpacked = [package::entries(&bytes), package::entries(&second)];
    let contents: Vec<&Vec<u8>> = unpacked.iter().flat_map(|entries| entries.values()).collect();
    assert!(contents.iter().all(|bytes| !String::from_utf8_lossy(bytes).contains("s3cret")));
    let answers = [shown, arrived, set, get(to, "acc").await, get(from, "acc").await, json!(to.catalogue().await)];
    assert!(!format!("{answers:?}{ended:?}{updated:?}").contains("s3cret"));
    assert!(!stored(&pair, "acc").await.to_string().contains("s3cret"));
    pair.end().await;
}

#[tokio::test]
async fn execute_takes_new_options_and_refuses_a_plan_that_the_target_left_behind() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("ds", "dataset", "Orders", "/", json!({"source": "1"})).await;
    to.resource("ds", "dataset", "Orders", "/", json!({"source": "2"})).await;
    let package = from.export_all().await;
    let record = to.upload(&package).await;
    let at = |action: &str| format!("/api/v1/imports/{}/{action}", record["id"].as_str().unwrap());
    let wrong = [
        json!({"on_failure": "explode"}),
        json!({"on_drift": "ignore"}),
        json!({"on_name_clash": ""}),
        json!({"directory_prefix": "relative/.."}),
        json!({"owner": "nobody"}),
        skip(&["unknown"]),
        each(&["ds"], json!({"action": "delete"})),
        each(&["ds"], json!({"action": "map"})),
        each(&["ds"], json!({"action": "rename"})),
        each(&["ds"], json!({"action": "rename", "name": " \t"})),
    ];
    for options in wrong {
        to.put(&at("plan"), options.clone()).await.problem(422, "invalid_field");
        to.post(&at("execute"), options).await.problem(422, "invalid_field");
    }
    to.resource("ds", "dataset", "Orders", "/", json!({"source": "3"})).await;
    let stale = to.post(&at("execute"), json!({"plan_digest": record["plan_digest"]})).await.problem(409, "plan_stale");
    assert!(stale["errors"].to_string().contains("\"ds\""), "it names what moved: {stale}");
    // A digest alone leaves the stored options; a body with options replaces them.
    let again = to.upload(&package).await["id"].as_str().unwrap().to_owned();
    let planned = to.plan(&again, skip(&["ds"])).await;
    let digest = json!({"plan_digest": planned["plan_digest"]});
    to.post(&format!("/api/v1/imports/{again}/execute"), digest).await.is(202);
    assert_eq!(to.ended(&again).await["counts"]["skip"], 1);
    to.plan(record["id"].as_str().unwrap(), skip(&["ds"])).await;
    to.post(&at("execute"), json!({"directory_prefix": "/New"})).await.is(202);
    let ended = to.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(json!([ended["status"], ended["counts"]["update"]]), json!(["succeeded", 1]));
    assert_eq!(get(to, "ds").await["directory"], "/New");
    to.post(&at("execute"), json!({})).await.problem(409, "wrong_state");
    to.put(&at("plan"), json!({})).await.problem(409, "wrong_state");
    pair.end().await;
}
