//! Who may do what with what: roles, routes, and whose things they are.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::grants::{grant, id_of};
use crate::openapi::{address, operations};
use crate::support::package::{Forge, honest};
use crate::support::{Environment, User};

/// Whose a resource is, seen from a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Readable,
    Writable,
    Other,
    Foreign,
}

use Whose::{Foreign, Other, Own, Readable, Writable};

struct Role {
    name: &'static str,
    /// Of the whole domain.
    all: bool,
    permissions: &'static [&'static str],
}

const ROLES: &[Role] = &[
    Role { name: "admin", all: true, permissions: &["read", "write", "export"] },
    Role { name: "operator", all: true, permissions: &["read", "export"] },
    Role { name: "developer", all: false, permissions: &["read", "write", "export"] },
    Role { name: "viewer", all: false, permissions: &["read"] },
    Role { name: "importer", all: true, permissions: &["read", "write"] },
    Role { name: "packer", all: false, permissions: &["read", "export"] },
    Role { name: "nothing", all: false, permissions: &[] },
];

/// What becomes of a request of a role about a resource.
fn expected(role: &Role, needs: &str, whose: Whose, hidden: u16) -> u16 {
    let may = role.permissions.contains(&needs);
    let seen = whose != Foreign && (role.all || matches!(whose, Own | Readable | Writable));
    let written = role.all || matches!(whose, Own | Writable);
    match needs {
        _ if !may => 403,
        _ if !seen => hidden,
        "write" if !written => 403,
        _ => 200,
    }
}

#[tokio::test]
async fn each_role_does_with_each_resource_what_it_may() {
    let test = Environment::start("test").await;
    let (admin, foreign) = (test.admin(), test.new_user("branch", "admin").await);
    for (name, permissions) in [
        ("importer", json!(["resource.read", "resource.write", "migration.import"])),
        ("packer", json!(["resource.read", "migration.export"])),
        ("nothing", json!(["migration.online"])),
    ] {
        admin.post("/api/v1/roles", json!({"name": name, "permissions": permissions})).await.is(201);
    }
    let places =
        [(Own, "/Own"), (Readable, "/Readable"), (Writable, "/Writable"), (Other, "/Other"), (Foreign, "/Own")];
    for role in ROLES {
        let user = test.new_user("default", role.name).await;
        grant(&admin, &user, "/Readable", "read").await;
        grant(&admin, &user, "/Writable", "write").await;
        let username = user.get("/api/v1/session").await.is(200)["username"].as_str().unwrap().to_owned();
        for (whose, directory) in places {
            let id = format!("{}_{whose:?}", role.name);
            let picture = format!("/pictures/{id}.png");
            let maker = if whose == Foreign { &foreign } else { &admin };
            maker.attachment(&picture, b"picture").await.is(201);
            maker.resource(&id, "card", &id, directory, json!({"images": [picture]})).await;
            if whose == Own {
                let mut connection = test.sql().await;
                let own = sqlx::query("update resources set owner = $1 where id = $2").bind(&username).bind(&id);
                own.execute(&mut connection).await.unwrap();
            }
            let told = format!("{} {whose:?}", role.name);
            let body = json!({"type": "card", "name": id, "directory": directory, "definition": {"images": [picture], "x": 1}});
            for path in ["", "/revisions", "/lineage"] {
                let answer = user.get(&format!("/api/v1/resources/{id}{path}")).await;
                assert_eq!(answer.status, expected(role, "read", whose, 404), "{told} {path}: {}", answer.text());
            }
            let answer = user.get(&format!("/api/v1/attachments{picture}")).await;
            assert_eq!(answer.status, expected(role, "read", whose, 404), "{told} attachment");
            if role.permissions.contains(&"read") {
                let list = user.get(&format!("/api/v1/resources?q={id}")).await.is(200);
                let seen = list["items"].as_array().unwrap().len() == 1;
                assert_eq!(seen, expected(role, "read", whose, 404) == 200, "{told} list");
            }
            let named = json!({"name": "x", "resource_ids": [id]});
            let hidden = if role.all { 422 } else { 403 };
            let answer = user.post("/api/v1/exports/preview", named.clone()).await;
            assert_eq!(answer.status, expected(role, "export", whose, hidden), "{told} preview");
            let answer = user.post("/api/v1/exports", named).await;
            let started = if answer.status == 202 { 200 } else { answer.status.as_u16() };
            assert_eq!(started, expected(role, "export", whose, hidden), "{told} export");
            if started == 200 {
                let record = user.ended(answer.json()["id"].as_str().unwrap()).await;
                assert_eq!(record["status"], "succeeded", "{told}");
            }
            let answer = user.put(&format!("/api/v1/resources/{id}"), body).await;
            assert_eq!(answer.status, expected(role, "write", whose, 409), "{told} put: {}", answer.text());
            // The same path in another domain is another attachment, and free.
            let answer = user.attachment(&picture, b"another").await;
            let free = whose == Foreign && role.permissions.contains(&"write");
            let hidden = if free { 201 } else { 403 };
            assert_eq!(
                answer.status,
                expected(role, "write", whose, hidden),
                "{told} put attachment: {}",
                answer.text()
            );
            let answer = user.delete(&format!("/api/v1/resources/{id}")).await;
            let gone = if answer.status == 204 { 200 } else { answer.status.as_u16() };
            assert_eq!(gone, expected(role, "write", whose, 404), "{told} delete");
        }
    }
    test.end().await;
}

