//! The API's document says what the servers do, and the page shows it without asking anyone else.

use std::collections::BTreeSet;
use std::path::Path;

use ferry::domain::permission::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::retail::load_retail;
use crate::support::{Answer, Environment, User};

/// Every operation: its method, its address, and what the document says of it.
pub fn operations(document: &Value) -> Vec<(Method, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of = |(path, item): (&String, &'_ Value)| -> Vec<(Method, String)> {
        item.as_object().unwrap().keys().map(|word| (word.to_uppercase().parse().unwrap(), path.clone())).collect()
    };
    let found = paths.flat_map(of);
    found.map(|(method, path)| (method.clone(), path.clone(), &document["paths"][path][lower(&method)])).collect()
}

fn lower(method: &Method) -> String {
    method.as_str().to_lowercase()
}

/// An address of the operation; there is nothing under it.
pub fn address(path: &str) -> String {
    let id = "00000000-0000-7000-8000-000000000000";
    path.replace("{id}", id).replace("{token_id}", id).replace("{name}", "none").replace("{path}", "a/b")
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

/// Fails unless an answer is one that the document foresees for the operation: status, media type, shape.
#[track_caller]
fn fits(document: &Value, method: Method, path: &str, answer: &Answer) {
    let mut response = &document["paths"][path][lower(&method)]["responses"][answer.status.as_str()];
    if let Some(shared) = response["$ref"].as_str() {
        response = document.pointer(&shared[1..]).unwrap();
    }
    assert!(response.is_object(), "{method} {path} does not foresee {}", answer.status);
    let media = answer.headers["content-type"].to_str().unwrap();
    let schema = &response["content"][media]["schema"];
    assert!(schema.is_object(), "{method} {path} {} does not foresee {media}", answer.status);
    let rooted = json!({"allOf": [schema], "components": document["components"]});
    let wrong: Vec<String> = jsonschema::validator_for(&rooted)
        .unwrap()
        .iter_errors(&answer.json())
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{method} {path} {}: {wrong:?}", answer.status);
}

#[test]
fn the_document_is_committed_and_whole() {
    let text = ferry::api::document();
    assert_eq!(text, ferry::api::document(), "it is the same each time");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    assert!(std::fs::read_to_string(committed).unwrap().trim_end() == text, "run make openapi and commit it");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["openapi"], "3.1.0");

    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }

    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let told = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{told}: its ID is taken");
        assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{told} has no summary");
        let [tag] = operation["tags"].as_array().unwrap().as_slice() else { panic!("{told} has not one tag") };
        assert!(tags.contains(tag.as_str().unwrap()), "{told}: nobody describes the tag {tag}");
        assert!(operation["security"].is_array(), "{told} does not say who may");
        let named: BTreeSet<&str> =
            operation["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
        for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            assert!(named.contains(part.trim_end_matches('}')), "{told} does not describe {part}");
        }
        let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        if answer.as_str().is_some_and(|name| name.contains("/List_")) && path != "/api/v1/resource-types" {
            assert!(named.contains("cursor") && named.contains("limit"), "{told} does not say how to turn pages");
        }
    }
}

#[test]
fn every_handler_is_a_route_and_every_route_is_a_handler() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api")];
    let mut sources: Vec<String> = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { sources.push(std::fs::read_to_string(path).unwrap()) }
        }
    }
    let annotated: usize = sources.iter().map(|text| text.matches("#[utoipa::path(").count()).sum();
    let document: Value = serde_json::from_str(&ferry::api::document()).unwrap();
    assert_eq!(operations(&document).len(), annotated);
    assert!(!sources.iter().any(|text| text.contains(".route(")), "a route stands outside the table");
}

#[tokio::test]
async fn what_the_document_says_of_permissions_holds() {
    let here = Environment::start("test").await;
    let (nobody, viewer) = (here.user("no token"), here.new_user("default", "viewer").await);
    let document = nobody.get("/api/v1/openapi.json").await.is(200);
    assert_eq!(document, serde_json::from_str::<Value>(&ferry::api::document()).unwrap());
    let mut open = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let told = format!("{method} {path}");
        let ask = |user: &User| user.request(method.clone(), &address(&path));
        let refused = nobody.send(ask(&nobody)).await;
        if operation["security"] == json!([]) {
            let asks = method == Method::POST;
            open.insert(told.clone());
            assert!(refused.status.is_success() || asks && refused.status == 415, "{told}: {}", refused.text());
            continue;
        }
        let word = operation["x-permission"].as_str();
        let ways = word
            .map_or(json!([{"token": []}, {"session": []}]), |word| json!([{"token": [word]}, {"session": [word]}]));
        assert_eq!(operation["security"], ways, "{told}");
        assert!(word.is_none_or(|word| Permission::parse(word).is_some()), "{told}");
        assert_eq!(refused.status, 401, "{told}: {}", refused.text());
        if method == Method::HEAD {
            // Its answers have no body to look at.
            assert_eq!(viewer.send(ask(&viewer)).await.status, 403, "{told}");
            continue;
        }
        fits(&document, method.clone(), &path, &refused);
        let answer = viewer.send(ask(&viewer)).await;
        assert_ne!(answer.status, 405, "{told}");
        match operation["x-permission"].as_str() {
            Some(word) if word != "resource.read" => {
                assert!(answer.problem(403, "forbidden")["detail"].as_str().unwrap().contains(word), "{told}");
                fits(&document, method, &path, &answer);
            }
            _ => assert!(!matches!(answer.status.as_u16(), 401 | 403), "{told}: {}", answer.text()),
        }
    }
    let public = [
        "GET /api/v1/openapi.json",
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
        "OPTIONS /api/v1/uploads",
        "POST /api/v1/session",
    ];
    assert_eq!(open, public.map(str::to_owned).into(), "nothing else is open to everyone");
    here.end().await;
}

