//! Bodies that are streamed.

use axum::body::{Body, Bytes};
use futures_util::{Stream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::domain::resource::Hash;
use crate::store::ScratchFile;

use super::AppState;
use super::bounds::broken;
use super::error::ApiError;

/// A body in pieces.
pub(in crate::api) fn whole(body: Body) -> impl Stream<Item = Result<Bytes, ApiError>> + Send {
    body.into_data_stream().map_err(|error| broken(&error))
}

/// Streams pieces into a scratch file, up to a limit.
pub(in crate::api) async fn receive(
    app: &AppState,
    pieces: impl Stream<Item = Result<Bytes, ApiError>> + Send,
    limit: u64,
) -> Result<(ScratchFile, Hash, u64), ApiError> {
    let mut file = app.store.arriving().await?;
    let (mut hasher, mut size) = (Sha256::new(), 0u64);
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        size += piece.len() as u64;
        if size > limit {
            return Err(ApiError::too_large(limit));
        }
        hasher.update(&piece);
        file.write(&piece).await?;
    }
    let file = file.finish().await?;
    Ok((file, Hash(hasher.finalize().into()), size))
}
