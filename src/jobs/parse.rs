//! Parsing an uploaded package: the index first; what the domain has is left unread, everything else is read once,
//! checked, brought down to what a plan needs, and its body written where nobody sees it yet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::info;

use crate::app::App;
use crate::db::definitions::{self, Bodies};
use crate::db::records::{Kept, Next, Note, Parsed as ParsedRecord, Record};
use crate::db::standing::Listed;
use crate::db::{self, Acquire, DbError, PgConnection};
use crate::domain::approval::Approval;
use crate::domain::import_plan::Entry;
use crate::domain::manifest::Manifest;
use crate::domain::pages::{PAGED, Page};
use crate::domain::record::JobKind;
use crate::domain::record::{Phase, Progress};
use crate::domain::resource::{Hash, ResourceId};
use crate::domain::transfer::Run;
use crate::package::reader::{Lines, Package};
use crate::package::{PackageError, attachment_name};
use crate::planning::{self, Import, Planning};
use crate::store::attachment_key;
use crate::trust;
use crate::wire::record::PlanRequest;

use super::decode::decode;
use super::index::{self, Index};
use super::{Context, JobError, blocking, standing};

/// Batches of lines worked on at once.
const AT_ONCE: usize = 2;
/// The record's progress is reported each time so many resources are done.
const REPORT: usize = 5_000;
/// From so many resources on, the record says that it is planned.
const PLANNED: usize = 1_000;
/// Bodies are sent when this many bytes are gathered.
const SEND_BYTES: usize = 4 * 1024 * 1024;

/// What is wrong with a package itself: no setting of this environment cures it.
const HOPELESS: [&str; 4] = ["package_tampered", "package_unreadable", "package_foreign", "package_incomplete"];

/// Parses a package and plans its import with the record's options. One that is refused is kept as long as any other,
/// for what it was refused for may change here and then it is tried again; but not one that is wrong itself.
pub(super) async fn run(context: Context) -> Result<(), JobError> {
    let record = context.record().await?;
    match (parse_and_plan(&context, &record).await, &record.package_key) {
        (Err(JobError::Fail(error)), Some(key)) if HOPELESS.contains(&error.code.as_str()) => {
            info!(record = %record.id, code = error.code, message = error.message, "the package is refused");
            // First the reason: another run would only find the package gone.
            context.fail(error).await?;
            Ok(context.app.store.delete(key).await?)
        }
        (parsed, _) => parsed,
    }
}

