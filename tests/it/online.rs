//! Targets, their check, and online migrations.

use serde_json::{Value, json};

use crate::support::retail::load_retail;
use crate::support::{Environment, User, comparable};

async fn new_target(user: &User, url: &str, token: &str) -> String {
    user.target("production", url, token).await
}

async fn check(user: &User, target: &str) -> Value {
    user.post(&format!("/api/v1/targets/{target}/check"), json!({})).await.is(200)
}

/// Starts a migration and waits for its end.
async fn migrate(user: &User, body: Value) -> Value {
    let answer = user.post("/api/v1/migrations", body).await;
    let record = answer.is(202);
    assert_eq!(answer.headers["location"], format!("/api/v1/records/{}", record["id"].as_str().unwrap()));
    user.ended(record["id"].as_str().unwrap()).await
}

/// A test and a production environment, and the target that leads from one to the other.
async fn pair() -> (Environment, Environment, String) {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let target = new_target(&test.admin(), &production.server.url(), &production.admin().token).await;
    (test, production, target)
}

#[tokio::test]
async fn a_target_is_made_read_changed_and_removed_and_its_token_never_read() {
    let test = Environment::start("test").await;
    let user = test.admin();
    let body =
        json!({"name": " Production ", "url": "http://127.0.0.1:9/base/", "token": "canary-token", "owner": "admin"});
    let made = user.post("/api/v1/targets", body.clone()).await;
    assert!(!made.text().contains("canary"));
    let made = made.is(201);
    assert_eq!(
        (&made["name"], &made["url"], &made["owner"]),
        (&json!("Production"), &json!("http://127.0.0.1:9/base"), &json!("admin"))
    );
    let path = format!("/api/v1/targets/{}", made["id"].as_str().unwrap());
    assert_eq!(user.get(&path).await.is(200), made);
    user.post("/api/v1/targets", body).await.problem(409, "conflict");

    let changed = user.patch(&path, json!({"name": "Live", "owner": null})).await.is(200);
    assert_eq!((&changed["name"], &changed["owner"], &changed["url"]), (&json!("Live"), &Value::Null, &made["url"]));
    assert_eq!(user.patch(&path, json!({})).await.is(200)["name"], "Live");
    // The token must not follow an address that someone else chose.
    user.patch(&path, json!({"url": "http://127.0.0.1:10"})).await.problem(422, "invalid_field");
    user.patch(&path, json!({"url": "http://127.0.0.1:9/other"})).await.is(200);
    let moved = user.patch(&path, json!({"url": "http://127.0.0.1:10", "token": "canary-two"})).await;
    assert!(!moved.text().contains("canary"));
    moved.is(200);
    for wrong in [json!({"name": ""}), json!({"token": " "}), json!({"url": "ftp://x"}), json!({"owner": ""})] {
        user.patch(&path, wrong).await.problem(422, "invalid_field");
    }
    for text in [
        user.get(&path).await.text(),
        user.get("/api/v1/targets").await.text(),
        check(&user, made["id"].as_str().unwrap()).await.to_string(),
    ] {
        assert!(!text.contains("canary"), "{text}");
    }
    let mut connection = test.sql().await;
    let rests: String = sqlx::query_scalar("select t::text from targets t").fetch_one(&mut connection).await.unwrap();
    assert!(!rests.contains("canary"), "it rests sealed");
    drop(connection);
    let operator = test.new_user("default", "operator").await;
    assert_eq!(operator.get("/api/v1/targets").await.is(200)["items"].as_array().unwrap().len(), 1);
    user.delete(&path).await.is(204);
    user.delete(&path).await.problem(404, "not_found");
    assert_eq!(user.get("/api/v1/targets").await.is(200)["items"], json!([]));
    test.end().await;
}

