//! Bringing a package to the target: a small one in the request that makes the import, a larger one as an
//! upload in pieces, which goes on from the target's offset whatever happened to either side.

use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use crate::db::DbError;
use crate::db::records::{Note, Record};
use crate::domain::record::{Phase, Progress};
use crate::domain::transfer::{Extent, Transfer};
use crate::remote::{PIECE, RemoteError, SMALLEST_PIECE};
use crate::wire;
use crate::wire::record::PackageInfo;

use super::courier::Courier;
use super::{JobError, blocking};

/// So many pieces may bring nothing forward.
const MOST_STUCK: u32 = 3;
/// A piece that did not arrive in time is followed by one so many times smaller.
const SHRINK: usize = 4;

/// The package travels in one request: it has no more bytes than a piece, and no upload of it was begun.
pub(super) fn at_once(record: &Record) -> Result<bool, JobError> {
    Ok(package(record)?.size <= PIECE as u64 && record.transfer.upload.is_none())
}

fn package(record: &Record) -> Result<PackageInfo, JobError> {
    let package = record.package.clone().map(serde_json::from_value).transpose();
    let package = package.map_err(|_| DbError::Corrupt("records.package"))?;
    Ok(package.ok_or(DbError::Corrupt("records.package"))?)
}

/// Makes the import of the record's package at the target: one, however often this is tried.
pub(super) async fn import(courier: &Courier, record: &Record) -> Result<wire::record::Record, JobError> {
    let key = key(record);
    let mut first = PIECE;
    if at_once(record)? {
        let bytes = read(courier, record, 0).await?;
        if bytes.len() <= SMALLEST_PIECE {
            return Ok(courier
                .tried(|| courier.remote.import_package(bytes.clone(), &key, &record.requested_by))
                .await??);
        }
        match courier.once(courier.remote.import_package(bytes, &key, &record.requested_by)).await {
            Ok(there) => return Ok(there),
            // On a slow way it does not arrive in time: in pieces it does. The same key makes the same import.
            Err(error) if error.transient => first = PIECE / SHRINK,
            Err(error) => return Err(error.into()),
        }
    }
    let upload = upload(courier, record, first).await?;
    Ok(courier.tried(|| courier.remote.import(&upload, &key, &record.requested_by)).await??)
}

/// What makes the import one, however often it is asked for. Where the first one could not be read without what it
/// left out, there are two; where the target has let go of one, there is another.
fn key(record: &Record) -> String {
    let id = match record.transfer.extent {
        Extent::Lacking => record.id.to_string(),
        Extent::Whole => format!("{}/whole", record.id),
    };
    match record.transfer.anew {
        0 => id,
        anew => format!("{id}/{anew}"),
    }
}

/// The import that an earlier run may have made without hearing of it: asked for with the same key.
pub(super) async fn made(courier: &Courier, record: &Record) -> Result<Result<Option<Uuid>, RemoteError>, JobError> {
    if record.package_key.is_none() {
        return Ok(Ok(None));
    }
    let made = if at_once(record)? {
        let package = match read(courier, record, 0).await {
            Ok(package) => package,
            Err(JobError::Fail(_)) => return Ok(Ok(None)),
            Err(error) => return Err(error),
        };
        courier.remote.import_package(package, &key(record), &record.requested_by).await
    } else {
        let Some(upload) = &record.transfer.upload else { return Ok(Ok(None)) };
        courier.remote.import(upload, &key(record), &record.requested_by).await
    };
    Ok(match made {
        Ok(there) => Ok(Some(there.id)),
        // It was not there whole, so nothing was made of it.
        Err(error) if !error.transient && error.answered.is_some() && error.code != "target_unauthorized" => Ok(None),
        Err(error) => Err(error),
    })
}

