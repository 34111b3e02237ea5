//! The document of the API (OpenAPI 3.1): what the handlers' annotations say, and what the table of routes adds.

use axum::Extension;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayItems, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, Content, Header, HttpMethod, KnownFormat, PathItem, Ref, RefOr, Response};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::UtoipaMethodRouter;

use crate::wire::Problem;

use super::AppState;
use super::auth::Needs;

/// The names of the security schemes.
const TOKEN: &str = "token";
const SESSION: &str = "session";

/// Problems that many operations have; the rest stands at the handlers.
const PROBLEMS: &[(&str, &str)] = &[
    ("401", "A valid token or session is needed; it may have ended or been revoked"),
    ("403", "These credentials do not have the permission that this needs, or another page asks by the cookie"),
    ("404", "It is not there, or not for the caller to know of"),
    ("408", "Nothing of the body arrived for a while"),
    ("409", "Its state does not allow it, or the first request with the Idempotency-Key is still being received"),
    ("412", "Another version of tus"),
    ("413", "The body is over a limit"),
    ("415", "The body has another media type than those of this operation"),
    ("422", "The body, a parameter or the address is wrong; `errors` names what"),
    ("500", "Something went wrong on the server; its log says what"),
    ("503", "Something else holds what this needs; try again after `Retry-After`"),
    ("507", "No space is left for what this would keep"),
];

/// What is true of the whole API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ferry",
        description = "Moves the resources of a BI and data-development platform from one environment to another.\n\n\
            Errors are problems (RFC 9457) with a stable `code`. Lists come in pages: hand `next_cursor` back as \
            `cursor`. Times are RFC 3339 in UTC. An answer 202 names the record to follow in `Location`.",
        license(name = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "This environment")),
    tags(
        (name = "environment", description = "Who this environment is, its switches and limits"),
        (name = "resource-types", description = "What kinds of resources there are"),
        (name = "resources", description = "The catalogue"),
        (name = "attachments", description = "Bytes that definitions name"),
        (name = "selections", description = "What exports and migrations take, under a name"),
        (name = "exports", description = "From the catalogue to a package"),
        (name = "uploads", description = "A package in pieces (tus 1.0)"),
        (name = "imports", description = "From a package to the catalogue"),
        (name = "mappings", description = "What was chosen for resources of other environments, and is chosen again"),
        (name = "rules", description = "How values change on their way from another environment"),
        (name = "approvals", description = "Imports that wait for a second person"),
        (name = "targets", description = "Environments to migrate to"),
        (name = "migrations", description = "From here to a target"),
        (name = "records", description = "What became of exports, imports and migrations"),
        (name = "checklist", description = "What imports left to do by hand"),
        (name = "session", description = "Who is asking"),
        (name = "sessions", description = "Where the caller is signed in"),
        (name = "users", description = "Users of a domain and their tokens"),
        (name = "roles", description = "What users may do: built-in roles and those of a domain"),
        (name = "grants", description = "Directories that are open to users beside their own resources"),
        (name = "trusted-sources", description = "Environments whose packages are verified by their key"),
        (name = "pinned-sources", description = "Environments whose key an executed import has made known"),
        (name = "domains", description = "The tenants of the environment"),
        (name = "audit", description = "Who did what to what, when and from where"),
        (name = "server", description = "Health, metrics, this document"),
    ),
    components(schemas(Problem))
)]
struct Head;

/// Bytes as they are.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Binary(#[expect(dead_code, reason = "only its schema is used")] Vec<u8>);

/// A package in a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct PackageForm {
    /// The `.zip`.
    package: Binary,
    /// What opens the secrets of the package, where it carries some; before or after it.
    passphrase: Option<String>,
}

