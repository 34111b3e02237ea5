//! Requests that are wrong: each has its status, its code, and leaves nothing behind.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Environment, User, package, scratch};

const ID: &str = "00000000-0000-7000-8000-000000000000";

/// A request with any body under any media type.
async fn raw(user: &User, method: Method, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = user.request(method, path);
    let request = if media_type.is_empty() { request } else { request.header("content-type", media_type) };
    user.send(request.body(body)).await
}

/// Every call that takes a JSON object.
fn json_calls() -> Vec<(Method, String)> {
    let calls = [
        (Method::PATCH, "environment"),
        (Method::PUT, "resources/x"),
        (Method::POST, "exports/preview"),
        (Method::POST, "exports"),
        (Method::PUT, "imports/ID/plan"),
        (Method::POST, "imports/ID/execute"),
        (Method::POST, "targets"),
        (Method::PATCH, "targets/ID"),
        (Method::POST, "migrations"),
        (Method::POST, "users"),
        (Method::PATCH, "users/ID"),
        (Method::POST, "users/ID/tokens"),
        (Method::POST, "domains"),
    ];
    calls.into_iter().map(|(method, path)| (method, format!("/api/v1/{}", path.replace("ID", ID)))).collect()
}

/// What a server holds, as far as a refused request may not change it.
async fn holdings(test: &Environment) -> Vec<i64> {
    let mut connection = test.sql().await;
    let mut counts = Vec::new();
    for table in
        ["resources", "resource_references", "records", "jobs", "targets", "users", "tokens", "domains", "attachments"]
    {
        let query = format!("select count(*) from {table}");
        counts.push(sqlx::query_scalar(&query).fetch_one(&mut connection).await.unwrap());
    }
    counts
}

#[tokio::test]
async fn bodies_that_are_no_json_object_are_invalid() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let before = holdings(&test).await;
    let deep = format!("{{\"definition\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    for (method, path) in json_calls() {
        for body in [
            "",
            "{",
            "null",
            "[]",
            "7",
            "\"x\"",
            "{\"a\":1}x",
            "{'a':1}",
            "{\"a\":NaN}",
            "\u{feff}{}",
            "{\"name\":\"\\ud800\"}",
            &deep,
        ] {
            if body.is_empty() && path.ends_with("/execute") {
                continue; // It takes an empty body.
            }
            raw(&user, method.clone(), &path, "application/json", body.to_owned()).await.problem(422, "invalid_body");
        }
        let bytes = b"{\"name\":\"\xff\"}".to_vec();
        raw(&user, method, &path, "application/json; charset=utf-8", bytes).await.problem(422, "invalid_body");
    }
    assert_eq!(holdings(&test).await, before);
    test.end().await;
}

