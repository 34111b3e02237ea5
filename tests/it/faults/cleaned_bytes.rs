//! Cleaning and whoever comes to name the same attachment bytes meet: whoever is first, nobody names what is gone.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::gate::Gate;
use crate::support::{Environment, User};

const PATH: &str = "/img/logo.png";
const BYTES: &[u8] = b"a picture";

async fn package(bytes: &[u8]) -> Vec<u8> {
    let source = Environment::start("test").await;
    let user = source.admin();
    user.attachment(PATH, bytes).await.is(201);
    user.resource("c1", "card", "Card", "/", json!({"images": [PATH]})).await;
    let package = user.export_all().await;
    source.end().await;
    package
}

/// Cleans each second.
async fn cleaning() -> Environment {
    Environment::configured("production", "retention.every_seconds = 1\n").await
}

/// Stages bytes of an import that comes to nothing.
async fn cancelled_import(user: &User, package: &[u8]) -> Value {
    let record = user.upload(package).await;
    assert_eq!(record["status"], "awaiting_confirmation", "{record}");
    user.post(&format!("/api/v1/records/{}/cancel", record["id"].as_str().unwrap()), json!({})).await.is(200)
}

fn stored(environment: &Environment) -> Vec<PathBuf> {
    let files = std::fs::read_dir(environment.files.path().join("store/attachments")).into_iter().flatten();
    files.map(|file| file.unwrap().path()).collect()
}

async fn staged(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from staged_bytes").fetch_one(connection).await.unwrap()
}

/// Holds the rows that cleaning removes.
async fn hold_staged(environment: &Environment) -> PgConnection {
    let mut held = environment.sql().await;
    sqlx::raw_sql("begin; select from staged_bytes for update").execute(&mut held).await.unwrap();
    held
}

/// Waits until cleaning stands at the rows that are held.
async fn cleaning_waits(environment: &Environment) {
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like '%delete from staged_bytes%')";
    environment
        .until(async || sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut environment.sql().await).await.unwrap())
        .await;
}

#[tokio::test]
async fn nothing_staged_remains_after_an_import_has_ended() {
    let package = package(BYTES).await;
    let environment = cleaning().await;
    let user = environment.admin();
    cancelled_import(&user, &package).await;
    environment.until(async || stored(&environment).is_empty()).await;
    environment.until(async || staged(&mut environment.sql().await).await == 0).await;

    // What is named stays, and nothing says any more that it was staged.
    user.import(&package, json!({})).await;
    environment.until(async || staged(&mut environment.sql().await).await == 0).await;
    assert_eq!(user.get(&format!("/api/v1/attachments{PATH}")).await.bytes, BYTES);
    environment.end().await;
}

#[tokio::test]
async fn bytes_that_are_written_again_while_they_are_cleaned_are_there() {
    let package = package(BYTES).await;
    let environment = cleaning().await;
    let user = environment.admin();
    let record = user.upload(&package).await;
    let held = hold_staged(&environment).await;
    user.post(&format!("/api/v1/records/{}/cancel", record["id"].as_str().unwrap()), json!({})).await.is(200);
    cleaning_waits(&environment).await;
    let importing = async {
        let record = user.upload(&package).await;
        user.execute(record["id"].as_str().unwrap()).await
    };
    let letting_go = async {
        crate::support::gate::advisory_awaited(&mut environment.sql().await).await;
        held.close().await.unwrap();
    };
    let (written, ended, ()) = tokio::join!(user.attachment("/img/other.png", BYTES), importing, letting_go);
    written.is(201);
    assert_eq!(ended["status"], "succeeded", "{ended}");
    for path in ["/img/other.png", PATH] {
        assert_eq!(user.get(&format!("/api/v1/attachments{path}")).await.bytes, BYTES, "{path}");
    }
    environment.end().await;
}

#[tokio::test]
async fn bytes_that_are_just_being_named_are_not_cleaned() {
    let packages = (package(BYTES).await, package(b"another picture").await);
    let environment = cleaning().await;
    let user = environment.admin();
    // Held from before the record's end, so that cleaning comes to it only when the other one names the bytes already.
    let record = user.upload(&packages.0).await;
    let mut gate = Gate::shut(&environment.database, "attachments").await;
    let writing = user.attachment("/img/other.png", BYTES);
    let cancelling = async {
        gate.reached().await;
        user.post(&format!("/api/v1/records/{}/cancel", record["id"].as_str().unwrap()), json!({})).await.is(200);
        // Twice over: both bytes were looked at in the meantime.
        for _ in 0..2 {
            cancelled_import(&user, &packages.1).await;
            environment.until(async || staged(&mut environment.sql().await).await <= 1).await;
        }
        gate.open().await;
    };
    let (written, ()) = tokio::join!(writing, cancelling);
    written.is(201);
    environment.until(async || staged(&mut environment.sql().await).await == 0).await;
    assert_eq!(user.get("/api/v1/attachments/img/other.png").await.bytes, BYTES);
    environment.end().await;
}

#[tokio::test]
async fn bytes_that_nothing_has_named_for_a_day_are_cleaned() {
    let environment = cleaning().await;
    let user = environment.admin();
    user.attachment(PATH, b"one").await.is(201);
    user.attachment(PATH, b"two").await.is(200);
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    for file in stored(&environment) {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(yesterday).unwrap();
    }
    let aged = "update unnamed_bytes set since = since - interval '1 day'";
    environment
        .until(async || {
            let mut connection = environment.sql().await;
            sqlx::query(aged).execute(&mut connection).await.unwrap().rows_affected() == 1
        })
        .await;
    environment.until(async || stored(&environment).len() == 1).await;
    environment
        .until(async || {
            let left = sqlx::query_scalar::<_, i64>("select count(*) from unnamed_bytes");
            left.fetch_one(&mut environment.sql().await).await.unwrap() == 0
        })
        .await;
    assert_eq!(user.get(&format!("/api/v1/attachments{PATH}")).await.bytes, b"two");
    environment.end().await;
}

#[tokio::test]
async fn bytes_that_were_cut_short_are_healed_by_sending_them_again() {
    let package = package(BYTES).await;
    let environment = Environment::start("production").await;
    let user = environment.admin();
    user.import(&package, json!({})).await;
    let cut = |environment: &Environment| std::fs::write(&stored(environment)[0], b"a pic").unwrap();
    cut(&environment);
    user.attachment(PATH, BYTES).await.is(200);
    assert_eq!(user.get(&format!("/api/v1/attachments{PATH}")).await.bytes, BYTES);
    cut(&environment);
    user.import(&package, json!({})).await;
    assert_eq!(user.get(&format!("/api/v1/attachments{PATH}")).await.bytes, BYTES);
    environment.end().await;
}