/// One of everything that has an ID, of a domain: by the noun of its address.
async fn everything(user: &User) -> BTreeMap<&'static str, String> {
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    user.attachment("/a/b", b"bytes").await;
    user.resource("theirs", "card", "Theirs", "/", json!({"images": ["/a/b"]})).await;
    let export = user.post("/api/v1/exports", json!({"name": "x", "resource_ids": ["theirs"]})).await.is(202);
    user.ended(&id(&export)).await;
    let package = user.get(&format!("/api/v1/exports/{}/package", id(&export))).await.bytes;
    let renamed = json!({"resolutions": {"theirs": {"action": "rename", "name": "Renamed"}}});
    user.import(&package, renamed).await;
    let mapping = id(&user.get("/api/v1/mappings").await.is(200)["items"][0]);
    let import = user.upload(&package).await;
    assert_eq!(user.import(&Forge::of(&honest().await.package).build(), json!({})).await["status"], "succeeded");
    let pin = id(&user.get("/api/v1/pinned-sources").await.is(200)["items"][0]);
    let rule =
        json!({"source_environment": "x", "name": "r", "type": "card", "path": "$.chart", "action": "set", "value": 1});
    let rule = user.post("/api/v1/rules", rule).await.is(201);
    let target = json!({"name": "there", "url": "http://localhost:1", "token": "t"});
    let target = user.post("/api/v1/targets", target).await.is(201);
    let migration = json!({"target_id": id(&target), "resource_ids": ["theirs"]});
    let migration = user.post("/api/v1/migrations", migration).await.is(202);
    user.post(&format!("/api/v1/records/{}/cancel", id(&migration)), json!({})).await.is(200);
    let other = user.post("/api/v1/users", json!({"username": "someone", "role": "viewer"})).await.is(201);
    let token = user.post(&format!("/api/v1/users/{}/tokens", id(&other)), json!({"name": "t"})).await.is(201);
    let granted = json!({"user_id": id(&other), "directory": "/", "access": "read"});
    let granted = user.post("/api/v1/grants", granted).await.is(201);
    user.post("/api/v1/roles", json!({"name": "theirs", "permissions": ["resource.read"]})).await.is(201);
    let who = user.get("/api/v1/session").await.is(200);
    let word = json!({"domain": who["domain"], "username": who["username"], "password": "long enough to keep"});
    user.post("/api/v1/session", word).await.is(200);
    let session = id(&user.get("/api/v1/sessions").await.is(200)["items"][0]);
    let upload = user.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
    let upload = user.send(upload.header("upload-length", "10")).await;
    assert_eq!(upload.status, 201, "{}", upload.text());
    let upload = upload.headers["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let selection =
        user.post("/api/v1/selections", json!({"name": "theirs", "resource_ids": ["theirs"]})).await.is(201);
    BTreeMap::from([
        ("selections", id(&selection)),
        ("resources", "theirs".to_owned()),
        ("attachments", "a/b".to_owned()),
        ("exports", id(&export)),
        ("imports", id(&import)),
        ("migrations", id(&migration)),
        ("mappings", mapping),
        ("rules", id(&rule)),
        ("records", id(&import)),
        ("uploads", upload),
        ("targets", id(&target)),
        ("users", id(&other)),
        ("token", id(&token)),
        ("grants", id(&granted)),
        ("roles", "theirs".to_owned()),
        ("pinned-sources", pin),
        ("sessions", session),
    ])
}

