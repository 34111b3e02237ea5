//! Resources and attachments through the REST API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::closure::small_graph;
use crate::support::{Answer, Environment, User};

fn body(kind: &str, name: &str, directory: &str, definition: Value) -> Value {
    json!({"type": kind, "name": name, "directory": directory, "definition": definition})
}

async fn put_if(user: &User, id: &str, revision: &str, body: Value) -> Answer {
    let request = user.request(Method::PUT, &format!("/api/v1/resources/{id}")).header("if-match", revision);
    user.send(request.json(&body)).await
}

async fn ndjson(user: &User, text: impl Into<reqwest::Body>) -> Answer {
    let request = user.request(Method::POST, "/api/v1/resources/batch");
    user.send(request.header("content-type", "application/x-ndjson").body(text)).await
}

fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn put_creates_then_replaces_and_an_equal_one_changes_nothing() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let first = body("card", "Sales", "/Sales", json!({"chart": {"type": "bar"}, "future": [1, {"x": null}]}));
    let made = user.put("/api/v1/resources/c", first.clone()).await;
    assert_eq!(made.headers["etag"], "\"1\"");
    let made = made.is(201);
    let again = user.put("/api/v1/resources/c", first.clone()).await.is(200);
    assert_eq!(again, made, "nothing changed, not even a time");

    let mut keys: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let contract = [
        "content_hash",
        "created_at",
        "definition",
        "directory",
        "id",
        "imported",
        "name",
        "owner",
        "references",
        "revision",
        "type",
        "updated_at",
        "updated_by",
    ];
    assert_eq!(keys, contract);
    assert_eq!(made["definition"], first["definition"], "unknown parts are kept");
    assert_eq!((&made["revision"], &made["owner"], &made["updated_by"]), (&json!(1), &json!("admin"), &json!("admin")));
    assert_eq!(made["imported"], Value::Null);
    let hash = made["content_hash"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit()));
    let time = made["created_at"].as_str().unwrap();
    assert!(time.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
    assert_eq!(user.get("/api/v1/resources/c").await.is(200), made);

    let changed = user.put("/api/v1/resources/c", body("card", "Sales 2", "/Sales", json!({}))).await;
    assert_eq!(changed.headers["etag"], "\"2\"");
    let changed = changed.is(200);
    assert_eq!((&changed["revision"], &changed["created_at"]), (&json!(2), &made["created_at"]));
    assert_ne!(changed["content_hash"], made["content_hash"]);
    user.put("/api/v1/resources/c", body("page", "Sales", "/Sales", json!({}))).await.problem(409, "type_mismatch");
    test.end().await;
}

#[tokio::test]
async fn if_match_lets_only_the_known_revision_be_replaced() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let named = |name: &str| body("card", name, "/", json!({}));
    put_if(&user, "c", "\"1\"", named("a")).await.problem(412, "precondition_failed");
    user.get("/api/v1/resources/c").await.problem(404, "not_found");
    user.put("/api/v1/resources/c", named("a")).await.is(201);
    put_if(&user, "c", "\"1\"", named("b")).await.is(200);
    put_if(&user, "c", "\"1\"", named("c")).await.problem(412, "precondition_failed");
    put_if(&user, "c", "*", named("d")).await.is(200);
    let shown = user.get("/api/v1/resources/c").await;
    assert_eq!((shown.is(200)["name"].clone(), &shown.headers["etag"]), (json!("d"), &"\"3\"".parse().unwrap()));
    put_if(&user, "c", "\"x\"", named("e")).await.problem(422, "invalid_field");
    test.end().await;
}

