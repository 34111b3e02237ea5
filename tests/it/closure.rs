//! What an export takes along, what its package holds, and the graph behind it.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferry::domain::overlay::Overlay;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::package::{entries, lines, names, sha256};
use crate::support::process::Process;
use crate::support::retail::load_retail;
use crate::support::{Environment, User};

pub async fn preview(user: &User, ids: &[&str], upstream: bool) -> Value {
    user.post("/api/v1/exports/preview", json!({"resource_ids": ids, "export_upstream": upstream})).await.is(200)
}

/// ID → reason.
pub fn reasons(preview: &Value) -> HashMap<String, String> {
    let pair =
        |item: &Value| (item["resource_id"].as_str().unwrap().to_owned(), item["reason"].as_str().unwrap().to_owned());
    preview["items"].as_array().unwrap().iter().map(pair).collect()
}

pub fn is(expected: &[(&str, &str)]) -> HashMap<String, String> {
    expected.iter().map(|(id, reason)| ((*id).to_owned(), (*reason).to_owned())).collect()
}

/// page → card → dataset ← etl ← dataset → account; task → subprocess, with an output.
pub async fn small_graph(user: &User) {
    user.resource("da", "data_account", "Account", "/", json!({})).await;
    user.resource("raw", "dataset", "Raw", "/", json!({"data_account_id": "da"})).await;
    user.resource("made", "dataset", "Made", "/Out", json!({})).await;
    user.resource("side", "dataset", "Side", "/Out", json!({})).await;
    let etl = json!({"inputs": [{"dataset_id": "raw"}], "outputs": [{"dataset_id": "made"}, {"dataset_id": "side"}]});
    user.resource("etl", "etl", "Etl", "/", etl).await;
    user.resource("card", "card", "Card", "/", json!({"dataset_id": "made"})).await;
    user.resource("page", "page", "Page", "/", json!({"cards": [{"card_id": "card"}]})).await;
    user.resource("app", "application", "App", "/", json!({"pages": [{"page_id": "page"}]})).await;
    user.resource("sub", "offline_dev_task", "Sub", "/", json!({"nodes": [{"id": 1, "output_dataset_ids": ["side"]}]}))
        .await;
    let nodes = json!([{"id": 1, "task_id": "sub"}, {"id": 2, "etl_id": "etl"}, {"id": 3, "dataset_id": "raw"}]);
    user.resource("task", "offline_dev_task", "Task", "/", json!({"nodes": nodes})).await;
    user.resource("other", "offline_dev_task", "Other", "/", json!({"nodes": [{"id": 1, "task_id": "sub"}]})).await;
}

#[tokio::test]
async fn parts_are_followed_uses_and_outputs_one_step() {
    let test = Environment::start("test").await;
    let user = test.admin();
    small_graph(&user).await;
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)]);
    let cases: [Case; 7] = [
        (&["da"], &[("da", "selected")], &[("da", "selected")]),
        (&["raw"], &[("raw", "selected"), ("da", "use")], &[("raw", "selected"), ("da", "use")]),
        (
            &["app"],
            &[("app", "selected"), ("page", "part"), ("card", "part"), ("made", "use")],
            &[
                ("app", "selected"),
                ("page", "part"),
                ("card", "part"),
                ("made", "use"),
                ("etl", "upstream"),
                ("side", "upstream"),
                ("raw", "upstream"),
                ("da", "upstream"),
                ("sub", "upstream"),
            ],
        ),
        (
            &["etl"],
            &[("etl", "selected"), ("raw", "use"), ("made", "output"), ("side", "output")],
            &[
                ("etl", "selected"),
                ("raw", "use"),
                ("made", "output"),
                ("side", "output"),
                ("da", "upstream"),
                ("sub", "upstream"),
            ],
        ),
        (
            &["task"],
            &[("task", "selected"), ("sub", "part"), ("etl", "use"), ("raw", "use"), ("side", "output")],
            &[
                ("task", "selected"),
                ("sub", "part"),
                ("etl", "use"),
                ("raw", "use"),
                ("side", "output"),
                ("made", "upstream"),
                ("da", "upstream"),
            ],
        ),
        (
            &["made"],
            &[("made", "selected")],
            &[
                ("made", "selected"),
                ("etl", "upstream"),
                ("raw", "upstream"),
                ("da", "upstream"),
                ("side", "upstream"),
                ("sub", "upstream"),
            ],
        ),
        // The first reason that applies: `raw` is selected, though the task uses it too.
        (
            &["raw", "sub"],
            &[("raw", "selected"), ("sub", "selected"), ("da", "use"), ("side", "output")],
            &[
                ("raw", "selected"),
                ("sub", "selected"),
                ("da", "use"),
                ("side", "output"),
                ("etl", "upstream"),
                ("made", "upstream"),
            ],
        ),
    ];
    for (selected, plain, upstream) in cases {
        assert_eq!(reasons(&preview(&user, selected, false).await), is(plain), "{selected:?}");
        assert_eq!(reasons(&preview(&user, selected, true).await), is(upstream), "{selected:?} with upstream");
    }
    let found = preview(&user, &["task"], false).await;
    let shared = json!([{"resource_id": "sub", "used_by": "other", "used_by_name": "Other"}]);
    assert_eq!((&found["shared_parts"], &found["missing"], &found["forbidden"]), (&shared, &json!([]), &json!([])));
    assert_eq!(found["items"][0]["name"], "Raw", "in dependency order: {found}");
    test.end().await;
}

