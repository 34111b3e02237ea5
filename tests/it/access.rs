//! Who may do what, and who may know of what.

use reqwest::Method;
use serde_json::{Value, json};

use crate::closure::{is, preview, reasons};
use crate::support::{Answer, Environment, User, package};

const ID: &str = "00000000-0000-7000-8000-000000000000";

/// Every call that needs a token, with the permission that it needs; "": any token.
fn calls() -> Vec<(Method, String, &'static str)> {
    let (get, post, put, patch, delete) = (Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE);
    let call = |method: &Method, path: &str, permission| {
        (method.clone(), format!("/api/v1/{}", path.replace("ID", ID)), permission)
    };
    vec![
        call(&get, "session", ""),
        call(&get, "environment", ""),
        call(&patch, "environment", "environment.manage"),
        call(&get, "resource-types", ""),
        call(&get, "resources", "resource.read"),
        call(&post, "resources/batch", "resource.write"),
        call(&get, "resources/x", "resource.read"),
        call(&put, "resources/x", "resource.write"),
        call(&delete, "resources/x", "resource.write"),
        call(&get, "resources/x/lineage", "resource.read"),
        call(&get, "resources/x/revisions", "resource.read"),
        call(&get, "attachments/x/y.png", "resource.read"),
        call(&put, "attachments/x//y.png", "resource.write"),
        call(&post, "exports/preview", "migration.export"),
        call(&post, "exports", "migration.export"),
        call(&get, "exports/ID/package", "migration.export"),
        call(&post, "imports", "migration.import"),
        call(&put, "imports/ID/plan", "migration.import"),
        call(&post, "imports/ID/execute", "migration.import"),
        call(&get, "targets", "migration.online"),
        call(&post, "targets", "domain.manage"),
        call(&get, "targets/ID", "migration.online"),
        call(&patch, "targets/ID", "domain.manage"),
        call(&delete, "targets/ID", "domain.manage"),
        call(&post, "targets/ID/check", "migration.online"),
        call(&post, "migrations", "migration.online"),
        call(&get, "records", ""),
        call(&get, "records/ID", ""),
        call(&get, "records/ID/items", ""),
        call(&get, "users", "domain.manage"),
        call(&post, "users", "domain.manage"),
        call(&patch, "users/ID", ""),
        call(&get, "sessions", ""),
        call(&delete, "sessions/ID", ""),
        call(&delete, "users/ID", "domain.manage"),
        call(&get, "users/ID/tokens", ""),
        call(&post, "users/ID/tokens", ""),
        call(&delete, "users/ID/tokens/ID", ""),
        call(&get, "domains", "environment.manage"),
        call(&post, "domains", "environment.manage"),
        call(&get, "audit", "domain.manage"),
        call(&get, "trusted-sources", "environment.manage"),
        call(&post, "trusted-sources", "environment.manage"),
        call(&delete, "trusted-sources/ID", "environment.manage"),
        call(&get, "pinned-sources", "domain.manage"),
        call(&delete, "pinned-sources/ID", "domain.manage"),
    ]
}

async fn whoami(user: &User) -> Value {
    user.get("/api/v1/session").await.is(200)
}

async fn user_id(user: &User) -> String {
    whoami(user).await["user_id"].as_str().unwrap().to_owned()
}

async fn new_token(user: &User, id: &str, body: Value) -> Answer {
    user.post(&format!("/api/v1/users/{id}/tokens"), body).await
}

#[tokio::test]
async fn every_call_needs_a_valid_token() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let user = test.new_user("default", "admin").await;
    let id = user_id(&user).await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::milliseconds(1_500);
    let expiring = new_token(&admin, &id, json!({"name": "short", "expires_at": soon})).await.is(201);
    let expiring = test.user(expiring["token"].as_str().unwrap());
    whoami(&expiring).await;
    let revoked = new_token(&admin, &id, json!({"name": "revoked"})).await.is(201);
    let revoked_user = test.user(revoked["token"].as_str().unwrap());
    whoami(&revoked_user).await;
    admin.delete(&format!("/api/v1/users/{id}/tokens/{}", revoked["id"].as_str().unwrap())).await.is(204);
    while expiring.get("/api/v1/session").await.status == 200 {
        assert!(chrono::Utc::now() < soon + chrono::TimeDelta::seconds(5), "it does not expire");
    }
    let mut changed = user.token.clone();
    changed.replace_range(10..11, if &changed[10..11] == "a" { "b" } else { "a" });
    for (method, path, _) in calls() {
        let bare = admin.client.request(method.clone(), format!("{}{path}", admin.base));
        let bare = admin.send(bare.json(&json!({}))).await;
        assert_eq!(bare.headers["www-authenticate"], "Bearer", "{method} {path}");
        bare.problem(401, "unauthorized");
        for token in ["", "wrong", &changed, &expiring.token, &revoked_user.token] {
            let answer = test.user(token);
            let answer = answer.send(answer.request(method.clone(), &path).json(&json!({}))).await;
            answer.problem(401, "unauthorized");
        }
        let basic =
            admin.client.request(method, format!("{}{path}", admin.base)).basic_auth("admin", Some(&admin.token));
        admin.send(basic).await.problem(401, "unauthorized");
    }
    // What tells nobody anything needs none.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(admin.client.get(format!("{}{path}", admin.base)).send().await.unwrap().status(), 200, "{path}");
    }
    // A user who is gone takes his tokens along.
    admin.delete(&format!("/api/v1/users/{id}")).await.is(204);
    user.get("/api/v1/session").await.problem(401, "unauthorized");
    test.end().await;
}