#[tokio::test]
async fn a_list_is_narrowed_sorted_and_paged() {
    let test = Environment::start("test").await;
    let (user, other) = (test.admin(), test.new_user("default", "developer").await);
    for (id, kind, name, directory) in [
        ("a1", "card", "Zebra", "/Sales"),
        ("A2", "card", "apple 100%", "/Sales/Daily"),
        ("b_1", "page", "Äpfel", "/Sales2"),
        ("b-2", "dataset", "zebra", "/"),
    ] {
        user.resource(id, kind, name, directory, json!({})).await;
    }
    let since = user.get("/api/v1/resources/b-2").await.is(200)["updated_at"].as_str().unwrap().to_owned();
    let own = other.resource("c", "card", "Own", "/Sales/x_y", json!({})).await;
    let owner = own["owner"].as_str().unwrap();
    let list = async |query: &str| ids(&user.get(&format!("/api/v1/resources?{query}")).await.is(200));
    assert_eq!(list("").await, ["A2", "a1", "b-2", "b_1", "c"], "by ID, collation C");
    assert_eq!(list("type=card").await, ["A2", "a1", "c"]);
    assert_eq!(list("type=nothing").await, Vec::<String>::new());
    assert_eq!(list("q=zebra").await, ["a1", "b-2"]);
    assert_eq!(list("q=b_1").await, ["b_1"], "an ID too, and _ is only itself");
    assert_eq!(list("q=0%25").await, ["A2"], "% is only itself");
    assert_eq!(list("q=%C3%84pf").await, ["b_1"]);
    assert_eq!(list("directory=/Sales").await, ["A2", "a1", "c"], "below too, /Sales2 not");
    assert_eq!(list("directory=/Sales/x_y").await, ["c"]);
    assert_eq!(list("directory=/").await.len(), 5);
    assert_eq!(list(&format!("owner={owner}")).await, ["c"]);
    assert_eq!(list(&format!("updated_since={since}")).await, ["b-2", "c"]);
    assert_eq!(list("type=card&directory=/Sales&q=own").await, ["c"]);
    assert_eq!(list("sort=name").await, ["c", "a1", "A2", "b-2", "b_1"]);
    assert_eq!(list("sort=-name").await, ["b_1", "b-2", "A2", "a1", "c"]);
    assert_eq!(list("sort=updated_at").await, ["a1", "A2", "b_1", "b-2", "c"]);
    assert_eq!(list("sort=-id").await, ["c", "b_1", "b-2", "a1", "A2"]);
    for sort in ["id", "-id", "name", "-name", "updated_at", "-updated_at"] {
        let whole = list(&format!("sort={sort}")).await;
        for limit in [1, 2, 5, 500] {
            let (mut paged, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = user.get(&format!("/api/v1/resources?sort={sort}&limit={limit}{cursor}")).await.is(200);
                assert!(page["items"].as_array().unwrap().len() <= limit);
                paged.extend(ids(&page));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(paged, whole, "{sort} by {limit}");
        }
    }
    for wrong in [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=x",
        "sort=owner",
        "cursor=%21",
        "cursor=bm8",
        "updated_since=today",
        "directory=x",
    ] {
        user.get(&format!("/api/v1/resources?{wrong}")).await.problem(422, "invalid_field");
    }
    test.end().await;
}

#[tokio::test]
async fn a_list_has_fifty_items_unless_asked() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let lines: Vec<Value> = (0..60)
        .map(|n| json!({"id": format!("c{n}"), "type": "card", "name": "n", "directory": "/", "definition": {}}))
        .collect();
    assert_eq!(user.batch(&lines).await, json!({"created": 60, "updated": 0, "unchanged": 0}));
    assert_eq!(ids(&user.get("/api/v1/resources").await.is(200)).len(), 50);
    test.end().await;
}

#[tokio::test]
async fn names_and_directories_are_normalised() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let made = user.resource("c", "card", "  e\u{301}té 图表 👨‍👩‍👧 ", " /Vertrieb/e\u{301} / a b ", json!({})).await;
    assert_eq!((&made["name"], &made["directory"]), (&json!("été 图表 👨‍👩‍👧"), &json!("/Vertrieb/é/a b")));
    user.resource("root", "card", "r", "/", json!({})).await;
    user.resource("long", "card", &"图".repeat(255), "/", json!({})).await;
    user.resource(&"i".repeat(64), "card", "x", "/", json!({})).await;
    // Unique per directory, case-sensitive, after normalisation.
    user.resource("d1", "dataset", "Café", "/A", json!({})).await;
    user.resource("d2", "dataset", "café", "/A", json!({})).await;
    user.resource("d3", "dataset", "Café", "/a", json!({})).await;
    let clash = user.put("/api/v1/resources/d4", body("dataset", " Cafe\u{301}", "/A", json!({}))).await;
    let message = clash.problem(409, "duplicate_name")["detail"].to_string();
    assert!(message.contains("A file with the same name already exists"), "{message}");
    user.resource("x1", "data_account", "One", "/A", json!({})).await;
    let clash = user.put("/api/v1/resources/x2", body("data_account", "One", "/B", json!({}))).await;
    assert!(clash.problem(409, "duplicate_name")["detail"].to_string().contains("Duplicate Data Account name"));
    test.end().await;
}