#[tokio::test]
async fn the_sample_takes_along_what_the_rules_say() {
    let test = Environment::start("test").await;
    let user = test.admin();
    load_retail(&user).await;
    for (id, plain, upstream) in [
        ("card_sales_trend", 3, 13),
        ("task_nightly", 14, 24),
        ("page_asia", 7, 14),
        ("etl_daily_sales", 8, 11),
        ("app_cockpit", 45, 64),
    ] {
        assert_eq!(reasons(&preview(&user, &[id], false).await).len(), plain, "{id}");
        assert_eq!(reasons(&preview(&user, &[id], true).await).len(), upstream, "{id} with upstream");
    }
    assert_eq!(preview(&user, &["task_nightly"], false).await["shared_parts"][0]["used_by"], "task_asia_sync");
    test.end().await;
}

#[tokio::test]
async fn selections_name_types_directories_and_times() {
    let test = Environment::start("test").await;
    let user = test.admin();
    small_graph(&user).await;
    let since = user.get("/api/v1/resources/other").await.is(200)["updated_at"].clone();
    let select = async |selection: Value| {
        let answer = user.post("/api/v1/exports/preview", json!({"selection": selection})).await.is(200);
        let mut chosen: Vec<_> =
            reasons(&answer).into_iter().filter(|(_, reason)| reason == "selected").map(|(id, _)| id).collect();
        chosen.sort();
        chosen
    };
    assert_eq!(select(json!({"all": true})).await.len(), 11);
    assert_eq!(select(json!({"types": ["etl", "page"]})).await, ["etl", "page"]);
    assert_eq!(select(json!({"directories": ["/Out"]})).await, ["made", "side"]);
    assert_eq!(select(json!({"directories": ["/"]})).await.len(), 11);
    assert_eq!(select(json!({"changed_since": since})).await, ["other"]);
    assert_eq!(select(json!({"types": ["card"], "directories": ["/Out"]})).await, Vec::<String>::new());
    for wrong in [
        json!({}),
        json!({"types": ["none"]}),
        json!({"directories": ["x"]}),
        json!({"changed_since": "now"}),
        json!({"all": 1}),
    ] {
        user.post("/api/v1/exports/preview", json!({"selection": wrong})).await.problem(422, "invalid_field");
    }
    for wrong in [
        json!({}),
        json!({"resource_ids": []}),
        json!({"resource_ids": ["da"], "selection": {"all": true}}),
        json!({"resource_ids": ["none"]}),
    ] {
        for path in ["/api/v1/exports/preview", "/api/v1/exports"] {
            let mut body = wrong.clone();
            body["name"] = json!("x");
            user.post(path, body).await.problem(422, "invalid_field");
        }
    }
    test.end().await;
}

