//! The schema is brought up to date at each start, over what is there.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::faults::invariants::{catalogue, contents};
use crate::support::process::Process;
use crate::support::retail::load_retail;
use crate::support::{Environment, User};

/// Every row of every table, but for what says when somebody was last here.
async fn rows(connection: &mut PgConnection) -> Vec<(String, i64, Option<String>)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables
         where table_schema = 'public' and table_type = 'BASE TABLE' order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let all = format!(
            "select count(*), md5(string_agg(row, chr(10) order by row))
             from (select (to_jsonb(t) - 'last_used_at' - 'last_used')::text as row from {table} t) rows"
        );
        let (count, hash) = sqlx::query_as(&all).fetch_one(&mut *connection).await.unwrap();
        found.push((table, count, hash));
    }
    found
}

/// What every kind of row says: resources with their revisions and secrets, records, packages, users, grants, targets.
async fn fill(user: &User, from: &User) {
    load_retail(user).await;
    user.batch(&catalogue(30, 1)).await;
    user.batch(&catalogue(30, 2)).await;
    user.delete("/api/v1/resources/r2").await.is(204);
    user.attachment("/img/a.png", b"picture").await.is(201);
    user.resource("acc", "data_account", "Account", "/", json!({"password": "s3cret"})).await;
    let viewer = json!({"username": "viewer", "password": "long enough for it", "role": "viewer"});
    let viewer = user.post("/api/v1/users", viewer).await.is(201);
    let grant = json!({"user_id": viewer["id"], "directory": "/Sales", "access": "read"});
    user.post("/api/v1/grants", grant).await.is(201);
    user.post("/api/v1/roles", json!({"name": "reader", "permissions": ["resource.read"]})).await.is(201);
    user.target("nowhere", "http://127.0.0.1:9", "token").await;
    let source = json!({"name": "other", "public_key": from.get("/api/v1/environment").await.is(200)["public_key"]});
    user.post("/api/v1/trusted-sources", source).await.is(201);
    from.resource("new", "card", "New", "/", json!({})).await;
    let package = from.export_all().await;
    assert_eq!(user.import(&package, json!({})).await["status"], "succeeded");
    // One is left waiting, with what it has parsed.
    user.upload(&package).await;
}

#[tokio::test]
async fn what_is_there_stands_when_the_schema_is_brought_up_to_date_again() {
    let source = Environment::start("test").await;
    let mut process = Process::start("production").await;
    let user = process.admin();
    fill(&user, &source.admin()).await;
    assert!(process.terminate().await.success());
    let mut sql = process.sql().await;
    let before = rows(&mut sql).await;
    let empty: Vec<&String> = before.iter().filter(|(_, count, _)| *count == 0).map(|(table, ..)| table).collect();
    assert!(before.len() - empty.len() > 20, "next to nothing is there: {empty:?} are empty");
    process.restart().await;
    assert!(process.terminate().await.success());
    assert_eq!(rows(&mut sql).await, before);

    // And it is of use.
    process.restart().await;
    let catalogue = contents(&user).await;
    let waiting = user.get("/api/v1/records?status=awaiting_confirmation").await.is(200);
    let record: Value = user.execute(waiting["items"][0]["id"].as_str().unwrap()).await;
    assert_eq!((&record["status"], &record["counts"]["unchanged"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert!(contents(&user).await == catalogue);
    source.end().await;
    process.end().await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_with_what_to_do_and_left_alone() {
    let mut process = Process::start("production").await;
    process.admin().resource("c", "card", "Card", "/", json!({})).await;
    process.kill();
    let mut sql = process.sql().await;
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (29991231000000, 'of tomorrow', true, '\\x00', 0)";
    sqlx::query(newer).execute(&mut sql).await.unwrap();
    let before = rows(&mut sql).await;
    process.launch();
    assert!(!process.ended().await.success());
    let log = process.log_text();
    assert!(log.contains("the schema of a newer version") && log.contains("29991231000000"), "{log}");
    assert_eq!(rows(&mut sql).await, before);
    sqlx::query("delete from _sqlx_migrations where version = 29991231000000").execute(&mut sql).await.unwrap();
    process.restart().await;
    process.admin().get("/api/v1/resources/c").await.is(200);
    process.end().await;
}
