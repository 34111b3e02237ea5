//! Migrations that carry secrets: sealed for the target, which needs no word to open them.

use serde_json::{Value, json};

use super::passphrases::{get, marked, secret};
use crate::failures::Pair;
use crate::support::package::{entries, lines};
use crate::support::{Environment, User};

pub async fn target(from: &User, to: &User) -> String {
    from.target("production", &to.base, &to.token).await
}

/// Migrates everything.
pub async fn migrate(from: &User, target: &str, more: Value) -> Value {
    let mut body = json!({"target_id": target, "selection": {"all": true}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let record = from.post("/api/v1/migrations", body).await.is(202);
    from.ended(record["id"].as_str().unwrap()).await
}

#[tokio::test]
async fn a_migration_carries_secrets_for_its_target_alone() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let account = json!({"note": "1", "password": "s3cret-password", "options": {"token": "s3cret-token"}});
    from.resource("acc", "data_account", "Warehouse", "/", account).await;
    from.resource("ds", "dataset", "Orders", "/", json!({"data_account_id": "acc"})).await;
    let target = target(from, to).await;

    let plain = migrate(from, &target, json!({})).await;
    assert_eq!(json!([plain["status"], plain["checklist"][0]["code"]]), json!(["succeeded", "secret_missing"]));
    assert_eq!(secret(&pair.production, "acc", "/password").await, Value::Null);
    let before = get(to, "acc").await;

    // Nothing of it has changed, so its contents are left out; the secrets come all the same.
    let carried = migrate(from, &target, json!({"carry_secrets": true})).await;
    assert_eq!(json!([carried["status"], carried["counts"]["unchanged"]]), json!(["succeeded", 2]), "{carried}");
    let package = from.get(&format!("/api/v1/exports/{}/package", carried["id"].as_str().unwrap())).await.bytes;
    let unpacked = entries(&package);
    assert!(!unpacked.contains_key("resources/00001.ndjson"));
    let header = lines(unpacked["secrets.sealed"].split_inclusive(|byte| *byte == b'\n').next().unwrap());
    assert_eq!(header[0]["for"]["environment"]["id"], to.get("/api/v1/environment").await.is(200)["id"]);
    assert_eq!(secret(&pair.production, "acc", "/password").await, "s3cret-password");
    assert_eq!(secret(&pair.production, "acc", "/options/token").await, "s3cret-token");
    let after = get(to, "acc").await;
    let next = before["revision"].as_i64().unwrap() + 1;
    assert_eq!((json!(next), &before["content_hash"]), (after["revision"].clone(), &after["content_hash"]));

    // Its own secret stays, also when everything is sent.
    let own = json!({"note": "1", "password": "own", "options": {"token": marked("set")}});
    to.resource("acc", "data_account", "Warehouse", "/", own).await;
    from.resource(
        "acc",
        "data_account",
        "Renamed",
        "/",
        json!({"note": "2", "password": marked("set"), "private_key": "k"}),
    )
    .await;
    let again = migrate(from, &target, json!({"carry_secrets": true})).await;
    assert_eq!(json!([again["counts"]["update"], again["checklist"]]), json!([1, []]), "{again}");
    assert_eq!(secret(&pair.production, "acc", "/password").await, "own");
    assert_eq!(secret(&pair.production, "acc", "/private_key").await, "k");
    let anew =
        migrate(from, &target, json!({"carry_secrets": true, "change_ids": true, "on_name_clash": "rename"})).await;
    let new_id = from.item(&anew, "acc").await["new_id"].as_str().unwrap().to_owned();
    assert_eq!(secret(&pair.production, &new_id, "/password").await, "s3cret-password");

    // Nobody else opens it, not even who made it.
    let package = from.get(&format!("/api/v1/exports/{}/package", anew["id"].as_str().unwrap())).await.bytes;
    let third = Environment::start("other").await;
    for user in [from, &third.admin()] {
        user.post_package(&package).await.problem(422, "package_incomplete");
    }
    third.end().await;
    pair.end().await;
}

/// A type whose secrets stand in elements of arrays, some with an ID.
const VAULT: &str = r#"
key = "vault"
label = { en = "Vault", zh = "库", plural_en = "Vaults" }
order = 200
unique_name = "none"
[secrets]
paths = ["$.all[*].login.key", "$.plain[*].key"]
[[reference]]
path = "$.all[*].account"
role = "Data Account"
to = ["data_account"]
kind = "use"
"#;

#[tokio::test]
async fn secrets_find_their_place_in_arrays_that_moved() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vault.toml"), VAULT).unwrap();
    let more = format!("server.resource_types_dir = {}", json!(folder.path()));
    let (test, production) =
        (Environment::configured("test", &more).await, Environment::configured("production", &more).await);
    let (from, to) = (test.admin(), production.admin());
    let element = |id: &str, key: Value| json!({"id": id, "account": "acc", "login": {"key": key}});
    let first = json!({"all": [element("a", json!("key a")), element("b", json!("key b"))], "plain": [{"key": "first"}, {"key": null}]});
    from.resource("acc", "data_account", "A", "/", json!({})).await;
    from.resource("v", "vault", "V", "/", first).await;
    let package = super::passphrases::export(&from).await;
    let import =
        async |options: Value| super::passphrases::import(&to, &package, super::passphrases::PASSPHRASE, options).await;
    import(json!({})).await;
    assert_eq!(secret(&production, "v", "/all/b/login/key").await, "key b");
    assert_eq!(secret(&production, "v", "/plain/0/key").await, "first");
    assert_eq!(get(&to, "v").await["definition"]["plain"][1]["key"], marked("missing"));

    // The target has them in another order, and b has a secret of its own.
    let own = json!({"all": [element("b", json!("own b")), element("a", marked("missing"))], "plain": [{}, {}]});
    to.delete("/api/v1/resources/v").await.is(204);
    to.resource("v", "vault", "V", "/", own).await;
    let record = import(json!({})).await;
    assert_eq!(json!([record["counts"]["update"], record["checklist"]]), json!([1, []]), "{record}");
    assert_eq!(secret(&production, "v", "/all/a/login/key").await, "key a");
    assert_eq!(secret(&production, "v", "/all/b/login/key").await, "own b");
    assert_eq!(secret(&production, "v", "/plain/0/key").await, "first");

    // With other IDs, and references rewritten around them.
    let record = import(json!({"change_ids": true, "on_name_clash": "rename"})).await;
    let new_id = to.item(&record, "v").await["new_id"].as_str().unwrap().to_owned();
    assert_eq!(secret(&production, &new_id, "/all/b/login/key").await, "key b");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn who_may_not_have_secrets_travel_confirms_no_migration_that_carries_them() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    from.resource("acc", "data_account", "Warehouse", "/", json!({"password": "s3cret-password"})).await;
    let target = target(from, to).await;
    let id = from.get("/api/v1/session").await.is(200)["user_id"].as_str().unwrap().to_owned();
    let narrow = json!({"name": "narrow", "permissions": ["resource.read", "migration.online"]});
    let narrow = from.post(&format!("/api/v1/users/{id}/tokens"), narrow).await.is(201);
    let narrow = User { token: narrow["token"].as_str().unwrap().to_owned(), ..from.clone() };
    for (carry, status) in [(true, 403), (false, 202)] {
        let body = json!({"target_id": target, "selection": {"all": true}, "confirm": true, "carry_secrets": carry});
        let record = from.post("/api/v1/migrations", body).await.is(202);
        let record = record["id"].as_str().unwrap();
        from.wait(record, |status| status == "awaiting_confirmation").await;
        let answer = narrow.post(&format!("/api/v1/migrations/{record}/confirm"), json!({})).await;
        assert_eq!(answer.status, status, "{carry}: {}", answer.text());
        if status == 403 {
            assert!(answer.problem(403, "forbidden")["detail"].as_str().unwrap().contains("secret.carry"));
            from.post(&format!("/api/v1/migrations/{record}/confirm"), json!({})).await.is(202);
        }
        assert_eq!(from.ended(record).await["status"], "succeeded");
    }
    assert_eq!(secret(&pair.production, "acc", "/password").await, "s3cret-password");
    pair.end().await;
}
