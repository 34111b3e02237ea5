//! HTTP: one file per noun, every path here, each with what it needs.

mod attachments;
mod auth;
mod domains;
mod environment;
mod error;
mod events;
mod exports;
mod extract;
mod idempotency;
mod imports;
mod lacking;
mod migrations;
mod packages;
mod pieces;
mod record_actions;
mod records;
mod resource_writes;
mod resources;
mod selections;
mod targets;
mod uploads;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, head, patch, post, put};

use crate::app::App;
use crate::domain::permission::Permission as P;

use auth::{Needs, authorize};
use error::ApiError;
use idempotency::once;

/// What every handler has.
pub type Shared = Arc<App>;

/// A path with its methods, and what each needs.
struct Route {
    path: &'static str,
    methods: Vec<(Needs, MethodRouter<Shared>)>,
}

fn on(path: &'static str, methods: impl IntoIterator<Item = (Needs, MethodRouter<Shared>)>) -> Route {
    Route { path, methods: methods.into_iter().collect() }
}

fn may(permission: P, method: MethodRouter<Shared>) -> (Needs, MethodRouter<Shared>) {
    (Needs::Permission(permission), method)
}

fn signed_in(method: MethodRouter<Shared>) -> (Needs, MethodRouter<Shared>) {
    (Needs::Token, method)
}

/// Every path of the API.
fn routes() -> Vec<Route> {
    vec![
        on("/healthz", [(Needs::Nothing, get(environment::alive))]),
        on("/readyz", [(Needs::Nothing, get(environment::ready))]),
        on("/metrics", [(Needs::Nothing, get(environment::metrics))]),
        on("/api/v1/session", [signed_in(get(users::whoami))]),
        on(
            "/api/v1/environment",
            [signed_in(get(environment::show)), may(P::EnvironmentManage, patch(environment::change))],
        ),
        on("/api/v1/resource-types", [signed_in(get(environment::types))]),
        on("/api/v1/resources", [may(P::ResourceRead, get(resources::list))]),
        on("/api/v1/resources/batch", [may(P::ResourceWrite, post(resource_writes::batch))]),
        on(
            "/api/v1/resources/{id}",
            [
                may(P::ResourceRead, get(resources::show)),
                may(P::ResourceWrite, put(resource_writes::put)),
                may(P::ResourceWrite, delete(resource_writes::delete)),
            ],
        ),
        on("/api/v1/resources/{id}/lineage", [may(P::ResourceRead, get(resources::lineage))]),
        on("/api/v1/resources/{id}/revisions", [may(P::ResourceRead, get(resources::revisions))]),
        on(
            "/api/v1/attachments/{*path}",
            [may(P::ResourceRead, get(attachments::show)), may(P::ResourceWrite, put(attachments::put))],
        ),
        on("/api/v1/exports/preview", [may(P::MigrationExport, post(exports::preview))]),
        on("/api/v1/exports", [may(P::MigrationExport, post(exports::create))]),
        on("/api/v1/exports/{id}/package", [may(P::MigrationExport, get(exports::package))]),
        on(
            "/api/v1/uploads",
            [
                may(P::MigrationImport, post(uploads::create)),
                (Needs::Nothing, axum::routing::options(uploads::options)),
            ],
        ),
        on(
            "/api/v1/uploads/{id}",
            [
                may(P::MigrationImport, head(uploads::head)),
                may(P::MigrationImport, patch(uploads::patch)),
                may(P::MigrationImport, delete(uploads::delete)),
                may(P::MigrationImport, post(uploads::overridden)),
            ],
        ),
        on("/api/v1/imports", [may(P::MigrationImport, post(imports::create))]),
        on("/api/v1/imports/lacking", [may(P::MigrationImport, post(lacking::lacking))]),
        on("/api/v1/imports/{id}/package", [may(P::MigrationImport, put(imports::replace_package))]),
        on("/api/v1/imports/{id}/plan", [may(P::MigrationImport, put(imports::plan))]),
        on("/api/v1/imports/{id}/execute", [may(P::MigrationImport, post(imports::execute))]),
        on(
            "/api/v1/targets",
            [may(P::MigrationOnline, get(targets::list)), may(P::DomainManage, post(targets::create))],
        ),
        on(
            "/api/v1/targets/{id}",
            [
                may(P::MigrationOnline, get(targets::show)),
                may(P::DomainManage, patch(targets::change)),
                may(P::DomainManage, delete(targets::delete)),
            ],
        ),
        on("/api/v1/targets/{id}/check", [may(P::MigrationOnline, post(targets::check))]),
        on("/api/v1/migrations", [may(P::MigrationOnline, post(migrations::create))]),
        on("/api/v1/migrations/{id}/confirm", [may(P::MigrationOnline, post(migrations::confirm))]),
        on("/api/v1/records", [signed_in(get(records::list))]),
        on("/api/v1/records/{id}", [signed_in(get(records::show))]),
        on("/api/v1/records/{id}/events", [signed_in(get(events::events))]),
        on("/api/v1/records/{id}/cancel", [signed_in(post(record_actions::cancel))]),
        on("/api/v1/records/{id}/retry", [signed_in(post(record_actions::retry))]),
        on("/api/v1/records/{id}/items", [signed_in(get(records::items))]),
        on("/api/v1/users", [may(P::DomainManage, get(users::list)), may(P::DomainManage, post(users::create))]),
        on(
            "/api/v1/users/{id}",
            [may(P::DomainManage, patch(users::change)), may(P::DomainManage, delete(users::delete))],
        ),
        on("/api/v1/users/{id}/tokens", [signed_in(get(users::tokens)), signed_in(post(users::create_token))]),
        on("/api/v1/users/{id}/tokens/{token_id}", [signed_in(delete(users::delete_token))]),
        on(
            "/api/v1/domains",
            [may(P::EnvironmentManage, get(domains::list)), may(P::EnvironmentManage, post(domains::create))],
        ),
    ]
}

/// The whole API.
pub fn router(app: Shared) -> Router {
    let mut router = Router::new();
    for route in routes() {
        for (needs, method) in route.methods {
            let guarded = method
                .route_layer(from_fn_with_state(app.clone(), once))
                .route_layer(from_fn_with_state((app.clone(), needs), authorize));
            router = router.route(route.path, guarded);
        }
    }
    router
        // Every handler counts the bytes of its own body.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .fallback(|| async { ApiError::not_found("address") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address does not take that method.",
            )
        })
        .layer(from_fn(uploads::protocol))
        .with_state(app)
}

/// A panic is a bug: it is logged, and the caller is told no more than that.
pub fn on_panic(panic: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    let what = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = what.unwrap_or("unknown"), "a handler panicked");
    let detail = "Something went wrong on the server; its log says what.";
    axum::response::IntoResponse::into_response(ApiError::new(
        axum::http::StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        detail,
    ))
}
