//! Who did what to what, when and from where.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::audit::{audited, changes};
use crate::support::package::honest;
use crate::support::{Answer, Environment, User};

/// A whole list, turning its pages.
async fn audit(user: &User, query: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = user.get(&format!("/api/v1/audit?limit=7&{query}{cursor}")).await.is(200);
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

fn actions(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().map(|row| row["action"].as_str().unwrap()).collect()
}

async fn migrate(user: &User, target: &Environment) -> Value {
    let body = json!({"name": "target", "url": target.server.url(), "token": target.admin().token});
    let id = user.post("/api/v1/targets", body).await.is(201)["id"].clone();
    user.post(&format!("/api/v1/targets/{}/check", id.as_str().unwrap()), json!({})).await.is(200);
    let body = json!({"target_id": id, "selection": {"all": true}, "confirm": true});
    let record = user.post("/api/v1/migrations", body).await.is(202);
    let id = record["id"].as_str().unwrap();
    user.wait(id, |status| status == "awaiting_confirmation").await;
    user.post(&format!("/api/v1/migrations/{id}/confirm"), json!({})).await.is(202);
    user.ended(id).await
}

#[tokio::test]
async fn each_change_of_a_records_state_is_told_once() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let user = test.admin();
    let import = user.import(&honest().await.package, json!({})).await;
    assert_eq!(import["status"], "succeeded", "{import}");
    let mut connection = test.sql().await;
    audited(&mut connection, &import).await;
    let told = changes(&mut connection, import["id"].as_str().unwrap()).await;
    let (me, worker) = (("admin", "configuration"), ("admin", "worker"));
    let expected = [
        (None, "queued", me),
        (Some("queued"), "running", worker),
        (Some("running"), "awaiting_confirmation", worker),
        (Some("awaiting_confirmation"), "queued", me),
        (Some("queued"), "running", worker),
        (Some("running"), "succeeded", worker),
    ];
    let told: Vec<_> = told.iter().map(|(f, t, u, w)| (f.as_deref(), t.as_str(), (u.as_str(), w.as_str()))).collect();
    assert_eq!(told, expected);

    let migration = migrate(&user, &production).await;
    assert_eq!(migration["status"], "succeeded", "{migration}");
    audited(&mut connection, &migration).await;
    let there = migration["remote_record_id"].as_str().unwrap();
    let there = production.admin().get(&format!("/api/v1/records/{there}")).await.is(200);
    audited(&mut production.sql().await, &there).await;

    // One that is cancelled, and one that fails and is tried again.
    let record = user.upload(&honest().await.package).await;
    let path = format!("/api/v1/records/{}", record["id"].as_str().unwrap());
    audited(&mut connection, &user.post(&format!("{path}/cancel"), json!({})).await.is(200)).await;
    user.send(user.request(Method::POST, &format!("{path}/retry"))).await.is(202);
    let record = user.wait(record["id"].as_str().unwrap(), |status| status == "awaiting_confirmation").await;
    audited(&mut connection, &record).await;
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn nothing_changes_what_was_told() {
    let test = Environment::start("test").await;
    test.admin().resource("c", "card", "Card", "/", json!({})).await;
    let mut connection = test.sql().await;
    let count = "select count(*) from audit";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    assert!(before > 0);
    for first in ["", "set session_replication_role = replica; "] {
        for statement in [
            "update audit set username = 'nobody'",
            "update audit set at = now() where id = 1",
            "delete from audit",
            "delete from audit where id < 0",
            "truncate audit",
            "insert into audit (id, action, object_kind, object_id) overriding system value values (1, 'a', 'b', 'c')
                on conflict (id) do update set username = 'nobody'",
        ] {
            let whole = format!("{first}{statement}");
            let refused = sqlx::raw_sql(&whole).execute(&mut connection).await.unwrap_err().to_string();
            assert!(refused.contains("append-only"), "{statement}: {refused}");
        }
    }
    let after: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    assert_eq!(before, after);
    drop(connection);
    test.end().await;
}

/// Something of everything that is told.
async fn doings(test: &Environment) {
    let user = test.admin();
    let put = |path: &str, body: Value| (user.clone(), format!("/api/v1/{path}"), body);
    let sent = async |(user, path, body): (User, String, Value)| user.put(&path, body).await;
    let card =
        json!({"type": "card", "name": "=cmd()", "directory": "/", "definition": {"title": "canary-definition"}});
    sent(put("resources/c", card.clone())).await.is(201);
    sent(put("resources/c", card)).await.is(200);
    let account = json!({"password": "canary-secret", "host": "h"});
    user.resource("da", "data_account", "Account", "/", account).await;
    user.batch(&[json!({"id": "b", "type": "card", "name": "B", "directory": "/", "definition": {}})]).await;
    user.delete("/api/v1/resources/b").await.is(204);
    user.attachment("/a.png", b"canary-bytes").await.is(201);
    user.import(&user.export_all().await, json!({})).await;
    let target = user.target("t", "http://127.0.0.1:9", "canary-token").await;
    user.patch(&format!("/api/v1/targets/{target}"), json!({"token": "canary-other"})).await.is(200);
    user.post(&format!("/api/v1/targets/{target}/check"), json!({})).await.is(200);
    user.delete(&format!("/api/v1/targets/{target}")).await.is(204);
    let new = json!({"username": "u", "password": "canary-password", "role": "viewer"});
    let id = user.post("/api/v1/users", new).await.is(201)["id"].as_str().unwrap().to_owned();
    user.patch(&format!("/api/v1/users/{id}"), json!({"password": "canary-password-2"})).await.is(200);
    let token = user.post(&format!("/api/v1/users/{id}/tokens"), json!({"name": "pipeline"})).await.is(201);
    user.delete(&format!("/api/v1/users/{id}/tokens/{}", token["id"].as_str().unwrap())).await.is(204);
    user.delete(&format!("/api/v1/users/{id}")).await.is(204);
    user.patch("/api/v1/environment", json!({"features": {"card": true}, "license": {"page": 3}})).await.is(200);
    user.post("/api/v1/domains", json!({"name": "branch"})).await.is(201);
    let key = user.get("/api/v1/environment").await.is(200)["public_key"].clone();
    let source = user.post("/api/v1/trusted-sources", json!({"name": "self", "public_key": key})).await.is(201);
    user.delete(&format!("/api/v1/trusted-sources/{}", source["id"].as_str().unwrap())).await.is(204);
    let begun = user.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
    assert_eq!(user.send(begun.header("upload-length", 10)).await.status, 201);
    let rows = audit(&user, "").await;
    let all = serde_json::to_string(&rows).unwrap();
    assert!(!all.contains("canary") && !all.contains(token["token"].as_str().unwrap()), "{all}");
}

#[tokio::test]
async fn what_is_done_is_told_with_who_and_from_where_and_without_secrets() {
    let test = Environment::start("test").await;
    doings(&test).await;
    let user = test.admin();
    let rows = audit(&user, "").await;
    assert!(rows.windows(2).all(|pair| pair[0]["id"].as_i64() > pair[1]["id"].as_i64()), "newest first");
    let expected = [
        "attachment.write",
        "domain.create",
        "environment.change",
        "export.create",
        "import.execute",
        "import.plan",
        "import.receive",
        "keys.create",
        "package.download",
        "record.status",
        "resource.batch",
        "resource.delete",
        "resource.write",
        "target.change",
        "target.check",
        "target.create",
        "target.delete",
        "token.configure",
        "token.create",
        "token.revoke",
        "trusted_source.create",
        "trusted_source.delete",
        "upload.create",
        "user.change",
        "user.create",
        "user.delete",
    ];
    assert_eq!(actions(&rows), expected.into_iter().collect());
    for row in &rows {
        let by_server = row["token"] == "server";
        assert_eq!(row["user"].is_null(), by_server, "{row}");
        let handled = !by_server && row["token"] != "worker";
        assert_eq!(row["address"].is_string(), handled, "{row}");
        assert!(!handled || (row["address"] == "127.0.0.1" && row["token"] == "configuration"), "{row}");
    }
    let of = |action: &str| rows.iter().filter(|row| row["action"] == action).collect::<Vec<_>>();
    assert_eq!(of("resource.write").len(), 3, "one row per PUT");
    let batch = &of("resource.batch")[0]["details"];
    assert_eq!(*batch, json!({"created": 1, "updated": 0, "unchanged": 0}));
    let outcomes: Vec<&Value> = of("resource.write").iter().map(|row| &row["details"]["outcome"]).collect();
    assert_eq!(outcomes, ["created", "unchanged", "created"]);
    test.end().await;
}

#[tokio::test]
async fn the_list_is_narrowed_by_its_filters() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let other = test.new_user("default", "developer").await;
    other.resource("mine", "card", "Mine", "/", json!({})).await;
    let name = user.get("/api/v1/resources/mine").await.is(200)["owner"].as_str().unwrap().to_owned();
    let by = audit(&user, &format!("user={name}")).await;
    assert_eq!((by.len(), &by[0]["action"], &by[0]["token"]), (1, &json!("resource.write"), &json!("test")));
    assert_eq!(audit(&user, "object=mine").await, by);
    assert_eq!(audit(&user, "object=resource").await, by);
    assert_eq!(actions(&audit(&user, "action=user").await), ["user.create"].into());
    assert_eq!(actions(&audit(&user, "action=token.create").await), ["token.create"].into());
    assert_eq!(audit(&user, "action=tok").await, Vec::<Value>::new());
    assert_eq!(audit(&user, "q=MINE").await, by);
    assert_eq!(audit(&user, "q=%25").await, Vec::<Value>::new());
    let at = by[0]["at"].as_str().unwrap();
    let (before, since) = (audit(&user, &format!("to={at}")).await, audit(&user, &format!("from={at}")).await);
    assert!(before.iter().all(|row| row["at"].as_str().unwrap() < at) && !before.is_empty());
    assert_eq!(since, by);
    for wrong in ["format=xml", "limit=0", "cursor=x", "from=yesterday", "to=99999-01-01T00:00:00Z"] {
        user.get(&format!("/api/v1/audit?{wrong}")).await.problem(422, "invalid_field");
    }
    test.end().await;
}