#[tokio::test]
async fn fields_that_are_missing_or_of_another_type_are_named() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let before = holdings(&test).await;
    let (put, post, patch) = (Method::PUT, Method::POST, Method::PATCH);
    let plan = format!("imports/{ID}/plan");
    let cases = [
        (&put, "resources/x", json!({"name": "n", "directory": "/", "definition": {}}), "type"),
        (&put, "resources/x", json!({"type": "card", "directory": "/", "definition": {}}), "name"),
        (&put, "resources/x", json!({"type": "card", "name": "n", "definition": {}}), "directory"),
        (&put, "resources/x", json!({"type": "card", "name": "n", "directory": "/"}), "definition"),
        (&put, "resources/x", json!({"type": "card", "name": 7, "directory": "/", "definition": {}}), "name"),
        (&put, "resources/x", json!({"type": ["card"], "name": "n", "directory": "/", "definition": {}}), "type"),
        (&put, "resources/x", json!({"type": "card", "name": null, "directory": "/", "definition": {}}), "name"),
        (&post, "exports", json!({"name": "x", "resource_ids": "x"}), "resource_ids"),
        (&post, "exports", json!({"name": "x", "resource_ids": [1]}), "resource_ids[0]"),
        (&post, "exports", json!({"name": 1, "resource_ids": ["x"]}), "name"),
        (&post, "exports", json!({"name": "x", "resource_ids": ["x"], "export_upstream": "yes"}), "export_upstream"),
        (&post, "exports", json!({"name": "x", "selection": {"types": "card"}}), "selection.types"),
        (&post, "exports/preview", json!({"selection": []}), "selection"),
        (&post, "targets", json!({"url": "http://localhost", "token": "t"}), "name"),
        (&post, "targets", json!({"name": "x", "token": "t"}), "url"),
        (&post, "targets", json!({"name": "x", "url": "http://localhost"}), "token"),
        (&post, "targets", json!({"name": "x", "url": "http://localhost", "token": ""}), "token"),
        (&post, "targets", json!({"name": "", "url": "http://localhost", "token": "t"}), "name"),
        (&post, "targets", json!({"name": "x", "url": "http://localhost", "token": "t", "owner": " "}), "owner"),
        (&post, "migrations", json!({"selection": {"all": true}}), "target_id"),
        (&post, "migrations", json!({"target_id": "x", "selection": {"all": true}}), "target_id"),
        (&post, "migrations", json!({"target_id": ID, "selection": {"all": true}}), "target_id"),
        (&post, "migrations", json!({"target_id": ID, "selection": {"all": true}, "on_failure": "stop"}), "on_failure"),
        (&post, "users", json!({"role": "viewer"}), "username"),
        (&post, "users", json!({"username": "x"}), "role"),
        (&post, "users", json!({"username": "x", "role": "viewer", "password": "short"}), "password"),
        (&post, "domains", json!({}), "name"),
        (&patch, "environment", json!({"features": {"none": true}}), "none"),
        (&patch, "environment", json!({"features": {"card": "on"}}), "features.card"),
        (&patch, "environment", json!({"license": {"card": -1}}), "license.card"),
        (&patch, "environment", json!({"license": {"card": 1.5}}), "license.card"),
        (&patch, "environment", json!({"license": {"card": 18_446_744_073_709_551_615_u64}}), "card"),
        (&put, &plan, json!({"change_ids": "yes"}), "change_ids"),
        (&put, &plan, json!({"resolutions": {"x": {}}}), "resolutions.x.action"),
    ];
    for (method, path, body, field) in cases {
        let problem =
            raw(&user, method.clone(), &format!("/api/v1/{path}"), "application/json", body.to_string()).await;
        let problem = problem.problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], field, "{path} {body}: {problem}");
        assert_eq!((&problem["status"], problem["title"].is_string()), (&json!(422), true));
    }
    assert_eq!(holdings(&test).await, before);
    test.end().await;
}

#[tokio::test]
async fn another_media_type_is_refused() {
    let test = Environment::start("test").await;
    let user = test.admin();
    for media_type in ["", "text/plain", "application/xml", "application/x-www-form-urlencoded", "application/jsonp"] {
        for (method, path) in json_calls() {
            raw(&user, method, &path, media_type, "{}").await.problem(415, "unsupported_media_type");
        }
        let batch = raw(&user, Method::POST, "/api/v1/resources/batch", media_type, "{}\n").await;
        batch.problem(415, "unsupported_media_type");
        raw(&user, Method::POST, "/api/v1/imports", media_type, "PK").await.problem(415, "unsupported_media_type");
    }
    raw(&user, Method::POST, "/api/v1/resources/batch", "application/json", "{}")
        .await
        .problem(415, "unsupported_media_type");
    raw(&user, Method::POST, "/api/v1/imports", "multipart/form-data", "x").await.problem(422, "invalid_body");
    let form = "--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--b--\r\n";
    raw(&user, Method::POST, "/api/v1/imports", "multipart/form-data; boundary=b", form)
        .await
        .problem(422, "invalid_field");
    let cut = "--b\r\nContent-Disposition: form-data; name=\"package\"\r\n\r\nx";
    raw(&user, Method::POST, "/api/v1/imports", "multipart/form-data; boundary=b", cut)
        .await
        .problem(422, "invalid_body");
    test.end().await;
}

