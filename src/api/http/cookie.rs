//! The cookie of a session: what it is called, what it holds, and whether the page that it came from may use it.

use axum::http::{HeaderMap, header};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};

use crate::app::App;

/// What the names of all begin with.
pub(in crate::api) const NAME: &str = "ferry_session";

/// Only https brings users to this server.
fn is_secure(app: &App) -> bool {
    let server = &app.config.server;
    server.tls_cert.is_some() || server.public_url.as_deref().is_some_and(|url| url.starts_with("https:"))
}

/// Browsers share cookies between the ports of a host, so that each environment has a name of its own. By `__Host-`
/// they take it from this host alone, by https.
pub(in crate::api) fn name(app: &App) -> String {
    let prefix = if is_secure(app) { "__Host-" } else { "" };
    format!("{prefix}{NAME}_{}", app.identity.id.split('-').next().unwrap_or_default())
}

/// The browser forgets it when it is closed; how long it is good for is decided here.
pub(in crate::api) fn of(app: &App, key: String) -> Cookie<'static> {
    let built = Cookie::build((name(app), key)).path("/").http_only(true).same_site(SameSite::Strict);
    built.secure(is_secure(app)).build()
}

/// The key of the session whose cookie came along.
pub(in crate::api) fn key_of(app: &App, headers: &HeaderMap) -> Option<String> {
    let jar = CookieJar::from_headers(headers);
    jar.get(&name(app)).map(|cookie| cookie.value().to_owned()).filter(|key| !key.is_empty())
}

/// Whether a request that the cookie of a session came along with was made by our own page: a browser sends the
/// cookie with whatever another page makes it ask for. What no browser sends says neither, and is refused.
pub(in crate::api) fn is_own_page(app: &App, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key("sec-fetch-site") {
        return text("sec-fetch-site").is_some_and(|site| matches!(site, "same-origin" | "none"));
    }
    let origin = |url: &str| url::Url::parse(url).ok().map(|url| url.origin()).filter(url::Origin::is_tuple);
    let Some(given) = text(header::ORIGIN.as_str()).and_then(origin) else { return false };
    let public = app.config.server.public_url.as_deref().and_then(origin);
    let host = text(header::HOST.as_str());
    let here = ["http", "https"].into_iter().filter_map(|scheme| origin(&format!("{scheme}://{}", host?)));
    public.into_iter().chain(here).any(|own| own == given)
}
