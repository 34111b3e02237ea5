//! What memory the answers of all targets may take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers of so many bytes are not counted.
pub(super) const SMALL: usize = 64 * 1024;
/// KiB that all larger ones may have at once.
const ALL: usize = 64 * 1024;

/// What memory the answers of all targets may take together: a larger one waits until there is room for the longest
/// that it may become.
#[derive(Clone)]
pub struct Memory(Arc<Semaphore>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL)))
    }
}

impl Memory {
    pub(super) async fn hold(&self, most: usize) -> Option<OwnedSemaphorePermit> {
        let kibibytes = (most / 1024).min(ALL) as u32;
        self.0.clone().acquire_many_owned(kibibytes).await.ok()
    }
}
