//! The environment's own row, feature switches, licence limits, pinned source environments.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::window::Windows;

use super::DbError;

/// The environment's identity. Seeds are sealed with the secret key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Made once.
    pub id: String,
    /// Sealed, to tell whether a server has the right key.
    pub key_check: String,
    /// Sealed seed of the ed25519 key.
    pub signing_seed: String,
    /// Sealed seed of the X25519 key.
    pub sealing_seed: String,
    /// ed25519, base64.
    pub public_key: String,
    /// X25519, base64.
    pub sealing_key: String,
}

/// The identity, if the database has one.
pub async fn identity(connection: &mut PgConnection) -> Result<Option<Identity>, DbError> {
    let found = sqlx::query_as!(
        Identity,
        "select id, key_check, signing_seed, sealing_seed, public_key, sealing_key from environment"
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Keeps a new identity, unless another replica was first; whether it was kept.
pub async fn keep_identity(connection: &mut PgConnection, new: &Identity) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "insert into environment (id, key_check, signing_seed, sealing_seed, public_key, sealing_key)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        new.id,
        new.key_check,
        new.signing_seed,
        new.sealing_seed,
        new.public_key,
        new.sealing_key
    );
    Ok(done.execute(connection).await?.rows_affected() > 0)
}

/// The digests of the type files that hashes and references were derived with.
pub async fn type_digests(connection: &mut PgConnection) -> Result<BTreeMap<String, String>, DbError> {
    let found = sqlx::query_scalar!("select type_digests from environment").fetch_one(connection).await?;
    serde_json::from_value(found).map_err(|_| DbError::Corrupt("type digest"))
}

/// Notes the digests that everything is derived with now.
pub async fn keep_type_digests(
    connection: &mut PgConnection,
    digests: &BTreeMap<String, String>,
    of_all: &str,
) -> Result<(), DbError> {
    let keep = sqlx::query!(
        "update environment set type_digests = $1, types_digest = $2,
            superseded_types = array_remove(superseded_types, $2) || types_digest",
        serde_json::json!(digests),
        of_all
    );
    keep.execute(connection).await?;
    Ok(())
}

/// Whether some type files were replaced by those that the environment has now, and a server runs with these.
pub async fn is_superseded(connection: &mut PgConnection, of_all: &str) -> Result<bool, DbError> {
    let current = sqlx::query_scalar!("select types_digest from environment where $1 = any(superseded_types)", of_all);
    let Some(current) = current.fetch_optional(&mut *connection).await? else { return Ok(false) };
    let others = sqlx::query_scalar!(
        r#"select exists (select from pg_stat_activity
            where datname = current_database() and application_name = $1) as "others!""#,
        super::application(&current)
    );
    Ok(others.fetch_one(connection).await?)
}

/// What an import has to wait for before it is applied.
#[derive(Debug)]
pub struct ImportRules {
    /// A second person.
    pub approval_required: bool,
    /// Hours in which it may be; none: always.
    pub windows: Option<Windows>,
    /// The time of the database.
    pub now: DateTime<Utc>,
}

impl ImportRules {
    /// When an import may be applied, where that is not now.
    pub fn closed_until(&self) -> Option<DateTime<Utc>> {
        self.windows.as_ref().and_then(|windows| windows.opens(self.now))
    }
}

/// The rules as they are now.
pub async fn import_rules(connection: &mut PgConnection) -> Result<ImportRules, DbError> {
    let found = sqlx::query_as!(
        KeptRules,
        r#"select approval_required, import_windows, clock_timestamp() as "now!" from environment"#
    );
    found.fetch_one(connection).await?.read()
}

/// The same, held until the transaction ends: who changes them waits. Comes before a record's row.
pub async fn hold_import_rules(connection: &mut PgConnection) -> Result<ImportRules, DbError> {
    let found = sqlx::query_as!(
        KeptRules,
        r#"select approval_required, import_windows, clock_timestamp() as "now!" from environment for share"#
    );
    found.fetch_one(connection).await?.read()
}

struct KeptRules {
    approval_required: bool,
    import_windows: Option<Value>,
    now: DateTime<Utc>,
}

impl KeptRules {
    fn read(self) -> Result<ImportRules, DbError> {
        let windows = self.import_windows.map(serde_json::from_value).transpose();
        let windows = windows.map_err(|_| DbError::Corrupt("environment.import_windows"))?;
        Ok(ImportRules { approval_required: self.approval_required, windows, now: self.now })
    }
}

/// Sets the hours in which imports may be applied, or (none) lifts them.
pub async fn set_windows(connection: &mut PgConnection, windows: Option<&Windows>) -> Result<(), DbError> {
    let windows = windows.map(|windows| serde_json::json!(windows));
    sqlx::query!("update environment set import_windows = $1", windows).execute(connection).await?;
    Ok(())
}

/// Has imports wait for a second person, or not.
pub async fn require_approval(connection: &mut PgConnection, required: bool) -> Result<(), DbError> {
    sqlx::query!("update environment set approval_required = $1", required).execute(connection).await?;
    Ok(())
}

/// Types whose feature switch is off.
pub async fn disabled_features(connection: &mut PgConnection) -> Result<HashSet<String>, DbError> {
    let found = sqlx::query_scalar!("select type from features where not enabled").fetch_all(connection).await?;
    Ok(found.into_iter().collect())
}

/// Turns a feature switch.
pub async fn set_feature(connection: &mut PgConnection, kind: &str, enabled: bool) -> Result<(), DbError> {
    sqlx::query!(
        "insert into features (type, enabled) values ($1, $2) on conflict (type) do update set enabled = excluded.enabled",
        kind,
        enabled
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets or lifts a licence limit.
pub async fn set_limit(connection: &mut PgConnection, kind: &str, limit: Option<i64>) -> Result<(), DbError> {
    match limit {
        Some(limit) => {
            sqlx::query!(
                "insert into license_limits (type, max_count) values ($1, $2)
                 on conflict (type) do update set max_count = excluded.max_count",
                kind,
                limit
            )
            .execute(connection)
            .await?
        }
        None => sqlx::query!("delete from license_limits where type = $1", kind).execute(connection).await?,
    };
    Ok(())
}

/// Licence limits with what is used of them, over the whole environment: type → (limit, used).
pub async fn license(connection: &mut PgConnection) -> Result<BTreeMap<String, (u64, u64)>, DbError> {
    let limits = sqlx::query!("select type, max_count from license_limits").fetch_all(&mut *connection).await?;
    if limits.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut used = used(connection).await?;
    let with_used = limits.into_iter().map(|row| {
        let used = used.remove(&row.r#type).unwrap_or_default();
        (row.r#type, (row.max_count as u64, used))
    });
    Ok(with_used.collect())
}

/// Live resources per type, over the whole environment.
pub async fn used(connection: &mut PgConnection) -> Result<BTreeMap<String, u64>, DbError> {
    let found =
        sqlx::query!(r#"select type, count(*) as "used!" from resources group by type"#).fetch_all(connection).await?;
    Ok(found.into_iter().map(|row| (row.r#type.clone(), row.used as u64)).collect())
}
