//! The page's sessions: signing in and out, whose requests a cookie is good for, and who tries too often.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::grants::id_of;
use crate::support::process::Process;
use crate::support::{Answer, Environment, User};

const PASSWORD: &str = "security.admin_password = \"correct horse\"";

async fn sign_in(user: &User, domain: &str, username: &str, password: &str) -> Answer {
    let body = json!({"domain": domain, "username": username, "password": password});
    user.send(user.client.post(format!("{}/api/v1/session", user.base)).json(&body)).await
}

/// `name=key` of the cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

async fn session(user: &User, username: &str, password: &str) -> String {
    let answer = sign_in(user, "default", username, password).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    cookie(&answer)
}

fn by_cookie(user: &User, method: Method, path: &str, cookie: &str) -> RequestBuilder {
    user.client.request(method, format!("{}{path}", user.base)).header("cookie", cookie)
}

async fn whoami(user: &User, cookie: &str) -> Answer {
    user.send(by_cookie(user, Method::GET, "/api/v1/session", cookie)).await
}

async fn sql(test: &Environment, text: &str) {
    let mut connection = test.sql().await;
    sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
}

/// A user of `default` with a password: his ID.
async fn new_user(admin: &User, username: &str, password: Option<&str>) -> String {
    let mut body = json!({"username": username, "role": "developer"});
    if let Some(password) = password {
        body["password"] = json!(password);
    }
    admin.post("/api/v1/users", body).await.is(201)["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_begins_with_a_password_and_ends_with_signing_out() {
    let test = Environment::configured("test", PASSWORD).await;
    let admin = test.admin();
    let answer = sign_in(&admin, "default", "admin", "correct horse").await;
    let shown = answer.is(200);
    assert_eq!(shown, admin.get("/api/v1/session").await.is(200));
    let set = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(word), "{set}");
    }
    assert!(!set.contains("Secure") && !set.contains("Domain"), "{set}");
    let cookie = cookie(&answer);
    let key = cookie.split_once('=').unwrap().1;
    assert_eq!(key.len(), 64);
    assert!(!answer.text().contains(key));
    let mut connection = test.sql().await;
    let kept: i64 = sqlx::query_scalar("select count(*) from sessions s where s::text like '%' || $1 || '%'")
        .bind(key)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(kept, 0, "kept as a hash");
    drop(connection);
    assert_eq!(whoami(&admin, &cookie).await.is(200), shown);
    // Signing in again takes the place of the session that the browser had.
    let body = json!({"domain": "default", "username": "admin", "password": "correct horse"});
    let again = by_cookie(&admin, Method::POST, "/api/v1/session", &cookie).json(&body);
    let again = self::cookie(&admin.send(again).await);
    assert_ne!(again, cookie);
    whoami(&admin, &cookie).await.problem(401, "unauthorized");

    let out = by_cookie(&admin, Method::DELETE, "/api/v1/session", &again).header("sec-fetch-site", "same-origin");
    let out = admin.send(out).await;
    assert_eq!(out.status, 204);
    let cleared = out.headers["set-cookie"].to_str().unwrap();
    assert!(cleared.contains("=;") && cleared.contains("Max-Age=0") && cleared.contains("Path=/"), "{cleared}");
    whoami(&admin, &again).await.problem(401, "unauthorized");
    admin.delete("/api/v1/session").await.problem(409, "conflict");
    whoami(&admin, "ferry_session_=").await.problem(401, "unauthorized");
    test.end().await;
}

