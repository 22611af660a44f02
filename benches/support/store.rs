//! A store in this process, and folders that are created by uploads.

use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use imagestore::{
    blob::Blobs,
    limits::UPLOADS_MAX,
    model::{Conditions, CopyRequest, IfExists, OperationId, SkipFiles, StorePath},
    server::{config, locks::Locks},
    store::{Call, Config, Store, UploadSpec},
};

use super::Result;

/// A store that is open in this process.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// The locks are held while the store is open.
    _locks: Locks,
}

impl Opened {
    /// Opens a store as the server does.
    pub(crate) async fn open(data: &Path) -> Result<Self> {
        let locks = Locks::take(&config::Config::local(data))?;
        let blobs = Blobs::local(&data.join("blobs"))?;
        let (store, _) = Store::open(Config::new(data), blobs).await?;
        Ok(Self { store, _locks: locks })
    }

    /// Uploads `files` small files of different contents below a folder, `in_folder` to a sub-folder, with up
    /// to [`UPLOADS_MAX`] uploads at a time.
    pub(crate) async fn load(&self, folder: &str, files: u64, in_folder: u64) -> Result<()> {
        stream::iter(0..files)
            .map(|number| async move {
                let path = format!("{folder}/d{:05}/f{number:07}", number / in_folder);
                self.upload(&path, format!("{path}: a small file of a package\n").into()).await
            })
            .buffer_unordered(UPLOADS_MAX)
            .try_collect()
            .await
    }

    /// Uploads one file.
    pub(crate) async fn upload(&self, path: &str, bytes: Bytes) -> Result<()> {
        let path = StorePath::parse(path, "path")?;
        let incoming = UploadSpec { size: Some(bytes.len() as u64), ..UploadSpec::new(path) };
        let mut upload = self.store.upload(incoming, &Call::system()).await?;
        upload.write(bytes).await?;
        upload.finish().await?;
        Ok(())
    }

    /// Copies, and waits until the copy ends.
    pub(crate) async fn copy(&self, source: &str, destination: &str, skip: &[&str]) -> Result<()> {
        let request = CopyRequest {
            source: StorePath::parse(source, "source")?,
            destination: StorePath::parse(destination, "destination")?,
            skip_files: SkipFiles::new(skip)?,
            check_mark_file: false,
            if_exists: IfExists::Overwrite,
            conditions: Conditions::default(),
            verify: false,
            id: OperationId::new(),
        };
        let mut copying = self.store.copy(request, false, &Call::system()).await?;
        while copying.next().await?.is_some() {}
        Ok(())
    }

    /// Closes the store, so that a server can open it.
    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}
