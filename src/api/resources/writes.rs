//! Writing resources: one, a batch, deleting. Definitions, references and hashes change together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::db::definitions::Bodies;
use crate::db::merge::Writer;
use crate::db::resources::{self, Current};
use crate::db::staging::{Replaced, Staged, StagedResource};
use crate::db::{self, PgConnection};
use crate::domain::content::{self, Content};
use crate::domain::resource::{Hash, ResourceId, content_hash, parse_directory, parse_name};
use crate::domain::resource_type::ResourceType;
use crate::wire::FieldProblem;
use crate::wire::resource::{BatchLine, BatchResult, PutResource, Resource};

use crate::api::http::AppState;
use crate::api::http::audited::note;
use crate::api::http::auth::Caller;
use crate::api::http::bodies::{receive, whole};
use crate::api::http::error::ApiError;
use crate::api::http::extract::{JsonBody, Path, Query, is_media_type, parse};
use crate::api::http::idempotency::Once;
use crate::api::resources::answer;

/// Lines of a batch that are worked on together, and their bytes.
const PORTION: usize = 1_000;
const PORTION_BYTES: usize = 4 * 1024 * 1024;
/// Most lines of a batch.
const MAX_LINES: usize = 1_000_000;

/// Creates or replaces a resource.
#[utoipa::path(
    put, path = "/api/v1/resources/{id}",
    params(("If-Match" = Option<String>, Header, description = "A revision in quotes; `*`: it must exist")),
    request_body = PutResource,
    responses(
        (status = 200, body = Resource, description = "Replaced", headers(("ETag" = String))),
        (status = 201, body = Resource, description = "Created", headers(("ETag" = String))),
        (status = 409, description = "The ID or the name is taken, or the ID is of another type"),
        (status = 412, description = "It has another revision"),
    )
)]
pub async fn put(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<PutResource>,
) -> Result<Response, ApiError> {
    let id = ResourceId::parse(&id)?;
    let mut transaction = app.pool.begin().await?;
    let mut write = Write::begin(&app, &caller, &mut transaction).await?;
    let line = BatchLine {
        id: id.to_string(),
        kind: body.kind,
        name: body.name,
        directory: body.directory,
        definition: body.definition,
    };
    write.expected = expected_revision(&headers)?;
    write.portion(&mut transaction, vec![(0, line)]).await.map_err(|(_, error)| error)?;
    let done = write.finish(&mut transaction).await.map_err(|(_, error)| error)?;
    let row = resources::by_id(&mut transaction, caller.domain_id(), id.as_str()).await?;
    let row = row.ok_or_else(|| ApiError::not_found("resource"))?;
    let what = if done.created > 0 { "created" } else { ["unchanged", "updated"][usize::from(done.updated > 0)] };
    let details = serde_json::json!({"type": row.kind, "name": row.name, "revision": row.revision, "outcome": what});
    note(&mut transaction, &caller, "resource.write", ("resource", &id), details).await?;
    let shown = answer(&app, &mut transaction, &caller, row).await?;
    transaction.commit().await?;
    let status = if done.created > 0 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, shown).into_response())
}

/// `If-Match`: a revision in quotes, or `*` for any.
fn expected_revision(headers: &HeaderMap) -> Result<Option<Option<i64>>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Some(None));
    }
    let revision = text.trim_start_matches("W/").trim_matches('"').parse();
    revision
        .map(|revision| Some(Some(revision)))
        .map_err(|_| ApiError::field("If-Match", "must be a revision in quotes"))
}