#[tokio::test]
async fn what_is_missing_is_listed_and_stops_no_export() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.resource("wrong", "card", "Wrong type", "/", json!({})).await;
    let card = json!({"dataset_id": "none", "images": ["/gone.png"], "color_theme_id": "wrong"});
    user.resource("c", "card", "Card", "/", card).await;
    user.resource("d", "dataset", "Data", "/", json!({"sql": "[DYNAMIC_PARAMS.region]"})).await;
    let record = user.post("/api/v1/exports", json!({"name": "x", "resource_ids": ["c", "d"]})).await.is(202);
    let record = user.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(record["status"], "succeeded");
    let package = user.get(&format!("/api/v1/exports/{}/package", record["id"].as_str().unwrap())).await;
    let manifest: Value = serde_json::from_slice(&entries(&package.bytes)["manifest.json"]).unwrap();
    let missing = |id: Option<&str>, kind: &str, name: Option<&str>, role: &str, by: &str| json!({"resource_id": id, "type": kind, "name": name, "role": role, "kind": "use", "referenced_by": by});
    let expected = json!([
        missing(Some("none"), "dataset", None, "Dataset", "c"),
        missing(Some("wrong"), "color_theme", None, "Color Theme", "c"),
        missing(None, "global_parameter", Some("region"), "Global Parameter", "d"),
    ]);
    let sorted = |list: &Value| {
        let mut list: Vec<String> = list.as_array().unwrap().iter().map(Value::to_string).collect();
        list.sort();
        list
    };
    assert_eq!(sorted(&manifest["missing"]), sorted(&expected));
    assert_eq!(sorted(&preview(&user, &["c", "d"], false).await["missing"]), sorted(&expected));
    let warnings = record["warnings"].to_string();
    for word in ["none", "region", "/gone.png"] {
        assert!(warnings.contains(word), "{warnings}");
    }
    test.end().await;
}

#[tokio::test]
async fn what_was_named_and_is_deleted_before_the_export_runs_fails_it() {
    let test = Process::start("test").await;
    let user = test.admin();
    for (request, status) in [
        (json!({"name": "x", "resource_ids": ["lost", "kept"]}), "failed"),
        (json!({"name": "x", "selection": {"all": true}}), "succeeded"),
    ] {
        for id in ["lost", "kept"] {
            user.resource(id, "dataset", id, "/", json!({})).await;
        }
        let mut gate = Gate::shut(&test.database, "records").await;
        let deletion = async {
            gate.reached().await;
            user.delete("/api/v1/resources/lost").await.is(204);
            gate.open().await;
        };
        let (accepted, ()) = tokio::join!(user.post("/api/v1/exports", request), deletion);
        let record = user.ended(accepted.is(202)["id"].as_str().unwrap()).await;
        assert_eq!(record["status"], status, "{record}");
        match status {
            "failed" => assert_eq!(record["error"]["code"], "not_found"),
            _ => assert_eq!(
                (&record["warnings"][0]["code"], &record["warnings"][0]["resource_id"]),
                (&json!("root_gone"), &json!("lost"))
            ),
        }
    }
}