#[tokio::test]
async fn bodies_over_a_limit_are_too_large() {
    let limits =
        "limits.max_definition_bytes = 20000\nlimits.max_package_bytes = 500000\nlimits.max_attachment_bytes = 1000";
    let test = Environment::configured("test", limits).await;
    let user = test.admin();
    let before = holdings(&test).await;
    let line = |size: usize| json!({"id": "x", "type": "card", "name": "n", "directory": "/", "definition": {"x": "y".repeat(size)}});
    user.put("/api/v1/resources/x", line(20_000)).await.problem(413, "too_large");
    user.put("/api/v1/resources/x", line(200_000)).await.problem(413, "too_large");
    for (method, path) in json_calls() {
        raw(&user, method, &path, "application/json", json!({"name": "x".repeat(200_000)}).to_string())
            .await
            .problem(413, "too_large");
    }
    for size in [20_000, 200_000] {
        let good = json!({"id": "good", "type": "card", "name": "n", "directory": "/", "definition": {}});
        let lines = format!("{good}\n{}\n", line(size));
        let problem = raw(&user, Method::POST, "/api/v1/resources/batch", "application/x-ndjson", lines)
            .await
            .problem(413, "too_large");
        assert!(problem["detail"].as_str().unwrap().contains("line 2"), "{problem}");
    }
    user.post_package(&vec![b'P'; 500_001]).await.problem(413, "too_large");
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"package\"; filename=\"p.zip\"\r\n\r\n{}\r\n--b--\r\n",
        "x".repeat(600_000)
    );
    raw(&user, Method::POST, "/api/v1/imports", "multipart/form-data; boundary=b", form)
        .await
        .problem(413, "too_large");
    user.attachment("/a", &[0; 1_001]).await.problem(413, "too_large");
    assert_eq!(holdings(&test).await, before);
    assert!(scratch(test.files.path()).is_empty(), "nothing is left of what was received");
    user.attachment("/a", &[0; 1_000]).await.is(201);
    user.put("/api/v1/resources/x", line(19_000)).await.is(201);
    test.end().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let test = Environment::start("test").await;
    let user = test.admin();
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/resources",
        "/api/v1/nothing",
        "/api/v1/resources/x/y",
        "/api/v1/resources/",
        "/..",
        "/api/v1/attachments/",
    ] {
        user.get(path).await.problem(404, "not_found");
        user.post(path, json!({})).await.problem(404, "not_found");
    }
    for id in [ID, "7", "x", "0", "00000000-0000-7000-8000-00000000000g", "%00", "%FF", "..%2F", "'"] {
        for path in ["records/ID", "records/ID/items", "exports/ID/package", "targets/ID", "users/ID/tokens"] {
            user.get(&format!("/api/v1/{}", path.replace("ID", id))).await.problem(404, "not_found");
        }
        for path in ["targets/ID", "users/ID", &format!("users/{ID}/tokens/ID")] {
            user.delete(&format!("/api/v1/{}", path.replace("ID", id))).await.problem(404, "not_found");
        }
        for path in ["imports/ID/execute", "targets/ID/check"] {
            user.post(&format!("/api/v1/{}", path.replace("ID", id)), json!({})).await.problem(404, "not_found");
        }
        user.put(&format!("/api/v1/imports/{id}/plan"), json!({})).await.problem(404, "not_found");
    }
    test.end().await;
}

#[tokio::test]
async fn a_method_that_an_address_does_not_take_is_refused() {
    let test = Environment::start("test").await;
    let user = test.admin();
    for (method, path) in [
        (Method::POST, "/api/v1/resources"),
        (Method::DELETE, "/api/v1/resources"),
        (Method::POST, "/api/v1/resources/x"),
        (Method::PATCH, "/api/v1/resources/x"),
        (Method::PUT, "/api/v1/exports"),
        (Method::GET, "/api/v1/resources/x/lineage/../../../exports/preview"),
        (Method::DELETE, "/api/v1/attachments/a"),
        (Method::POST, "/api/v1/environment"),
        (Method::POST, "/healthz"),
        (Method::TRACE, "/api/v1/records"),
    ] {
        let answer = user.send(user.request(method.clone(), path).json(&json!({}))).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["content-type"]),
            (405, &"application/problem+json".parse().unwrap()),
            "{method} {path}"
        );
    }
    test.end().await;
}