async fn parse_and_plan(context: &Context, record: &Record) -> Result<(), JobError> {
    let app = &context.app;
    let package = open(app, record).await?;
    let manifest = package.manifest.clone();
    let mut connection = context.connection().await?;
    let Parsed { mut entries, standing, block, unsent, pages, package } =
        read(context, &mut connection, (record, &manifest), package).await?;
    let package = carry(app, &mut connection, record, package, &mut entries).await?;
    drop(package);

    if entries.len() >= PLANNED {
        context.phase(Phase::Planning).await?;
    }
    let mut transaction = connection.begin().await?;
    if let Some(mut bodies) = unsent {
        definitions::note_run(&mut transaction, block, record.id).await?;
        bodies.send(&mut transaction).await?;
    }
    let signature = trust::check(app, &mut transaction, record.domain_id, &manifest.environment).await?;
    let options = PlanRequest::of(&record.options).ok_or(DbError::Corrupt("records.options"))?;
    let import = Import { app, record, manifest: &manifest, request: &options, entries: &entries };
    let (plan, items, next) = match &standing {
        Some(_) => {
            let (plan, items) = planning::standing::preview(app, &manifest, &entries)?;
            (plan, items, Next::Confirm)
        }
        None => {
            let planning = Planning::make(import, &mut transaction).await?;
            let (plan, items) = planning.preview(&entries)?;
            // One that was executed and is tried again goes on by itself.
            let executed = record.transfer.run == Run::Again && planning.plan.lacking.is_empty();
            let asked = record.approval.as_ref().filter(|approval| approval.is_waiting());
            let next = match asked {
                _ if !executed => Next::Confirm,
                Some(asked) => Next::Approve(Approval { plan_digest: Some(plan.digest.clone()), ..asked.clone() }),
                None => Next::Execute,
            };
            (plan, items, next)
        }
    };
    // Somebody waits for another plan than this one.
    let next = if record.transfer.asked.is_some() { Next::Plan } else { next };
    let digest = plan.digest.clone();
    let (goes_on, plans) = (next == Next::Execute, next == Next::Plan);
    let parsed = ParsedRecord {
        manifest: serde_json::json!(manifest),
        signature: serde_json::json!(signature),
        options: serde_json::json!(options),
        resources: entries.len() as u64,
        plan,
        kept: kept(app, &manifest),
        next,
    };
    db::locks::share_types(&mut transaction, &app.types_digest).await?;
    let rules = db::environment::hold_import_rules(&mut transaction).await?;
    db::import_entries::replace(&mut transaction, record.id, &entries).await?;
    if let Some(listed) = &standing {
        db::standing::note(&mut transaction, record.id, &digest, listed).await?;
    }
    db::record_items::replace(&mut transaction, record.id, &items).await?;
    db::records::parsed(&mut transaction, record.id, parsed).await?;
    definitions::drop_other_runs(&mut transaction, record.id, &[block]).await?;
    let source = &manifest.environment.id;
    match &pages {
        Pages::Named(names) => {
            db::index_pages::keep_named(&mut transaction, record.domain_id, source, record.id, names).await?;
        }
        Pages::Cut(pages) if pages.is_empty() => {}
        Pages::Cut(pages) => {
            db::index_pages::keep(&mut transaction, record.domain_id, source, record.id, pages).await?;
        }
    }
    db::jobs::end(&mut transaction, &context.job).await?;
    if plans {
        db::jobs::queue(&mut transaction, JobKind::Plan, record.id, record.domain_id).await?;
    } else if goes_on {
        db::windows::queue_import(&mut transaction, record.id, record.domain_id, rules.closed_until()).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Opens the package of a record.
pub(super) async fn open(app: &Arc<App>, record: &Record) -> Result<Package, JobError> {
    let (app, record) = (app.clone(), record.clone());
    blocking(move || Ok(planning::open_package(&app, &record)?)).await
}

/// What another type file does not call secret stands in the package in clear.
fn kept(app: &App, manifest: &Manifest) -> Kept {
    let in_clear = |(key, digest): (&String, &Hash)| {
        app.types.get(key).is_some_and(|kind| kind.digest != *digest && !kind.secrets.is_empty())
    };
    if manifest.types.iter().any(in_clear) { Kept::UntilEnd } else { Kept::Long }
}

/// Puts the secrets that came along where they belong, sealed with this environment's key.
async fn carry(
    app: &Arc<App>,
    connection: &mut PgConnection,
    record: &Record,
    package: Package,
    entries: &mut [Entry],
) -> Result<Package, JobError> {
    let ids: HashSet<ResourceId> = entries.iter().map(|entry| entry.id.clone()).collect();
    let (package, carried) =
        planning::carried::read(app, connection, record, package, move |id| ids.contains(id)).await?;
    if carried.is_empty() {
        return Ok(package);
    }
    for entry in entries {
        let Some(kind) = app.types.get(&entry.type_key) else { continue };
        carried.put(app, kind, &entry.id, &mut entry.own).map_err(|error| JobError::Retry(error.to_string()))?;
    }
    Ok(package)
}

/// What was read of a package.
struct Parsed {
    entries: Vec<Entry>,
    /// What it lists, where all of that stands as it comes.
    standing: Option<Listed>,
    /// Where its bodies are.
    block: i64,
    /// They, where they are so few that none was sent yet.
    unsent: Option<Bodies>,
    /// Its index, to be known the next time.
    pages: Pages,
    package: Package,
}

/// The pages of an index.
enum Pages {
    /// Nothing else stands in it: they are here.
    Named(Vec<Hash>),
    Cut(Vec<Page>),
}

/// Reads the whole package: index, shards, attachment bytes.
async fn read(
    context: &Context,
    connection: &mut PgConnection,
    (record, manifest): (&Record, &Manifest),
    mut package: Package,
) -> Result<Parsed, JobError> {
    let app = &context.app;
    let most = app.config.limits.max_resources;
    let known = known_pages(connection, context.job.domain_id, manifest).await?;
    let (index, pages, mut package) = blocking(move || {
        let index = Index::read(&mut package, &known, most)?;
        let pages = match &package.manifest.thin {
            Some(thin) if index.all_paged => Pages::Named(thin.pages.clone()),
            Some(_) if index.len() >= PAGED => {
                Pages::Cut(index.pages().map_err(|error| PackageError::Tampered(format!("index.ndjson: {error}")))?)
            }
            _ => Pages::Cut(Vec::new()),
        };
        Ok((index, pages, package))
    })
    .await?;
    let index = Arc::new(index);
    let own = index.own_bodies(connection, context.job.domain_id).await?;
    let (mut found, standing) = match standing::all(context, connection, (record, manifest), &index, &own).await? {
        Some((found, listed)) => (found, Some(listed)),
        None => (index::known(app, connection, context.job.domain_id, manifest, &index, &own).await?, None),
    };
    drop(own);
    let known: Arc<HashSet<usize>> = Arc::new(found.keys().copied().collect());
    let (sender, receiver) = mpsc::channel::<Lines>(AT_ONCE * 2);
    let (listed, pinned) = (index.clone(), known.clone());
    let reader = tokio::task::spawn_blocking(move || {
        let wanted = |range| listed.places(range).iter().any(|place| !pinned.contains(place));
        let gone = |_| PackageError::Io(std::io::ErrorKind::BrokenPipe.into());
        let count =
            package.resources::<PackageError>(&wanted, &mut |lines| sender.blocking_send(lines).map_err(gone))?;
        Ok::<_, PackageError>((count, package))
    });
    let limit = app.config.limits.max_definition_bytes;
    let types = app.types.clone();
    let decoded = ReceiverStream::new(receiver).map(|lines| {
        let (types, index, known) = (types.clone(), index.clone(), known.clone());
        blocking(move || Ok(decode(&types, &index, &known, &lines, limit)?))
    });
    let mut decoded = Box::pin(decoded.buffered(AT_ONCE));
    let mut bodies = Bodies::begin(connection).await?;
    let block = bodies.block();
    let (mut failed, mut reported, mut some_sent) = (None, 0, false);
    let count = index.len();
    while let Some(batch) = decoded.next().await {
        match batch {
            Ok(batch) => {
                for (place, mut entry, body) in batch {
                    entry.definition_id = body.map(|body| bodies.add(&body));
                    found.insert(place, entry);
                }
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        if bodies.len() >= SEND_BYTES {
            context.send_bodies(connection, &mut bodies).await?;
            some_sent = true;
        }
        if found.len() >= reported + REPORT && found.len() < count {
            reported = found.len();
            let progress = Progress::resources(reported as u64, count as u64);
            context.note(Note::Progress(Phase::Parsing, progress)).await?;
        }
    }
    drop(decoded);
    let read = reader.await.map_err(|error| JobError::Retry(format!("a task was stopped: {error}")))?;
    if let Some(error) = failed {
        return Err(error);
    }
    let (sent, package) = read?;
    if sent != index.sent() {
        let reason = format!("the index lists {} resources, {sent} are there", index.sent());
        return Err(PackageError::Incomplete(reason).into());
    }
    if some_sent && !bodies.is_empty() {
        context.send_bodies(connection, &mut bodies).await?;
    }
    let unsent = (!bodies.is_empty()).then_some(bodies);
    let package = attachments(context, connection, package).await?;
    let entries = index::complete(app, connection, context.job.domain_id, manifest, &index, found).await?;
    Ok(Parsed { entries, standing, block, unsent, pages, package })
}

/// The lines of the pages that a package names, in its order.
async fn known_pages(
    connection: &mut PgConnection,
    domain_id: i32,
    manifest: &Manifest,
) -> Result<Vec<String>, JobError> {
    let names = manifest.thin.as_ref().map(|thin| thin.pages.as_slice()).unwrap_or_default();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = db::index_pages::find(connection, domain_id, &manifest.environment.id, names).await?;
    let gone = || PackageError::Incomplete("it names pages of its index that are not here any more".to_owned());
    let lines: Result<Vec<String>, PackageError> =
        names.iter().map(|name| found.remove(name).ok_or_else(gone)).collect();
    Ok(lines?)
}

/// Verifies the attachment bytes of a package, names them for the record, and puts those into the store that it does not
/// have whole.
async fn attachments(
    context: &Context,
    connection: &mut PgConnection,
    mut package: Package,
) -> Result<Package, JobError> {
    let app = &context.app;
    let sizes: HashMap<Hash, u64> = package.attachments().into_iter().collect();
    if sizes.is_empty() {
        return Ok(package);
    }
    // Those too that are here: what names them today may be gone when the import is executed.
    let mut transaction = connection.begin().await?;
    db::locks::share_bytes(&mut transaction, sizes.keys()).await?;
    db::attachment_bytes::note_staged(&mut transaction, context.job.record_id, &sizes).await?;
    transaction.commit().await?;
    for (hash, size) in sizes {
        let key = attachment_key(&hash);
        if app.store.size(&key).await? == Some(size) {
            package = blocking(move || {
                package.read::<PackageError>(&attachment_name(&hash), &mut |_| Ok(()))?;
                Ok(package)
            })
            .await?;
            continue;
        }
        let own = app.clone();
        let (file, back) = blocking(move || {
            let file = own.store.scratch_file()?;
            let mut output = std::io::BufWriter::new(file.reopen().map_err(PackageError::Io)?);
            package.read::<PackageError>(&attachment_name(&hash), &mut |piece| {
                Ok(std::io::Write::write_all(&mut output, piece)?)
            })?;
            std::io::Write::flush(&mut output).map_err(PackageError::Io)?;
            Ok((file, package))
        })
        .await?;
        package = back;
        app.store.put_file(&key, file.path()).await?;
    }
    Ok(package)
}