#[tokio::test]
async fn a_package_holds_what_its_format_says() {
    let test = Environment::start("test").await;
    let user = test.admin();
    load_retail(&user).await;
    let package = user.export(json!({"selection": {"all": true}, "note": "for Monday"})).await;
    let (parts, order) = (entries(&package), names(&package));
    assert_eq!(order[0], "index.ndjson");
    assert_eq!(order[1], "resources/00001.ndjson");
    assert_eq!(order[order.len() - 2..], ["manifest.json", "signature.json"]);
    let environment = user.get("/api/v1/environment").await.is(200);
    let manifest: Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
    let origin =
        json!({"id": environment["id"], "name": "test", "kind": "test", "public_key": environment["public_key"]});
    assert_eq!(
        (&manifest["format"], &manifest["product"], &manifest["environment"]),
        (&json!(1), &json!("ferry"), &origin)
    );
    assert_eq!(
        (&manifest["version"], &manifest["domain"], &manifest["name"]),
        (&environment["version"], &json!("default"), &json!("package"))
    );
    assert_eq!(
        (&manifest["exported_by"], &manifest["export_upstream"], &manifest["missing"]),
        (&json!("admin"), &json!(false), &json!([]))
    );
    assert_eq!(manifest["roots"].as_array().unwrap().len(), 70);
    assert_eq!((&manifest["counts"]["dataset"], manifest["counts"].as_object().unwrap().len()), (&json!(22), 12));
    assert_eq!(manifest["features"].as_array().unwrap().len(), 12);
    assert_eq!(manifest["types"].as_object().unwrap().len(), 12);
    assert!(manifest.get("thin").is_none());
    assert!(chrono::DateTime::parse_from_rfc3339(manifest["exported_at"].as_str().unwrap()).is_ok());
    user.get(&format!("/api/v1/records/{}", manifest["record_id"].as_str().unwrap())).await.is(200);

    // Entries: everything but manifest and signature, with true sizes and hashes; attachments once each.
    let listed = manifest["entries"].as_array().unwrap();
    assert_eq!(listed.len(), parts.len() - 2);
    for entry in listed {
        let (path, hash) = (entry["path"].as_str().unwrap(), entry["sha256"].as_str().unwrap());
        assert_eq!((&entry["size"], hash), (&json!(parts[path].len()), sha256(&parts[path]).as_str()));
        assert!(path.strip_prefix("attachments/").is_none_or(|name| name == hash));
    }
    assert_eq!(order.iter().filter(|name| name.starts_with("attachments/")).count(), 11);

    // Index and shards: the same order, each after what it refers to, true to the catalogue.
    let (index, shard) = (lines(&parts["index.ndjson"]), lines(&parts["resources/00001.ndjson"]));
    assert_eq!((index.len(), shard.len()), (70, 70));
    let place: HashMap<&str, usize> =
        index.iter().enumerate().map(|(at, line)| (line["id"].as_str().unwrap(), at)).collect();
    let catalogue = user.catalogue().await;
    // What belongs to the environment stands by itself.
    let own: HashMap<String, Overlay> = lines(&parts["values.ndjson"])
        .into_iter()
        .map(|line| (line["id"].as_str().unwrap().to_owned(), serde_json::from_value(line["values"].clone()).unwrap()))
        .collect();
    assert!(shard.iter().all(|line| line["definition"].get("host").is_none()));
    for (line, written) in index.iter().zip(&shard) {
        let id = line["id"].as_str().unwrap();
        let resource = catalogue.iter().find(|resource| resource["id"] == id).unwrap();
        for key in ["id", "type", "name", "directory"] {
            assert_eq!((&line[key], &written[key]), (&resource[key], &resource[key]), "{id}");
        }
        let mut definition = written["definition"].clone();
        if let Some(own) = own.get(id) {
            own.show(&mut definition);
        }
        assert_eq!((&definition, &written["owner"]), (&resource["definition"], &resource["owner"]), "{id}");
        assert_eq!(resource["content_hash"], format!("sha256:{}", line["content_hash"].as_str().unwrap()), "{id}");
        assert_eq!(line["reason"], "selected");
        let references: Vec<Value> = resource["references"]
            .as_array()
            .unwrap()
            .iter()
            .map(|found| {
                let by_name = found["role"] == "Global Parameter" && resource["type"] != "card";
                if by_name {
                    json!([found["role"], found["kind"], null, found["type"], found["name"]])
                } else {
                    json!([found["role"], found["kind"], found["resource_id"]])
                }
            })
            .collect();
        assert_eq!(line["references"], json!(references), "{id}");
        for target in line["references"].as_array().unwrap().iter().filter_map(|reference| reference[2].as_str()) {
            assert!(place[target] < place[id], "{target} before {id}");
        }
        for attachment in line["attachments"].as_array().unwrap() {
            let bytes = user.get(&format!("/api/v1/attachments{}", attachment[0].as_str().unwrap())).await.bytes;
            assert_eq!(attachment[1], sha256(&bytes));
        }
    }
    assert_eq!(index[place["ds_orders"]]["children"][0], "f_order_id");
    assert!(!String::from_utf8_lossy(&parts["resources/00001.ndjson"]).contains("sample-password"));

    // The DSSE envelope over the manifest.
    let envelope: Value = serde_json::from_slice(&parts["signature.json"]).unwrap();
    assert_eq!(STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap(), parts["manifest.json"]);
    let (kind, signature) = (envelope["payloadType"].as_str().unwrap(), &envelope["signatures"][0]);
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), parts["manifest.json"].len()).into_bytes();
    signed.extend(&parts["manifest.json"]);
    assert!(ferry::secrets::verify(
        environment["public_key"].as_str().unwrap(),
        &signed,
        signature["sig"].as_str().unwrap()
    ));
    assert_eq!(signature["keyid"], environment["id"]);

    // The same again, but for the manifest's time and record.
    let again = entries(&user.export(json!({"selection": {"all": true}, "note": "for Monday"})).await);
    for (name, bytes) in &parts {
        assert!(matches!(name.as_str(), "manifest.json" | "signature.json") || again[name] == *bytes, "{name} differs");
    }
    let mut second: Value = serde_json::from_slice(&again["manifest.json"]).unwrap();
    for key in ["exported_at", "record_id"] {
        second[key] = manifest[key].clone();
    }
    assert_eq!(second, manifest);
    test.end().await;
}