#[tokio::test]
async fn a_state_that_does_not_allow_it_is_a_conflict() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let (from, to) = (test.admin(), production.admin());
    from.resource("c", "card", "C", "/", json!({})).await;
    let package = from.export_all().await;
    let manifest: Value = serde_json::from_slice(&package::entries(&package)["manifest.json"]).unwrap();
    let export = manifest["record_id"].as_str().unwrap();
    from.put(&format!("/api/v1/imports/{export}/plan"), json!({})).await.problem(404, "not_found");
    from.post(&format!("/api/v1/imports/{export}/execute"), json!({})).await.problem(404, "not_found");
    let record = to.import(&package, json!({})).await;
    let id = record["id"].as_str().unwrap();
    to.put(&format!("/api/v1/imports/{id}/plan"), json!({})).await.problem(409, "wrong_state");
    to.post(&format!("/api/v1/imports/{id}/execute"), json!({})).await.problem(409, "wrong_state");
    to.get(&format!("/api/v1/exports/{id}/package")).await.problem(404, "not_found");
    let broken = to.post_package(&package[..package.len() - 1]).await;
    broken.problem(422, "package_unreadable");
    assert_eq!(to.get("/api/v1/records").await.is(200)["items"].as_array().unwrap().len(), 1);
    // Wrong options leave the plan as it is.
    let waiting = to.upload(&package).await;
    let id = waiting["id"].as_str().unwrap();
    for wrong in [
        json!({"on_failure": "x"}),
        json!({"on_drift": "x"}),
        json!({"on_name_clash": "x"}),
        json!({"directory_prefix": "x"}),
        json!({"owner": "nobody"}),
        json!({"resolutions": {"c": {"action": "burn"}}}),
        json!({"resolutions": {"c": {"action": "map"}}}),
        json!({"resolutions": {"c": {"action": "map", "target_id": "none"}}}),
        json!({"resolutions": {"c": {"action": "rename", "name": ""}}}),
        json!({"resolutions": {"none": {"action": "skip"}}}),
        json!({"resolutions": {"a b": {"action": "skip"}}}),
    ] {
        to.put(&format!("/api/v1/imports/{id}/plan"), wrong.clone()).await.problem(422, "invalid_field");
        to.post(&format!("/api/v1/imports/{id}/execute"), wrong).await.problem(422, "invalid_field");
    }
    assert_eq!(to.get(&format!("/api/v1/records/{id}")).await.is(200), waiting);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn nothing_that_a_client_sends_makes_a_server_error() {
    let test = Environment::start("test").await;
    let user = test.admin();
    user.resource("c", "card", "C", "/", json!({})).await;
    let record = user.post("/api/v1/exports", json!({"name": "x", "resource_ids": ["c"]})).await.is(202);
    let id = record["id"].as_str().unwrap();
    user.ended(id).await;
    let cursor = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let mut queries: Vec<String> = Vec::new();
    for path in [
        "resources",
        "records",
        "targets",
        "users",
        "domains",
        "resources/c/revisions",
        &format!("records/{id}/items"),
        "resources?sort=name",
        "resources?sort=-updated_at",
    ] {
        let sign = if path.contains('?') { '&' } else { '?' };
        for place in [
            "",
            "null",
            "{}",
            "[]",
            "[1]",
            "-1",
            "7",
            "2147483647",
            "-2147483648",
            "9223372036854775807",
            "-9223372036854775808",
            "1e400",
            "\"\"",
            "\"x\"",
            "\"\\ud800\"",
            "[\"\",\"\"]",
            "[\"0000-01-01T00:00:00Z\",\"c\"]",
            "[\"9999-12-31T23:59:60Z\",\"c\"]",
            "[\"2020-01-01T00:00:00+23:59\",\"c\"]",
            "\"00000000-0000-0000-0000-000000000000\"",
        ] {
            queries.push(format!("{path}{sign}cursor={}", cursor(place)));
        }
        for query in [
            "limit=99999999999999999999",
            "limit=+1",
            "limit=1&limit=2",
            "cursor=%FF%FE",
            "cursor==&",
            "limit=%31",
            "q=%25%5C%5F%27%22%3B--",
            "=",
            "&&&",
            "%ZZ=%",
        ] {
            queries.push(format!("{path}{sign}{query}"));
        }
    }
    for time in [
        "-262143-01-01T00:00:00Z",
        "%2B262142-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "-4713-01-01T00:00:00Z",
        "2020-02-30T00:00:00Z",
        "1",
    ] {
        queries.push(format!("resources?updated_since={time}"));
        queries.push(format!("records?from={time}"));
        queries.push(format!("records?to={time}"));
    }
    for query in [
        "records?q=%5C",
        "records?q=%25",
        "resources?q=%5C",
        "resources?directory=%2F%25",
        "resources/c/lineage?depth=4294967295",
        "resources/c/lineage?depth=4294967296",
        "resources?owner=%F0%9F%98%80",
    ] {
        queries.push(query.to_owned());
    }
    let mut failed: Vec<String> = Vec::new();
    for query in queries {
        let answer = user.get(&format!("/api/v1/{query}")).await;
        if answer.status.is_server_error() {
            failed.push(format!("GET {query}: {}", answer.status));
        }
    }
    let long = "x".repeat(100_000);
    let random: String = (0..200).map(|n| package::sha256(format!("{n}").as_bytes())).collect();
    let resource =
        |kind: &str, definition: Value| json!({"type": kind, "name": "n", "directory": "/", "definition": definition});
    let (put, post, patch) = (Method::PUT, Method::POST, Method::PATCH);
    let requests = [
        (
            &put,
            "resources/c",
            resource("card", json!({"a": long, "b": [[[[{}]]]], "": "", "\u{1}": "\u{7f}", "😀": "\u{10ffff}"})),
        ),
        (
            &put,
            "resources/n",
            json!({"type": "card", "name": "\u{202e}\u{200b}\u{fffe}", "directory": "/\u{2028}", "definition": {}}),
        ),
        (&put, "resources/d", resource("dataset", json!({"fields": [{"id": random}, {"id": ""}, {"id": "\u{1}"}]}))),
        (&put, "resources/d", resource("dataset", json!({"fields": []}))),
        (
            &put,
            "resources/e",
            resource(
                "dataset",
                json!({"sql": format!("[DYNAMIC_PARAMS.{random}] [DYNAMIC_PARAMS.\n] [DYNAMIC_PARAMS.]]")}),
            ),
        ),
        (&put, "resources/f", resource("data_account", json!({"password": long, "options": null}))),
        (
            &put,
            "resources/f",
            resource("data_account", json!({"password": {"$sealed": "x"}, "private_key": {"$secret": "x"}})),
        ),
        (&put, "resources/f", resource("data_account", json!({"password": "", "private_key": null}))),
        (&put, "resources/g", resource("card", json!({"images": ["/\u{1f600}/e\u{301}", "", null], "dataset_id": ""}))),
        (
            &put,
            "resources/h",
            resource("offline_dev_task", json!({"nodes": [{"id": 1, "task_id": null}, {"id": 1}], "schedule": null})),
        ),
        (&put, "resources/i", resource("global_parameter", json!({"default": {"a": [1e300]}}))),
        (&post, "exports/preview", json!({"selection": {"changed_since": "-262143-01-01T00:00:00Z"}})),
        (&post, "exports/preview", json!({"selection": {"changed_since": "+262142-12-31T23:59:59Z"}})),
        (
            &post,
            "exports/preview",
            json!({"selection": {"directories": ["/%", "/_", "/\\"], "types": ["card", "card"]}}),
        ),
        (&post, "exports/preview", json!({"resource_ids": vec!["c"; 20_000], "export_upstream": true})),
        (&post, "targets", json!({"name": long, "url": format!("http://{long}"), "token": "t"})),
        (&post, "targets", json!({"name": "n", "url": "http://[::1]:99999", "token": "t"})),
        (&post, "targets", json!({"name": "n", "url": "http://a b", "token": "t\r\nx: y"})),
        (
            &post,
            "targets",
            json!({"name": "n2", "url": format!("http://localhost/{}", "x".repeat(5_000)), "token": "é"}),
        ),
        (&post, "users", json!({"username": "\u{202e}", "role": "viewer", "password": "\u{1}".repeat(8)})),
        (&post, "users", json!({"username": random, "role": "viewer"})),
        (&post, "domains", json!({"name": long})),
        (&post, "migrations", json!({"target_id": ID, "resource_ids": ["c"], "resolutions": {"": {"action": "skip"}}})),
        (&patch, "environment", json!({"license": {"card": 9_223_372_036_854_775_807_u64}})),
        (&patch, "environment", json!({"license": {"card": null}, "features": {}})),
    ];
    for (method, path, body) in requests {
        let answer = raw(&user, method.clone(), &format!("/api/v1/{path}"), "application/json", body.to_string()).await;
        if answer.status.is_server_error() {
            failed.push(format!(
                "{method} {path} {}: {}",
                body.to_string().chars().take(120).collect::<String>(),
                answer.status
            ));
        }
    }
    for (name, value) in [
        ("if-match", "\"99999999999999999999\""),
        ("if-match", "W/\"1\", \"2\""),
        ("if-match", ""),
        ("content-type", "application/json; charset=\""),
    ] {
        let request =
            user.request(Method::PUT, "/api/v1/resources/c").header(name, value).json(&resource("card", json!({})));
        let answer = user.send(request).await;
        if answer.status.is_server_error() {
            failed.push(format!("{name}: {value}: {}", answer.status));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    user.export_all().await;
    test.end().await;
}
