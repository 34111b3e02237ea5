//! Pages for people, out of the program itself: `/docs`. Nothing here asks another host for anything.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// Our own files.
#[derive(RustEmbed)]
#[folder = "ui/docs"]
struct Docs;

/// What shows the document; empty where the program was built without Node.
#[derive(RustEmbed)]
#[folder = "ui/node_modules/swagger-ui-dist"]
#[include = "swagger-ui-bundle.js"]
#[include = "swagger-ui.css"]
struct Bundle;

/// Scripts and styles are files of ours; the bundle draws its icons from `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The pages.
pub fn router() -> Router {
    Router::new().route("/docs", get(docs)).route("/docs/{file}", get(asset))
}

async fn docs(headers: HeaderMap) -> Response {
    let built = Bundle::get("swagger-ui-bundle.js").is_some() && Bundle::get("swagger-ui.css").is_some();
    let name = if built { "index.html" } else { "missing.html" };
    answer(&headers, name, Docs::get(name))
}

async fn asset(headers: HeaderMap, Path(name): Path<String>) -> Response {
    let found = Bundle::get(&name).or_else(|| Docs::get(&name).filter(|_| !name.ends_with(".html")));
    answer(&headers, &name, found)
}

/// A file, or 304 to whoever has it.
fn answer(headers: &HeaderMap, name: &str, file: Option<EmbeddedFile>) -> Response {
    let Some(file) = file else { return (StatusCode::NOT_FOUND, "There is no such page.").into_response() };
    let etag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let charset = if kind.type_() == mime_guess::mime::TEXT { "; charset=utf-8" } else { "" };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes());
    let answer = [
        (header::CONTENT_TYPE, format!("{kind}{charset}")),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, etag),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    (answer, file.data).into_response()
}