#[tokio::test]
async fn roles_open_the_calls_of_their_permissions_and_no_other() {
    let test = Environment::start("test").await;
    let (read, write, export, import, online) =
        ("resource.read", "resource.write", "migration.export", "migration.import", "migration.online");
    let carry = "secret.carry";
    let users = [
        (test.admin(), vec![read, write, export, import, online, carry, "domain.manage", "environment.manage"]),
        (test.new_user("branch", "admin").await, vec![read, write, export, import, online, carry, "domain.manage"]),
        (test.new_user("default", "developer").await, vec![read, write, export, online]),
        (test.new_user("default", "operator").await, vec![read, export, import, online, carry]),
        (test.new_user("default", "viewer").await, vec![read]),
    ];
    for (user, permissions) in &users {
        let mut shown: Vec<Value> = whoami(user).await["permissions"].as_array().unwrap().clone();
        shown.sort_by_key(Value::to_string);
        let mut expected: Vec<Value> = permissions.iter().map(|word| json!(word)).collect();
        expected.sort_by_key(Value::to_string);
        assert_eq!(shown, expected);
        for (method, path, permission) in calls() {
            // The calls name nothing that is there and say nothing that is right.
            let answer = user.send(user.request(method.clone(), &path).json(&json!({}))).await;
            if permission.is_empty() || permissions.contains(&permission) {
                assert!(!matches!(answer.status.as_u16(), 401 | 403 | 500..), "{method} {path}: {}", answer.text());
            } else {
                let detail = answer.problem(403, "forbidden")["detail"].to_string();
                assert!(detail.contains(permission), "{method} {path}: {detail}");
            }
        }
    }
    let made = users[0].0.post("/api/v1/users", json!({"username": "x", "role": "emperor"})).await;
    made.problem(422, "invalid_field");
    test.end().await;
}

#[tokio::test]
async fn a_token_is_shown_once_and_may_be_narrower_than_its_user() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let id = user_id(&admin).await;
    let narrow = json!({"name": "pipeline", "permissions": ["resource.read", "migration.export"]});
    let made = new_token(&admin, &id, narrow.clone()).await.is(201);
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("ferry_") && token.len() > 40);
    assert_eq!((&made["name"], &made["permissions"]), (&narrow["name"], &narrow["permissions"]));
    let narrowed = test.user(token);
    assert_eq!(whoami(&narrowed).await["permissions"], narrow["permissions"]);
    let listed = admin.get(&format!("/api/v1/users/{id}/tokens")).await;
    assert!(!listed.text().contains(token));
    let line =
        listed.is(200)["items"].as_array().unwrap().iter().find(|line| line["id"] == made["id"]).unwrap().clone();
    assert!(line.get("token").is_none() && line.get("hash").is_none(), "{line}");
    assert!(line["created_at"].is_string() && line["last_used_at"].is_string(), "{line}");
    let mut connection = test.sql().await;
    let kept: i64 = sqlx::query_scalar("select count(*) from tokens t where t::text like '%' || $1 || '%'")
        .bind(token)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(kept, 0, "stored as a hash");
    drop(connection);

    narrowed.get("/api/v1/resources").await.is(200);
    narrowed.put("/api/v1/resources/x", json!({})).await.problem(403, "forbidden");
    narrowed.get("/api/v1/users").await.problem(403, "forbidden");
    // Not even by way of another token.
    let wider = new_token(&narrowed, &id, json!({"name": "wide"})).await.is(201);
    assert_eq!(whoami(&test.user(wider["token"].as_str().unwrap())).await["permissions"], narrow["permissions"]);
    new_token(&narrowed, &id, json!({"name": "w", "permissions": ["resource.write"]})).await.problem(403, "forbidden");
    for wrong in [
        json!({"name": ""}),
        json!({}),
        json!({"name": "x", "permissions": ["migration.approve"]}),
        json!({"name": "x", "permissions": ["everything"]}),
        json!({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}),
        json!({"name": "x", "expires_at": "tomorrow"}),
    ] {
        new_token(&admin, &id, wrong).await.problem(422, "invalid_field");
    }
    // A role that shrinks takes the token along; the narrowing stays.
    let user = test.new_user("default", "developer").await;
    admin.patch(&format!("/api/v1/users/{}", user_id(&user).await), json!({"role": "viewer"})).await.is(200);
    assert_eq!(whoami(&user).await["permissions"], json!(["resource.read"]));
    test.end().await;
}

