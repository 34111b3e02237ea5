//! From what a caller selects to the resources that it names, and to those that he may not take.

pub mod saved;

use std::collections::HashSet;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use unicode_segmentation::UnicodeSegmentation;
use uuid::Uuid;

use crate::db::closure::Resolved;
use crate::db::{self, DbError, PgConnection};
use crate::domain::json;
use crate::domain::resource::{ResourceId, parse_directory};
use crate::wire::selection::{ExportRequest, Forbidden, Selection};

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

/// What is selected.
pub(in crate::api) struct Selected {
    /// The selected resources; of a saved selection also those that are not there any more.
    pub(in crate::api) roots: Vec<ResourceId>,
    /// Export Upstream Resources.
    pub(in crate::api) upstream: bool,
    /// The caller named no IDs: what has gone meanwhile is no error.
    pub(in crate::api) found: bool,
    /// The same for the same selection of the same caller.
    pub(in crate::api) digest: String,
    /// From when on a change may be missing.
    pub(in crate::api) seen_from: DateTime<Utc>,
}

/// Since when what is selected is wanted.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) enum Since {
    /// All of it, whenever it was changed.
    Ever,
    /// What was changed since the last export of the selection.
    LastExport,
    /// What was changed since the last migration of it to a target.
    LastTo(Uuid),
}

impl Since {
    /// As an export or a migration says it.
    ///
    /// # Errors
    /// Exports are told apart by their saved selection alone.
    pub(in crate::api) fn of(request: &ExportRequest, target_id: Option<Uuid>) -> Result<Self, ApiError> {
        match (request.changed_since_last, target_id) {
            (false, _) => Ok(Self::Ever),
            (true, Some(target_id)) => Ok(Self::LastTo(target_id)),
            (true, None) if request.selection_id.is_some() => Ok(Self::LastExport),
            (true, None) => Err(ApiError::field("changed_since_last", "needs a selection_id, or a target")),
        }
    }
}

/// The selected resources.
pub(in crate::api) async fn select(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    request: &ExportRequest,
    since: Since,
) -> Result<Selected, ApiError> {
    let seen_from = db::selections::seen_from(connection).await?;
    let mut upstream = request.export_upstream;
    let (ids, selection, is_saved) = match (&request.resource_ids, &request.selection, request.selection_id) {
        (Some(ids), None, None) => (Some(ids.clone()), None, false),
        (None, Some(selection), None) => (None, Some(selection.clone()), false),
        (None, None, Some(id)) => {
            let saved = db::selections::by_id(connection, caller.domain_id(), id).await?;
            let saved = saved.ok_or_else(|| ApiError::field("selection_id", "names no selection of this domain"))?;
            upstream |= saved.export_upstream;
            let selection = saved.selection.map(serde_json::from_value).transpose();
            (saved.resource_ids, selection.map_err(|_| DbError::Corrupt("selections.selection"))?, true)
        }
        _ => {
            return Err(ApiError::field("resource_ids", "or selection or selection_id must be given, and only one"));
        }
    };
    // Two who do not see the same do not select the same.
    let seen_by = (!caller.sees_all()).then(|| caller.username());
    let digest = json::hash(&serde_json::json!({
        "ids": ids, "selection": selection, "saved": request.selection_id, "upstream": upstream, "seen_by": seen_by,
    }));
    let found = ids.is_none() || is_saved;
    let mut roots = match (ids, selection) {
        (Some(ids), _) if is_saved => still_readable(connection, caller, &ids).await?,
        (Some(ids), _) => named(connection, caller, &ids).await?,
        (None, selection) => matching(app, connection, caller, &selection.unwrap_or_default()).await?,
    };
    roots.sort_unstable();
    roots.dedup();
    let selected = Selected { roots, upstream, found, digest: digest.to_string(), seen_from };
    since_last(app, connection, caller, selected, since).await
}

/// Only what was changed since the last success, of all that it took along; everything where there was none.
async fn since_last(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    selected: Selected,
    since: Since,
) -> Result<Selected, ApiError> {
    let target_id = match since {
        Since::Ever => return Ok(selected),
        Since::LastExport => None,
        Since::LastTo(target_id) => Some(target_id),
    };
    let domain_id = caller.domain_id();
    let last = db::selections::last_success(connection, domain_id, &selected.digest, target_id).await?;
    let Some(last) = last else { return Ok(selected) };
    let resolved = db::closure::resolve(connection, &app.types, domain_id, &selected.roots, selected.upstream).await?;
    let ids: Vec<String> = resolved.nodes().iter().map(|node| node.id.as_str().to_owned()).collect();
    let changed = db::selections::changed(connection, domain_id, &ids, last).await?;
    let mut roots: Vec<ResourceId> = changed.iter().map(|id| ResourceId::parse(id)).collect::<Result<_, _>>()?;
    roots.sort_unstable();
    Ok(Selected { roots, found: true, ..selected })
}

