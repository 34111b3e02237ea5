//! How many commits a migration of one resource makes in both databases: those that write, and so wait for the disk.

use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::environment::Environment;
use super::{Bench, catalogue, online};

/// G12, on an idle pair.
pub async fn of_one_migration(bench: &Bench, test: &Environment, count: usize) -> anyhow::Result<f64> {
    let production = Environment::new(bench, "online").await?;
    let target = online::target(test, &production.url, "commits").await?;
    let one = json!({"target_id": target, "resource_ids": [catalogue::id(count - 1)]});
    online::migrate(test, &one, "create", 1).await?;
    online::change_one(test, count, "commits").await?;
    let mut connection = PgConnection::connect(&bench.admin).await?;
    let before = begun(&mut connection).await?;
    online::migrate(test, &one, "update", 1).await?;
    let after = begun(&mut connection).await?;
    production.stop()?;
    Ok((after - before) as f64)
}

/// The number that the next writing transaction of the cluster would have: reading ones have none.
async fn begun(connection: &mut PgConnection) -> anyhow::Result<i64> {
    let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    Ok(sqlx::query_scalar(next).fetch_one(connection).await?)
}