#[tokio::test]
async fn a_narrowed_manager_cannot_lift_himself_through_others() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let body = json!({"name": "users only", "permissions": ["domain.manage"]});
    let token = new_token(&admin, &user_id(&admin).await, body).await.is(201)["token"].as_str().unwrap().to_owned();
    let narrowed = test.user(&token);
    let other = test.new_user("default", "admin").await;
    let taken = new_token(&narrowed, &user_id(&other).await, json!({"name": "x"})).await;
    if taken.status == 201 {
        let lifted = test.user(taken.json()["token"].as_str().unwrap());
        let permissions = whoami(&lifted).await["permissions"].clone();
        assert!(
            !permissions.to_string().contains("environment.manage"),
            "a token for domain.manage alone became {permissions}"
        );
    } else {
        taken.problem(403, "forbidden");
    }
    test.end().await;
}

/// The IDs of one of everything.
struct Everything {
    export: String,
    import: String,
    target: String,
}

async fn everything(user: &User) -> Everything {
    user.attachment("/images/a.png", b"picture").await;
    user.resource("theirs", "card", "Their card", "/Theirs", json!({"images": ["/images/a.png"]})).await;
    let package = user.export(json!({"resource_ids": ["theirs"]})).await;
    let manifest: Value = serde_json::from_slice(&package::entries(&package)["manifest.json"]).unwrap();
    let import = user.upload(&package).await;
    assert_eq!(import["status"], "awaiting_confirmation", "{import}");
    let target = json!({"name": "theirs", "url": "http://localhost:1", "token": "t"});
    let target = user.post("/api/v1/targets", target).await.is(201);
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    Everything { export: id(&manifest["record_id"]), import: id(&import["id"]), target: id(&target["id"]) }
}

#[tokio::test]
async fn domains_do_not_know_of_each_other() {
    let test = Environment::start("test").await;
    let (theirs, mine) = (test.admin(), test.new_user("branch", "admin").await);
    let there = everything(&theirs).await;
    let them = user_id(&theirs).await;
    let Everything { export, import, target } = &there;
    for path in [
        "resources/theirs".to_owned(),
        "resources/theirs/lineage".to_owned(),
        "resources/theirs/revisions".to_owned(),
        "attachments/images/a.png".to_owned(),
        format!("records/{export}"),
        format!("records/{export}/items"),
        format!("records/{import}/items"),
        format!("exports/{export}/package"),
        format!("targets/{target}"),
        format!("users/{them}/tokens"),
    ] {
        mine.get(&format!("/api/v1/{path}")).await.problem(404, "not_found");
        assert!(theirs.get(&format!("/api/v1/{path}")).await.status.is_success(), "{path}");
    }
    mine.delete("/api/v1/resources/theirs?force=true").await.problem(404, "not_found");
    mine.put(&format!("/api/v1/imports/{import}/plan"), json!({})).await.problem(404, "not_found");
    mine.post(&format!("/api/v1/imports/{import}/execute"), json!({})).await.problem(404, "not_found");
    mine.patch(&format!("/api/v1/targets/{target}"), json!({"name": "x"})).await.problem(404, "not_found");
    mine.delete(&format!("/api/v1/targets/{target}")).await.problem(404, "not_found");
    mine.post(&format!("/api/v1/targets/{target}/check"), json!({})).await.problem(404, "not_found");
    mine.patch(&format!("/api/v1/users/{them}"), json!({"role": "viewer"})).await.problem(404, "not_found");
    mine.delete(&format!("/api/v1/users/{them}")).await.problem(404, "not_found");
    new_token(&mine, &them, json!({"name": "x"})).await.problem(404, "not_found");
    mine.post("/api/v1/exports", json!({"name": "x", "resource_ids": ["theirs"]})).await.problem(422, "invalid_field");
    let online = json!({"target_id": target, "selection": {"all": true}});
    mine.post("/api/v1/migrations", online).await.problem(422, "invalid_field");
    for list in ["resources", "records", "targets"] {
        assert_eq!(mine.get(&format!("/api/v1/{list}")).await.is(200)["items"], json!([]), "{list}");
    }
    assert_eq!(mine.get("/api/v1/users").await.is(200)["items"].as_array().unwrap().len(), 1);
    // The ID is taken, and no more is said; a reference to it is not found; the path is free.
    let taken = json!({"type": "card", "name": "n", "directory": "/", "definition": {}});
    let problem = mine.put("/api/v1/resources/theirs", taken).await.problem(409, "conflict");
    assert!(!problem.to_string().contains("Their"), "{problem}");
    let page = mine.resource("mine", "page", "Mine", "/", json!({"cards": [{"card_id": "theirs"}]})).await;
    assert_eq!((&page["references"][0]["found"], &page["references"][0]["name"]), (&json!(false), &Value::Null));
    mine.attachment("/images/a.png", b"mine").await.is(201);
    assert_eq!(theirs.get("/api/v1/attachments/images/a.png").await.bytes, b"picture");
    // Names are unique per domain only.
    mine.post("/api/v1/targets", json!({"name": "theirs", "url": "http://localhost:1", "token": "t"})).await.is(201);
    test.end().await;
}

