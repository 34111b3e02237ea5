//! One Postgres for all tests: the one of `FERRY_TEST_DATABASE_URL`, or one of our own that ends with the
//! process. Each test has a database of its own, copied from a migrated template.

use std::sync::OnceLock;

use ferry::domain::resource::Hash;
use ferry::postgres::{Options, Postgres};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

const TEMPLATE: &str = "ferry_template";

/// The URL of the server's database `postgres`.
fn admin() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("FERRY_TEST_DATABASE_URL").unwrap_or_else(|_| {
            // Not below the checkout: the user who runs Postgres for root may be kept out of there.
            let checkout = Hash::of(env!("CARGO_MANIFEST_DIR").as_bytes()).hex();
            let folder = std::env::temp_dir().join(format!("ferry-tests-{}", &checkout[..12]));
            let postgres = Postgres::start(&folder, &Options { max_connections: 300, durable: false }).unwrap();
            let url = postgres.url("postgres");
            // It lives as long as the process: it stops when its parent is gone.
            std::mem::forget(postgres);
            url
        })
    })
}

async fn run(statement: String) {
    let mut connection = PgConnection::connect(admin()).await.unwrap();
    sqlx::query(&statement).execute(&mut connection).await.unwrap();
}

/// A new database with the newest schema.
pub async fn new_database() -> String {
    static READY: OnceCell<()> = OnceCell::const_new();
    READY
        .get_or_init(|| async {
            ferry::db::recreate_database(admin(), TEMPLATE).await.unwrap();
            let pool =
                ferry::db::connect(&ferry::db::with_database(admin(), TEMPLATE).unwrap(), 1, 60, "").await.unwrap();
            pool.close().await;
        })
        .await;
    let name = format!("ferry_{}", uuid::Uuid::new_v4().simple());
    run(format!("create database {name} template {TEMPLATE}")).await;
    ferry::db::with_database(admin(), &name).unwrap()
}

/// Drops a database that a test is done with.
pub async fn drop_database(url: &str) {
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap();
    run(format!("drop database if exists {name} with (force)")).await;
}