#[tokio::test]
async fn a_package_is_downloaded_whole_or_in_ranges() {
    let test = Environment::start("test").await;
    let user = test.admin();
    small_graph(&user).await;
    let record = user.post("/api/v1/exports", json!({"name": "Café 图 \"x\"", "resource_ids": ["app"]})).await;
    assert!(record.headers["location"].to_str().unwrap().starts_with("/api/v1/records/"));
    let record = user.ended(record.is(202)["id"].as_str().unwrap()).await;
    let path = format!("/api/v1/exports/{}/package", record["id"].as_str().unwrap());
    let get = async |headers: &[(&str, &str)]| {
        user.send(
            headers
                .iter()
                .fold(user.request(Method::GET, &path), |request, (name, value)| request.header(*name, *value)),
        )
        .await
    };
    let whole = get(&[]).await;
    let etag = whole.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!((whole.status.as_u16(), &whole.headers["content-type"]), (200, &"application/zip".parse().unwrap()));
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    assert!(whole.headers["content-disposition"].to_str().unwrap().contains("filename*=UTF-8''Caf%C3%A9"));
    let info = json!({"size": whole.bytes.len(), "sha256": sha256(&whole.bytes), "file_name": "Café 图 \"x\".zip", "resources": 4});
    assert_eq!(record["package"], info);
    let length = whole.bytes.len();
    for (range, from, to) in [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, length),
        ("bytes=-7", length - 7, length),
        ("bytes=5-999999999", 5, length),
    ] {
        let part = get(&[("range", range)]).await;
        assert_eq!((part.status.as_u16(), &part.bytes[..]), (206, &whole.bytes[from..to]), "{range}");
        assert_eq!(part.headers["content-range"], format!("bytes {from}-{}/{length}", to - 1));
        assert_eq!(part.headers["content-length"], (to - from).to_string());
    }
    get(&[("range", &format!("bytes={length}-"))]).await.is(416);
    assert!(get(&[("range", "bytes=0-1,4-5")]).await.bytes == whole.bytes, "several ranges: the whole");
    assert_eq!(get(&[("if-none-match", &etag)]).await.status, 304);
    assert_eq!(get(&[("if-none-match", "\"other\"")]).await.bytes, whole.bytes);
    assert_eq!(get(&[("range", "bytes=0-9"), ("if-range", &etag)]).await.status, 206);
    assert_eq!(get(&[("range", "bytes=0-9"), ("if-range", "\"other\"")]).await.bytes, whole.bytes);
    test.end().await;
}

#[tokio::test]
async fn package_names_have_one_to_twenty_characters_as_people_count_them() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.resource("c", "card", "Card", "/", json!({})).await;
    let export = async |name: Value| user.post("/api/v1/exports", json!({"name": name, "resource_ids": ["c"]})).await;
    let family = "👨‍👩‍👧‍👦";
    for name in [
        "a",
        &"n".repeat(20),
        &"图".repeat(20),
        &family.repeat(20),
        &"e\u{301}".repeat(20),
        &format!("  {} ", "x".repeat(20)),
        "a/b:*?",
    ] {
        let record = export(json!(name)).await.is(202);
        assert_eq!(record["name"], name.trim());
        assert_eq!(user.ended(record["id"].as_str().unwrap()).await["status"], "succeeded", "{name}");
    }
    for name in
        ["", "   ", &"n".repeat(21), &"图".repeat(21), &family.repeat(21), "a\nb", "a\tb", "a\u{7f}", "a\u{85}b"]
    {
        export(json!(name)).await.problem(422, "package_name_invalid");
    }
    export(Value::Null).await.problem(422, "package_name_invalid");
    assert_eq!(user.get("/api/v1/records?limit=500").await.is(200)["items"].as_array().unwrap().len(), 7);
    test.end().await;
}