#[tokio::test]
async fn users_of_other_domains_are_for_environment_administrators() {
    let test = Environment::start("test").await;
    let (root, branch) = (test.admin(), test.new_user("branch", "admin").await);
    let new = |name: &str, domain: &str| json!({"username": name, "role": "viewer", "domain": domain});
    let made = root.post("/api/v1/users", new("u", "branch")).await.is(201);
    assert_eq!((&made["domain"], made.get("password")), (&json!("branch"), None));
    branch.post("/api/v1/users", new("u", "branch")).await.problem(409, "conflict");
    branch.post("/api/v1/users", new("v", "branch")).await.is(201);
    branch.post("/api/v1/users", new("v", "default")).await.problem(403, "forbidden");
    branch.post("/api/v1/users", new("v", "nowhere")).await.problem(403, "forbidden");
    root.post("/api/v1/users", new("v", "nowhere")).await.problem(422, "invalid_field");
    branch.post("/api/v1/domains", json!({"name": "mine"})).await.problem(403, "forbidden");
    root.post("/api/v1/domains", json!({"name": "branch"})).await.problem(409, "conflict");
    for wrong in ["", "a b", "a/b", "é"] {
        root.post("/api/v1/domains", json!({"name": wrong})).await.problem(422, "invalid_field");
    }
    let id = made["id"].as_str().unwrap();
    root.patch(&format!("/api/v1/users/{id}"), json!({"role": "operator"})).await.is(200);
    let names = |list: Value| {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["username"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(root.get("/api/v1/users").await.is(200)), ["admin"], "his own domain alone");
    assert_eq!(names(branch.get("/api/v1/users").await.is(200)).len(), 3);
    root.delete(&format!("/api/v1/users/{id}")).await.is(204);
    root.delete(&format!("/api/v1/users/{}", user_id(&root).await)).await.problem(409, "conflict");
    test.end().await;
}

#[tokio::test]
async fn developers_and_viewers_see_their_own() {
    let test = Environment::start("test").await;
    let (admin, one, other) =
        (test.admin(), test.new_user("default", "developer").await, test.new_user("default", "developer").await);
    admin.attachment("/a.png", b"a").await.is(201);
    admin.resource("x", "card", "Of the admin", "/", json!({"images": ["/b.png"]})).await;
    one.resource("own", "card", "Own", "/", json!({"images": ["/a.png"], "dataset_id": "x"})).await;
    let record = one.post("/api/v1/exports", json!({"name": "own", "resource_ids": ["own"]})).await.is(202);
    let id = record["id"].as_str().unwrap();
    one.ended(id).await;
    one.get(&format!("/api/v1/exports/{id}/package")).await.status.is_success().then_some(()).unwrap();
    assert_eq!(one.get("/api/v1/attachments/a.png").await.bytes, b"a");
    assert_eq!(one.get("/api/v1/resources").await.is(200)["items"][0]["id"], "own");
    assert_eq!(one.get("/api/v1/resources?owner=admin").await.is(200)["items"], json!([]));
    for user in [&other, &test.new_user("default", "viewer").await] {
        assert_eq!(user.get("/api/v1/resources").await.is(200)["items"], json!([]));
        assert_eq!(user.get("/api/v1/records").await.is(200)["items"], json!([]));
        for path in [
            "resources/own",
            "resources/own/lineage",
            "resources/x",
            "attachments/a.png",
            &format!("records/{id}"),
            &format!("records/{id}/items"),
        ] {
            user.get(&format!("/api/v1/{path}")).await.problem(404, "not_found");
        }
    }
    other.get(&format!("/api/v1/exports/{id}/package")).await.problem(404, "not_found");
    let taken = json!({"type": "card", "name": "n", "directory": "/", "definition": {}});
    other.put("/api/v1/resources/own", taken.clone()).await.problem(409, "conflict");
    one.put("/api/v1/resources/x", taken).await.problem(409, "conflict");
    other.delete("/api/v1/resources/own").await.problem(404, "not_found");
    let operator = test.new_user("default", "operator").await;
    assert_eq!(operator.get("/api/v1/resources").await.is(200)["items"].as_array().unwrap().len(), 2);
    operator.get(&format!("/api/v1/records/{id}")).await.is(200);
    // The administrator may change it; it stays the developer's.
    let changed = admin.resource("own", "card", "Changed", "/", json!({})).await;
    assert_ne!(changed["owner"], "admin");
    test.end().await;
}

#[tokio::test]
async fn a_developer_takes_along_only_what_he_may_read() {
    let test = Environment::start("test").await;
    let (admin, developer) = (test.admin(), test.new_user("default", "developer").await);
    admin.resource("far", "dataset", "Far away", "/", json!({"data_account_id": "unknown_to_him"})).await;
    admin.resource("near", "dataset", "Near", "/", json!({"parent_dataset_ids": ["far"]})).await;
    developer.resource("own", "card", "Own", "/", json!({"dataset_id": "near"})).await;
    developer.resource("free", "card", "Free", "/", json!({"dataset_id": "nothing"})).await;
    let forbidden = |id: Option<&str>, count: u64| json!({"resource_id": id, "count": count});
    let found = preview(&developer, &["own"], false).await;
    assert_eq!(reasons(&found), is(&[("own", "selected")]));
    assert_eq!(found["forbidden"], json!([forbidden(Some("near"), 1)]), "his own definition holds its ID");
    let found = preview(&developer, &["own"], true).await;
    assert_eq!(found["forbidden"], json!([forbidden(Some("near"), 1), forbidden(None, 1)]), "others are counted");
    for word in ["far", "Far away", "unknown_to_him", "Near"] {
        assert!(!found.to_string().contains(&format!("\"{word}\"")), "{word} is not his to know: {found}");
    }
    let start = async |ids: &[&str], upstream: bool| {
        developer.post("/api/v1/exports", json!({"name": "x", "resource_ids": ids, "export_upstream": upstream})).await
    };
    let problem = start(&["own"], false).await.problem(403, "forbidden_resources");
    assert_eq!(problem["errors"][0]["field"], "near");
    let problem = start(&["own"], true).await.problem(403, "forbidden_resources");
    assert!(!problem.to_string().contains("\"far\""), "{problem}");
    for ids in [&["near"][..], &["none"], &["own", "none"]] {
        start(ids, false).await.problem(403, "forbidden_resources");
        let body = json!({"resource_ids": ids});
        developer.post("/api/v1/exports/preview", body).await.problem(403, "forbidden_resources");
    }
    let record = start(&["free"], false).await.is(202);
    assert_eq!(developer.ended(record["id"].as_str().unwrap()).await["status"], "succeeded");
    let own = json!({"selection": {"types": ["card", "dataset"]}});
    let found = developer.post("/api/v1/exports/preview", own).await.is(200);
    assert_eq!(reasons(&found), is(&[("own", "selected"), ("free", "selected")]), "a selection takes his own alone");
    test.end().await;
}

#[tokio::test]
async fn shared_parts_name_nobody_whom_the_caller_may_not_read() {
    let test = Environment::start("test").await;
    let (admin, developer) = (test.admin(), test.new_user("default", "developer").await);
    developer.resource("free", "card", "Free", "/", json!({})).await;
    admin.resource("page", "page", "Page of the admin", "/", json!({"cards": [{"card_id": "free"}]})).await;
    let found = preview(&developer, &["free"], false).await;
    assert!(!found.to_string().contains("Page of the admin"), "{found}");
    test.end().await;
}