#[tokio::test]
async fn behind_https_the_cookie_is_for_https_alone() {
    let more = format!("{PASSWORD}\nserver.public_url = \"https://ferry.example.com\"");
    let test = Environment::configured("test", &more).await;
    let user = User { base: format!("http://{}", test.server.address), ..test.admin() };
    let answer = sign_in(&user, "default", "admin", "correct horse").await;
    let set = answer.headers["set-cookie"].to_str().unwrap();
    assert!(set.contains("Secure") && set.starts_with("__Host-ferry_session_") && !set.contains("Domain"), "{set}");
    let cookie = cookie(&answer);
    let shown = user.get("/api/v1/openapi.json").await.is(200);
    let named = shown["components"]["securitySchemes"]["session"]["name"].as_str().unwrap().to_owned();
    assert_eq!(cookie.split_once('=').unwrap().0, named);
    for (origin, status) in [("https://ferry.example.com", 409), ("https://example.com", 403)] {
        let ask = by_cookie(&user, Method::POST, "/api/v1/domains", &cookie).header("origin", origin);
        assert_eq!(user.send(ask.json(&json!({"name": "default"}))).await.status, status, "{origin}");
    }
    test.end().await;
}

#[tokio::test]
async fn only_the_servers_own_page_changes_something_by_the_cookie() {
    let test = Environment::configured("test", PASSWORD).await;
    let admin = test.admin();
    let cookie = session(&admin, "admin", "correct horse").await;
    let (own, port) = (admin.base.clone(), test.server.address.port());
    let other_port = format!("http://127.0.0.1:{}", if port == 1 { 2 } else { port - 1 });
    let cases: Vec<(Vec<(&str, &str)>, bool)> = vec![
        (vec![("sec-fetch-site", "same-origin")], true),
        (vec![("sec-fetch-site", "none")], true),
        (vec![("sec-fetch-site", "same-site")], false),
        (vec![("sec-fetch-site", "cross-site")], false),
        (vec![("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")], true),
        (vec![("sec-fetch-site", "cross-site"), ("origin", &own)], false),
        (vec![("sec-fetch-site", "")], false),
        (vec![("origin", &own)], true),
        (vec![("origin", "http://evil.example")], false),
        (vec![("origin", &other_port)], false),
        (vec![("origin", "null")], false),
        (vec![], false),
    ];
    for (headers, allowed) in cases {
        for (method, path) in [
            (Method::POST, "/api/v1/grants"),
            (Method::PUT, "/api/v1/resources/x"),
            (Method::PATCH, "/api/v1/environment"),
            (Method::DELETE, "/api/v1/resources/x"),
            (Method::GET, "/api/v1/resources"),
        ] {
            let mut ask = by_cookie(&admin, method.clone(), path, &cookie).json(&json!({"type": 1}));
            for (name, value) in &headers {
                ask = ask.header(*name, *value);
            }
            let answer = admin.send(ask).await;
            let open = allowed || method == Method::GET;
            assert_eq!(answer.status != 403, open, "{method} {headers:?}: {}", answer.text());
            if !open {
                answer.problem(403, "forbidden");
            }
        }
        // A token is nothing that a browser adds by itself.
        let mut ask = admin.request(Method::DELETE, "/api/v1/resources/x").header("cookie", &cookie);
        for (name, value) in &headers {
            ask = ask.header(*name, *value);
        }
        admin.send(ask).await.problem(404, "not_found");
    }
    // A header that is there decides.
    for header in ["Bearer wrong", "Bearer ", "Basic YTpi", "nonsense", ""] {
        let ask = by_cookie(&admin, Method::GET, "/api/v1/session", &cookie).header("authorization", header);
        admin.send(ask).await.problem(401, "unauthorized");
    }
    test.end().await;
}