#[tokio::test]
async fn addresses_that_targets_may_not_have_are_refused() {
    let test = Environment::start("test").await;
    let narrow = Environment::configured("test", "security.allowed_targets = [\"https://prod.example.com\"]").await;
    let refuse = async |user: &User, url: &str| {
        let body = json!({"name": "x", "url": url, "token": "t"});
        let problem = user.post("/api/v1/targets", body).await.problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], "url", "{url}");
    };
    for url in [
        "http://169.254.169.254/",
        "http://169.254.0.1:8081",
        "https://169.254.169.254/latest/meta-data",
        "http://0xa9fea9fe/",
        "http://2852039166",
        "http://0251.0376.0251.0376/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::23]/",
        "http://[fd20:ce::254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://[::ffff:a9fe:a9fe]:80/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0:80",
        "http://[::]/",
        "http://user@host/",
        "http://user:pw@host/",
        "ftp://host/",
        "file:///etc/passwd",
        "javascript:1",
        "host",
        "",
        "http://",
        "//host",
        "http://255.255.255.255/",
    ] {
        refuse(&test.admin(), url).await;
    }
    for url in [
        "https://prod.example.com.evil.org",
        "http://prod.example.com",
        "https://prod.example.com:444",
        "http://127.0.0.1",
    ] {
        refuse(&narrow.admin(), url).await;
    }
    new_target(&narrow.admin(), "https://prod.example.com/ferry", "t").await;
    assert_eq!(test.admin().get("/api/v1/targets").await.is(200)["items"], json!([]));
    test.end().await;
    narrow.end().await;
}