#[tokio::test]
async fn nothing_of_another_domain_is_there_by_its_id() {
    let test = Environment::start("test").await;
    let (theirs, mine) = (test.new_user("branch", "admin").await, test.new_user("other", "admin").await);
    let there = everything(&theirs).await;
    let document: Value = serde_json::from_str(&ferry::api::document()).unwrap();
    let mut walked = 0;
    for (method, path, operation) in operations(&document) {
        // What is the environment's belongs to no domain, and is for its administrators alone.
        // Nor does an administrator approve.
        let others = ["environment.manage", "migration.approve"];
        if !path.contains('{') || others.iter().any(|permission| operation["x-permission"] == *permission) {
            continue;
        }
        let noun = path.split('/').nth(3).unwrap();
        let known = there.get(noun).unwrap_or_else(|| panic!("{path} names a thing of which there is none here"));
        let asked = path.replace("{token_id}", &there["token"]).replace("{revision}", "1").replace("{entry}", "0");
        let asked = asked.replace("{resource_id}", &there["resources"]);
        let asked = ["{id}", "{name}", "{path}"].iter().fold(asked, |asked, part| asked.replace(part, known));
        let ask = |user: &User| {
            let ask =
                user.request(method.clone(), &asked).header("tus-resumable", "1.0.0").header("upload-offset", "0");
            match noun {
                "uploads" if method == Method::POST => ask.header("x-http-method-override", "DELETE"),
                "uploads" => ask.header("content-type", "application/offset+octet-stream").body("x"),
                "attachments" => ask.body("mine"),
                "imports" if asked.ends_with("/package") => ask.json(&json!({"upload_id": there["uploads"]})),
                "rules" => ask.json(&json!({"source_environment": "x", "name": "r", "type": "card", "path": "$.chart", "action": "set", "value": 1})),
                "records" if method == Method::PATCH => ask.json(&json!({"done": true})),
                "users" if method == Method::POST => ask.json(&json!({"name": "x"})),
                "resources" if method == Method::PUT => {
                    ask.json(&json!({"type": "card", "name": "n", "directory": "/", "definition": {}}))
                }
                _ if method == Method::GET || method == Method::HEAD => ask,
                _ => ask.json(&json!({})),
            }
        };
        let told = format!("{method} {asked}");
        let answer = mine.send(ask(&mine)).await;
        let foreseen = match (noun, method.as_str()) {
            // The ID is taken, and no more is said; the path is another one.
            ("resources", "PUT") => 409,
            ("attachments", "PUT") => 201,
            _ => 404,
        };
        assert_eq!(answer.status, foreseen, "{told}: {}", answer.text());
        if foreseen == 404 && method == Method::GET && !asked.ends_with("/events") {
            assert_ne!(
                theirs.send(ask(&theirs).timeout(std::time::Duration::from_secs(5))).await.status,
                404,
                "{told}"
            );
        }
        assert!(operation["security"].as_array().is_some_and(|security| security.len() == 2), "{told}");
        walked += 1;
    }
    assert!(walked > 25, "{walked}");
    theirs.post(&format!("/api/v1/records/{}/cancel", there["imports"]), json!({})).await.is(200);
    test.end().await;
}

#[tokio::test]
async fn a_token_for_imports_alone_imports_and_does_nothing_else() {
    let test = Environment::start("test").await;
    let (admin, operator) = (test.admin(), test.new_user("default", "operator").await);
    admin.resource("card", "card", "Card", "/", json!({})).await;
    let package = admin.export_all().await;
    let others = admin.get("/api/v1/records").await.is(200)["items"][0]["id"].as_str().unwrap().to_owned();
    let body = json!({"name": "pipeline", "permissions": ["migration.import"]});
    let tokens = format!("/api/v1/users/{}/tokens", id_of(&operator).await);
    let token = operator.post(&tokens, body).await.is(201)["token"].as_str().unwrap().to_owned();
    let pipeline = test.user(&token);
    let document: Value = serde_json::from_str(&ferry::api::document()).unwrap();
    for (method, path, operation) in operations(&document) {
        let answer = pipeline.send(pipeline.request(method.clone(), &address(&path))).await;
        let needs = operation["x-permission"].as_str();
        let open = needs.is_none_or(|needs| needs == "migration.import");
        assert_eq!(answer.status != 403, open, "{method} {path}: {}", answer.text());
    }
    pipeline.get("/api/v1/environment").await.is(200);
    let import = pipeline.import(&package, json!({})).await;
    assert_eq!(import["status"], "succeeded", "{import}");
    let lacking =
        pipeline.request(Method::POST, "/api/v1/imports/lacking").header("content-type", "application/x-ndjson");
    let lacking = pipeline.send(lacking.body("{\"source_environment\": \"x\", \"types\": {}}\n")).await;
    assert!(lacking.status.is_success(), "{}", lacking.text());
    // Of records, those of its user: items of others tell of resources.
    assert_eq!(pipeline.get("/api/v1/records").await.is(200)["items"].as_array().unwrap().len(), 1);
    operator.get(&format!("/api/v1/records/{others}")).await.is(200);
    for path in ["", "/items", "/events"] {
        pipeline.get(&format!("/api/v1/records/{others}{path}")).await.problem(404, "not_found");
    }
    test.end().await;
}

