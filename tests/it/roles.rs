//! Roles that a domain makes for itself, and users who have them.

use serde_json::{Value, json};

use crate::grants::{grant, id_of};
use crate::support::{Answer, Environment, User};

async fn new_role(user: &User, name: &str, permissions: &[&str]) -> Answer {
    user.post("/api/v1/roles", json!({"name": name, "permissions": permissions})).await
}

async fn permissions(user: &User) -> Vec<String> {
    let shown = user.get("/api/v1/session").await.is(200);
    serde_json::from_value(shown["permissions"].clone()).unwrap()
}

async fn set_role(admin: &User, user: &User, role: &str) -> Answer {
    admin.patch(&format!("/api/v1/users/{}", id_of(user).await), json!({"role": role})).await
}

#[tokio::test]
async fn a_domain_makes_roles_for_itself() {
    let test = Environment::start("test").await;
    let (admin, branch) = (test.admin(), test.new_user("branch", "admin").await);
    let made = new_role(&admin, "packer", &["resource.read", "migration.export", "resource.read"]).await.is(201);
    let packer = json!({"name": "packer", "permissions": ["migration.export", "resource.read"], "built_in": false});
    assert_eq!(made, packer);
    let listed = admin.get("/api/v1/roles").await.is(200)["items"].clone();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "developer", "operator", "packer", "viewer"]);
    assert_eq!((&listed[0]["built_in"], &listed[3]), (&json!(true), &packer));
    assert!(listed[0]["permissions"].to_string().contains("environment.manage"));
    let (mut turned, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/api/v1/roles?limit=2{cursor}")).await.is(200);
        turned.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(json!(turned), listed);

    for (name, permissions, status, code) in [
        ("packer", &["resource.read"][..], 409, "conflict"),
        ("viewer", &["resource.read"], 409, "conflict"),
        ("a b", &["resource.read"], 422, "invalid_field"),
        ("x", &["resource.everything"], 422, "invalid_field"),
        ("x", &[], 422, "invalid_field"),
    ] {
        new_role(&admin, name, permissions).await.problem(status, code);
    }
    let here = branch.get("/api/v1/roles").await.is(200)["items"].clone();
    assert!(here.as_array().unwrap().iter().all(|role| role["built_in"] == json!(true)), "{here}");
    assert!(!here.to_string().contains("environment.manage"));
    new_role(&branch, "root", &["environment.manage"]).await.problem(422, "invalid_field");
    new_role(&branch, "packer", &["resource.read"]).await.is(201);
    new_role(&admin, "root", &["environment.manage", "domain.manage"]).await.is(201);
    // A role of another domain is none here.
    let user = json!({"username": "u", "role": "root", "domain": "branch"});
    admin.post("/api/v1/users", user).await.problem(422, "invalid_field");

    let user = test.new_user("default", "packer").await;
    assert_eq!(permissions(&user).await, ["migration.export", "resource.read"]);
    for method in [admin.delete("/api/v1/roles/packer").await, admin.delete("/api/v1/roles/viewer").await] {
        method.problem(409, "conflict");
    }
    set_role(&admin, &user, "viewer").await.is(200);
    admin.delete("/api/v1/roles/packer").await.is(204);
    admin.delete("/api/v1/roles/packer").await.problem(404, "not_found");
    set_role(&admin, &user, "packer").await.problem(422, "invalid_field");
    test.end().await;
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    new_role(&admin, "people", &["domain.manage", "resource.read"]).await.is(201);
    let manager = test.new_user("default", "people").await;
    let other = test.new_user("default", "developer").await;
    for permission in ["resource.write", "migration.import", "environment.manage"] {
        new_role(&manager, "more", &[permission]).await.problem(403, "forbidden");
    }
    new_role(&manager, "less", &["resource.read"]).await.is(201);
    for role in ["admin", "developer", "operator"] {
        manager.post("/api/v1/users", json!({"username": "x", "role": role})).await.problem(403, "forbidden");
    }
    manager.post("/api/v1/users", json!({"username": "x", "role": "less"})).await.is(201);
    set_role(&manager, &other, "viewer").await.problem(403, "forbidden");
    let lifted = json!({"password": "a new password"});
    manager.patch(&format!("/api/v1/users/{}", id_of(&admin).await), lifted).await.problem(403, "forbidden");
    set_role(&manager, &manager, "admin").await.problem(403, "forbidden");
    test.end().await;
}

#[tokio::test]
async fn what_a_role_holds_and_shows_is_read_at_each_request() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    admin.resource("open", "card", "Open", "/Open", json!({})).await;
    admin.resource("other", "card", "Other", "/Other", json!({})).await;
    let seen = async |user: &User| user.get("/api/v1/resources").await.is(200)["items"].as_array().unwrap().len();
    for (name, held, all) in [
        ("reader", &["resource.read"][..], false),
        ("packer", &["resource.read", "migration.export", "migration.online", "resource.write"], false),
        ("importer", &["resource.read", "migration.import"], true),
        ("manager", &["resource.read", "domain.manage"], true),
    ] {
        new_role(&admin, name, held).await.is(201);
        let user = test.new_user("default", name).await;
        assert_eq!(seen(&user).await, if all { 2 } else { 0 }, "{name}");
        grant(&admin, &user, "/Open", "read").await;
        assert_eq!(seen(&user).await, if all { 2 } else { 1 }, "{name}");
    }
    let user = test.new_user("default", "packer").await;
    user.resource("own", "card", "Own", "/", json!({})).await;
    let mut connection = test.sql().await;
    sqlx::query("update roles set permissions = '{resource.read}' where name = 'packer'")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    assert_eq!(permissions(&user).await, ["resource.read"]);
    user.delete("/api/v1/resources/own").await.problem(403, "forbidden");
    user.get("/api/v1/resources/own").await.is(200);
    test.end().await;
}

#[tokio::test]
async fn the_environment_keeps_an_administrator() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    new_role(
        &admin,
        "people",
        &[
            "domain.manage",
            "environment.manage",
            "resource.read",
            "resource.write",
            "migration.export",
            "migration.import",
            "migration.online",
            "secret.carry",
        ],
    )
    .await
    .is(201);
    let manager = test.new_user("default", "people").await;
    let me = format!("/api/v1/users/{}", id_of(&admin).await);
    for role in ["viewer", "people"] {
        let refused = admin.patch(&me, json!({"role": role})).await.problem(409, "conflict");
        assert!(refused["detail"].as_str().unwrap().contains("last administrator"), "{refused}");
    }
    manager.delete(&me).await.problem(409, "conflict");
    admin.patch(&me, json!({"role": "admin", "password": "long enough to keep"})).await.is(200);
    // Of two who step down at once, one stays. Those of other domains do not count.
    let (second, branch) = (test.new_user("default", "admin").await, test.new_user("branch", "admin").await);
    let (one, other) = (set_role(&admin, &admin, "people"), set_role(&second, &second, "people"));
    let (one, other) = tokio::join!(one, other);
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{} {}", one.text(), other.text());
    set_role(&branch, &branch, "viewer").await.is(200);

    let strange = test.new_user("foreign", "admin").await;
    for path in [me.clone(), format!("/api/v1/users/{}", id_of(&manager).await)] {
        strange.patch(&path, json!({"role": "viewer"})).await.problem(404, "not_found");
        strange.patch(&path, json!({"role": "no such role"})).await.problem(404, "not_found");
        strange.delete(&path).await.problem(404, "not_found");
    }
    let shown: Value = manager.get("/api/v1/users?limit=1").await.is(200);
    assert!(shown["next_cursor"].is_string(), "{shown}");
    test.end().await;
}
