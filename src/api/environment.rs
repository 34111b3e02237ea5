//! The environment: health, who it is, features, licence, resource types.

pub mod audit;
pub mod domains;
pub mod pinned_sources;
pub mod trusted_sources;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::db::{self, PgConnection};
use crate::domain::manifest::FORMAT;
use crate::domain::resource_type::UniqueName;
use crate::wire::List;
use crate::wire::environment::{ApprovalRule, Environment, EnvironmentChange, License, TypeLine, TypeReference};

use crate::api::http::AppState;
use crate::api::http::audited::note_in;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::JsonBody;

/// The process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn alive() -> &'static str {
    "ok"
}

/// Database and storage answer, and the resource type files are those of the environment.
#[utoipa::path(
    get, path = "/readyz",
    responses((status = 200, body = String, content_type = "text/plain"), (status = 503))
)]
pub async fn ready(State(app): State<AppState>) -> Result<&'static str, ApiError> {
    let down = |what: &str| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", format!("The {what} does not answer."))
    };
    let mut connection = app.pool.acquire().await.map_err(|_| down("database"))?;
    match db::locks::check_types(&mut connection, &app.types_digest).await {
        Ok(()) => {}
        Err(db::DbError::Outdated) => {
            let detail =
                "Another server of this environment runs with other resource type files; this one writes nothing.";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail));
        }
        Err(_) => return Err(down("database")),
    }
    app.store.has("ready").await.map_err(|_| down("storage"))?;
    Ok("ready")
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<AppState>) -> String {
    app.metrics.render()
}

/// Who this environment is.
#[utoipa::path(get, path = "/api/v1/environment", responses((status = 200, body = Environment)))]
pub async fn show(State(app): State<AppState>) -> Result<Json<Environment>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    Ok(Json(environment(&app, &mut connection).await?))
}

/// Turns feature switches, sets licence limits, says what imports wait for. What is left out stays.
#[utoipa::path(
    patch, path = "/api/v1/environment",
    request_body = EnvironmentChange,
    responses((status = 200, body = Environment))
)]
pub async fn change(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(change): JsonBody<EnvironmentChange>,
) -> Result<Json<Environment>, ApiError> {
    if let Some(unknown) = change.features.keys().chain(change.license.keys()).find(|key| app.types.get(key).is_none())
    {
        return Err(ApiError::field(unknown, "is not a resource type").with(
            "type_unknown",
            unknown,
            "is not a resource type",
        ));
    }
    let mut transaction = app.pool.begin().await?;
    for (kind, enabled) in &change.features {
        db::environment::set_feature(&mut transaction, kind, *enabled).await?;
    }
    for (kind, limit) in &change.license {
        let limit =
            limit.map(i64::try_from).transpose().map_err(|_| ApiError::field(kind, "has a limit that is too high"))?;
        db::environment::set_limit(&mut transaction, kind, limit).await?;
    }
    if let Some(approval) = change.approval {
        db::environment::require_approval(&mut transaction, approval.required).await?;
    }
    if let Some(windows) = &change.windows {
        if windows.as_ref().is_some_and(|windows| !windows.ever_open()) {
            return Err(ApiError::field("windows.hours", "must hold at least one, each with a day"));
        }
        db::environment::set_windows(&mut transaction, windows.as_ref()).await?;
        let rules = db::environment::import_rules(&mut transaction).await?;
        db::windows::reconsider(&mut transaction, rules.closed_until()).await?;
    }
    let mut details = serde_json::json!({"features": change.features, "license": change.license});
    if let Some(approval) = change.approval {
        details["approval"] = serde_json::json!(approval);
    }
    if let Some(windows) = &change.windows {
        details["windows"] = serde_json::json!(windows);
    }
    let object = ("environment", &app.identity.id);
    note_in(&mut transaction, &caller, None, "environment.change", object, details).await?;
    let shown = environment(&app, &mut transaction).await?;
    transaction.commit().await?;
    Ok(Json(shown))
}

pub(in crate::api) async fn environment(
    app: &AppState,
    connection: &mut PgConnection,
) -> Result<Environment, ApiError> {
    let disabled = db::environment::disabled_features(connection).await?;
    let rules = db::environment::import_rules(connection).await?;
    let limits = db::environment::license(connection).await?;
    let used = db::environment::used(connection).await?;
    let keys: Vec<String> = app.types.all().iter().map(|kind| kind.key.to_string()).collect();
    let license = |key: &String| License {
        limit: limits.get(key).map(|(limit, _)| *limit),
        used: used.get(key).copied().unwrap_or_default(),
    };
    Ok(Environment {
        id: app.identity.id.clone(),
        name: app.config.environment.name.clone(),
        kind: app.config.environment.kind.as_str().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        package_format: FORMAT,
        features: keys.iter().map(|key| (key.clone(), !disabled.contains(key))).collect(),
        license: keys.iter().map(|key| (key.clone(), license(key))).collect(),
        approval: ApprovalRule { required: rules.approval_required },
        windows: rules.windows,
        public_key: app.identity.public_key.clone(),
        sealing_key: app.identity.sealing_key.clone(),
        types: app
            .types
            .digests()
            .into_iter()
            .map(|(key, digest)| (key, digest.to_string()))
            .collect::<BTreeMap<_, _>>(),
    })
}

/// The resource types, with labels.
#[utoipa::path(
    get, path = "/api/v1/resource-types",
    operation_id = "list",
    responses((status = 200, body = List<TypeLine>))
)]
pub async fn types(State(app): State<AppState>) -> Json<List<TypeLine>> {
    let line = |kind: &std::sync::Arc<crate::domain::resource_type::ResourceType>| TypeLine {
        key: kind.key.to_string(),
        label: kind.label.clone(),
        order: kind.order,
        unique_name: match kind.unique_name {
            UniqueName::Directory => "directory",
            UniqueName::Domain => "domain",
            UniqueName::None => "none",
        }
        .to_owned(),
        refresh: kind.refresh,
        references: kind
            .rules
            .iter()
            .map(|rule| TypeReference {
                role: rule.role.clone(),
                kind: rule.kind.as_str().to_owned(),
                to: rule.to.clone(),
            })
            .collect(),
        schema: kind.schema.clone(),
        digest: kind.digest.to_string(),
    };
    Json(List { items: app.types.all().into_iter().map(line).collect(), next_cursor: None })
}