/// Has all of the record's package at the target, in pieces of so many bytes at first; returns the upload there.
pub(super) async fn upload(courier: &Courier, record: &Record, first: usize) -> Result<String, JobError> {
    let package = package(record)?;
    let mut transfer = record.transfer.clone();
    // An upload that expired at the target is begun anew.
    for _ in 0..3 {
        let id = match &transfer.upload {
            Some(id) => id.clone(),
            None => begin(courier, &mut transfer, &package).await?,
        };
        match pieces(courier, record, &id, (package.size, first)).await? {
            Ok(()) => return Ok(id),
            Err(error) if error.is("not_found") || error.is("gone") => {
                // The key of one that has expired would bring it back.
                transfer = transfer.upload_expired();
                courier.context.note(Note::Transfer(transfer.clone())).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(RemoteError::settings("The target forgets uploads before they end.", "Look at the target's log.").into())
}

async fn begin(courier: &Courier, transfer: &mut Transfer, package: &PackageInfo) -> Result<String, JobError> {
    let key = format!("{}/{}/{}", courier.context.record_id(), transfer.uploads, package.sha256);
    let id = courier.tried(|| courier.remote.begin_upload(package.size, &key)).await??;
    transfer.upload = Some(id.clone());
    courier.context.note(Note::Transfer(transfer.clone())).await?;
    Ok(id)
}

/// Sends what the target does not have yet.
async fn pieces(
    courier: &Courier,
    record: &Record,
    id: &str,
    (size, first): (u64, usize),
) -> Result<Result<(), RemoteError>, JobError> {
    let mut there = match courier.tried(|| courier.remote.upload_offset(id)).await? {
        Ok(offset) => offset,
        Err(error) => return Ok(Err(error)),
    };
    // As much as the way carries in good time.
    let size_of_piece = AtomicUsize::new(first);
    let mut stuck = 0;
    let mut reported = 0;
    while there < size {
        if there > reported {
            reported = there;
            courier.context.note(Note::Progress(Phase::Uploading, Progress::bytes(there, size))).await?;
        }
        let piece = read(courier, record, there).await?;
        if piece.is_empty() {
            return Err(RemoteError::settings("The target has another upload than was begun.", "Migrate again.").into());
        }
        let began = Instant::now();
        let sent = courier.repeated(|| async {
            let part = piece.slice(..piece.len().min(size_of_piece.load(Ordering::Relaxed)));
            match courier.remote.send_piece(id, there, part).await {
                // An earlier try arrived after all, or half of it.
                Err(error) if error.is("conflict") => courier.remote.upload_offset(id).await,
                Err(error) if error.transient => {
                    let smaller = size_of_piece.load(Ordering::Relaxed) / SHRINK;
                    size_of_piece.store(smaller.max(SMALLEST_PIECE), Ordering::Relaxed);
                    // What was not answered may have arrived.
                    match courier.remote.upload_offset(id).await {
                        Ok(offset) if offset > there => Ok(offset),
                        _ => Err(error),
                    }
                }
                other => other,
            }
        });
        let before = there;
        there = match sent.await? {
            Ok(offset) => offset,
            Err(error) => return Ok(Err(error)),
        };
        if began.elapsed() < courier.remote.quick() {
            let larger = size_of_piece.load(Ordering::Relaxed) * 2;
            size_of_piece.store(larger.min(PIECE), Ordering::Relaxed);
        }
        stuck = if there > before { 0 } else { stuck + 1 };
        if stuck > MOST_STUCK {
            let message = "The target takes pieces of the upload and has no more of it than before.";
            return Err(RemoteError::settings(message, "Look at the target's log.").into());
        }
    }
    Ok(Ok(()))
}

async fn read(courier: &Courier, record: &Record, from: u64) -> Result<Bytes, JobError> {
    let (app, key) = (courier.context.app.clone(), record.package_key.clone().unwrap_or_default());
    blocking(move || {
        let mut file = app.store.open_local(&key)?;
        let failed = |error: std::io::Error| JobError::Retry(format!("the package cannot be read: {error}"));
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let mut piece = Vec::with_capacity(PIECE);
        file.take(PIECE as u64).read_to_end(&mut piece).map_err(failed)?;
        Ok(piece.into())
    })
    .await
}
