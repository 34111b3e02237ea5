//! HTTP: a file or folder per noun, what they share in `http`, every route here, each with what it needs.

mod approvals;
mod environment;
mod exports;
mod http;
mod imports;
mod mappings;
mod migrations;
mod people;
mod records;
mod resources;
mod rules;
mod selections;
mod targets;
mod uploads;

use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::MethodRouter;
use axum::{Extension, Router};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::domain::permission::Permission as P;

use http::AppState;
use http::auth::{Needs, authorize};
use http::bounds::{Bounds, bounded};
use http::error::ApiError;
use http::idempotency::once;

/// A route and what it needs.
type Route = (Needs, UtoipaMethodRouter<AppState>);

fn may(permission: P, route: UtoipaMethodRouter<AppState>) -> Route {
    (Needs::Permission(permission), route)
}

/// Who has use for selections.
const EXPORTS: (P, P) = (P::MigrationExport, P::MigrationOnline);
/// Who looks at what an import would do.
const REVIEWS: (P, P) = (P::MigrationImport, P::MigrationApprove);

/// Who brings resources in, or takes them there.
const CARRIES: (P, P) = (P::MigrationImport, P::MigrationOnline);

fn either((one, other): (P, P), route: UtoipaMethodRouter<AppState>) -> Route {
    (Needs::Either(one, other), route)
}

fn signed_in(route: UtoipaMethodRouter<AppState>) -> Route {
    (Needs::Token, route)
}

fn public(route: UtoipaMethodRouter<AppState>) -> Route {
    (Needs::Nothing, route)
}

/// Every route of the API; addresses, methods and answers stand at the handlers.
fn table() -> Vec<Route> {
    vec![
        public(routes!(environment::alive)),
        public(routes!(environment::ready)),
        public(routes!(environment::metrics)),
        public(routes!(http::openapi::show)),
        public(routes!(people::session::sign_in)),
        signed_in(routes!(people::session::whoami, people::session::sign_out)),
        signed_in(routes!(people::sessions::list)),
        signed_in(routes!(people::sessions::delete)),
        signed_in(routes!(environment::show)),
        may(P::EnvironmentManage, routes!(environment::change)),
        signed_in(routes!(environment::types)),
        may(P::ResourceRead, routes!(resources::list)),
        may(P::ResourceWrite, routes!(resources::writes::batch)),
        may(P::ResourceRead, routes!(resources::show)),
        may(P::ResourceWrite, routes!(resources::writes::put, resources::writes::delete)),
        may(P::ResourceRead, routes!(resources::lineage)),
        may(P::ResourceRead, routes!(resources::revisions::revisions)),
        may(P::ResourceRead, routes!(resources::revisions::revision)),
        may(P::ResourceRead, routes!(resources::revisions::difference)),
        may(P::ResourceRead, routes!(resources::attachments::show)),
        may(P::ResourceWrite, routes!(resources::attachments::put)),
        either(EXPORTS, routes!(selections::saved::list, selections::saved::create)),
        either(EXPORTS, routes!(selections::saved::show, selections::saved::change, selections::saved::delete)),
        may(P::MigrationExport, routes!(exports::preview)),
        may(P::MigrationExport, routes!(exports::create)),
        may(P::MigrationExport, routes!(exports::package)),
        public(routes!(uploads::options)),
        may(P::MigrationImport, routes!(uploads::create)),
        may(P::MigrationImport, routes!(uploads::head, uploads::patch, uploads::delete, uploads::overridden)),
        may(P::MigrationImport, routes!(imports::create)),
        may(P::MigrationImport, routes!(imports::lacking::lacking)),
        may(P::MigrationImport, routes!(imports::replace_package)),
        may(P::MigrationImport, routes!(imports::plans::plan)),
        may(P::MigrationImport, routes!(imports::plans::execute)),
        may(P::MigrationImport, routes!(imports::roll_back::roll_back)),
        either(REVIEWS, routes!(imports::difference::item)),
        either(REVIEWS, routes!(imports::difference::all)),
        either(REVIEWS, routes!(imports::impact::impact)),
        either(CARRIES, routes!(rules::list)),
        may(P::DomainManage, routes!(rules::create)),
        may(P::DomainManage, routes!(rules::replace, rules::delete)),
        either(CARRIES, routes!(rules::try_out)),
        either(CARRIES, routes!(mappings::list)),
        may(P::MigrationImport, routes!(mappings::delete)),
        may(P::MigrationOnline, routes!(targets::list)),
        may(P::DomainManage, routes!(targets::create)),
        may(P::MigrationOnline, routes!(targets::show)),
        may(P::DomainManage, routes!(targets::change, targets::delete)),
        may(P::MigrationOnline, routes!(targets::check)),
        may(P::MigrationOnline, routes!(migrations::create)),
        may(P::MigrationOnline, routes!(migrations::confirm)),
        may(P::MigrationApprove, routes!(approvals::list)),
        may(P::MigrationApprove, routes!(approvals::approve)),
        may(P::MigrationApprove, routes!(approvals::reject)),
        may(P::MigrationOnline, routes!(migrations::relay::roll_back)),
        may(P::MigrationOnline, routes!(migrations::relay::item)),
        may(P::MigrationOnline, routes!(migrations::relay::all)),
        may(P::MigrationOnline, routes!(migrations::relay::impact)),
        may(P::MigrationOnline, routes!(migrations::relay::resources)),
        signed_in(routes!(records::list)),
        signed_in(routes!(records::show::show)),
        signed_in(routes!(records::items::items)),
        signed_in(routes!(records::notes::warnings)),
        signed_in(routes!(records::checklist::checklist)),
        may(P::MigrationImport, routes!(records::checklist::change)),
        may(P::ResourceWrite, routes!(records::checklist::switch_on)),
        signed_in(routes!(records::checklist::list)),
        signed_in(routes!(records::events::events)),
        signed_in(routes!(records::actions::cancel)),
        signed_in(routes!(records::actions::retry)),
        may(P::DomainManage, routes!(people::users::list, people::users::create)),
        signed_in(routes!(people::users::change)),
        may(P::DomainManage, routes!(people::users::delete)),
        signed_in(routes!(people::users::tokens, people::users::create_token)),
        signed_in(routes!(people::users::delete_token)),
        may(P::DomainManage, routes!(people::roles::list, people::roles::create)),
        may(P::DomainManage, routes!(people::roles::delete)),
        may(P::DomainManage, routes!(people::grants::list, people::grants::create)),
        may(P::DomainManage, routes!(people::grants::delete)),
        may(P::EnvironmentManage, routes!(environment::domains::list, environment::domains::create)),
        may(P::DomainManage, routes!(environment::audit::list)),
        may(P::EnvironmentManage, routes!(environment::trusted_sources::list, environment::trusted_sources::create)),
        may(P::EnvironmentManage, routes!(environment::trusted_sources::delete)),
        may(P::DomainManage, routes!(environment::pinned_sources::list)),
        may(P::DomainManage, routes!(environment::pinned_sources::delete)),
    ]
}

