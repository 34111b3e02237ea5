//! The working folder of a process, and the files in it: gone when nobody needs them any more.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::TempPath;
use tokio::io::AsyncWriteExt;

use super::StoreError;

/// The working folder of one process. It holds the lock of a file in it as long as it lives, so that another
/// can tell what a dead one has left.
pub(super) struct Scratch {
    folder: PathBuf,
    _lock: File,
}

impl Scratch {
    pub(super) fn take(below: &Path) -> Result<Self, StoreError> {
        for entry in std::fs::read_dir(below)? {
            let folder = entry?.path();
            if folder.extension().is_some() {
                // One that is just being made.
                continue;
            }
            let dead = File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
            if dead || folder.is_file() {
                // Another replica may be first.
                let _ = if folder.is_dir() { std::fs::remove_dir_all(folder) } else { std::fs::remove_file(folder) };
            }
        }
        // Made under another name, so that nobody sees it before it is locked.
        let folder = below.join(uuid::Uuid::new_v4().simple().to_string());
        let new = folder.with_extension("new");
        std::fs::create_dir(&new)?;
        let lock = File::create(new.join(LOCK))?;
        lock.lock()?;
        std::fs::rename(&new, &folder)?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn file(&self) -> std::io::Result<ScratchFile> {
        Ok(ScratchFile(Some(tempfile::Builder::new().tempfile_in(&self.folder)?.into_temp_path())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The file that is locked.
const LOCK: &str = "lock";

/// A file that is gone when this is dropped; a disk that does not answer holds nobody up then.
pub struct ScratchFile(Option<TempPath>);

impl ScratchFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Opens it once more, to read and to write.
    pub fn reopen(&self) -> std::io::Result<File> {
        File::options().read(true).write(true).open(self.path())
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let path = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(path))),
            Err(_) => drop(path),
        }
    }
}

/// A file into which bytes arrive.
pub struct Arriving {
    pub(super) file: ScratchFile,
    pub(super) writer: tokio::fs::File,
}

impl Arriving {
    /// Adds bytes at its end.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        Ok(self.writer.write_all(bytes).await?)
    }

    /// All of it has arrived.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub async fn finish(mut self) -> Result<ScratchFile, StoreError> {
        self.writer.flush().await?;
        Ok(self.file)
    }
}