#[tokio::test]
async fn who_lost_his_token_hears_no_more_of_a_record() {
    let test = Environment::start("test").await;
    let (admin, operator) = (test.admin(), test.new_user("default", "operator").await);
    let import = operator.upload(&admin.export_all().await).await["id"].as_str().unwrap().to_owned();
    let mut events = operator.request(Method::GET, &format!("/api/v1/records/{import}/events")).send().await.unwrap();
    let first = String::from_utf8(events.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.contains("awaiting_confirmation"), "{first}");
    admin.delete(&format!("/api/v1/users/{}", id_of(&operator).await)).await.is(204);
    admin.post(&format!("/api/v1/records/{import}/cancel"), json!({})).await.is(200);
    while let Some(more) = events.chunk().await.unwrap() {
        assert!(!String::from_utf8_lossy(&more).contains("cancelled"), "it was told");
    }
    test.end().await;
}

/// What a developer sees around his own resource: answers in which nothing may tell of what is hidden from him.
async fn seen_around(user: &User) -> Vec<Value> {
    let mut seen = Vec::new();
    for path in ["own", "own/lineage", "own/lineage?direction=downstream", "own/revisions"] {
        let mut answer = user.get(&format!("/api/v1/resources/{path}")).await.is(200);
        // They differ from one environment to the other whatever is hidden.
        for line in std::iter::once(&mut answer) {
            for key in ["created_at", "updated_at", "owner", "updated_by"] {
                line.as_object_mut().unwrap().remove(key);
            }
            for item in line.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                item.as_object_mut().unwrap().retain(|key, _| key != "updated_at" && key != "updated_by");
            }
        }
        seen.push(answer);
    }
    seen
}

#[tokio::test]
async fn what_is_hidden_is_neither_named_nor_counted() {
    let mut all = Vec::new();
    for hidden in [0, 1, 3] {
        let test = Environment::start("test").await;
        let (admin, user) = (test.admin(), test.new_user("default", "developer").await);
        grant(&admin, &user, "/Open", "write").await;
        if hidden > 0 {
            admin.resource("hidden_region", "global_parameter", "region", "/Hidden", json!({})).await;
        }
        let definition = json!({"sql": "[DYNAMIC_PARAMS.region]"});
        user.resource("own", "dataset", "Own", "/", definition).await;
        for at in 0..hidden {
            let definition = json!({"parent_dataset_ids": ["own"]});
            admin.resource(&format!("hidden_{at}"), "dataset", &format!("Hidden {at}"), "/Hidden", definition).await;
            // Beyond the hidden one stands one that he may read: no way leads there.
            let definition = json!({"parent_dataset_ids": [format!("hidden_{at}")]});
            admin.resource(&format!("far_{at}"), "dataset", &format!("Far {at}"), "/Open", definition).await;
        }
        let mut seen = seen_around(&user).await;
        let refused = user.delete("/api/v1/resources/own").await;
        if hidden > 0 {
            // That there is something needs to be said, and no more.
            seen.push(refused.problem(409, "conflict"));
        }
        let text = format!("{seen:?}").to_lowercase();
        assert!(!text.contains("hidden_") && !text.contains("far_") && !text.contains("hidden 0"), "{text}");
        let found = user.post("/api/v1/exports/preview", json!({"resource_ids": ["own"]})).await;
        assert!(!found.text().to_lowercase().contains("hidden"), "{}", found.text());
        all.push(seen);
        test.end().await;
    }
    assert_eq!(all[1], all[2], "nobody counts");
    assert_eq!(all[0][..], all[1][..4], "it is as if nothing were there");
}

#[tokio::test]
async fn an_answer_belongs_to_the_credentials_that_asked_for_it() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let tokens = format!("/api/v1/users/{}/tokens", id_of(&admin).await);
    let narrow = json!({"name": "narrow", "permissions": ["resource.read"]});
    let narrow = test.user(admin.post(&tokens, narrow).await.is(201)["token"].as_str().unwrap());
    let keyed = async |user: &User, body: &Value| {
        user.send(user.request(Method::POST, &tokens).header("idempotency-key", "same").json(body)).await.is(201)
    };
    let body = json!({"name": "made"});
    let wide = keyed(&admin, &body).await;
    let other = keyed(&narrow, &body).await;
    assert_ne!(wide["token"], other["token"], "it got the wider one");
    let permissions =
        test.user(other["token"].as_str().unwrap()).get("/api/v1/session").await.is(200)["permissions"].clone();
    assert_eq!(permissions, json!(["resource.read"]));
    assert_eq!(keyed(&admin, &body).await, wide);
    assert_eq!(keyed(&narrow, &body).await, other);
    test.end().await;
}