#[tokio::test]
async fn another_domain_sees_none_of_it() {
    let test = Environment::start("test").await;
    doings(&test).await;
    let branch = test.new_user("branch", "admin").await;
    branch.resource("theirs", "card", "Theirs", "/", json!({})).await;
    let rows = audit(&branch, "").await;
    assert!(rows.iter().all(|row| row["domain"] == "branch"), "{rows:?}");
    // Who came from elsewhere is named with his domain.
    assert_eq!(actions(&rows), ["resource.write", "token.create", "user.create"].into());
    let made = rows.iter().find(|row| row["action"] == "user.create").unwrap();
    assert_eq!((&made["user"], &made["details"]["actor_domain"]), (&json!("admin"), &json!("default")));
    let csv = branch.get("/api/v1/audit?format=csv").await.text();
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(audit(&test.admin(), "").await.iter().all(|row| row["domain"] == "default" || row["domain"].is_null()));
    // The environment's own rows are for those who manage it.
    let manager = test.admin().get("/api/v1/session").await.is(200)["user_id"].as_str().unwrap().to_owned();
    let body = json!({"name": "narrow", "permissions": ["domain.manage"]});
    let narrow = test.admin().post(&format!("/api/v1/users/{manager}/tokens"), body).await.is(201);
    let rows = audit(&test.user(narrow["token"].as_str().unwrap()), "").await;
    assert!(!rows.is_empty() && rows.iter().all(|row| row["domain"] == "default"));
    test.end().await;
}

