//! Another secret key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::carried::{migrate, target};
use super::passphrases::{PASSPHRASE, export, import, post_form};
use crate::support::process::Process;
use crate::support::{User, secrets_missing};

fn key(byte: u8) -> String {
    BASE64.encode([byte; 32])
}

fn with(key: &str) -> String {
    format!("security.secret_key = {}", json!(key))
}

/// Runs `ferry keys rotate` with the process's settings; what it said, and whether it was done.
fn rotate(process: &Process, new: &str) -> (bool, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ferry"))
        .args(["keys", "rotate", "--config"])
        .arg(process.config())
        .env("FERRY_NEW_KEY", new)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

async fn rests(process: &Process) -> String {
    let mut connection = process.sql().await;
    let mut all = String::new();
    for table in ["environment", "resources", "resource_versions", "targets", "records", "idempotency_keys"] {
        let query = format!("select coalesce(string_agg(t::text, ' ' order by t::text), '') from {table} t");
        let rows: String = sqlx::query_scalar(&query).fetch_one(&mut connection).await.unwrap();
        all.push_str(&rows);
    }
    all
}

async fn shown(user: &User) -> Value {
    json!([
        user.catalogue().await,
        user.get("/api/v1/environment").await.is(200),
        user.get("/api/v1/resources/acc/revisions").await.is(200),
        user.get("/api/v1/targets").await.is(200),
    ])
}

#[tokio::test]
async fn everything_that_rests_sealed_goes_over_to_another_key() {
    let mut test = Process::configured("test", &with(&key(1))).await;
    let production = Process::start("production").await;
    let (from, to) = (test.admin(), production.admin());
    let account = |note: &str, password: Value| json!({"note": note, "password": password, "options": {"token": "t"}});
    from.resource("acc", "data_account", "A", "/", account("1", json!("first"))).await;
    from.resource("acc", "data_account", "A", "/", account("2", json!("second"))).await;
    for number in 0..120 {
        from.resource(
            &format!("a{number:03}"),
            "data_account",
            &format!("A{number}"),
            "/",
            json!({"password": format!("p{number}"), "n": 1.50}),
        )
        .await;
    }
    let aim = target(&from, &to).await;
    // An import that waits keeps its passphrase.
    let record = post_form(&from, &export(&from).await, Some(PASSPHRASE), true).await.is(202);
    let waiting = record["id"].as_str().unwrap().to_owned();
    from.wait(&waiting, |status| status == "awaiting_confirmation").await;
    let before = shown(&from).await;

    let (done, said) = rotate(&test, &key(2));
    assert!(!done && said.contains("running"), "{said}");
    test.terminate().await;
    let sealed = rests(&test).await;
    for (new, reason) in [("short", "new key"), (key(1).as_str(), "already")] {
        let (done, said) = rotate(&test, new);
        assert!(done == (reason == "already") && said.contains(reason), "{said}");
    }
    assert_eq!(rests(&test).await, sealed);
    test.set_more(&with(&key(3)));
    let (done, said) = rotate(&test, &key(2));
    assert!(!done && said.contains("does not open"), "{said}");
    assert_eq!(rests(&test).await, sealed, "a wrong key changes nothing");

    test.set_more(&with(&key(1)));
    // All or nothing: a row that cannot be sealed again, at the very end, undoes all before it.
    let mut connection = test.sql().await;
    sqlx::query("update records set passphrase = reverse(passphrase)").execute(&mut connection).await.unwrap();
    let broken = rests(&test).await;
    let (done, said) = rotate(&test, &key(2));
    assert!(!done && said.contains("passphrase of record"), "{said}");
    assert_eq!(rests(&test).await, broken);
    sqlx::query("update records set passphrase = reverse(passphrase)").execute(&mut connection).await.unwrap();
    drop(connection);
    let (done, said) = rotate(&test, &key(2));
    assert!(done && said.contains("122 secrets") && !said.contains(&key(2)), "{said}");
    assert!(rotate(&test, &key(2)).0, "it may be repeated");

    test.launch();
    assert!(!test.ended().await.success(), "the old key no longer opens");
    test.set_more(&with(&key(2)));
    test.restart().await;
    let told = from.get("/api/v1/audit?action=keys.rotate").await.is(200)["items"].clone();
    assert_eq!((told.as_array().unwrap().len(), &told[0]["details"]["secrets"]), (1, &json!(122)), "{told}");
    assert_eq!(shown(&from).await, before);
    assert_eq!(from.execute(&waiting).await["status"], "succeeded");
    let carried = migrate(&from, &aim, json!({"carry_secrets": true})).await;
    assert_eq!(json!([carried["status"], secrets_missing(&carried)]), json!(["succeeded", []]), "{carried}");
    let imported = import(&to, &export(&from).await, PASSPHRASE, json!({})).await;
    assert_eq!(imported["counts"]["unchanged"], 121, "{imported}");

    // Earlier versions were sealed again too: the new key opens them, and value IDs stay.
    let sealer = ferry::secrets::Sealer::from_base64(&key(2)).unwrap();
    let mut connection = test.sql().await;
    let old: String = sqlx::query_scalar(
        "select own -> 1 ->> 'sealed' from resource_versions v, jsonb_array_elements(v.overlay::jsonb) own
         where resource_id = 'acc' and revision = 1 and own -> 0 -> 0 ->> 'key' = 'password'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(sealer.open_value("acc", &old).unwrap().as_str(), "first");
    assert!(sealed.contains(&old[..33]));
    drop(connection);
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_key_that_the_server_made_is_written_where_it_was() {
    let mut test = Process::start("test").await;
    let user = test.admin();
    user.resource("acc", "data_account", "A", "/", json!({"password": "p"})).await;
    test.terminate().await;
    let (done, said) = rotate(&test, &key(7));
    assert!(done, "{said}");
    let file = test.files.path().join("secret.key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key(7));
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777,
        0o600
    );
    test.restart().await;
    assert_eq!(user.get("/api/v1/resources/acc").await.is(200)["definition"]["password"], json!({"$secret": "set"}));
    test.end().await;
}
