//! Two connections, and many who need them at once: nobody holds one while he asks for another.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::invariants::catalogue;
use crate::secrets::passphrases::{PASSPHRASE, post_form};
use crate::support::{ADMIN, Environment, User};

const SMALL: &str = "database.max_connections = 2\n";
const MANY: usize = 12;

async fn asked(user: &User, path: &str, body: &Value) -> String {
    user.post(path, body.clone()).await.is(202)["id"].as_str().unwrap().to_owned()
}

/// Nobody has waited so long for a connection that his work was begun once more.
async fn begun_once(environment: &Environment) {
    let again = "select count(*) from jobs where run_no > 1";
    let again: i64 = sqlx::query_scalar(again).fetch_one(&mut environment.sql().await).await.unwrap();
    assert_eq!(again, 0, "jobs were put back");
}

#[tokio::test]
async fn two_connections_are_enough_for_many_exports_imports_and_migrations_with_secrets() {
    let (source, target) =
        (Environment::configured("test", SMALL).await, Environment::configured("production", SMALL).await);
    let (from, to) = (source.admin(), target.admin());
    from.batch(&catalogue(30, 1)).await;
    from.resource("acc", "data_account", "Account", "/", json!({"password": "s3cret"})).await;
    let export = json!({"name": "package", "selection": {"all": true}, "passphrase": PASSPHRASE});
    let exports = join_all((0..MANY).map(|_| asked(&from, "/api/v1/exports", &export))).await;
    let mut packages = Vec::new();
    for id in &exports {
        assert_eq!(from.ended(id).await["status"], "succeeded");
        packages.push(from.get(&format!("/api/v1/exports/{id}/package")).await.bytes);
    }
    let sent = packages.iter().map(|package| post_form(&to, package, Some(PASSPHRASE), true));
    let imports: Vec<Value> = join_all(sent).await.iter().map(|answer| answer.is(202)).collect();
    let there = from.target("production", &target.server.url(), ADMIN).await;
    let migration = json!({"target_id": there, "selection": {"all": true}, "carry_secrets": true});
    let done = join_all(imports.iter().map(|record| async {
        let id = record["id"].as_str().unwrap();
        to.wait(id, |status| status == "awaiting_confirmation").await;
        to.execute(id).await["status"].clone()
    }));
    let migrations = join_all((0..MANY).map(|_| asked(&from, "/api/v1/migrations", &migration)));
    let (done, migrations) = tokio::join!(done, migrations);
    assert!(done.iter().all(|status| status == "succeeded"), "{done:?}");
    for id in &migrations {
        let ended = from.ended(id).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
    }
    for environment in [source, target] {
        begun_once(&environment).await;
        environment.end().await;
    }
}
