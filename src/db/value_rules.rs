//! Rules that change values on their way from a source environment.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::json_path::Path;
use crate::domain::value_rule::{Action, ValueRule, ValueRules};

use super::DbError;

/// A rule as it is kept.
#[derive(Debug, Clone)]
pub struct RuleRow {
    /// Its ID.
    pub id: Uuid,
    /// The environment that the resources come from.
    pub source_environment: String,
    /// Lower comes first.
    pub position: i32,
    /// For people.
    pub name: String,
    /// Of resources of this type.
    pub kind: String,
    /// Which values.
    pub path: String,
    /// [`Action`].
    pub action: Value,
    /// Counts up with each change.
    pub revision: i32,
    /// Who changed it last,
    pub changed_by: String,
    /// and when.
    pub changed_at: DateTime<Utc>,
}

impl RuleRow {
    /// Ready to be applied.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn compile(self) -> Result<ValueRule, DbError> {
        let action: Action = serde_json::from_value(self.action).map_err(|_| DbError::Corrupt("value_rules.action"))?;
        let path = Path::parse(&self.path).map_err(|_| DbError::Corrupt("value_rules.path"))?;
        Ok(ValueRule { id: self.id, name: self.name, revision: self.revision, type_key: self.kind, path, action })
    }
}

/// The rules for a source environment, in their order.
pub async fn of_source(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: &str,
) -> Result<ValueRules, DbError> {
    let found = list(connection, domain_id, Some(source_environment)).await?;
    let rules = found.into_iter().map(RuleRow::compile).collect::<Result<_, _>>()?;
    Ok(ValueRules::new(rules))
}

/// The rules of a domain, in their order.
pub async fn list(
    connection: &mut PgConnection,
    domain_id: i32,
    source_environment: Option<&str>,
) -> Result<Vec<RuleRow>, DbError> {
    let found = sqlx::query_as!(
        RuleRow,
        "select id, source_environment, position, name, type as kind, path, action, revision, changed_by, changed_at
         from value_rules where domain_id = $1 and ($2::text is null or source_environment = $2)
         order by source_environment, position, id",
        domain_id,
        source_environment
    );
    Ok(found.fetch_all(connection).await?)
}

/// A rule of a domain, held until the transaction ends.
pub async fn lock(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<Option<RuleRow>, DbError> {
    let found = sqlx::query_as!(
        RuleRow,
        "select id, source_environment, position, name, type as kind, path, action, revision, changed_by, changed_at
         from value_rules where domain_id = $1 and id = $2 for update",
        domain_id,
        id
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Writes a rule, a new one or in the place of the one with its ID.
pub async fn write(connection: &mut PgConnection, domain_id: i32, rule: &RuleRow) -> Result<(), DbError> {
    sqlx::query!(
        "insert into value_rules (id, domain_id, source_environment, position, name, type, path, action, revision, changed_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (id) do update set source_environment = excluded.source_environment, position = excluded.position,
            name = excluded.name, type = excluded.type, path = excluded.path, action = excluded.action,
            revision = excluded.revision, changed_by = excluded.changed_by, changed_at = excluded.changed_at",
        rule.id,
        domain_id,
        rule.source_environment,
        rule.position,
        rule.name,
        rule.kind,
        rule.path,
        rule.action,
        rule.revision,
        rule.changed_by
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a rule; what it was.
pub async fn delete(connection: &mut PgConnection, domain_id: i32, id: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!("delete from value_rules where domain_id = $1 and id = $2", domain_id, id);
    Ok(done.execute(connection).await?.rows_affected() > 0)
}