#[tokio::test]
async fn a_check_tells_an_unreachable_target_from_a_wrong_token() {
    let (test, production, target) = pair().await;
    let user = test.admin();
    let good = check(&user, &target).await;
    assert_eq!((&good["reachable"], &good["error"], &good["differences"]), (&json!(true), &Value::Null, &json!([])));
    assert!(good["latency_ms"].is_u64());
    let there = production.admin().get("/api/v1/environment").await.is(200);
    assert_eq!((&good["environment"]["id"], &good["environment"]["name"]), (&there["id"], &json!("production")));
    assert!(good["permissions"].as_array().unwrap().contains(&json!("migration.import")));

    let path = format!("/api/v1/targets/{target}");
    user.patch(&path, json!({"token": "wrong"})).await.is(200);
    let refused = check(&user, &target).await;
    assert_eq!((&refused["reachable"], &refused["error"]["code"]), (&json!(false), &json!("target_unauthorized")));
    assert!(refused["error"]["message"].as_str().unwrap().contains("token"), "{refused}");
    assert!(!refused["error"]["hint"].as_str().unwrap().is_empty());

    // Nothing listens at port 1; what listens at the other is no Ferry server.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap();
    let answers = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>")
                    .await;
        }
    });
    for (url, code) in [
        ("http://127.0.0.1:1".to_owned(), "target_unreachable"),
        ("http://nowhere.invalid".to_owned(), "target_unreachable"),
        (format!("http://{other}"), "target_refused"),
        (format!("https://{other}"), "target_tls|target_unreachable"),
    ] {
        user.patch(&path, json!({"url": url, "token": "t"})).await.is(200);
        let found = check(&user, &target).await;
        assert_eq!(found["reachable"], false, "{url}");
        let got = found["error"]["code"].as_str().unwrap();
        assert!(code.split('|').any(|one| one == got), "{url}: {found}");
        assert!(!found["error"]["message"].as_str().unwrap().contains("<html>"));
    }
    answers.abort();
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_check_lists_the_features_that_differ() {
    let (test, production, target) = pair().await;
    let there = production.admin();
    there.patch("/api/v1/environment", json!({"features": {"card": false, "etl": false}})).await.is(200);
    test.admin().patch("/api/v1/environment", json!({"features": {"etl": false, "page": false}})).await.is(200);
    let found = check(&test.admin(), &target).await;
    let differences = found["differences"].as_array().unwrap();
    assert!(differences.iter().all(|line| line["code"] == "feature_differs"), "{found}");
    let text = |key: &str| differences.iter().filter(|line| line["message"].as_str().unwrap().contains(key)).count();
    assert_eq!((differences.len(), text("card"), text("page"), text("etl")), (2, 1, 1, 0), "{found}");
    let narrow = production.new_user("default", "viewer").await;
    test.admin().patch(&format!("/api/v1/targets/{target}"), json!({"token": narrow.token})).await.is(200);
    assert_eq!(check(&test.admin(), &target).await["permissions"], json!(["resource.read"]));
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_migration_carries_its_options_to_the_target() {
    let (test, production, target) = pair().await;
    let (from, to) = (test.admin(), production.admin());
    from.resource("ds", "dataset", "Data", "/Sales", json!({})).await;
    from.resource("c1", "card", "One", "/Sales", json!({"dataset_id": "ds"})).await;
    from.resource("c2", "card", "Two", "/", json!({})).await;
    to.post("/api/v1/users", json!({"username": "fixed", "role": "viewer"})).await.is(201);
    let body = json!({
        "target_id": target, "name": "with options", "resource_ids": ["c1", "c2"], "change_ids": true, "directory_prefix": "/From test",
        "owner": "fixed", "resolutions": {"c2": {"action": "skip"}},
    });
    let record = migrate(&from, body).await;
    assert_eq!(
        (&record["status"], &record["kind"], &record["name"]),
        (&json!("succeeded"), &json!("online"), &json!("with options"))
    );
    assert_eq!(
        (&record["target"]["name"], &record["counts"]["create"], &record["counts"]["skip"]),
        (&json!("production"), &json!(2), &json!(1))
    );
    let item = from.item(&record, "c1").await;
    assert_eq!(
        (&item["new_directory"], &item["status"], &item["method"]),
        (&json!("/From test/Sales"), &json!("succeeded"), &json!("create"))
    );
    let skipped = from.item(&record, "c2").await;
    assert_eq!(
        (&skipped["selected"], &skipped["status"], &skipped["method"]),
        (&json!(false), &json!("skipped"), &json!("skip"))
    );
    let new = |item: &Value| item["new_id"].as_str().unwrap().to_owned();
    let dataset = new(&from.item(&record, "ds").await);
    let card = to.get(&format!("/api/v1/resources/{}", new(&item))).await.is(200);
    assert_eq!(
        (&card["definition"]["dataset_id"], &card["owner"], &card["directory"]),
        (&json!(dataset), &json!("fixed"), &json!("/From test/Sales"))
    );
    assert_ne!(new(&item), "c1");
    let remote = to.get(&format!("/api/v1/records/{}", record["remote_record_id"].as_str().unwrap())).await.is(200);
    assert_eq!((&remote["name"], &remote["source_environment"]), (&json!("with options"), &json!("test")));
    assert_eq!(to.catalogue().await.len(), 2);

    // With upstream, by selection, and again: nothing to do the second time.
    for (round, count) in [("create", 3), ("unchanged", 3)] {
        let body = json!({"target_id": target, "selection": {"directories": ["/"]}, "export_upstream": true});
        let record = migrate(&from, body).await;
        assert_eq!((&record["status"], &record["counts"][round]), (&json!("succeeded"), &json!(count)), "{record}");
        assert!(!record["name"].as_str().unwrap().is_empty());
    }
    from.post("/api/v1/migrations", json!({"target_id": target, "name": "n".repeat(21), "resource_ids": ["c1"]}))
        .await
        .problem(422, "package_name_invalid");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn what_fails_at_the_target_is_mirrored_here() {
    let (test, production, target) = pair().await;
    let (from, to) = (test.admin(), production.admin());
    from.resource("good", "card", "Good", "/", json!({})).await;
    from.resource("bad", "card", "Bad", "/", json!({"dataset_id": "nowhere"})).await;
    from.resource("page", "page", "Page", "/", json!({"cards": [{"card_id": "bad"}]})).await;
    let body = |on_failure: &str| json!({"target_id": target, "selection": {"all": true}, "on_failure": on_failure});
    let record = migrate(&from, body("skip_failed")).await;
    assert_eq!((&record["status"], &record["error"]), (&json!("partially_succeeded"), &Value::Null), "{record}");
    assert_eq!(
        (&record["counts"]["succeeded"], &record["counts"]["failed"], &record["counts"]["blocked"]),
        (&json!(1), &json!(2), &json!(2))
    );
    let bad = from.item(&record, "bad").await;
    assert_eq!((&bad["status"], &bad["errors"][0]["code"]), (&json!("failed"), &json!("reference_not_matched")));
    assert_eq!(bad["errors"][0]["message"], "Dataset nowhere not matched");
    assert_eq!(from.item(&record, "page").await["errors"][0]["message"], "Card Bad not matched");
    let remote = record["remote_record_id"].as_str().unwrap();
    assert_eq!(from.items(record["id"].as_str().unwrap()).await, to.items(remote).await);

    let aborted = migrate(&from, body("abort")).await;
    assert_eq!(
        (&aborted["status"], &aborted["error"]["code"]),
        (&json!("failed"), &json!("reference_not_matched")),
        "{aborted}"
    );
    to.patch("/api/v1/environment", json!({"features": {"card": false}})).await.is(200);
    let refused = migrate(&from, body("skip_failed")).await;
    assert_eq!(
        (&refused["status"], &refused["error"]["code"]),
        (&json!("failed"), &json!("feature_disabled")),
        "{refused}"
    );
    assert_eq!(to.catalogue().await.len(), 1);
    assert_eq!(from.get("/api/v1/records?kind=online").await.is(200)["items"].as_array().unwrap().len(), 3);
    assert_eq!(
        to.get("/api/v1/records?kind=import").await.is(200)["items"].as_array().unwrap().len(),
        3,
        "one there for each here"
    );
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_token_that_is_not_accepted_ends_the_migration() {
    let (test, production, target) = pair().await;
    let (from, path) = (test.admin(), format!("/api/v1/targets/{target}"));
    from.resource("c", "card", "C", "/", json!({})).await;
    let body = json!({"target_id": target, "resource_ids": ["c"]});
    let viewer = production.new_user("default", "viewer").await;
    for token in ["revoked", &viewer.token] {
        from.patch(&path, json!({"token": token})).await.is(200);
        let record = migrate(&from, body.clone()).await;
        assert_eq!(
            (&record["status"], &record["error"]["code"]),
            (&json!("failed"), &json!("target_unauthorized")),
            "{record}"
        );
        assert!(record["error"]["message"].as_str().unwrap().contains("token"), "{record}");
        assert!(!record.to_string().contains(token));
    }
    assert_eq!(production.admin().catalogue().await, Vec::<Value>::new());
    let operator = production.new_user("branch", "operator").await;
    from.patch(&path, json!({"token": operator.token})).await.is(200);
    assert_eq!(migrate(&from, body).await["status"], "succeeded");
    assert_eq!(operator.get("/api/v1/resources/c").await.is(200)["name"], "C", "it arrives in the domain of the token");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_developer_migrates_what_he_may_read() {
    let (test, production, target) = pair().await;
    let (admin, developer) = (test.admin(), test.new_user("default", "developer").await);
    admin.resource("ds", "dataset", "Data", "/", json!({})).await;
    developer.resource("own", "card", "Own", "/", json!({"dataset_id": "ds"})).await;
    developer.resource("free", "card", "Free", "/", json!({})).await;
    let body = |id: &str| json!({"target_id": target, "resource_ids": [id]});
    developer.post("/api/v1/migrations", body("own")).await.problem(403, "forbidden_resources");
    developer.post("/api/v1/migrations", body("ds")).await.problem(403, "forbidden_resources");
    let record = migrate(&developer, body("free")).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!(production.admin().catalogue().await.len(), 1);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn several_migrations_of_the_sample_leave_two_equal_catalogues() {
    let (test, production, target) = pair().await;
    let (from, to) = (test.admin(), production.admin());
    load_retail(&from).await;
    for selection in [
        json!({"types": ["data_account", "global_parameter"]}),
        json!({"directories": ["/Shared"]}),
        json!({"all": true}),
    ] {
        let record =
            migrate(&from, json!({"target_id": target, "selection": selection, "export_upstream": true})).await;
        assert_eq!(record["status"], "succeeded", "{record}");
    }
    let here: Vec<Value> = from.catalogue().await.iter().map(comparable).collect();
    let there: Vec<Value> = to.catalogue().await.iter().map(comparable).collect();
    assert_eq!(here, there);
    test.end().await;
    production.end().await;
}
