//! Database connections that are lost in the middle.

use super::invariants::{editions, invariants, start};
use crate::support::gate::Gate;
use crate::support::process::Process;

/// Ends every connection to the database but those of the tests.
async fn cut(process: &Process) -> i64 {
    let mut connection = process.sql().await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and application_name like 'ferry%'";
    sqlx::query_scalar(cut).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn an_import_goes_on_after_the_database_has_ended_all_connections() {
    let editions = editions().await;
    let package = &editions.packages[0];
    let target = Process::start("production").await;
    let user = target.admin();
    let mut gate = Gate::shut(&target.database, "import_entries").await;
    let record = user.post_package(package).await.is(202);
    let id = record["id"].as_str().unwrap();
    gate.reached().await;
    assert!(cut(&target).await > 1);
    gate.open().await;
    user.wait(id, |status| status == "awaiting_confirmation").await;

    for table in ["resources", "import_bases", "import_entries"] {
        let mut gate = Gate::shut(&target.database, table).await;
        if table == "resources" {
            start(&user, id).await;
        }
        gate.reached().await;
        assert!(cut(&target).await > 1, "{table}");
        assert_eq!(user.catalogue().await.len(), 0, "{table}");
        gate.open().await;
    }
    let ended = user.ended(id).await;
    invariants(&target, &ended, package, &editions.catalogues[0]).await;
    target.end().await;
}