/// The whole API as OpenAPI 3.1, in JSON.
pub fn document() -> String {
    document_with(http::cookie::NAME)
}

/// The same with the name of an environment's cookie.
fn document_with(cookie: &str) -> String {
    let mut router = OpenApiRouter::with_openapi(http::openapi::head(cookie));
    for (needs, route) in table() {
        router = router.routes(http::openapi::describe(needs, route));
    }
    let mut document = router.into_openapi();
    http::openapi::finish(&mut document);
    // Texts and maps of texts: writing them does not fail.
    document.to_pretty_json().unwrap_or_default()
}

/// The whole API.
pub fn router(app: AppState) -> Router {
    let mut router = OpenApiRouter::default();
    for (needs, route) in table() {
        let bounds = from_fn_with_state(Bounds::of(needs, &route, &app), bounded);
        let guard = from_fn_with_state((app.clone(), needs), authorize);
        let repeated = from_fn_with_state(app.clone(), once);
        let versioned = from_fn(uploads::versioned);
        let layered = |methods: MethodRouter<AppState>| {
            methods.route_layer(repeated).route_layer(versioned).route_layer(bounds).route_layer(guard)
        };
        router = router.routes(route.map(layered));
    }
    Router::from(router)
        .layer(Extension(http::openapi::Published(document_with(&http::cookie::name(&app)).into())))
        // `bounds` counts the bytes of every body.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .fallback(|| async { ApiError::not_found("address") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address does not take that method.",
            )
        })
        .layer(from_fn(uploads::announced))
        .layer(from_fn_with_state(http::refusals::Refusals::new(), http::refusals::told))
        .layer(from_fn_with_state(app.clone(), http::client::addressed))
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