/// Creates or replaces many resources, all or none.
///
/// A line each; a bad one is named by its number.
#[utoipa::path(
    post, path = "/api/v1/resources/batch",
    request_body(content = BatchLine, content_type = "application/x-ndjson", description = "One such object a line"),
    responses(
        (status = 200, body = BatchResult),
        (status = 409, description = "An ID or a name is taken, or an ID is of another type"),
    )
)]
pub async fn batch(
    State(app): State<AppState>,
    caller: Caller,
    once: Once,
    request: Request,
) -> Result<Json<BatchResult>, ApiError> {
    if !is_media_type(request.headers(), &["application/x-ndjson", "application/ndjson", "application/jsonl"]) {
        return Err(ApiError::media_type("application/x-ndjson"));
    }
    // Nothing is held while the body is on its way.
    let (file, ..) = receive(&app, whole(request.into_body()), app.config.limits.max_package_bytes).await?;
    let longest = app.config.limits.max_definition_bytes + 64 * 1024;
    let mut lines = tokio_util::codec::FramedRead::new(
        tokio::fs::File::open(file.path()).await?,
        tokio_util::codec::LinesCodec::new_with_max_length(usize::try_from(longest).unwrap_or(usize::MAX)),
    );
    let mut transaction = app.pool.begin().await?;
    let mut write = Write::begin(&app, &caller, &mut transaction).await?;
    let at_line = |(line, error): (usize, ApiError)| error.at(&format!("line {}", line + 1));
    let mut portion = Vec::with_capacity(PORTION);
    let (mut number, mut bytes) = (0, 0);
    while let Some(line) = lines.try_next().await.map_err(|error| unreadable(&error, number, longest))? {
        if number >= MAX_LINES {
            let detail = format!("A batch has at most {MAX_LINES} lines.");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
        }
        if !line.trim().is_empty() {
            portion.push((number, parse(line.as_bytes()).map_err(|error| at_line((number, error)))?));
        }
        number += 1;
        bytes += line.len();
        if portion.len() == PORTION || bytes > PORTION_BYTES {
            write.portion(&mut transaction, std::mem::take(&mut portion)).await.map_err(at_line)?;
            bytes = 0;
        }
    }
    write.portion(&mut transaction, portion).await.map_err(at_line)?;
    let done = write.finish(&mut transaction).await.map_err(at_line)?;
    note(&mut transaction, &caller, "resource.batch", ("resources", "batch"), serde_json::json!(done)).await?;
    once.keep(&mut transaction, StatusCode::OK, None, &done, None).await?;
    transaction.commit().await?;
    Ok(Json(done))
}

fn unreadable(error: &tokio_util::codec::LinesCodecError, number: usize, longest: u64) -> ApiError {
    match error {
        tokio_util::codec::LinesCodecError::MaxLineLengthExceeded => {
            ApiError::too_large(longest).at(&format!("line {}", number + 1))
        }
        tokio_util::codec::LinesCodecError::Io(_) => {
            ApiError::body("The body was cut off, or is not UTF-8.").at(&format!("line {}", number + 1))
        }
    }
}

/// An error and the line that it is about.
pub(in crate::api) type AtLine = (usize, ApiError);

/// Resources on their way into the catalogue, in one transaction.
pub(in crate::api) struct Write<'a> {
    app: &'a AppState,
    caller: &'a Caller,
    staged: Staged,
    bodies: Bodies,
    seen: HashSet<ResourceId>,
    done: BatchResult,
    acyclic: bool,
    /// `If-Match`, for a single write.
    expected: Option<Option<i64>>,
}

/// A line that is a resource.
struct Checked {
    number: usize,
    id: ResourceId,
    kind: Arc<ResourceType>,
    name: String,
    directory: String,
    content: Content,
}

impl<'a> Write<'a> {
    pub(in crate::api) async fn begin(
        app: &'a AppState,
        caller: &'a Caller,
        connection: &mut PgConnection,
    ) -> Result<Self, ApiError> {
        db::locks::share_catalogue(connection, caller.domain_id()).await?;
        db::locks::check_types(connection, &app.types_digest).await?;
        db::staging::ensure(connection).await?;
        Ok(Self {
            app,
            caller,
            staged: Staged::default(),
            bodies: Bodies::begin(connection).await?,
            seen: HashSet::new(),
            done: BatchResult::default(),
            acyclic: false,
            expected: None,
        })
    }