#[tokio::test]
async fn nobody_learns_who_is_there() {
    let test = Environment::configured("test", PASSWORD).await;
    let admin = test.admin();
    new_user(&admin, "tokens-only", None).await;
    let mut answers: Vec<Value> = Vec::new();
    let mut times = Vec::new();
    for (domain, username, password) in [
        ("default", "admin", "wrong"),
        ("default", "nobody", "correct horse"),
        ("nowhere", "admin", "correct horse"),
        ("default", "tokens-only", ""),
        ("default", "\u{1}", "x"),
    ] {
        let begin = Instant::now();
        let answer = sign_in(&admin, domain, username, password).await;
        times.push(begin.elapsed());
        assert!(!answer.headers.contains_key("set-cookie"));
        answers.push(answer.problem(401, "unauthorized"));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*least * 10 > *most, "each took a password's time: {times:?}");
    for wrong in [json!({}), json!({"domain": "default", "username": "admin"})] {
        let ask = admin.client.post(format!("{}/api/v1/session", admin.base)).json(&wrong);
        admin.send(ask).await.problem(422, "invalid_field");
    }
    test.end().await;
}

fn wait(answer: &Answer) -> u64 {
    answer.problem(429, "rate_limited");
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn who_tries_too_often_waits() {
    let test = Environment::configured("test", PASSWORD).await;
    let admin = test.admin();
    for _ in 0..2 {
        for _ in 0..4 {
            sign_in(&admin, "default", "admin", "wrong").await.problem(401, "unauthorized");
        }
        // One that succeeds begins the count anew.
        session(&admin, "admin", "correct horse").await;
    }
    let tries = (0..8).map(|_| sign_in(&admin, "default", "admin", "wrong"));
    let tries = futures_util::future::join_all(tries).await;
    assert_eq!(tries.iter().filter(|answer| answer.status == 401).count(), 5, "also of many at once");
    let locked = sign_in(&admin, "default", "admin", "correct horse").await;
    assert!((1..=300).contains(&wait(&locked)), "the right password does not help");
    sign_in(&admin, "default", "other", "wrong").await.problem(401, "unauthorized");
    sign_in(&admin, "branch", "admin", "wrong").await.problem(401, "unauthorized");
    admin.get("/api/v1/session").await.is(200);
    sql(&test, "update sign_in_attempts set ends_at = clock_timestamp() where attempts > 5").await;
    session(&admin, "admin", "correct horse").await;

    // From one address, whoever is meant.
    let mut refused = None;
    for number in 0..31 {
        let answer = sign_in(&admin, "default", &format!("user-{number}"), "wrong").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    assert!((1..=60).contains(&wait(&refused.unwrap())));
    assert!(wait(&sign_in(&admin, "default", "admin", "correct horse").await) > 0);
    admin.get("/api/v1/session").await.is(200);
    test.end().await;
}

#[tokio::test]
async fn sessions_end_by_time_by_a_new_password_and_with_their_user() {
    let test = Environment::configured("test", PASSWORD).await;
    let admin = test.admin();
    let id = new_user(&admin, "dev", Some("first password")).await;
    let path = format!("/api/v1/users/{id}");
    let first = session(&admin, "dev", "first password").await;
    let second = session(&admin, "dev", "first password").await;
    let admins = session(&admin, "admin", "correct horse").await;
    // A role is read at each request; the session stays.
    admin.patch(&path, json!({"role": "viewer"})).await.is(200);
    assert_eq!(whoami(&admin, &first).await.is(200)["permissions"], json!(["resource.read"]));
    admin.patch(&path, json!({"password": "second password"})).await.is(200);
    for cookie in [&first, &second] {
        whoami(&admin, cookie).await.problem(401, "unauthorized");
    }
    whoami(&admin, &admins).await.is(200);
    sign_in(&admin, "default", "dev", "first password").await.problem(401, "unauthorized");

    let ways = [
        ("used_at = used_at - interval '11 hours 59 minutes'", 200),
        ("used_at = used_at - interval '12 hours'", 401),
        ("ends_at = ends_at - interval '6 days 23 hours'", 200),
        ("ends_at = ends_at - interval '7 days'", 401),
    ];
    for (way, status) in ways {
        let cookie = session(&admin, "dev", "second password").await;
        sql(&test, &format!("update sessions set {way} where user_id = '{id}'")).await;
        assert_eq!(whoami(&admin, &cookie).await.status, status, "{way}");
        sql(&test, &format!("delete from sessions where user_id = '{id}'")).await;
    }
    let idle = session(&admin, "dev", "second password").await;
    sql(&test, &format!("update sessions set used_at = used_at - interval '11 hours' where user_id = '{id}'")).await;
    whoami(&admin, &idle).await.is(200);
    sql(&test, &format!("update sessions set used_at = used_at - interval '11 hours' where user_id = '{id}'")).await;
    whoami(&admin, &idle).await.is(200);
    admin.delete(&path).await.is(204);
    whoami(&admin, &idle).await.problem(401, "unauthorized");
    assert_eq!(whoami(&admin, &admins).await.is(200)["user_id"], json!(id_of(&admin).await));
    test.end().await;
}

async fn sign_in_from(user: &User, address: &str, username: &str, password: &str) -> Answer {
    let body = json!({"domain": "default", "username": username, "password": password});
    let ask = user.client.post(format!("{}/api/v1/session", user.base)).header("x-forwarded-for", address);
    user.send(ask.json(&body)).await
}

#[tokio::test]
async fn a_stranger_locks_nobody_out_who_comes_from_elsewhere() {
    let more = format!("{PASSWORD}\nserver.trusted_proxies = [\"127.0.0.1\"]");
    let test = Environment::configured("test", &more).await;
    let admin = test.admin();
    for _ in 0..5 {
        sign_in_from(&admin, "192.0.2.1", "admin", "wrong").await.problem(401, "unauthorized");
    }
    assert!(wait(&sign_in_from(&admin, "192.0.2.1", "admin", "correct horse").await) > 0);
    sign_in_from(&admin, "192.0.2.2", "admin", "correct horse").await.is(200);
    assert!(wait(&sign_in_from(&admin, "192.0.2.1", "admin", "correct horse").await) > 0, "he is still locked out");
    // In IPv6 one client has a whole network.
    for at in 0..5 {
        let address = format!("2001:db8::{at}");
        sign_in_from(&admin, &address, "admin", "wrong").await.problem(401, "unauthorized");
    }
    assert!(wait(&sign_in_from(&admin, "2001:db8::ffff", "admin", "correct horse").await) > 0);
    sign_in_from(&admin, "2001:db8:0:1::1", "admin", "correct horse").await.is(200);
    test.end().await;
}

#[tokio::test]
async fn ones_own_password_changes_with_the_present_one_alone() {
    let test = Environment::configured("test", PASSWORD).await;
    let admin = test.admin();
    let id = new_user(&admin, "dev", Some("first password")).await;
    let path = format!("/api/v1/users/{id}");
    let own = session(&admin, "dev", "first password").await;
    let change = async |body: Value| {
        let ask = by_cookie(&admin, Method::PATCH, &path, &own).header("sec-fetch-site", "same-origin");
        admin.send(ask.json(&body)).await
    };
    change(json!({"password": "second password"})).await.problem(422, "invalid_field");
    for present in ["", "second password"] {
        let answer = change(json!({"password": "second password", "current_password": present})).await;
        assert_eq!(answer.problem(422, "invalid_field")["errors"][0]["field"], "current_password");
    }
    for common in ["short", "password1234", "passwordpassword", "123456789012"] {
        let answer = change(json!({"password": common, "current_password": "first password"})).await;
        assert_eq!(answer.problem(422, "invalid_field")["errors"][0]["field"], "password", "{common}");
    }
    // He is no manager: neither his role nor another's password is his to change.
    change(json!({"role": "admin"})).await.problem(403, "forbidden");
    let other = format!("/api/v1/users/{}", id_of(&admin).await);
    let ask = by_cookie(&admin, Method::PATCH, &other, &own).header("sec-fetch-site", "same-origin");
    admin.send(ask.json(&json!({"password": "taken over now"}))).await.problem(404, "not_found");
    let changed = json!({"password": "second password", "current_password": "first password"});
    assert_eq!(change(changed).await.is(200)["username"], "dev");
    whoami(&admin, &own).await.problem(401, "unauthorized");
    sign_in(&admin, "default", "dev", "first password").await.problem(401, "unauthorized");
    session(&admin, "dev", "second password").await;

    // Whoever manages the domain sets that of others; his own he has to know too.
    admin.patch(&path, json!({"password": "third password"})).await.is(200);
    session(&admin, "dev", "third password").await;
    admin.patch(&other, json!({"password": "another horse"})).await.problem(422, "invalid_field");
    // Tries count as those to sign in, so nobody guesses here instead.
    for _ in 0..5 {
        let guess = json!({"password": "another horse", "current_password": "guess"});
        admin.patch(&other, guess).await.problem(422, "invalid_field");
    }
    let right = json!({"password": "another horse", "current_password": "correct horse"});
    assert!(wait(&admin.patch(&other, right).await) > 0);
    assert!(wait(&sign_in(&admin, "default", "admin", "correct horse").await) > 0);
    let told = admin.get("/api/v1/audit?action=user.change_refused").await.is(200);
    assert_eq!(told["items"].as_array().unwrap().len(), 7);
    test.end().await;
}

#[tokio::test]
async fn a_user_sees_where_he_is_signed_in_and_ends_it_there() {
    let test = Environment::configured("test", PASSWORD).await;
    let admin = test.admin();
    new_user(&admin, "dev", Some("first password")).await;
    let (here, there) =
        (session(&admin, "dev", "first password").await, session(&admin, "dev", "first password").await);
    session(&admin, "admin", "correct horse").await;
    let listed = admin.send(by_cookie(&admin, Method::GET, "/api/v1/sessions", &here)).await;
    assert!(!listed.text().contains(there.split_once('=').unwrap().1));
    let listed = listed.is(200)["items"].as_array().unwrap().clone();
    let shown: Vec<_> = listed.iter().map(|one| (&one["current"], &one["address"])).collect();
    assert_eq!(shown, [(&json!(true), &json!("127.0.0.1")), (&json!(false), &json!("127.0.0.1"))]);
    let path = format!("/api/v1/sessions/{}", listed[1]["id"].as_str().unwrap());
    // Not by others, and not by a token that may do less than a session.
    admin.delete(&path).await.problem(404, "not_found");
    let body = json!({"name": "narrow", "permissions": ["resource.read"]});
    let ask = by_cookie(&admin, Method::POST, &format!("/api/v1/users/{}/tokens", own_id(&admin, &here).await), &here);
    let token = admin.send(ask.header("sec-fetch-site", "same-origin").json(&body)).await.is(201);
    test.user(token["token"].as_str().unwrap()).delete(&path).await.problem(403, "forbidden");
    whoami(&admin, &there).await.is(200);
    let end = by_cookie(&admin, Method::DELETE, &path, &here).header("sec-fetch-site", "same-origin");
    admin.send(end).await.is(204);
    whoami(&admin, &there).await.problem(401, "unauthorized");
    whoami(&admin, &here).await.is(200);
    let told = admin.get("/api/v1/audit?action=session.end").await.is(200);
    assert_eq!(told["items"][0]["user"], "dev");
    test.end().await;
}

async fn own_id(user: &User, cookie: &str) -> String {
    whoami(user, cookie).await.is(200)["user_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_configured_password_is_applied_when_it_changes_and_not_at_each_start() {
    let mut test = Process::configured("test", PASSWORD).await;
    let admin = test.admin();
    session(&admin, "admin", "correct horse").await;
    let own = json!({"password": "battery staple", "current_password": "correct horse"});
    admin.patch(&format!("/api/v1/users/{}", id_of(&admin).await), own).await.is(200);
    test.terminate().await;
    test.restart().await;
    session(&admin, "admin", "battery staple").await;
    sign_in(&admin, "default", "admin", "correct horse").await.problem(401, "unauthorized");
    test.terminate().await;
    test.set_more("security.admin_password = \"password1234\"");
    test.launch();
    assert!(!test.ended().await.success());
    assert!(test.log_text().contains("security.admin_password is among the common ones"), "{}", test.log_text());
    test.set_more("security.admin_password = \"third of horses\"");
    test.restart().await;
    session(&admin, "admin", "third of horses").await;
    let told = admin.get("/api/v1/audit?action=password").await.is(200);
    let told: Vec<_> = told["items"].as_array().unwrap().iter().map(|row| (&row["action"], &row["token"])).collect();
    assert_eq!(told, [(&json!("password.configure"), &json!("server")); 2]);
    test.end().await;
}

#[tokio::test]
async fn refusals_are_told_and_no_flood_of_them_fills_the_log() {
    let test = Process::start("test").await;
    let admin = test.admin();
    let viewer = admin.post("/api/v1/users", json!({"username": "peeper", "role": "viewer"})).await.is(201);
    let tokens = format!("/api/v1/users/{}/tokens", viewer["id"].as_str().unwrap());
    let token = admin.post(&tokens, json!({"name": "t"})).await.is(201)["token"].as_str().unwrap().to_owned();
    User { token, ..admin.clone() }.get("/api/v1/users").await.problem(403, "forbidden");
    let lines = || test.log_text().lines().filter(|line| line.contains("a request was refused")).count();
    let text = test.log_text();
    let line = text.lines().find(|line| line.contains("a request was refused")).unwrap();
    for word in ["403", "peeper", "default", "/api/v1/users", "127.0.0.1"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let stranger = User { token: "wrong".to_owned(), ..admin.clone() };
    for at in 0..200 {
        let path = format!("/api/v1/resources/{}", at.to_string().repeat(if at == 0 { 5_000 } else { 1 }));
        stranger.get(&path).await.problem(401, "unauthorized");
    }
    let told = lines();
    assert!((10..60).contains(&told), "{told} of 201 lines");
    assert!(test.log_text().lines().all(|line| line.len() < 1_500), "nor does a long one");
    let metrics = admin.client.get(format!("{}/metrics", admin.base)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("ferry_refused_requests_total{status=\"401\"} 200"), "{metrics}");
    // Who ends an upload is in the audit.
    let upload = admin.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
    let upload = admin.send(upload.header("upload-length", 10)).await;
    let path = upload.headers["location"].to_str().unwrap();
    let ended = admin.send(admin.request(Method::DELETE, path).header("tus-resumable", "1.0.0")).await;
    assert_eq!(ended.status, 204);
    let told = admin.get("/api/v1/audit?action=upload.delete").await.is(200);
    assert_eq!(told["items"][0]["object_id"], path.rsplit('/').next().unwrap());
    test.end().await;
}

#[tokio::test]
async fn what_the_server_keeps_on_the_disk_is_for_its_user_alone() {
    let test = Process::start("test").await;
    let admin = test.admin();
    admin.attachment("/a.png", b"picture").await.is(201);
    admin.resource("c", "card", "Card", "/", json!({"images": ["/a.png"]})).await;
    admin.export_all().await;
    let upload = admin.request(Method::POST, "/api/v1/uploads").header("tus-resumable", "1.0.0");
    let upload = upload.header("upload-length", 10).header("content-type", "application/offset+octet-stream");
    assert_eq!(admin.send(upload.body("12345")).await.status, 201);
    let mut folders: Vec<_> = ["store", "scratch"].map(|name| test.files.path().join(name)).into();
    let mut seen = vec![(test.files.path().join("secret.key"), 0o600)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => seen.push((path, 0o600)),
            }
        }
        seen.push((folder, 0o700));
    }
    assert!(seen.len() > 9, "{seen:?}");
    for (path, expected) in seen {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
    }
    test.end().await;
}
