//! How long a caller is kept waiting for work that may take long.

use std::time::Duration;

use tokio::task::JoinSet;
use tracing::Instrument;

use super::AppState;
use super::error::ApiError;

/// How long a caller is kept waiting.
pub(in crate::api) fn patience(app: &AppState) -> Duration {
    Duration::from_secs(app.config.server.patience_seconds.into())
}

/// Does something as long as the caller is kept waiting, and then no longer; none: it was not done by then. It has to
/// leave nothing behind that is half done.
pub(in crate::api) async fn within<T: Send + 'static>(
    app: &AppState,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<Option<T>, ApiError> {
    // A task of its own, for it may compute for long between two waits. It ends with the set.
    let mut tasks = JoinSet::new();
    tasks.spawn(work.in_current_span());
    match tokio::time::timeout(patience(app), tasks.join_next()).await {
        Ok(Some(done)) => done?.map(Some),
        Ok(None) | Err(_) => Ok(None),
    }
}