#[tokio::test]
async fn what_breaks_the_rules_of_names_is_refused() {
    let test = Environment::start("test").await;
    let user = test.admin();
    for id in ["a%20b", "a.b", "%C3%A9", "a%2Fb", "a%00", &"i".repeat(65), "a:b", "%F0%9F%98%80"] {
        let path = format!("/api/v1/resources/{id}");
        for answer in [
            user.put(&path, body("card", "n", "/", json!({}))).await,
            user.get(&path).await,
            user.delete(&path).await,
            user.get(&format!("{path}/lineage")).await,
            user.get(&format!("{path}/revisions")).await,
        ] {
            answer.problem(422, "invalid_field");
        }
    }
    for name in ["", "   ", "a\nb", "a\u{7f}", "x\u{85}y", &"n".repeat(256), "a\0b"] {
        user.put("/api/v1/resources/c", body("card", name, "/", json!({}))).await.problem(422, "invalid_field");
    }
    for directory in ["", "Sales", "/a//b", "/a/", "//", "/a/../b", "/.", "/a/ /b", "/a\tb", "/a\0", "a/b", "\\a"] {
        user.put("/api/v1/resources/c", body("card", "n", directory, json!({}))).await.problem(422, "invalid_field");
    }
    user.put("/api/v1/resources/c", body("nothing", "n", "/", json!({}))).await.problem(422, "type_unknown");
    assert_eq!(user.catalogue().await, Vec::<Value>::new());
    test.end().await;
}

#[tokio::test]
async fn the_nul_character_is_refused_everywhere() {
    let test = Environment::start("test").await;
    let user = test.admin();
    for definition in [json!({"a": "x\0"}), json!({"a": [{"b\0": 1}]}), json!({"\0": {}}), json!({"sql": "\0"})] {
        let answer = user.put("/api/v1/resources/d", body("dataset", "n", "/", definition.clone())).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        let line = json!({"id": "d", "type": "dataset", "name": "n", "directory": "/", "definition": definition});
        let answer = ndjson(&user, format!("{line}\n")).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
    }
    for path in [
        "/api/v1/resources?q=%00",
        "/api/v1/resources?type=a%00",
        "/api/v1/resources?owner=%00",
        "/api/v1/resources?cursor=%00",
        "/api/v1/records?q=%00",
        "/api/v1/records?requested_by=%00",
        "/api/v1/attachments/a%00b",
        "/api/v1/users?cursor=%00",
        // A cursor that holds one: ["\u0000",""]
        "/api/v1/resources?sort=name&cursor=WyJcdTAwMDAiLCIiXQ",
    ] {
        user.get(path).await.problem(422, "invalid_field");
    }
    assert_eq!(user.attachment("/a%00b", b"x").await.status, 422);
    for (path, value) in [
        ("/api/v1/exports", json!({"name": "a\0", "selection": {"all": true}})),
        ("/api/v1/exports", json!({"name": "a", "note": "\0", "selection": {"all": true}})),
        ("/api/v1/exports/preview", json!({"resource_ids": ["\0"]})),
        ("/api/v1/exports/preview", json!({"selection": {"directories": ["/\0"]}})),
        ("/api/v1/targets", json!({"name": "\0", "url": "http://localhost", "token": "t"})),
        ("/api/v1/targets", json!({"name": "n", "url": "http://localhost", "token": "\0"})),
        ("/api/v1/users", json!({"username": "\0", "role": "viewer"})),
        ("/api/v1/domains", json!({"name": "\0"})),
    ] {
        assert_eq!(user.post(path, value.clone()).await.status, 422, "{path} {value}");
    }
    test.end().await;
}