fn task(id: &str, subprocesses: &[&str]) -> Value {
    let nodes: Vec<Value> = subprocesses.iter().enumerate().map(|(n, id)| json!({"id": n, "task_id": id})).collect();
    json!({"id": id, "type": "offline_dev_task", "name": id, "directory": "/", "definition": {"nodes": nodes}})
}

#[tokio::test]
async fn a_task_is_never_its_own_subprocess() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let refuse = async |task: Value| {
        let path = format!("/api/v1/resources/{}", task["id"].as_str().unwrap());
        user.put(&path, task).await.problem(422, "subprocess_cycle");
    };
    refuse(task("a", &["a"])).await;
    user.batch(&[task("a", &["b"]), task("b", &["c", "d"]), task("c", &["d"]), task("d", &["nowhere"])]).await;
    refuse(task("b", &["a"])).await;
    refuse(task("d", &["a"])).await;
    refuse(task("nowhere", &["c"])).await;
    let lines = [task("x", &["y"]), task("y", &["x"])].map(|line| line.to_string()).join("\n");
    let batch = user.request(Method::POST, "/api/v1/resources/batch").header("content-type", "application/x-ndjson");
    user.send(batch.body(lines)).await.problem(422, "subprocess_cycle");
    user.get("/api/v1/resources/x").await.problem(404, "not_found");

    let deep: Vec<Value> = (0..10_000).map(|n| task(&format!("t{n}"), &[&format!("t{}", n + 1)])).collect();
    assert_eq!(user.batch(&deep).await["created"], 10_000);
    refuse(task("t10000", &["t0"])).await;
    refuse(task("t9999", &["t5000"])).await;
    assert_eq!(user.resource("t10000", "offline_dev_task", "end", "/", json!({})).await["revision"], 1);
    for upstream in [false, true] {
        assert_eq!(reasons(&preview(&user, &["t1"], upstream).await).len(), 10_000);
    }
    let lineage = user.get("/api/v1/resources/t0/lineage").await.is(200);
    assert_eq!((&lineage["truncated"], lineage["nodes"].as_array().unwrap().len()), (&json!(true), 10_000));
    let lineage = user.get("/api/v1/resources/t10000/lineage?direction=downstream&depth=9999").await.is(200);
    assert_eq!((&lineage["truncated"], &lineage["nodes"][9_999]["resource_id"]), (&json!(false), &json!("t1")));

    // Other circles are legal, and an export of one is whole.
    user.resource("p", "dataset", "p", "/", json!({"parent_dataset_ids": ["q"]})).await;
    user.resource("q", "dataset", "q", "/", json!({"parent_dataset_ids": ["p", "q"]})).await;
    assert_eq!(reasons(&preview(&user, &["p"], true).await), is(&[("p", "selected"), ("q", "use")]));
    test.end().await;
}

#[tokio::test]
async fn ranges_and_conditions_of_downloads_follow_rfc_9110() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.resource("c", "card", "C", "/", json!({})).await;
    let record = user.post("/api/v1/exports", json!({"name": "x", "resource_ids": ["c"]})).await.is(202);
    user.ended(record["id"].as_str().unwrap()).await;
    let path = format!("/api/v1/exports/{}/package", record["id"].as_str().unwrap());
    let etag = user.get(&path).await.headers["etag"].to_str().unwrap().to_owned();
    for (name, value, expected) in [
        ("range", "items=0-9".to_owned(), &[200][..]),
        ("range", "bytes".to_owned(), &[200, 416]),
        ("range", "bytes=x-y".to_owned(), &[200, 416]),
        ("if-none-match", format!("\"other\", {etag}"), &[304]),
        ("if-none-match", format!("W/{etag}"), &[304]),
        ("if-none-match", "*".to_owned(), &[304]),
    ] {
        let answer = user.send(user.request(Method::GET, &path).header(name, &value)).await;
        assert!(expected.contains(&answer.status.as_u16()), "{name}: {value}: {} {:?}", answer.status, answer.headers);
    }
    test.end().await;
}
