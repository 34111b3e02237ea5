//! Value rules: how values change on their way from another environment.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::db::value_rules::{self as rows, RuleRow};
use crate::db::{self, contents};
use crate::domain::difference::changes;
use crate::domain::resource::parse_name;
use crate::domain::value_rule::{Action, ValueRule, check};
use crate::wire::List;
use crate::wire::rule::{NewRule, Rule, Tried, TryRule};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query};
use crate::api::http::idempotency::Once;
use crate::api::http::paging::{cursor, from_cursor, page_size};
use crate::api::resources::readable;

/// Most rules of a domain.
const MOST: usize = 1_000;
/// Most changes that a try tells.
const TOLD: usize = 1_000;

/// Which rules.
#[derive(Debug, Deserialize, IntoParams)]
pub struct RulesQuery {
    /// For resources of the environment with this ID.
    source_environment: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// The rules of the domain, in the order in which they are applied. For who imports or migrates.
#[utoipa::path(get, path = "/api/v1/rules", params(RulesQuery), responses((status = 200, body = List<Rule>)))]
pub async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Query(query): Query<RulesQuery>,
) -> Result<Json<List<Rule>>, ApiError> {
    let limit = page_size(query.limit)? as usize;
    // They are few, and in an order that changes with them.
    let from = from_cursor::<u16>(query.cursor.as_deref())?.map_or(0, usize::from);
    let mut connection = app.pool.acquire().await?;
    let found = rows::list(&mut connection, caller.domain_id(), query.source_environment.as_deref()).await?;
    let more = found.len() > from + limit;
    let items = found.into_iter().skip(from).take(limit).map(to_wire).collect::<Result<_, ApiError>>()?;
    Ok(Json(List { items, next_cursor: more.then(|| cursor(&(from + limit))) }))
}

/// Makes a rule.
#[utoipa::path(post, path = "/api/v1/rules", request_body = NewRule, responses((status = 201, body = Rule)))]
pub async fn create(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    JsonBody(body): JsonBody<NewRule>,
) -> Result<(StatusCode, Json<Rule>), ApiError> {
    let mut transaction = app.pool.begin().await?;
    if rows::list(&mut transaction, caller.domain_id(), None).await?.len() >= MOST {
        return Err(ApiError::conflict(format!("A domain has at most {MOST} rules.")));
    }
    let row = row(&app, &caller, Uuid::now_v7(), 1, body)?;
    let made = write(&mut transaction, &caller, row, "rule.create").await?;
    once.keep(&mut transaction, StatusCode::CREATED, None, &made, None).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Replaces a rule.
#[utoipa::path(put, path = "/api/v1/rules/{id}", request_body = NewRule, responses((status = 200, body = Rule)))]
pub async fn replace(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<Uuid>,
    JsonBody(body): JsonBody<NewRule>,
) -> Result<Json<Rule>, ApiError> {
    let mut transaction = app.pool.begin().await?;
    let old = rows::lock(&mut transaction, caller.domain_id(), id).await?;
    let old = old.ok_or_else(|| ApiError::not_found("rule"))?;
    let row = row(&app, &caller, id, old.revision + 1, body)?;
    let changed = write(&mut transaction, &caller, row, "rule.change").await?;
    transaction.commit().await?;
    Ok(Json(changed))
}

/// Removes a rule.
#[utoipa::path(delete, path = "/api/v1/rules/{id}", responses((status = 204)))]
pub async fn delete(State(app): State<AppState>, caller: Caller, Path(id): Path<Uuid>) -> Result<StatusCode, ApiError> {
    let mut transaction = app.pool.begin().await?;
    if !rows::delete(&mut transaction, caller.domain_id(), id).await? {
        return Err(ApiError::not_found("rule"));
    }
    note(&mut transaction, &caller, "rule.delete", ("rule", id), serde_json::json!({})).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows what a rule would do to a resource of this environment; nothing is written.
#[utoipa::path(post, path = "/api/v1/rules/try", request_body = TryRule, responses((status = 200, body = Tried)))]
pub async fn try_out(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<TryRule>,
) -> Result<Json<Tried>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let resource = readable(&mut connection, &caller, &body.resource_id).await?;
    let version = contents::version(&mut connection, caller.domain_id(), &resource.id, resource.revision).await?;
    let version = version.ok_or_else(|| ApiError::not_found("resource"))?;
    let kind = app.types.get(&version.kind).ok_or(db::DbError::Corrupt("resources.type"))?;
    let path = check(kind, &body.path).map_err(|reason| ApiError::field("path", reason))?;
    let before: serde_json::Value =
        serde_json::from_str(&version.body).map_err(|_| db::DbError::Corrupt("definitions.body"))?;
    let rule = ValueRule {
        id: Uuid::nil(),
        name: String::new(),
        revision: 0,
        type_key: version.kind,
        path,
        action: body.action,
    };
    let mut after = before.clone();
    let effect = rule.apply(&mut after);
    let changes = changes(&before, &after).into_iter().take(TOLD).collect();
    Ok(Json(Tried { found: effect.found as u64, changed: effect.changed as u64, before, after, changes }))
}

async fn write(
    connection: &mut db::PgConnection,
    caller: &Caller,
    row: RuleRow,
    action: &str,
) -> Result<Rule, ApiError> {
    rows::write(connection, caller.domain_id(), &row).await?;
    let details = serde_json::json!({"name": row.name, "type": row.kind, "path": row.path, "source_environment": row.source_environment});
    note(connection, caller, action, ("rule", row.id), details).await?;
    let written = rows::lock(connection, caller.domain_id(), row.id).await?;
    to_wire(written.ok_or_else(|| ApiError::not_found("rule"))?)
}

fn row(app: &AppState, caller: &Caller, id: Uuid, revision: i32, body: NewRule) -> Result<RuleRow, ApiError> {
    let kind = app.types.get(&body.kind).ok_or_else(|| ApiError::field("type", "is not a type of this environment"))?;
    check(kind, &body.path).map_err(|reason| ApiError::field("path", reason))?;
    if matches!(&body.action, Action::Replace { find, .. } if find.is_empty()) {
        return Err(ApiError::field("find", "must not be empty"));
    }
    let source_environment = body.source_environment.trim().to_owned();
    if source_environment.is_empty() || source_environment.len() > 64 {
        return Err(ApiError::field("source_environment", "must be the ID of an environment"));
    }
    Ok(RuleRow {
        id,
        source_environment,
        position: body.position,
        name: parse_name(&body.name)?,
        kind: body.kind,
        path: body.path,
        action: serde_json::json!(body.action),
        revision,
        changed_by: caller.username().to_owned(),
        changed_at: chrono::Utc::now(),
    })
}

fn to_wire(row: RuleRow) -> Result<Rule, ApiError> {
    let action = serde_json::from_value(row.action).map_err(|_| db::DbError::Corrupt("value_rules.action"))?;
    Ok(Rule {
        id: row.id,
        rule: NewRule {
            source_environment: row.source_environment,
            name: row.name,
            kind: row.kind,
            path: row.path,
            action,
            position: row.position,
        },
        revision: row.revision,
        changed_by: row.changed_by,
        changed_at: row.changed_at,
    })
}