#[tokio::test]
async fn numbers_keep_their_precision() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let big = format!("1{}", "0".repeat(400));
    let text = r#"{"type":"card","name":"n","directory":"/","definition":{"digits":123456789012345678901234567890,
        "exact":0.1000000000000000055511151231257827,"one":1.0,"int":1,"huge":1e400,"small":-1.5E-3,"zero":-0.0,"max":18446744073709551616}}"#;
    let put = async |text: String| {
        let request = user.request(Method::PUT, "/api/v1/resources/c").header("content-type", "application/json");
        user.send(request.body(text)).await
    };
    let made = put(text.to_owned()).await.is(201);
    for (key, number) in [
        ("digits", "123456789012345678901234567890"),
        ("exact", "0.1000000000000000055511151231257827"),
        ("one", "1.0"),
        ("int", "1"),
        ("huge", big.as_str()),
        ("small", "-0.0015"),
        ("zero", "0.0"),
        ("max", "18446744073709551616"),
    ] {
        assert_eq!(made["definition"][key].to_string(), number, "{key}");
    }
    assert_eq!(user.get("/api/v1/resources/c").await.is(200), made, "as it rests in the database");
    assert_eq!(put(text.to_owned()).await.is(200)["revision"], 1, "the same numbers in another notation are no change");
    assert_eq!(put(text.replace("1e400", &big)).await.is(200)["revision"], 1);
    let changed = put(text.replace("1.0,", "1,")).await.is(200);
    assert_eq!(changed["definition"]["one"].to_string(), "1");
    for absurd in ["1e999999999", "1e-999999999", "1e99999999999999999999", &"9".repeat(2_000)] {
        put(text.replace("1e400", absurd)).await.problem(422, "resource_invalid");
    }
    test.end().await;
}

#[tokio::test]
async fn a_batch_writes_all_lines_or_none() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let line = |n: usize, name: &str| {
        let definition = json!({"dataset_id": format!("d{n}"), "n": n});
        json!({"id": format!("c{n}"), "type": "card", "name": name, "directory": "/Many", "definition": definition})
    };
    let first: Vec<Value> = (0..20_000).map(|n| line(n, "first")).collect();
    assert_eq!(user.batch(&first).await, json!({"created": 20_000, "updated": 0, "unchanged": 0}));
    let second: Vec<Value> =
        (0..20_000).map(|n| line(n, if n % 4 == 0 { "second" } else { "first" })).chain([line(20_000, "x")]).collect();
    assert_eq!(user.batch(&second).await, json!({"created": 1, "updated": 5_000, "unchanged": 15_000}));
    assert_eq!(user.get("/api/v1/resources/c3").await.is(200)["revision"], 1);
    assert_eq!(user.get("/api/v1/resources/c4").await.is(200)["revision"], 2);

    let good = |n: usize| line(n, "third").to_string();
    let with = |bad: &str| format!("{}\n\n{}\n{bad}\n{}\n", good(0), good(1), good(2));
    for (bad, code) in [
        ("{", "invalid_body"),
        ("[]", "invalid_body"),
        ("{\"id\":\"x\"}", "invalid_field"),
        ("{\"id\":\"x y\",\"type\":\"card\",\"name\":\"n\",\"directory\":\"/\",\"definition\":{}}", "invalid_field"),
        ("{\"id\":\"x\",\"type\":\"card\",\"name\":\"\",\"directory\":\"/\",\"definition\":{}}", "invalid_field"),
        ("{\"id\":\"x\",\"type\":\"none\",\"name\":\"n\",\"directory\":\"/\",\"definition\":{}}", "type_unknown"),
        ("{\"id\":\"x\",\"type\":\"card\",\"name\":\"n\",\"directory\":\"/\",\"definition\":[]}", "resource_invalid"),
        (
            "{\"id\":\"x\",\"type\":\"card\",\"name\":\"n\",\"directory\":\"/\",\"definition\":{\"dataset_id\":7}}",
            "resource_invalid",
        ),
        (&good(0), "invalid_field"),
    ] {
        let problem = ndjson(&user, with(bad)).await.problem(422, code);
        assert!(problem["detail"].as_str().unwrap().contains("line 4"), "{bad}: {problem}");
    }
    let not_utf8 = [with("").into_bytes(), vec![0xff, 0xfe, b'\n']].concat();
    let problem = ndjson(&user, not_utf8).await.problem(422, "invalid_body");
    assert!(problem["detail"].as_str().unwrap().contains("line 6"), "{problem}");
    // Far behind the first portion, and a clash that only the whole shows.
    let late: String = (0..5_000).map(|n| good(n) + "\n").chain(["{\"id\":5}\n".to_owned()]).collect();
    assert!(ndjson(&user, late).await.problem(422, "invalid_field")["detail"].as_str().unwrap().contains("line 5001"));
    let same =
        |id: &str| json!({"id": id, "type": "page", "name": "Same", "directory": "/", "definition": {}}).to_string();
    let clash = format!("{}\n{}\n{}\n", good(0), same("p1"), same("p2"));
    assert!(ndjson(&user, clash).await.problem(409, "duplicate_name")["detail"].as_str().unwrap().contains("line "));
    assert_eq!(user.get("/api/v1/resources/c0").await.is(200)["name"], "second");
    user.get("/api/v1/resources/p1").await.problem(404, "not_found");
    assert_eq!(ndjson(&user, "").await.is(200), json!({"created": 0, "updated": 0, "unchanged": 0}));
    assert_eq!(ndjson(&user, good(9)).await.is(200)["updated"], 1, "the last line needs no newline");
    test.end().await;
}