/// The document as it is served.
#[derive(Clone)]
pub struct Published(pub Bytes);

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Object)))]
pub async fn show(Extension(Published(text)): Extension<Published>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// The document without an operation; `cookie` is the name of the session's.
pub fn head(cookie: &str) -> utoipa::openapi::OpenApi {
    let mut head = Head::openapi();
    let components = head.components.get_or_insert_with(Components::new);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token of a user")).build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    let description = "Set by `POST /api/v1/session`; its whole name, as a running server publishes it, ends with the \
        beginning of the environment's ID, and begins with `__Host-` by https. What changes something is taken from the \
        server's own page alone (`Sec-Fetch-Site`, `Origin`).";
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description(cookie, description));
    components.add_security_scheme(SESSION, SecurityScheme::ApiKey(cookie));
    for (status, description) in PROBLEMS {
        let mut response = Response::new(*description);
        response.content.insert("application/problem+json".to_owned(), problem().into());
        components.responses.insert(format!("Problem{status}"), response.into());
    }
    head
}

fn problem() -> Content {
    Content::new(Some(Ref::from_schema_name("Problem")))
}

/// Adds to a route's operations what follows from its address and from what it needs.
pub fn describe(needs: Needs, mut route: UtoipaMethodRouter<AppState>) -> UtoipaMethodRouter<AppState> {
    for (path, item) in &mut route.1.paths {
        for (method, operation) in operations(item) {
            name(path, operation);
            inputs(operation).for_each(not_null);
            permit(needs, operation);
            if is_making(path, &method, operation) {
                operation.parameters.get_or_insert_default().push(repeat_key().into());
            }
            answers(path, &method, needs, operation);
        }
    }
    route
}

/// What is true of the finished document only: plain spellings where routes and types have others.
pub fn finish(document: &mut utoipa::openapi::OpenApi) {
    // `{*path}` is a spelling of the router.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    // `List<T>` writes the fields of T out; T has a name.
    for (name, schema) in document.components.iter_mut().flat_map(|components| &mut components.schemas) {
        if let (Some(of), RefOr::T(Schema::Object(list))) = (name.strip_prefix("List_"), schema)
            && let Some(RefOr::T(Schema::Array(items))) = list.properties.get_mut("items")
        {
            items.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(of).into()));
        }
    }
}

/// What may be left out is not null: a header or a query cannot say so, and a body of `null` is refused.
fn not_null(schema: &mut RefOr<Schema>) {
    let null = |schema: &RefOr<Schema>| match schema {
        RefOr::T(Schema::Object(object)) => object.schema_type == SchemaType::Type(Type::Null),
        _ => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let [only, Type::Null] = types.as_slice()
            {
                object.schema_type = SchemaType::Type(only.clone());
            }
        }
        RefOr::T(Schema::OneOf(one)) => {
            one.items.retain(|item| !null(item));
            if let [only] = one.items.as_slice() {
                *schema = only.clone();
            }
        }
        _ => {}
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Head, &mut item.head),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
        (HttpMethod::Options, &mut item.options),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The schemas of parameters and bodies.
fn inputs(operation: &mut Operation) -> impl Iterator<Item = &mut RefOr<Schema>> {
    let parameters = operation.parameters.iter_mut().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => parameter.schema.as_mut(),
        RefOr::Ref(_) => None,
    });
    let body = match &mut operation.request_body {
        Some(RefOr::T(body)) => Some(body),
        _ => None,
    };
    let contents = body.into_iter().flat_map(|body| body.content.values_mut()).filter_map(|content| match content {
        RefOr::T(content) => content.schema.as_mut(),
        RefOr::Ref(_) => None,
    });
    parameters.chain(contents)
}

/// The noun of the address is the tag, and stands before the handler's name in the operation's ID.
fn name(path: &str, operation: &mut Operation) {
    let noun = path.strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next());
    let tag = noun.filter(|noun| !noun.contains('.')).unwrap_or("server");
    let verb = match noun {
        Some(noun) if tag == "server" => noun.replace('.', "_"),
        _ => operation.operation_id.take().unwrap_or_default(),
    };
    operation.operation_id = Some(format!("{}_{verb}", tag.replace('-', "_")));
    operation.tags = Some(vec![tag.to_owned()]);
}

