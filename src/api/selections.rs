//! From what a caller selects to the resources that it names, and to those that he may not take.

use std::collections::HashSet;

use axum::http::StatusCode;
use unicode_segmentation::UnicodeSegmentation;

use crate::db::closure::Resolved;
use crate::db::{self, PgConnection};
use crate::domain::resource::{ResourceId, parse_directory};
use crate::wire::selection::{ExportRequest, Forbidden};

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::error::ApiError;
use crate::api::http::extract::time;

/// The package name: 1 to 20 characters as a person counts them, trimmed, no control characters.
pub(in crate::api) fn package_name(name: Option<&str>) -> Result<String, ApiError> {
    let name = name.unwrap_or_default().trim();
    let refuse = |reason: &str| {
        let detail = format!("The package name {reason}.");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "package_name_invalid", detail).with(
            "package_name_invalid",
            "name",
            reason,
        )
    };
    match name.graphemes(true).count() {
        _ if name.chars().any(char::is_control) => Err(refuse("must not contain control characters")),
        1..=20 if name.len() <= 1024 => Ok(name.to_owned()),
        _ => Err(refuse("must have 1 to 20 characters")),
    }
}

/// The selected resources.
pub(in crate::api) async fn roots(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    request: &ExportRequest,
) -> Result<Vec<ResourceId>, ApiError> {
    let mut roots = match (&request.resource_ids, &request.selection) {
        (Some(ids), None) => named(connection, caller, ids).await?,
        (None, Some(selection)) => {
            let nothing =
                selection.types.is_empty() && selection.directories.is_empty() && selection.changed_since.is_none();
            if !selection.all && nothing {
                return Err(ApiError::field("selection", "must say all, types, directories or changed_since"));
            }
            if let Some(unknown) = selection.types.iter().find(|key| app.types.get(key).is_none()) {
                return Err(ApiError::field(
                    "selection.types",
                    format!("names {unknown}, which is not a resource type"),
                ));
            }
            let since = time("selection.changed_since", selection.changed_since)?;
            let directories =
                selection.directories.iter().map(|text| parse_directory(text)).collect::<Result<Vec<_>, _>>()?;
            let found = db::resources::select(connection, caller.domain_id(), &selection.types, &directories, since);
            let mut ids = found.await?;
            if !caller.sees_all() {
                let own = db::lineage::nodes(connection, caller.domain_id(), &ids).await?;
                ids = own
                    .into_iter()
                    .filter(|node| caller.may_read(&node.owner, &node.directory))
                    .map(|node| node.id)
                    .collect();
            }
            ids.iter().map(|id| ResourceId::parse(id)).collect::<Result<_, _>>()?
        }
        _ => return Err(ApiError::field("resource_ids", "or selection must be given, and not both")),
    };
    roots.sort_unstable();
    roots.dedup();
    Ok(roots)
}

async fn named(connection: &mut PgConnection, caller: &Caller, ids: &[String]) -> Result<Vec<ResourceId>, ApiError> {
    if ids.is_empty() {
        return Err(ApiError::field("resource_ids", "must name at least one resource"));
    }
    let parsed =
        ids.iter().map(|id| ResourceId::parse(id).map_err(|refused| ApiError::field("resource_ids", refused.reason)));
    let parsed: Vec<ResourceId> = parsed.collect::<Result<_, _>>()?;
    let found = db::lineage::nodes(connection, caller.domain_id(), ids).await?;
    let readable: HashSet<&str> = found
        .iter()
        .filter(|node| caller.may_read(&node.owner, &node.directory))
        .map(|node| node.id.as_str())
        .collect();
    let missing: Vec<&ResourceId> = parsed.iter().filter(|id| !readable.contains(id.as_str())).collect();
    match missing.first() {
        None => Ok(parsed),
        Some(id) if caller.sees_all() => {
            Err(ApiError::field("resource_ids", format!("names {id}, which does not exist in this domain")))
        }
        Some(_) => {
            let lines =
                missing.iter().map(|id| Forbidden { resource_id: Some(id.to_string()), count: Some(1) }).collect();
            Err(refused(lines))
        }
    }
}

/// What of a closure the caller may not read: named if a definition that he may read holds its ID; that there is more,
/// but not how much, otherwise.
pub(in crate::api) fn forbidden(caller: &Caller, resolved: &Resolved) -> Vec<Forbidden> {
    let hidden: HashSet<&str> = resolved
        .nodes()
        .iter()
        .filter(|node| !caller.may_read(&node.owner, &node.directory))
        .map(|node| node.id.as_str())
        .collect();
    if hidden.is_empty() {
        return Vec::new();
    }
    let mut named = HashSet::new();
    let catalogue = &resolved.catalogue;
    for (from, link) in catalogue.graph.all().filter(|(_, link)| link.kind.is_some() && !link.by_name) {
        let (node, id) = (&catalogue.nodes[from as usize], catalogue.target(link));
        if hidden.contains(id) && caller.may_read(&node.owner, &node.directory) {
            named.insert(id);
        }
    }
    let mut lines: Vec<Forbidden> =
        named.iter().map(|id| Forbidden { resource_id: Some((*id).to_owned()), count: Some(1) }).collect();
    lines.sort_by(|a, b| a.resource_id.cmp(&b.resource_id));
    if hidden.len() > named.len() {
        lines.push(Forbidden { resource_id: None, count: None });
    }
    lines
}

/// 403 `forbidden_resources`, with what stops the export.
pub(in crate::api) fn refused(lines: Vec<Forbidden>) -> ApiError {
    let detail =
        "The export would take along resources that you may not read. Ask for access, or leave out what needs them.";
    lines.into_iter().fold(
        ApiError::new(StatusCode::FORBIDDEN, "forbidden_resources", detail),
        |error, line| match line.resource_id {
            Some(id) => error.with("forbidden_resources", &id, "You may not read it, or it does not exist."),
            None => error.with("forbidden_resources", "", "Others that you may not know of."),
        },
    )
}

/// The selected resources of a caller who may take all that they bring along.
pub(in crate::api) async fn allowed_roots(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    request: &ExportRequest,
) -> Result<Vec<ResourceId>, ApiError> {
    let roots = roots(app, connection, caller, request).await?;
    if !caller.sees_all() {
        let resolved =
            db::closure::resolve(connection, &app.types, caller.domain_id(), &roots, request.export_upstream).await?;
        let lines = forbidden(caller, &resolved);
        if !lines.is_empty() {
            return Err(refused(lines));
        }
    }
    Ok(roots)
}