#[tokio::test]
async fn names_may_be_swapped_inside_a_batch() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let line =
        |id: &str, name: &str| json!({"id": id, "type": "page", "name": name, "directory": "/", "definition": {}});
    user.batch(&[line("p1", "One"), line("p2", "Two")]).await;
    assert_eq!(user.batch(&[line("p1", "Two"), line("p2", "One")]).await["updated"], 2);
    assert_eq!(user.get("/api/v1/resources/p1").await.is(200)["name"], "Two");
    test.end().await;
}

#[tokio::test]
async fn deleting_asks_for_dependents_leaves_a_tombstone_and_a_put_revives() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let dataset = json!({"fields": [{"id": "f"}]});
    user.resource("ds", "dataset", "Data", "/", dataset.clone()).await;
    user.resource("ds", "dataset", "Data 2", "/", dataset.clone()).await;
    user.resource("c1", "card", "First", "/", json!({"dataset_id": "ds"})).await;
    user.resource("c2", "card", "Second", "/", json!({"dataset_id": "ds"})).await;
    let problem = user.delete("/api/v1/resources/ds").await.problem(409, "conflict");
    let named: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(named, ["c1", "c2"]);
    user.delete("/api/v1/resources/ds?force=maybe").await.problem(422, "invalid_field");
    assert_eq!(user.delete("/api/v1/resources/ds?force=true").await.is(204), Value::Null);
    user.get("/api/v1/resources/ds").await.problem(404, "not_found");
    user.delete("/api/v1/resources/ds").await.problem(404, "not_found");
    let reference = &user.get("/api/v1/resources/c1").await.is(200)["references"][0].clone();
    assert_eq!((&reference["resource_id"], &reference["found"]), (&json!("ds"), &json!(false)));

    let revived = user.put("/api/v1/resources/ds", body("dataset", "Data", "/", dataset)).await.is(201);
    assert_eq!(revived["revision"], 3, "revisions count on");
    assert_eq!(user.get("/api/v1/resources/c1").await.is(200)["references"][0]["found"], true);
    let revisions = user.get("/api/v1/resources/ds/revisions").await.is(200);
    let numbers: Vec<i64> =
        revisions["items"].as_array().unwrap().iter().map(|line| line["revision"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(revisions["items"][0]["updated_by"], "admin");
    assert_eq!(revisions["items"][0]["record_id"], Value::Null);
    assert!(revisions["items"][0]["updated_at"].is_string());
    let page = user.get("/api/v1/resources/ds/revisions?limit=2").await.is(200);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = user.get(&format!("/api/v1/resources/ds/revisions?limit=2&cursor={next}")).await.is(200);
    assert_eq!((&rest["items"][0]["revision"], &rest["next_cursor"]), (&json!(1), &Value::Null));
    // One that refers to itself stands in nobody's way.
    user.resource("self", "dataset", "Self", "/", json!({"parent_dataset_ids": ["self"]})).await;
    user.delete("/api/v1/resources/self").await.is(204);
    test.end().await;
}

#[tokio::test]
async fn references_follow_the_definition() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let sql = "select * from {{dataset:base}} where r = [DYNAMIC_PARAMS.region] and t = [DYNAMIC_PARAMS. region ]";
    let definition = json!({"data_account_id": "da", "sql": sql, "parent_dataset_ids": ["base", "base", ""]});
    let made = user.resource("ds", "dataset", "DS", "/", definition.clone()).await;
    let line = |role: &str, id: Option<&str>, kind: &str, name: Option<&str>, found: bool| json!({"role": role, "kind": "use", "resource_id": id, "type": kind, "name": name, "found": found});
    let expected = [
        line("Data Account", Some("da"), "data_account", None, false),
        line("Input Dataset", Some("base"), "dataset", None, false),
        line("Input Dataset", Some("base"), "dataset", None, false),
        line("Global Parameter", None, "global_parameter", Some("region"), false),
    ];
    let references = made["references"].as_array().unwrap();
    assert_eq!(references.iter().filter(|found| found["role"] == "Data Account").collect::<Vec<_>>(), [&expected[0]]);
    for one in &expected {
        assert!(references.contains(one), "{one} in {references:?}");
    }
    user.resource("base", "dataset", "Base", "/", json!({})).await;
    user.resource("da", "card", "Not an account", "/", json!({})).await;
    user.resource("gp", "global_parameter", "region", "/", json!({})).await;
    let now = user.get("/api/v1/resources/ds").await.is(200);
    let references = now["references"].as_array().unwrap();
    assert!(references.contains(&line("Input Dataset", Some("base"), "dataset", Some("Base"), true)), "{references:?}");
    assert!(
        references.contains(&line("Global Parameter", Some("gp"), "global_parameter", Some("region"), true)),
        "{references:?}"
    );
    assert!(references.contains(&expected[0]), "another type is not found: {references:?}");
    assert_eq!(now["revision"], 1, "what it refers to came, nothing of its own changed");
    let gone = user.resource("ds", "dataset", "DS", "/", json!({"sql": "select 1"})).await;
    assert_eq!(gone["references"], json!([]));
    let wrong = body("dataset", "DS", "/", json!({"data_account_id": "not an id"}));
    user.put("/api/v1/resources/ds", wrong).await.problem(422, "resource_invalid");
    test.end().await;
}

