//! The pieces of an upload. What was announced with a checksum is taken whole or not at all, what was not is
//! kept as far as it came.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{Stream, StreamExt};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::db::uploads::{Upload, add_piece};
use crate::store::{ScratchFile, upload_key};

use crate::api::http::AppState;
use crate::api::http::auth::Caller;
use crate::api::http::bodies::whole;
use crate::api::http::error::ApiError;
use crate::api::uploads::held::held;

/// Without a checksum, so many bytes are committed at a time.
const COMMIT_BYTES: u64 = 8 * 1024 * 1024;

/// Takes the body as the next piece, or pieces; returns how much is there then.
pub(in crate::api) async fn take(
    app: &AppState,
    caller: &Caller,
    upload: &Upload,
    offset: u64,
    request: Request,
) -> Result<u64, ApiError> {
    if upload.received != offset || upload.record_id.is_some() {
        return Err(moved(upload.received));
    }
    let rest = upload.size - upload.received;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > rest) {
        return Err(ApiError::too_large(rest));
    }
    let checksum = Checksum::of(request.headers())?;
    let mut pieces = Box::pin(whole(request.into_body()));
    let mut received = upload.received;
    loop {
        let most = if checksum.is_some() { u64::MAX } else { COMMIT_BYTES };
        let piece = receive(app, &mut pieces, upload.size - received, most, checksum.clone()).await?;
        if piece.size > 0 {
            received = commit(app, caller, upload.id, received, &piece).await?;
        }
        match piece.end {
            None => {}
            Some(Ok(())) => return Ok(received),
            Some(Err(error)) => return Err(error),
        }
    }
}

/// What arrived of a body.
struct Piece {
    file: ScratchFile,
    size: u64,
    /// The body goes on, has ended, or was cut off.
    end: Option<Result<(), ApiError>>,
}

async fn receive(
    app: &AppState,
    pieces: &mut (impl Stream<Item = Result<bytes::Bytes, ApiError>> + Unpin),
    rest: u64,
    most: u64,
    mut checksum: Option<Checksum>,
) -> Result<Piece, ApiError> {
    let mut file = app.store.arriving().await?;
    let (mut size, mut end) = (0, None);
    while size < most {
        let bytes = match pieces.next().await {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) if checksum.is_some() => return Err(error),
            ended => {
                end = Some(ended.map_or(Ok(()), |cut| cut.map(|_| ())));
                break;
            }
        };
        size += bytes.len() as u64;
        if size > rest {
            return Err(ApiError::too_large(rest));
        }
        if let Some(checksum) = &mut checksum {
            checksum.hasher.update(&bytes);
        }
        file.write(&bytes).await?;
    }
    let file = file.finish().await?;
    if checksum.is_some_and(|checksum| !checksum.holds()) {
        let mismatch = StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST);
        let detail = "The piece does not have the checksum that it came with. Send it again.";
        return Err(ApiError::new(mismatch, "checksum_mismatch", detail));
    }
    Ok(Piece { file, size, end })
}

/// Puts a piece into the store and commits its row with the new offset; 409 when another was first.
async fn commit(app: &AppState, caller: &Caller, id: Uuid, offset: u64, piece: &Piece) -> Result<u64, ApiError> {
    let key = upload_key(id, offset);
    app.store.put_file(&key, piece.file.path()).await?;
    let mut transaction = app.pool.begin().await?;
    let upload = match held(&mut transaction, caller, id).await {
        Ok(upload) if upload.received == offset && upload.record_id.is_none() => upload,
        refused => {
            app.store.delete(&key).await?;
            return Err(refused.map_or_else(|error| error, |upload| moved(upload.received)));
        }
    };
    add_piece(&mut transaction, &upload, (&key, piece.size), app.config.retention.upload_hours).await?;
    // Where this fails nobody knows whether it was done, so the bytes stay; cleaning finds those of no upload.
    transaction.commit().await?;
    Ok(offset + piece.size)
}

fn moved(received: u64) -> ApiError {
    ApiError::conflict(format!("The upload has {received} bytes: the next piece begins there."))
}

/// `Upload-Checksum`: what a piece must hash to.
#[derive(Clone)]
struct Checksum {
    hasher: Hasher,
    wanted: Vec<u8>,
}

#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    Sha1(Sha1),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
        }
    }
}

impl Checksum {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get("upload-checksum") else { return Ok(None) };
        let refuse = |reason: &str| {
            let detail = format!("Upload-Checksum {reason}");
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_field", detail)
        };
        let text = value.to_str().map_err(|_| refuse("must be ASCII."))?;
        let (algorithm, wanted) = text.split_once(' ').ok_or_else(|| refuse("must be an algorithm and a hash."))?;
        let hasher = match algorithm {
            "sha256" => Hasher::Sha256(Sha256::new()),
            "sha1" => Hasher::Sha1(Sha1::new()),
            _ => return Err(refuse("must begin with sha256 or sha1.")),
        };
        let wanted = BASE64.decode(wanted.trim()).map_err(|_| refuse("must end with the hash in base64."))?;
        Ok(Some(Self { hasher, wanted }))
    }

    fn holds(self) -> bool {
        match self.hasher {
            Hasher::Sha256(hasher) => hasher.finalize()[..] == self.wanted,
            Hasher::Sha1(hasher) => hasher.finalize()[..] == self.wanted,
        }
    }
}
