//! Directories that are granted: what becomes readable, what becomes writable, and nothing beside it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::closure::{is, preview, reasons};
use crate::support::{Environment, User};

pub async fn id_of(user: &User) -> String {
    user.get("/api/v1/session").await.is(200)["user_id"].as_str().unwrap().to_owned()
}

/// Opens a directory to a user; the grant's ID.
pub async fn grant(admin: &User, user: &User, directory: &str, access: &str) -> String {
    let body = json!({"user_id": id_of(user).await, "directory": directory, "access": access});
    admin.post("/api/v1/grants", body).await.is(201)["id"].as_str().unwrap().to_owned()
}

async fn seen(user: &User, query: &str) -> BTreeSet<String> {
    let list = user.get(&format!("/api/v1/resources?limit=500{query}")).await.is(200);
    list["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
async fn a_directory_opens_itself_and_what_is_below_and_no_neighbour() {
    let test = Environment::start("test").await;
    let admin = test.admin();
    let lines: Vec<Value> = [
        ("in", "/Sales"),
        ("below", "/Sales/Daily/x"),
        ("neighbour", "/Sales2"),
        ("case", "/sales"),
        ("above", "/"),
        ("elsewhere", "/Old/Sales"),
        ("percent", "/a%b"),
        ("like_percent", "/aXXb"),
        ("underscore", "/c_d"),
        ("like_underscore", "/cXd"),
        ("backslash", "/e\\f"),
    ]
    .iter()
    .map(|(id, directory)| json!({"id": id, "type": "card", "name": id, "directory": directory, "definition": {}}))
    .collect();
    admin.batch(&lines).await;
    for (directory, ids) in [
        ("/Sales", &["in", "below"][..]),
        ("/Sales/Daily", &["below"]),
        ("/a%b", &["percent"]),
        ("/c_d", &["underscore"]),
        ("/e\\f", &["backslash"]),
        ("/Nothing", &[]),
    ] {
        for role in ["developer", "viewer"] {
            let user = test.new_user("default", role).await;
            let id = grant(&admin, &user, directory, "read").await;
            assert_eq!(seen(&user, "").await, set(ids), "{directory}");
            for line in &lines {
                let id = line["id"].as_str().unwrap();
                let status = user.get(&format!("/api/v1/resources/{id}")).await.status;
                assert_eq!(status.as_u16(), if ids.contains(&id) { 200 } else { 404 }, "{directory} {id}");
            }
            admin.delete(&format!("/api/v1/grants/{id}")).await.is(204);
            assert_eq!(seen(&user, "").await, set(&[]), "it is gone at once");
        }
    }
    let user = test.new_user("default", "viewer").await;
    grant(&admin, &user, "/", "read").await;
    assert_eq!(seen(&user, "").await.len(), lines.len());
    assert_eq!(seen(&user, "&owner=admin&directory=/Sales").await, set(&["in", "below"]));
    assert_eq!(seen(&user, "&owner=nobody").await, set(&[]));
    test.end().await;
}

#[tokio::test]
async fn grants_are_given_by_whoever_manages_the_domain_to_its_users() {
    let test = Environment::start("test").await;
    let (admin, user) = (test.admin(), test.new_user("default", "developer").await);
    let (branch, stranger) = (test.new_user("branch", "admin").await, test.new_user("branch", "viewer").await);
    let id = grant(&admin, &user, " /Sales ", "read").await;
    let them = id_of(&user).await;
    let body =
        |user: &str, directory: &str, access: &str| json!({"user_id": user, "directory": directory, "access": access});
    let again = admin.post("/api/v1/grants", body(&them, "/Sales", "write")).await.problem(409, "conflict");
    assert!(again["detail"].as_str().unwrap().contains("already"), "{again}");
    let other = id_of(&stranger).await;
    for wrong in [
        body(&other, "/Sales", "read"),
        body(&them, "Sales", "read"),
        body(&them, "/a/../b", "read"),
        body(&them, "/a", "own"),
        body("me", "/a", "read"),
        json!({"user_id": them, "directory": "/a"}),
    ] {
        admin.post("/api/v1/grants", wrong).await.problem(422, "invalid_field");
    }
    branch.post("/api/v1/grants", body(&them, "/a", "read")).await.problem(422, "invalid_field");
    branch.delete(&format!("/api/v1/grants/{id}")).await.problem(404, "not_found");
    assert_eq!(branch.get("/api/v1/grants").await.is(200)["items"], json!([]));
    for path in ["/api/v1/grants".to_owned(), format!("/api/v1/grants?user_id={them}")] {
        let listed = admin.get(&path).await.is(200)["items"].clone();
        assert_eq!(
            (&listed[0]["id"], &listed[0]["directory"], &listed[0]["access"]),
            (&json!(id), &json!("/Sales"), &json!("read"))
        );
        assert_eq!(listed.as_array().unwrap().len(), 1);
    }
    assert_eq!(admin.get(&format!("/api/v1/grants?user_id={other}")).await.is(200)["items"], json!([]));
    user.get("/api/v1/grants").await.problem(403, "forbidden");
    // A user takes his grants along.
    admin.delete(&format!("/api/v1/users/{them}")).await.is(204);
    assert_eq!(admin.get("/api/v1/grants").await.is(200)["items"], json!([]));
    test.end().await;
}

#[tokio::test]
async fn reading_is_open_everywhere_and_writing_only_by_a_grant_for_it() {
    let test = Environment::start("test").await;
    let (admin, user) = (test.admin(), test.new_user("default", "developer").await);
    admin.attachment("/pictures/a.png", b"picture").await.is(201);
    admin.attachment("/pictures/hidden.png", b"hidden").await.is(201);
    admin.resource("data", "dataset", "Data", "/Data", json!({})).await;
    let card = json!({"dataset_id": "data", "images": ["/pictures/a.png"]});
    admin.resource("card", "card", "Card", "/Open", card.clone()).await;
    admin
        .resource(
            "secret",
            "card",
            "Secret",
            "/Closed",
            json!({"dataset_id": "data", "images": ["/pictures/hidden.png"]}),
        )
        .await;
    let reading = grant(&admin, &user, "/Open", "read").await;

    let shown = user.get("/api/v1/resources/card").await.is(200);
    assert_eq!(
        (&shown["references"][0]["found"], &shown["references"][0]["name"]),
        (&json!(true), &Value::Null),
        "no name of what is not open"
    );
    user.get("/api/v1/resources/card/revisions").await.is(200);
    assert_eq!(user.get("/api/v1/attachments/pictures/a.png").await.bytes, b"picture");
    user.get("/api/v1/attachments/pictures/hidden.png").await.problem(404, "not_found");
    let found = preview(&user, &["card"], false).await;
    assert_eq!(found["forbidden"], json!([{"resource_id": "data", "count": 1}]));
    let export = json!({"name": "x", "resource_ids": ["card"]});
    assert_eq!(
        user.post("/api/v1/exports", export.clone()).await.problem(403, "forbidden_resources")["errors"][0]["field"],
        "data"
    );
    grant(&admin, &user, "/Data", "read").await;
    let found = preview(&user, &["card"], false).await;
    assert_eq!((reasons(&found), &found["forbidden"]), (is(&[("card", "selected"), ("data", "use")]), &json!([])));
    assert_eq!(user.get("/api/v1/resources/card").await.is(200)["references"][0]["name"], "Data");
    let lineage = user.get("/api/v1/resources/data/lineage?direction=downstream").await.is(200);
    assert_eq!(lineage["nodes"].as_array().unwrap().len(), 2, "without the one in /Closed: {lineage}");
    user.export(json!({"selection": {"all": true}})).await;

    // What is open to be read is not to be written; own things go on as before.
    let body = |directory: &str| json!({"type": "card", "name": "Mine", "directory": directory, "definition": {}});
    let refused = user.put("/api/v1/resources/card", body("/Open")).await.problem(403, "forbidden");
    assert!(refused["detail"].as_str().unwrap().contains("access write"), "{refused}");
    user.delete("/api/v1/resources/card").await.problem(403, "forbidden");
    user.put("/api/v1/resources/secret", body("/Open")).await.problem(409, "conflict");
    assert_eq!(user.attachment("/pictures/a.png", b"new").await.status, 403);
    user.put("/api/v1/resources/mine", body("/Closed")).await.is(201);
    let named = user.delete("/api/v1/resources/data").await.problem(403, "forbidden");
    assert!(!named.to_string().contains("secret"), "{named}");

    admin.delete(&format!("/api/v1/grants/{reading}")).await.is(204);
    grant(&admin, &user, "/Open", "write").await;
    let changed = user.put("/api/v1/resources/card", body("/Open/below")).await.is(200);
    assert_eq!((&changed["owner"], changed["updated_by"] == changed["owner"]), (&json!("admin"), false));
    let moved = user.put("/api/v1/resources/card", body("/Closed")).await;
    moved.problem(403, "forbidden");
    admin.resource("card", "card", "Card", "/Open", card).await;
    assert_eq!(user.attachment("/pictures/a.png", b"new").await.status, 200);
    assert_eq!(user.attachment("/pictures/hidden.png", b"new").await.status, 403);
    grant(&admin, &test.new_user("default", "viewer").await, "/Open", "write").await;
    // Of those who refer to it, only those are named that he may read.
    admin.resource("part", "card", "Part", "/Open", json!({})).await;
    admin.resource("open", "page", "Open page", "/Open", json!({"cards": [{"card_id": "part"}]})).await;
    admin.resource("closed", "page", "Closed page", "/Closed", json!({"cards": [{"card_id": "part"}]})).await;
    let named = user.delete("/api/v1/resources/part").await.problem(409, "conflict");
    assert!(named.to_string().contains("Open page") && !named.to_string().contains("Closed page"), "{named}");
    let shared = preview(&user, &["part"], false).await["shared_parts"].clone();
    assert_eq!(shared, json!([{"resource_id": "part", "used_by": "open", "used_by_name": "Open page"}]));
    user.delete("/api/v1/resources/part?force=true").await.is(204);
    // Write alone is no permission to write.
    let viewer = test.new_user("default", "viewer").await;
    grant(&admin, &viewer, "/Open", "write").await;
    viewer.get("/api/v1/resources/card").await.is(200);
    viewer.delete("/api/v1/resources/card").await.problem(403, "forbidden");
    test.end().await;
}

#[tokio::test]
async fn a_job_takes_only_what_is_open_when_it_runs() {
    let test = Environment::start("test").await;
    let (admin, user) = (test.admin(), test.new_user("default", "developer").await);
    admin.resource("card", "card", "Card", "/Open", json!({})).await;
    let id = grant(&admin, &user, "/Open", "read").await;
    // The request is held where it queues its job, past its own look at the rights.
    let mut held = test.sql().await;
    let mut look = test.sql().await;
    sqlx::raw_sql("begin; lock table jobs in exclusive mode").execute(&mut held).await.unwrap();
    let asking = {
        let user = user.clone();
        tokio::spawn(async move { user.post("/api/v1/exports", json!({"name": "x", "resource_ids": ["card"]})).await })
    };
    let waiting = "select exists (select from pg_locks where relation = 'jobs'::regclass and not granted \
        and database = (select oid from pg_database where datname = current_database()) \
        and pid in (select pid from pg_stat_activity where query like 'insert into jobs%'))";
    for _ in 0..1_000 {
        if sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut look).await.unwrap() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    admin.delete(&format!("/api/v1/grants/{id}")).await.is(204);
    sqlx::raw_sql("commit").execute(&mut held).await.unwrap();
    let record = asking.await.unwrap().is(202);
    let ended = user.ended(record["id"].as_str().unwrap()).await;
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("failed"), &json!("forbidden_resources")),
        "{ended}"
    );
    drop((held, look));
    test.end().await;
}
