//! What an environment that is about to send a package need not send. Answers about the caller's own domain
//! alone: what another one has cannot be found out here.

use std::collections::{HashMap, HashSet};

use axum::Json;
use axum::extract::{Request, State};
use futures_util::TryStreamExt;
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::db::contents::{self, Wanted};
use crate::db::facts;
use crate::db::{DbError, PgConnection, index_pages};
use crate::domain::import_plan::{self, Entry, IdMode};
use crate::domain::pages::PageLine;
use crate::domain::resource::{Hash, ResourceId};
use crate::planning::{self, FreshFrom};
use crate::wire::import::{Lacking, LackingHead, LackingLine};

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::bodies::{receive, whole};
use crate::api::http::error::ApiError;
use crate::api::http::extract::{is_media_type, parse};

/// Longest line, in bytes: the first one holds options.
const LONGEST: usize = 16 * 1024 * 1024;

/// Says which contents are to be sent.
#[utoipa::path(
    post, path = "/api/v1/imports/lacking",
    request_body(
        content((LackingHead = "application/x-ndjson")),
        description = "First such a line, then lines `{id, content_hash}` and `{attachment}`"
    ),
    responses((status = 200, body = Lacking))
)]
pub async fn lacking(State(app): State<AppState>, caller: Caller, request: Request) -> Result<Json<Lacking>, ApiError> {
    if !is_media_type(request.headers(), &["application/x-ndjson", "application/ndjson", "application/jsonl"]) {
        return Err(ApiError::media_type("application/x-ndjson"));
    }
    let mut asked = Asked::read(&app, request).await?;
    let mut connection = app.pool.acquire().await?;
    let unknown_pages = asked.add_pages(&mut connection, caller.domain_id()).await?;
    let present = present(&app, &mut connection, caller.domain_id(), &asked).await?;
    let bytes = contents::attachments(&mut connection, caller.domain_id(), &asked.attachments).await?;
    let missing = |hash: &&Hash| !bytes.contains_key(hash);
    Ok(Json(Lacking {
        ids: asked.order.into_iter().filter(|id| !present.contains(id)).collect(),
        attachments: asked.attachments.iter().filter(missing).map(Hash::to_string).collect(),
        unknown_pages,
    }))
}

/// A request, read.
struct Asked {
    head: LackingHead,
    /// Resource IDs as they were asked for.
    order: Vec<String>,
    wanted: Wanted,
    attachments: HashSet<Hash>,
}

impl Asked {
    async fn read(app: &AppState, request: Request) -> Result<Self, ApiError> {
        let most = app.config.limits.max_resources;
        let (file, ..) = receive(app, whole(request.into_body()), app.config.limits.max_package_bytes).await?;
        let file = tokio::fs::File::open(file.path()).await?;
        let mut lines = FramedRead::new(file, LinesCodec::new_with_max_length(LONGEST));
        let unreadable = |_| ApiError::body("The body is not UTF-8, or has a line that is too long.");
        let first = lines.try_next().await.map_err(unreadable)?.unwrap_or_default();
        let head: LackingHead = parse(first.as_bytes()).map_err(|error| error.at("line 1"))?;
        let mut asked = Self { head, order: Vec::new(), wanted: HashMap::new(), attachments: HashSet::new() };
        let mut number = 1;
        while let Some(line) = lines.try_next().await.map_err(unreadable)? {
            number += 1;
            if number > most {
                let detail = format!("At most {most} lines are taken at once.");
                return Err(ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
            }
            if line.trim().is_empty() {
                continue;
            }
            let line: LackingLine = parse(line.as_bytes()).map_err(|error| error.at(&format!("line {number}")))?;
            asked.add(line).map_err(|error| error.at(&format!("line {number}")))?;
        }
        Ok(asked)
    }

    /// Adds what stands in pages that the domain knows of that source; tells those that it does not.
    async fn add_pages(&mut self, connection: &mut PgConnection, domain_id: i32) -> Result<Vec<String>, ApiError> {
        let wrong = || ApiError::field("pages", "must be of 64 hex digits each");
        let names: Vec<Hash> =
            self.head.pages.iter().map(|text| Hash::parse(text).ok_or_else(wrong)).collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let known = index_pages::find(connection, domain_id, &self.head.source_environment, &names).await?;
        for line in known.values().flat_map(|lines| lines.lines()) {
            let line: PageLine = serde_json::from_str(line).map_err(|_| DbError::Corrupt("index page"))?;
            let id = line.id.to_string();
            self.attachments.extend(line.attachments.into_iter().filter_map(|(_, hash)| hash));
            if self.wanted.insert(id.clone(), line.content_hash).is_none() {
                self.order.push(id);
            }
        }
        let unknown = self.head.pages.iter().zip(&names).filter(|(_, name)| !known.contains_key(name));
        Ok(unknown.map(|(text, _)| text.clone()).collect())
    }

    fn add(&mut self, line: LackingLine) -> Result<(), ApiError> {
        let hash = |field: &str, text: &str| {
            Hash::parse(text).ok_or_else(|| ApiError::field(field, "must be sha256: and 64 hex digits"))
        };
        match line {
            LackingLine { attachment: Some(text), id: None, .. } => {
                self.attachments.insert(hash("attachment", &text)?);
            }
            LackingLine { id: Some(id), content_hash: Some(text), attachment: None } => {
                let id = ResourceId::parse(&id)?.to_string();
                if self.wanted.insert(id.clone(), hash("content_hash", &text)?).is_none() {
                    self.order.push(id);
                }
            }
            _ => return Err(ApiError::body("It must hold id and content_hash, or attachment.")),
        }
        Ok(())
    }
}

/// The resources whose contents need not be sent: the domain has the same, or what they became under the same
/// remapping still stands. Nothing of a type that the two environments describe differently.
async fn present(
    app: &AppState,
    connection: &mut PgConnection,
    domain_id: i32,
    asked: &Asked,
) -> Result<HashSet<String>, ApiError> {
    let mut options =
        planning::options(&asked.head.options).map_err(|(field, message)| ApiError::field(&field, message))?;
    if options.ids == IdMode::Change {
        return Ok(HashSet::new());
    }
    let same_type = |key: &str| {
        app.types
            .get(key)
            .is_some_and(|kind| asked.head.types.get(key).is_some_and(|other| *other == kind.digest.to_string()))
    };
    let own = contents::own(connection, domain_id, &asked.wanted).await?;
    let mut present: HashSet<String> = own.into_iter().filter(|(_, key)| same_type(key)).map(|(id, _)| id).collect();
    let mut rest = asked.wanted.clone();
    rest.retain(|id, _| !present.contains(id));
    let bases = contents::bases(connection, &app.types, domain_id, &asked.head.source_environment, &rest).await?;
    if bases.is_empty() {
        return Ok(present);
    }
    let (entries, remappings): (Vec<Entry>, Vec<String>) = bases.into_iter().unzip();
    let source = &asked.head.source_environment;
    let place = (domain_id, source.as_str());
    planning::remembered::choose(connection, place, &entries, &asked.head.options, &mut options).await?;
    let facts = facts::load(connection, &app.types, domain_id, source, &entries, &options).await?;
    let fresh = FreshFrom(uuid::Uuid::nil());
    let now = import_plan::remappings(&entries, &app.types, &facts, &options, &fresh);
    let same = entries.into_iter().zip(remappings).zip(now).filter(|((_, before), now)| before == now);
    present
        .extend(same.filter(|((entry, _), _)| same_type(&entry.type_key)).map(|((entry, _), _)| entry.id.to_string()));
    Ok(present)
}