    /// Checks and stages some lines.
    pub(in crate::api) async fn portion(
        &mut self,
        connection: &mut PgConnection,
        lines: Vec<(usize, BatchLine)>,
    ) -> Result<(), AtLine> {
        let Some(first) = lines.first().map(|(number, _)| *number) else { return Ok(()) };
        let plain = |error: db::DbError| (first, ApiError::from(error));
        let mut checked = Vec::with_capacity(lines.len());
        for (number, line) in lines {
            checked.push(self.check(number, line).map_err(|error| (number, error))?);
        }
        let ids: Vec<String> = checked.iter().map(|line| line.id.to_string()).collect();
        let current = resources::lock(connection, &ids).await.map_err(plain)?;
        let current: HashMap<String, Current> = current.into_iter().map(|row| (row.id.clone(), row)).collect();
        let paths: Vec<String> = checked.iter().flat_map(|line| &line.content.parts.attachments).cloned().collect();
        let (mut hashes, mut hidden) = (HashMap::new(), HashSet::new());
        if !paths.is_empty() {
            let found = db::attachments::by_paths(connection, self.caller.domain_id(), &paths).await.map_err(plain)?;
            if !self.caller.sees_all() {
                let (domain_id, sight) = (self.caller.domain_id(), &self.caller.sight);
                let known: Vec<String> = found.keys().cloned().collect();
                hidden =
                    db::attachments::named_out_of_sight(connection, domain_id, &known, sight).await.map_err(plain)?;
            }
            hashes.extend(found.into_iter().map(|(path, found)| (path, found.sha256)));
        }
        for line in checked {
            let number = line.number;
            let old = current.get(line.id.as_str());
            self.check_old(&line.id, &line.kind.key, &line.directory, old).map_err(|error| (number, error))?;
            if line.content.parts.attachments.iter().any(|path| hidden.contains(path)) {
                // What one has never read does not become readable by being named.
                let reason = "names an attachment that you may not read";
                let detail = format!("The definition of {} {reason}.", line.id);
                let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "resource_invalid", detail);
                return Err((number, error.with("resource_invalid", "definition", reason)));
            }
            self.stage(line, old, &hashes).map_err(|error| (number, error))?;
        }
        self.bodies.send(connection).await.map_err(plain)?;
        self.staged.send(connection, 1024 * 1024).await.map_err(plain)
    }

    /// A line by itself: identity, type, schema, references.
    fn check(&mut self, number: usize, line: BatchLine) -> Result<Checked, ApiError> {
        let id = ResourceId::parse(&line.id)?;
        let (name, directory) = (parse_name(&line.name)?, parse_directory(&line.directory)?);
        let resource_type = self.app.types.get(&line.kind).cloned().ok_or_else(|| {
            let detail = format!("The environment does not know the resource type {}.", line.kind);
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "type_unknown", detail).with(
                "type_unknown",
                "type",
                "is not known",
            )
        })?;
        if !self.seen.insert(id.clone()) {
            return Err(ApiError::field("id", "stands in the batch twice"));
        }
        let content = Content::parse(&resource_type, line.definition)?;
        if content.body.len() as u64 > self.app.config.limits.max_definition_bytes {
            return Err(ApiError::too_large(self.app.config.limits.max_definition_bytes));
        }
        self.acyclic |= content.parts.references.iter().any(|found| resource_type.rules[found.rule as usize].acyclic);
        Ok(Checked { number, id, kind: resource_type, name, directory, content })
    }

    /// A line beside what stands under its ID.
    fn stage(&mut self, line: Checked, old: Option<&Current>, paths: &HashMap<String, Hash>) -> Result<(), ApiError> {
        let Checked { number, id, kind, name, directory, content } = line;
        let Content { body, hash, parts, taken, markers, .. } = content;
        let own = resources::overlay(old.and_then(|old| old.overlay.as_deref()))?;
        let mut sealing = Ok(());
        let overlay = content::written(taken, markers, &own, &mut |secret| {
            self.app.sealer.seal_value(id.as_str(), secret).unwrap_or_else(|error| {
                sealing = Err(error);
                String::new()
            })
        })?;
        sealing?;
        let same_body = old.filter(|old| old.definition_hash == hash.0).map(|old| old.definition_id);
        let same = |old: &Current| {
            same_body.is_some() && old.name == name && old.directory == directory && own.places() == overlay.places()
        };
        if old.is_some_and(same) {
            self.done.unchanged += 1;
            return Ok(());
        }
        let attachments: Vec<_> =
            parts.attachments.iter().map(|path| (path.clone(), paths.get(path).copied())).collect();
        let base = old.map(|old| {
            let parts_hash = Hash::from_slice(&old.parts_hash).ok_or(db::DbError::Corrupt("resources.parts_hash"))?;
            Ok::<_, db::DbError>(Replaced { revision: old.revision, parts_hash })
        });
        self.staged.add(&StagedResource {
            ordinal: number as i32,
            id: &id,
            kind: &kind,
            name: &name,
            directory: &directory,
            owner: self.caller.username(),
            definition_id: same_body.unwrap_or_else(|| self.bodies.add(&body)),
            definition_hash: hash,
            content_hash: content_hash(&kind.key, &name, &directory, &hash, &attachments),
            overlay: &overlay,
            parts: &parts,
            attachments: &attachments,
            base: base.transpose()?,
        });
        *(if old.is_some() { &mut self.done.updated } else { &mut self.done.created }) += 1;
        Ok(())
    }

    /// What stands under the ID may be replaced by the caller.
    fn check_old(&self, id: &ResourceId, kind: &str, directory: &str, old: Option<&Current>) -> Result<(), ApiError> {
        let moved = |detail: &str| ApiError::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail);
        let Some(old) = old else {
            return match self.expected {
                Some(_) => Err(moved("The resource does not exist, so it has no revision to match.")),
                None => Ok(()),
            };
        };
        if old.domain_id != self.caller.domain_id() {
            return Err(ApiError::conflict(format!("The ID {id} cannot be used in this domain; choose another.")));
        }
        if !self.caller.may_read(&old.owner, &old.directory) {
            return Err(ApiError::conflict(format!("The ID {id} is taken; choose another.")));
        }
        self.caller.require_write(id, &old.owner, &old.directory)?;
        self.caller.require_write(id, &old.owner, directory)?;
        if old.kind != kind {
            let detail = format!("The resource {id} is a {}; an ID keeps its type.", old.kind);
            return Err(ApiError::new(StatusCode::CONFLICT, "type_mismatch", detail));
        }
        match self.expected {
            Some(Some(revision)) if revision != old.revision => Err(moved(&format!(
                "The resource has revision {} by now. Read it again and repeat the change.",
                old.revision
            ))),
            _ => Ok(()),
        }
    }

    /// Merges what is staged.
    pub(in crate::api) async fn finish(mut self, connection: &mut PgConnection) -> Result<BatchResult, AtLine> {
        let domain_id = self.caller.domain_id();
        let plain = |error: db::DbError| (0, ApiError::from(error));
        self.staged.send(connection, 1).await.map_err(plain)?;
        if self.done.created + self.done.updated == 0 {
            return Ok(self.done);
        }
        db::staging::analyze(connection).await.map_err(plain)?;
        if self.acyclic {
            db::locks::hold_acyclic(connection, domain_id).await.map_err(plain)?;
        }
        db::tombstones::of_staged(connection, domain_id).await.map_err(plain)?;
        let writer = Writer { domain_id, username: self.caller.username(), record_id: None, source_environment: None };
        db::merge::resources(connection, &writer).await.map_err(plain)?;
        if let Some((line, kind, name)) = resources::staged_clash(connection, domain_id).await.map_err(plain)? {
            let message = self.app.types.get(&kind).map_or_else(String::new, |kind| kind.duplicate_name(&name));
            let error = ApiError::new(StatusCode::CONFLICT, "duplicate_name", message.clone()).with(
                "duplicate_name",
                "name",
                message,
            );
            return Err((line as usize, error));
        }
        if self.acyclic {
            self.refuse_cycles(connection).await?;
        }
        Ok(self.done)
    }

    async fn refuse_cycles(&self, connection: &mut PgConnection) -> Result<(), AtLine> {
        let plain = |error: db::DbError| (0, ApiError::from(error));
        let circles = db::graph::staged_circles(connection, self.caller.domain_id()).await.map_err(plain)?;
        let Some((id, line)) = circles.staged.iter().min_by_key(|(_, line)| *line) else { return Ok(()) };
        // Others on it that he may not read are not told of.
        let ids: Vec<String> = circles.all.iter().map(ResourceId::to_string).collect();
        let mut nodes = db::lineage::nodes(connection, self.caller.domain_id(), &ids).await.map_err(plain)?;
        nodes.retain(|node| self.caller.may_read(&node.owner, &node.directory));
        let mut ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        ids.sort_unstable();
        ids.truncate(10);
        let detail = format!(
            "With this change {id} would be its own subprocess; on the circle: {}. Remove one of these references.",
            ids.join(", ")
        );
        let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "subprocess_cycle", detail.clone());
        Err((*line as usize, error.with("subprocess_cycle", "definition", detail)))
    }
}