fn permit(needs: Needs, operation: &mut Operation) {
    let (line, security) = match needs {
        Needs::Nothing => ("Needs no token.".to_owned(), Vec::new()),
        Needs::Token => ("Needs any valid token.".to_owned(), either(&[])),
        Needs::Permission(permission) => {
            let word = permission.as_str();
            operation.extensions.get_or_insert_default().insert("x-permission".to_owned(), word.into());
            (format!("Needs the permission `{word}`."), either(&[word]))
        }
        Needs::Either(one, other) => {
            let (word, other) = (one.as_str(), other.as_str());
            operation.extensions.get_or_insert_default().insert("x-permission".to_owned(), word.into());
            (format!("Needs the permission `{word}`, or `{other}`."), either(&[word]))
        }
    };
    let text = operation.description.take().filter(|text| !text.is_empty());
    operation.description = Some(text.map_or(line.clone(), |text| format!("{text}\n\n{line}")));
    operation.security = Some(security);
}

/// A token or a session, good for some permissions.
fn either(permissions: &[&str]) -> Vec<SecurityRequirement> {
    [TOKEN, SESSION].map(|scheme| SecurityRequirement::new(scheme, permissions.iter().copied())).to_vec()
}

/// A POST that makes something, and so may be repeated under a key.
fn is_making(path: &str, method: &HttpMethod, operation: &Operation) -> bool {
    let answers = |status: &str| operation.responses.responses.contains_key(status);
    *method == HttpMethod::Post && (answers("201") || answers("202") || path.ends_with("/batch"))
}

fn repeat_key() -> Parameter {
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some("The same key and request again: the first answer again"))
        .schema(Some(key))
        .build()
}

/// Adds the problems that follow from the operation's shape, and fills in what annotations leave out.
fn answers(path: &str, method: &HttpMethod, needs: Needs, operation: &mut Operation) {
    let media: Vec<&String> = match &operation.request_body {
        Some(RefOr::T(body)) => body.content.keys().collect(),
        _ => Vec::new(),
    };
    let any_media = media.iter().any(|media| *media == "application/octet-stream");
    let repeated = is_making(path, method, operation);
    let checked = operation.parameters.iter().flatten().any(|parameter| !is_uuid(parameter));
    let standard = [
        ("401", needs != Needs::Nothing),
        ("403", matches!(needs, Needs::Permission(_) | Needs::Either(..)) || needs == Needs::Token && !is_safe(method)),
        ("404", path.contains('{')),
        ("408", !media.is_empty()),
        ("409", repeated),
        ("412", path.starts_with("/api/v1/uploads") && needs != Needs::Nothing),
        ("413", true),
        ("415", !media.is_empty() && !any_media),
        ("422", !media.is_empty() || checked),
        ("500", true),
        ("503", needs != Needs::Nothing || !is_safe(method)),
        ("507", !is_safe(method)),
    ];
    let responses = &mut operation.responses.responses;
    for (status, _) in standard.into_iter().filter(|(_, possible)| *possible) {
        let shared = || Ref::from_response_name(format!("Problem{status}")).into();
        responses.entry(status.to_owned()).or_insert_with(shared);
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        let known = status.parse::<StatusCode>().ok();
        if response.description.is_empty() {
            response.description = known.and_then(|known| known.canonical_reason()).unwrap_or_default().to_owned();
        }
        if known.is_some_and(|known| known.is_client_error() || known.is_server_error()) {
            response.content.insert("application/problem+json".to_owned(), problem().into());
        }
        if status == "202" {
            let mut location = Header::default();
            location.description = Some("The record to follow".to_owned());
            response.headers.insert("Location".to_owned(), location.into());
        }
    }
}

/// Asks only; nothing changes.
fn is_safe(method: &HttpMethod) -> bool {
    matches!(method, HttpMethod::Get | HttpMethod::Head | HttpMethod::Options)
}

/// A UUID that is none names nothing, so it is no wrong parameter.
fn is_uuid(parameter: &RefOr<Parameter>) -> bool {
    let RefOr::T(parameter) = parameter else { return false };
    matches!(&parameter.schema, Some(RefOr::T(Schema::Object(object)))
        if object.schema_type == SchemaType::Type(Type::String)
            && object.format == Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
}
