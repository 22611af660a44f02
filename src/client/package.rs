//! Download of a folder as a ZIP archive.
//!
//! The archive goes into a temporary file beside the target, which is renamed when it is complete. After a lost
//! connection the download begins again: an archive has no ranges.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    client::{
        Client,
        download::{Existing, write},
        error::{Error, Result},
        joined,
        target::{Target, TempFiles},
        transfer::{Attempt, TransferProgress, TransferredFile},
        wait::Timeout,
    },
    limits,
    wire::v1::{
        DownloadPackageRequest, DownloadPackageResponse, Entry, PackageHeader,
        download_package_response::Payload,
    },
};

impl Client {
    /// Fetches a folder as an archive to the path `local`, whose missing parent folders are created.
    ///
    /// # Errors
    /// [`Error::Exists`] if `local` is a file and `existing` refuses to overwrite it; [`Error::NotReplaceable`] if `local`
    /// is no regular file; the errors of the server.
    ///
    /// # Cancel safety
    /// When the future is dropped, no file is left.
    pub async fn download_package(
        &self,
        folder: &Entry,
        local: &Path,
        existing: Existing,
        tally: &Arc<TransferProgress>,
    ) -> Result<TransferredFile> {
        let place = local.to_owned();
        let target = joined(tokio::task::spawn_blocking(move || Target::make(&place))).await?;
        // Owned by this future: when the future is dropped, the temporary files are removed.
        let partials = TempFiles::default();
        let wait =
            self.wait(format!("send the package of {:?}", folder.path), limits::TRANSFER_SILENCE);
        let fetched = async {
            let (mut backoff, mut is_expected) = (self.backoff(), false);
            loop {
                let (register, target) = (partials.register(), target.clone());
                let create = tokio::task::spawn_blocking(move || register.create(target, existing));
                let partial = joined(create).await?;
                let (sender, data) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
                let writer = tokio::task::spawn_blocking(move || write(partial, data));
                let mut this = Attempt::begin(tally);
                let received = self
                    .receive_package((&folder.path, &wait), (&mut this, &mut is_expected), &sender)
                    .await;
                drop(sender);
                // A local error comes first: it is the reason why the channel was closed.
                let (_, partial) = joined(writer).await?;
                match received {
                    Ok(()) => return Ok((this, partial)),
                    Err(error) => backoff.after(error, &wait).await?,
                }
            }
        };
        let (this, partial) = self.attended(&wait, fetched).await?;
        joined(tokio::task::spawn_blocking(move || partial.keep(existing))).await?;
        this.arrived(0);
        let local = Some(local.to_owned());
        Ok(TransferredFile { entry: folder.clone(), local, files_replaced: None })
    }

    /// Receives a whole archive. `is_expected` is whether its size is in the totals of the progress.
    async fn receive_package(
        &self,
        (path, wait): (&str, &Timeout),
        (this, is_expected): (&mut Attempt, &mut bool),
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let request = DownloadPackageRequest { path: path.to_owned(), ..Default::default() };
        let mut stream = self.answer(self.stub.clone().download_package(request).await)?;
        let mut size = None;
        while let Some(message) = stream.message().await.map_err(|status| self.error(&status))? {
            match message {
                DownloadPackageResponse { payload: Some(Payload::Header(header)) } => {
                    let PackageHeader { size_bytes, .. } = header;
                    if !std::mem::replace(is_expected, true) {
                        this.expect(1, size_bytes.unwrap_or_default());
                    }
                    size = size_bytes;
                }
                DownloadPackageResponse { payload: Some(Payload::Data(data)) } => {
                    this.moved(data.len());
                    wait.pause();
                    if sink.send(data).await.is_err() {
                        return Ok(());
                    }
                    wait.resume(this.bytes());
                }
                DownloadPackageResponse { payload: None } => {}
            }
        }
        if size.is_none_or(|size| size == this.bytes()) {
            return Ok(());
        }
        let why = format!("the package of {path} ended after {} bytes", this.bytes());
        Err(Error::Lost { server: self.server.clone(), why })
    }
}