/// Whether to delete what others need.
#[derive(Debug, Deserialize, IntoParams)]
pub struct DeleteQuery {
    /// Also if others refer to it.
    #[serde(default)]
    force: bool,
}

/// Deletes a resource; a tombstone stays. 409 with the dependents unless forced.
#[utoipa::path(
    delete, path = "/api/v1/resources/{id}",
    params(DeleteQuery),
    responses((status = 204), (status = 409, description = "Others refer to it; `errors` names them"))
)]
pub async fn delete(
    State(app): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, ApiError> {
    let id = ResourceId::parse(&id)?;
    let mut transaction = app.pool.begin().await?;
    db::locks::share_catalogue(&mut transaction, caller.domain_id()).await?;
    let ids = [id.to_string()];
    let found = resources::lock(&mut transaction, &ids).await?.pop();
    let found = found
        .filter(|row| row.domain_id == caller.domain_id() && caller.may_read(&row.owner, &row.directory))
        .ok_or_else(|| ApiError::not_found("resource"))?;
    caller.require_write(&id, &found.owner, &found.directory)?;
    if !query.force {
        let dependents = db::graph::referrers(&mut transaction, caller.domain_id(), &ids, None).await?;
        let users: HashSet<String> =
            dependents.into_iter().map(|found| found.from_id).filter(|id| *id != ids[0]).collect();
        if !users.is_empty() {
            let users: Vec<String> = users.into_iter().collect();
            let mut names = db::lineage::nodes(&mut transaction, caller.domain_id(), &users).await?;
            names.retain(|node| caller.may_read(&node.owner, &node.directory));
            names.sort_by(|a, b| a.id.cmp(&b.id));
            let line = |node: &db::lineage::Node| FieldProblem {
                code: "dependent".to_owned(),
                field: node.id.clone(),
                message: format!("The {} {} refers to it.", node.kind, node.name),
            };
            let who = match (names.len(), names.len() < users.len()) {
                (0, _) => "Resources that you may not see refer to it.".to_owned(),
                (seen, false) => format!("{seen} resources refer to it."),
                (seen, true) => format!("{seen} resources refer to it, and such as you may not see."),
            };
            let detail = format!("{who} Change them first, or delete with ?force=true.");
            return Err(ApiError::conflict(detail).with_all(names.iter().map(line).collect()));
        }
    }
    resources::delete(&mut transaction, caller.domain_id(), id.as_str(), caller.username()).await?;
    let details = serde_json::json!({"type": found.kind, "name": found.name, "forced": query.force});
    note(&mut transaction, &caller, "resource.delete", ("resource", &id), details).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