#[tokio::test]
async fn lineage_goes_both_ways_as_far_as_asked() {
    let test = Environment::start("test").await;
    let user = test.admin();
    small_graph(&user).await;
    let walk = async |query: &str| {
        let found = user.get(&format!("/api/v1/resources/{query}")).await.is(200);
        let nodes: Vec<(String, u64)> = found["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| (node["resource_id"].as_str().unwrap().to_owned(), node["depth"].as_u64().unwrap()))
            .collect();
        (nodes, found["edges"].clone())
    };
    let at = |nodes: &[(&str, u64)]| nodes.iter().map(|(id, depth)| ((*id).to_owned(), *depth)).collect::<Vec<_>>();
    let (nodes, edges) = walk("card/lineage").await;
    assert_eq!(nodes, at(&[("card", 0), ("made", 1), ("etl", 2), ("raw", 3), ("da", 4)]));
    let edge = json!({"from": "etl", "to": "made", "role": "Output Dataset", "kind": "output"});
    assert!(edges.as_array().unwrap().contains(&edge) && edges.as_array().unwrap().len() == 4, "{edges}");
    assert_eq!(walk("card/lineage?direction=upstream&depth=2").await.0, at(&[("card", 0), ("made", 1), ("etl", 2)]));
    assert_eq!(walk("card/lineage?depth=0").await.0, at(&[("card", 0)]));
    let down = walk("raw/lineage?direction=downstream").await.0;
    let expected =
        [("raw", 0), ("etl", 1), ("task", 1), ("made", 2), ("side", 2), ("card", 3), ("page", 4), ("app", 5)];
    assert_eq!(down, at(&expected));
    for wrong in ["direction=sideways", "depth=-1", "depth=x"] {
        user.get(&format!("/api/v1/resources/card/lineage?{wrong}")).await.problem(422, "invalid_field");
    }
    test.end().await;
}

#[tokio::test]
async fn an_id_that_is_not_utf8_breaks_the_rules_too() {
    let test = Environment::start("test").await;
    test.admin().get("/api/v1/resources/%FF").await.problem(422, "invalid_field");
    test.end().await;
}
