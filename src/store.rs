//! Where bytes rest. Keys: `packages/{id}.zip`, `attachments/{hash}`, `uploads/{id}/{piece}`.

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
                && io.kind() == std::io::ErrorKind::StorageFull
            {
                return Self::Full;
            }
            cause = inner.source();
        }
        Self::Other(error.to_string())
    }
}

/// The store of one environment.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: PathBuf,
    scratch: PathBuf,
}

impl Store {
    /// Opens the store under `root`, with room for work in `scratch`; both are made when missing.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn open(root: &Path, scratch: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(root)?;
        std::fs::create_dir_all(scratch)?;
        let objects = LocalFileSystem::new_with_prefix(root)?.with_automatic_cleanup(true);
        Ok(Self { objects: Arc::new(objects), root: root.to_owned(), scratch: scratch.to_owned() })
    }

    /// A file of our own that is gone when it is dropped.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch_file(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        Ok(tempfile::NamedTempFile::new_in(&self.scratch)?)
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

    /// Opens an object as a local file that can be read at any place.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or the store fails.
    pub fn open_local(&self, key: &str) -> Result<File, StoreError> {
        Ok(File::open(self.root.join(key))?)
    }

    /// Where an object rests as a local file.
    pub fn local_path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// The store fails.
    pub async fn has(&self, key: &str) -> Result<bool, StoreError> {
        match self.objects.head(&Key::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of an object, or a range of them, as a stream.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or the store fails.
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

    /// Removes files from the working folder that a process left behind which died before that time.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn clear_scratch(&self, before: SystemTime) -> Result<(), StoreError> {
        for entry in std::fs::read_dir(&self.scratch)? {
            let entry = entry?;
            if entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at < before) {
                // Another replica may have been first.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store fails.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where packages rest.
pub const PACKAGES: &str = "packages";
/// Where pieces of uploads rest.
pub const UPLOADS: &str = "uploads";

/// The key of a package.
pub fn package_key(id: uuid::Uuid) -> String {
    format!("{PACKAGES}/{id}.zip")
}

/// The key of attachment bytes.
pub fn attachment_key(hash: &Hash) -> String {
    format!("attachments/{}", hash.hex())
}

/// What the keys of an upload's pieces begin with.
pub fn upload_prefix(id: uuid::Uuid) -> String {
    format!("{UPLOADS}/{id}")
}

/// The key of a piece of an upload: another at every try, so that a late one never writes over one that counts.
pub fn upload_key(id: uuid::Uuid, offset: u64) -> String {
    format!("{}/{offset}-{}", upload_prefix(id), uuid::Uuid::new_v4().simple())
}
