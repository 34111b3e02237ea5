//! Cleaning: what was of use for a while. Never what a roll back needs: bases, superseded versions and the attachment
//! bytes that these name stay.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use crate::app::App;
use crate::db;
use crate::db::records::Rest;
use crate::domain::record::RecordKind;
use crate::domain::resource::Hash;
use crate::planning;
use crate::store::{ATTACHMENTS, PACKAGES, UPLOADS, attachment_key, bytes_of, upload_prefix};

use super::{JobError, blocking};

/// What nobody knows of is left alone for so long: it may be on its way to being known.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);

/// Cleans again and again until `stop` says so. Replicas may do it at the same time.
pub async fn run(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let pause = Duration::from_secs(u64::from(app.config.retention.every_seconds));
    loop {
        let cleaned = tokio::select! {
            cleaned = clean(&app) => cleaned,
            _ = stop.wait_for(|stopped| *stopped) => return,
        };
        if let Err(error) = cleaned {
            warn!(%error, "cleaning came to no end; it is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stopped| *stopped) => return,
        }
    }
}

async fn clean(app: &App) -> Result<(), JobError> {
    let uploads = uploads(app).await?;
    let waiting = waiting(app).await?;
    let packages = packages(app).await?;
    let orphans = orphans(app).await?;
    let mut connection = app.pool.acquire().await?;
    let keys = db::idempotency_keys::forget(&mut connection, app.config.retention.key_days).await?;
    let jobs = db::jobs::forget(&mut connection, app.config.retention.package_days).await?;
    let runs = db::definitions::forget_runs(&mut connection, app.config.retention.package_days).await?;
    drop(connection);
    let bytes = attachment_bytes(app).await?;
    let mut connection = app.pool.acquire().await?;
    let store = app.store.clone();
    blocking(move || Ok(store.clear_unfinished(SystemTime::now() - ORPHAN_AGE)?)).await?;
    db::sessions::forget(&mut connection).await?;
    if uploads + waiting + packages + orphans + keys + jobs + runs + bytes > 0 {
        info!(uploads, waiting, packages, orphans, keys, jobs, runs, bytes, "cleaned");
    }
    Ok(())
}

/// Uploads whose time is over, and the pieces of those that became an import.
async fn uploads(app: &App) -> Result<u64, JobError> {
    let mut count = 0;
    loop {
        let mut connection = app.pool.acquire().await?;
        let over = db::uploads::over(&mut connection).await?;
        drop(connection);
        if over.is_empty() {
            return Ok(count);
        }
        for (id, expired) in over {
            count += 1;
            for (key, _) in app.store.list(&upload_prefix(id)).try_collect::<Vec<_>>().await? {
                app.store.delete(&key).await?;
            }
            let mut connection = app.pool.acquire().await?;
            match expired {
                true => db::uploads::delete(&mut connection, id).await?,
                false => db::uploads::forget_pieces(&mut connection, id).await?,
            }
        }
    }
}

/// Imports that nobody has confirmed for a long time: they are cancelled, and their packages go.
async fn waiting(app: &App) -> Result<u64, JobError> {
    let mut count = 0;
    loop {
        let mut transaction = app.pool.begin().await?;
        let days = app.config.retention.waiting_days;
        let Some(left) = db::records::long_waiting(&mut transaction, days).await? else { return Ok(count) };
        let cancelled = Rest::Cancelled(planning::items::finalise_items(&mut transaction, left.id).await?.counts);
        db::records::rest(&mut transaction, left.id, cancelled).await?;
        let entry = db::audit::Entry {
            domain_id: Some(left.domain_id),
            username: None,
            token: Some("server"),
            action: "record.cancel",
            object: ("record", &left.id.to_string()),
            details: serde_json::json!({"kind": RecordKind::Import, "name": left.name, "waited_days": days}),
            address: None,
        };
        db::audit::insert(&mut transaction, &entry).await?;
        transaction.commit().await?;
        if let Some(key) = &left.package_key {
            app.store.delete(key).await?;
        }
        count += 1;
    }
}

/// Packages of records that ended long ago.
async fn packages(app: &App) -> Result<u64, JobError> {
    let mut count = 0;
    loop {
        let mut transaction = app.pool.begin().await?;
        let old = db::records::let_go_packages(&mut transaction, app.config.retention.package_days).await?;
        transaction.commit().await?;
        for key in &old {
            app.store.delete(key).await?;
        }
        if old.is_empty() {
            return Ok(count);
        }
        count += old.len() as u64;
    }
}

/// Attachment bytes that imports had staged when they ended, and those that nothing has named for a day.
async fn attachment_bytes(app: &App) -> Result<u64, JobError> {
    let mut connection = app.pool.acquire().await?;
    let mut over = db::attachment_bytes::left_over(&mut connection).await?;
    drop(connection);
    let old = SystemTime::now() - ORPHAN_AGE;
    let found: Vec<(String, SystemTime)> = app.store.list(ATTACHMENTS).try_collect().await?;
    let hashes: Vec<Hash> = found.iter().filter(|(_, at)| *at < old).filter_map(|(key, _)| bytes_of(key)).collect();
    for hashes in hashes.chunks(1_000) {
        let mut connection = app.pool.acquire().await?;
        over.extend(db::attachment_bytes::long_unnamed(&mut connection, hashes).await?);
    }
    let mut count = 0;
    for hash in &over {
        count += u64::from(remove_bytes(app, hash).await?);
    }
    Ok(count)
}

/// Removes attachment bytes unless something names them, or is just about to. Looks again under their lock: whoever
/// comes to name them waits for it, and then sees that the store has them no more.
async fn remove_bytes(app: &App, hash: &Hash) -> Result<bool, JobError> {
    let mut transaction = app.pool.begin().await?;
    if !db::locks::try_hold_bytes(&mut transaction, hash).await? {
        return Ok(false);
    }
    let unnamed = !db::attachment_bytes::unnamed(&mut transaction, std::slice::from_ref(hash)).await?.is_empty();
    if unnamed {
        app.store.delete(&attachment_key(hash)).await?;
    }
    // Only now: whoever dies before this does it again.
    db::attachment_bytes::forget(&mut transaction, hash).await?;
    transaction.commit().await?;
    Ok(unnamed)
}

/// Bytes in the store that no row knows of: their server died between the two.
async fn orphans(app: &App) -> Result<u64, JobError> {
    let old = SystemTime::now() - ORPHAN_AGE;
    let mut count = 0;
    for prefix in [PACKAGES, UPLOADS] {
        let found: Vec<(String, SystemTime)> = app.store.list(prefix).try_collect().await?;
        let keys: Vec<String> = found.into_iter().filter(|(_, at)| *at < old).map(|(key, _)| key).collect();
        for keys in keys.chunks(1_000) {
            let mut connection = app.pool.acquire().await?;
            let uploads: Vec<Uuid> = keys.iter().filter_map(|key| upload_of(key)).collect();
            let known = db::records::known_packages(&mut connection, keys).await?;
            let alive = db::uploads::alive(&mut connection, &uploads).await?;
            drop(connection);
            let is_orphan =
                |key: &&String| !known.contains(*key) && upload_of(key).is_none_or(|id| !alive.contains(&id));
            for key in keys.iter().filter(is_orphan) {
                app.store.delete(key).await?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The upload that a key belongs to.
fn upload_of(key: &str) -> Option<Uuid> {
    key.strip_prefix(UPLOADS)?.strip_prefix('/')?.split('/').next()?.parse().ok()
}
