//! How many commits a migration of one resource makes in both databases, reading ones too.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::environment::Environment;
use super::{Bench, catalogue, online};

/// An idle connection tells its commits after ten seconds at most.
const TOLD: Duration = Duration::from_secs(11);

/// G12, on an idle pair: what a time with a migration has more than the same time without.
pub async fn of_one_migration(bench: &Bench, test: &Environment, count: usize) -> anyhow::Result<f64> {
    let production = Environment::new(bench, "online").await?;
    let target = online::target(test, &production.url, "commits").await?;
    let one = json!({"target_id": target, "resource_ids": [catalogue::id(count - 1)]});
    online::migrate(test, &one, "create", 1).await?;
    online::change_one(test, count, "commits").await?;
    let mut connection = PgConnection::connect(&bench.admin).await?;
    tokio::time::sleep(TOLD).await;
    let before = commits(&mut connection).await?;
    // Nobody asks how far it is: each question is a commit.
    let record = test.client.post("/api/v1/migrations", &one).await?;
    tokio::time::sleep(TOLD).await;
    let after = commits(&mut connection).await?;
    tokio::time::sleep(TOLD).await;
    let idle = commits(&mut connection).await?;
    test.ended(&record, "succeeded").await?;
    production.stop()?;
    Ok(((after - before) - (idle - after)) as f64)
}

async fn commits(connection: &mut PgConnection) -> anyhow::Result<i64> {
    let sum = "select sum(xact_commit)::bigint from pg_stat_database where datname in ('test', 'online')";
    Ok(sqlx::query_scalar(sum).fetch_one(connection).await?)
}