/// A selection that says something, of types that are known.
pub(in crate::api) fn checked(app: &AppState, selection: &Selection) -> Result<Vec<String>, ApiError> {
    let nothing = selection.types.is_empty() && selection.directories.is_empty() && selection.changed_since.is_none();
    if !selection.all && nothing {
        return Err(ApiError::field("selection", "must say all, types, directories or changed_since"));
    }
    if let Some(unknown) = selection.types.iter().find(|key| app.types.get(key).is_none()) {
        return Err(ApiError::field("selection.types", format!("names {unknown}, which is not a resource type")));
    }
    time("selection.changed_since", selection.changed_since)?;
    Ok(selection.directories.iter().map(|text| parse_directory(text)).collect::<Result<Vec<_>, _>>()?)
}

/// What a selection finds, of what the caller may read.
async fn matching(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    selection: &Selection,
) -> Result<Vec<ResourceId>, ApiError> {
    let directories = checked(app, selection)?;
    let (types, since) = (&selection.types, selection.changed_since);
    let mut ids = db::resources::select(connection, caller.domain_id(), types, &directories, since).await?;
    if !caller.sees_all() {
        let own = db::lineage::nodes(connection, caller.domain_id(), &ids).await?;
        let readable = own.into_iter().filter(|node| caller.may_read(&node.owner, &node.directory));
        ids = readable.map(|node| node.id).collect();
    }
    Ok(ids.iter().map(|id| ResourceId::parse(id)).collect::<Result<_, _>>()?)
}

/// The resources of a saved selection, those too that are not there any more. Which ones the caller may not read he is
/// not told: he did not name them.
async fn still_readable(
    connection: &mut PgConnection,
    caller: &Caller,
    ids: &[String],
) -> Result<Vec<ResourceId>, ApiError> {
    let found = db::lineage::nodes(connection, caller.domain_id(), ids).await?;
    let unseen = found.iter().filter(|node| !caller.may_read(&node.owner, &node.directory)).count() as u64;
    if unseen > 0 {
        return Err(refused(vec![Forbidden { resource_id: None, count: unseen }]));
    }
    Ok(ids.iter().map(|id| ResourceId::parse(id)).collect::<Result<_, _>>()?)
}

/// Resources that the caller names.
pub(in crate::api) async fn named(
    connection: &mut PgConnection,
    caller: &Caller,
    ids: &[String],
) -> Result<Vec<ResourceId>, ApiError> {
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
            let message = |id: &ResourceId| format!("names {id}, which does not exist in this domain");
            let first = ApiError::field("resource_ids", message(id));
            let others = missing.iter().skip(1);
            Err(others.fold(first, |error, id| error.with("invalid_field", "resource_ids", message(id))))
        }
        Some(_) => {
            let lines = missing.iter().map(|id| Forbidden { resource_id: Some(id.to_string()), count: 1 }).collect();
            Err(refused(lines))
        }
    }
}

/// What of a closure the caller may not read: named if a definition that he may read holds its ID,
/// counted otherwise.
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
        named.iter().map(|id| Forbidden { resource_id: Some((*id).to_owned()), count: 1 }).collect();
    lines.sort_by(|a, b| a.resource_id.cmp(&b.resource_id));
    let counted = (hidden.len() - named.len()) as u64;
    if counted > 0 {
        lines.push(Forbidden { resource_id: None, count: counted });
    }
    lines
}

/// 403 `forbidden_resources`, with what stops the export.
pub(in crate::api) fn refused(lines: Vec<Forbidden>) -> ApiError {
    let count: u64 = lines.iter().map(|line| line.count).sum();
    let detail = format!(
        "The export would take along {count} resources that you may not read. Ask for access, or leave out what needs them."
    );
    lines.into_iter().fold(
        ApiError::new(StatusCode::FORBIDDEN, "forbidden_resources", detail),
        |error, line| match line.resource_id {
            Some(id) => error.with("forbidden_resources", &id, "You may not read it, or it does not exist."),
            None => error.with(
                "forbidden_resources",
                "",
                format!("{} more resources that you may not know of.", line.count),
            ),
        },
    )
}

/// The selected resources of a caller who may take all that they bring along.
pub(in crate::api) async fn allowed(
    app: &AppState,
    connection: &mut PgConnection,
    caller: &Caller,
    request: &ExportRequest,
    since: Since,
) -> Result<Selected, ApiError> {
    let selected = select(app, connection, caller, request, since).await?;
    if !caller.sees_all() {
        let domain_id = caller.domain_id();
        let resolved =
            db::closure::resolve(connection, &app.types, domain_id, &selected.roots, selected.upstream).await?;
        let lines = forbidden(caller, &resolved);
        if !lines.is_empty() {
            return Err(refused(lines));
        }
    }
    Ok(selected)
}