#[tokio::test]
async fn answers_have_the_shapes_that_the_document_gives() {
    let here = Environment::start("test").await;
    let admin = here.admin();
    load_retail(&admin).await;
    let document: Value = serde_json::from_str(&ferry::api::document()).unwrap();
    let exported = admin.post("/api/v1/exports", json!({"name": "all", "selection": {"all": true}})).await;
    fits(&document, Method::POST, "/api/v1/exports", &exported);
    assert!(exported.headers.contains_key("location"));
    let id = exported.is(202)["id"].as_str().unwrap().to_owned();
    admin.ended(&id).await;
    let package = admin.get(&format!("/api/v1/exports/{id}/package")).await.bytes;
    let import = admin.upload(&package).await["id"].as_str().unwrap().to_owned();

    let target = json!({"name": "there", "url": "http://127.0.0.1:9", "token": "none"});
    let target = admin.post("/api/v1/targets", target).await;
    fits(&document, Method::POST, "/api/v1/targets", &target);
    let target = target.json()["id"].as_str().unwrap().to_owned();
    let checked = admin.post(&format!("/api/v1/targets/{target}/check"), json!({})).await;
    fits(&document, Method::POST, "/api/v1/targets/{id}/check", &checked);
    let preview = json!({"resource_ids": ["page_asia"], "export_upstream": true});
    let preview = admin.post("/api/v1/exports/preview", preview).await;
    fits(&document, Method::POST, "/api/v1/exports/preview", &preview);
    assert!(!preview.is(200)["items"].as_array().unwrap().is_empty());

    for (path, query) in [
        ("/api/v1/session", ""),
        ("/api/v1/environment", ""),
        ("/api/v1/resource-types", ""),
        ("/api/v1/resources", "?limit=500"),
        ("/api/v1/records", ""),
        ("/api/v1/targets", ""),
        ("/api/v1/users", ""),
        ("/api/v1/roles", ""),
        ("/api/v1/grants", ""),
        ("/api/v1/domains", ""),
        ("/api/v1/trusted-sources", ""),
        ("/api/v1/audit", "?limit=500"),
    ] {
        fits(&document, Method::GET, path, &admin.get(&format!("{path}{query}")).await);
    }
    for (path, id) in [
        ("/api/v1/resources/{id}", "page_asia"),
        ("/api/v1/resources/{id}/lineage", "page_asia"),
        ("/api/v1/resources/{id}/revisions", "page_asia"),
        ("/api/v1/records/{id}", &id),
        ("/api/v1/records/{id}/items", &id),
        ("/api/v1/records/{id}", &import),
        ("/api/v1/records/{id}/items", &import),
        ("/api/v1/resources/{id}", "no_such_thing"),
        ("/api/v1/resources/{id}", "%00"),
    ] {
        fits(&document, Method::GET, path, &admin.get(&path.replace("{id}", id)).await);
    }
    let planned = admin.put(&format!("/api/v1/imports/{import}/plan"), json!({"on_failure": 1})).await;
    planned.problem(422, "invalid_field");
    fits(&document, Method::PUT, "/api/v1/imports/{id}/plan", &planned);
    here.end().await;
}

#[tokio::test]
async fn the_page_shows_the_document_without_asking_anyone_else() {
    let here = Environment::start("test").await;
    let nobody = here.user("no token");
    let page = nobody.get("/docs").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.text().contains("://"), "the page names another host");
    assert!(page.text().contains("/api/v1/openapi.json"));

    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/node_modules/swagger-ui-dist/swagger-ui-bundle.js");
    if bundle.exists() {
        let names = regex::Regex::new(r#"(?:src|href)="(/docs/[^"]+)""#).unwrap();
        let html = page.text();
        let assets: Vec<&str> = names.captures_iter(&html).map(|found| found.get(1).unwrap().as_str()).collect();
        assert_eq!(assets.len(), 3, "{assets:?}");
        for asset in assets {
            let answer = nobody.get(asset).await;
            assert_eq!(answer.status, 200, "{asset}");
            let etag = answer.headers["etag"].clone();
            let again = nobody.send(nobody.request(Method::GET, asset).header("if-none-match", etag)).await;
            assert_eq!(again.status, 304, "{asset}");
        }
        let own = nobody.get("/docs/docs.js").await;
        assert_eq!(own.headers["content-type"], "text/javascript; charset=utf-8");
        assert!(!own.text().contains("://") && own.text().contains("validatorUrl: null"));
    } else {
        assert!(page.text().contains("was not built in"));
    }
    assert_eq!(nobody.get("/docs/missing.html").await.status, 404);
    assert_eq!(nobody.get("/docs/package.json").await.status, 404);
    here.end().await;
}