/// The cells of CSV in which nothing but what was quoted holds a comma.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

#[tokio::test]
async fn the_list_comes_as_csv_that_computes_nothing() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let lines: Vec<Value> = (0..1_200).map(|n| json!({"username": format!("=1+{n}"), "role": "viewer"})).collect();
    let mut connection = test.sql().await;
    for line in &lines {
        let insert = "insert into audit (domain_id, username, action, object_kind, object_id)
            values (1, $1, 'test.row', 'test', '@x')";
        sqlx::query(insert).bind(line["username"].as_str().unwrap()).execute(&mut connection).await.unwrap();
    }
    drop(connection);
    let is_csv = |answer: &Answer| assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8");
    let answer = user.get("/api/v1/audit?format=csv&action=test&limit=1").await;
    is_csv(&answer);
    let text = answer.text();
    assert!(text.split_inclusive('\n').all(|line| line.ends_with("\r\n")));
    let found: Vec<Vec<String>> = text.lines().map(cells).collect();
    assert_eq!(found[0].join(","), "id,at,domain,user,token,action,object_kind,object_id,details,address");
    assert_eq!(found.len(), 1_201, "all of it, over portions");
    assert!(found.iter().all(|line| line.len() == 10));
    assert_eq!((found[1][3].as_str(), found[1][7].as_str()), ("'=1+1199", "'@x"));
    let by_header = user.request(Method::GET, "/api/v1/audit?action=test").header("accept", "text/csv");
    let by_header = user.send(by_header).await;
    is_csv(&by_header);
    assert_eq!(by_header.text(), text);
    let as_json = user.request(Method::GET, "/api/v1/audit?format=json").header("accept", "text/csv");
    user.send(as_json).await.is(200);
    test.end().await;
}
