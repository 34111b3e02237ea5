//! Where bytes rest. Keys: `packages/{id}.zip`, `attachments/{hash}`, `uploads/{id}/{piece}`. What is put is on the disk
//! when that is answered, its folder too.

mod scratch;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::io::AsyncReadExt;

use crate::domain::resource::Hash;

use scratch::Scratch;
pub use scratch::{Arriving, ScratchFile};

/// Pieces in which bytes go to the store.
const PIECE: usize = 8 * 1024 * 1024;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store does not have it.
    #[error("not in the store")]
    Missing,
    /// The disk is full.
    #[error("no space is left in the store")]
    Full,
    /// Anything else.
    #[error("the store failed: {0}")]
    Other(String),
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            other => Self::of(&other),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound { Self::Missing } else { Self::of(&error) }
    }
}

impl StoreError {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>()
                && is_full(io)
            {
                return Self::Full;
            }
            cause = inner.source();
        }
        Self::Other(error.to_string())
    }
}

/// No space is left, or none for us: by a quota, or by the limit on the size of a file.
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The store of one environment.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: PathBuf,
    scratch: Arc<Scratch>,
}

impl Store {
    /// Opens the store under `root`, with room for work below `scratch`; both are made when missing. What a
    /// process left there that has died is removed.
    pub fn open(root: &Path, scratch: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(root)?;
        std::fs::create_dir_all(scratch)?;
        let objects = LocalFileSystem::new_with_prefix(root)?.with_automatic_cleanup(true).with_fsync(true);
        let scratch = Scratch::take(scratch)?;
        Ok(Self { objects: Arc::new(objects), root: root.to_owned(), scratch: Arc::new(scratch) })
    }

    /// A file of our own that is gone when it is dropped. Not for the async threads.
    pub fn scratch_file(&self) -> Result<ScratchFile, StoreError> {
        Ok(self.scratch.file()?)
    }

    /// The same, to be written on the async threads; the file is written by others.
    pub async fn arriving(&self) -> Result<Arriving, StoreError> {
        let scratch = self.scratch.clone();
        let file = tokio::task::spawn_blocking(move || {
            let file = scratch.file()?;
            let writer = file.reopen()?;
            Ok::<_, std::io::Error>((file, writer))
        });
        let (file, writer) = file.await.map_err(|error| StoreError::Other(error.to_string()))??;
        Ok(Arriving { file, writer: tokio::fs::File::from_std(writer) })
    }

    /// Copies a file into the store; nothing is there before all of it is.
    ///
    /// # Errors
    /// The store fails; what was written is taken back.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<(), StoreError> {
        let mut file = tokio::fs::File::open(path).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(self.objects.put_multipart(&Key::from(key)).await?, PIECE);
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if (&mut file).take(PIECE as u64).read_to_end(&mut piece).await? == 0 {
                break;
            }
            upload.wait_for_capacity(2).await?;
            upload.put(Bytes::from(piece));
        }
        upload.finish().await?;
        Ok(())
    }

    /// The same, unless the store has it in that size: one that was cut short is put anew.
    pub async fn ensure(&self, key: &str, path: &Path, size: u64) -> Result<(), StoreError> {
        if self.size(key).await? == Some(size) { Ok(()) } else { self.put_file(key, path).await }
    }

    /// Opens an object as a local file that can be read at any place.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub fn open_local(&self, key: &str) -> Result<File, StoreError> {
        Ok(File::open(self.root.join(key))?)
    }

    /// Whether an object is there.
    pub async fn has(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.size(key).await?.is_some())
    }

    /// How many bytes an object has; none: it is not there.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&Key::from(key)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of an object, or a range of them, as a stream.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let found = self.objects.get_opts(&Key::from(key), options).await?;
        Ok(found.into_stream().map_err(StoreError::from).boxed())
    }

    /// The objects below a prefix, with the time at which each was written.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<(String, SystemTime), StoreError>> {
        let found = self.objects.list(Some(&Key::from(prefix)));
        found.map_ok(|meta| (meta.location.to_string(), meta.last_modified.into())).map_err(StoreError::from).boxed()
    }

    /// Removes what a process left unfinished in the store that died before that time.
    pub fn clear_unfinished(&self, before: SystemTime) -> Result<(), StoreError> {
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                // What is gone meanwhile was not left behind.
                let Ok(meta) = entry.metadata() else { continue };
                let unfinished = entry.file_name().to_string_lossy().contains('#');
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if unfinished && meta.modified()? < before {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
        Ok(())
    }

    /// Removes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where packages rest.
pub const PACKAGES: &str = "packages";
/// Where attachment bytes rest.
pub const ATTACHMENTS: &str = "attachments";
/// Where pieces of uploads rest.
pub const UPLOADS: &str = "uploads";

/// The key of a package.
pub fn package_key(id: uuid::Uuid) -> String {
    format!("{PACKAGES}/{id}.zip")
}

/// The key of attachment bytes.
pub fn attachment_key(hash: &Hash) -> String {
    format!("{ATTACHMENTS}/{}", hash.hex())
}

/// The attachment bytes that a key is of.
pub fn bytes_of(key: &str) -> Option<Hash> {
    Hash::parse(key.strip_prefix(ATTACHMENTS)?.strip_prefix('/')?)
}

/// What the keys of an upload's pieces begin with.
pub fn upload_prefix(id: uuid::Uuid) -> String {
    format!("{UPLOADS}/{id}")
}

/// The key of a piece of an upload: another at every try, so that a late one never writes over one that counts.
pub fn upload_key(id: uuid::Uuid, offset: u64) -> String {
    format!("{}/{offset}-{}", upload_prefix(id), uuid::Uuid::new_v4().simple())
}
