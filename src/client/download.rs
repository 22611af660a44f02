//! Downloads of files and whole folders.
//!
//! The bytes go into a temporary file beside the target. The file is renamed to the target when it is complete and its
//! digest matches, so a target is either complete or absent. After a lost connection, the download continues at the
//! offset that it has reached, as long as the file in the store has the same `etag`. A local file with the same bytes
//! is not fetched again, so a second download continues one that was stopped. The server computes the digest of a
//! chunked upload after the commit; a download of such a file waits for the digest.

use std::{fs::File, io::Write as _, path::Path, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt as _;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    client::{
        Client,
        error::{Error, Result},
        joined,
        path::{name, relative, target},
        present,
        target::{Folder, Target, TempFile, TempFiles},
        transfer::{Attempt, TransferProgress, TransferredFile, report},
        wait::Timeout,
    },
    error::Kind,
    limits,
    wire::v1::{DownloadRequest, Entry, EntryKind},
};

pub use crate::client::target::Existing;

/// How a folder is downloaded.
#[derive(Clone, Copy, Debug)]
pub struct FolderDownload {
    /// The number of files that are fetched in parallel.
    pub jobs: usize,
    /// What to do with local files that exist and differ.
    pub existing: Existing,
}

impl Client {
    /// Fetches a file to the path `local`, whose missing parent folders are created. If `local` is a folder or ends in
    /// `/`, the file goes into that folder under its own name.
    ///
    /// # Errors
    /// [`Error::Exists`] if `local` is a different file and `existing` refuses to overwrite it; [`Error::NotReplaceable`] if
    /// `local` is no regular file; [`Error::Damaged`] if the bytes do not match the digest of the store;
    /// [`Error::Unchecked`] if the server has no digest within [`limits::DIGEST_TIME`].
    ///
    /// # Cancel safety
    /// When the future is dropped, no file is left.
    pub async fn download(
        &self,
        file: &Entry,
        local: &Path,
        existing: Existing,
        tally: &Arc<TransferProgress>,
    ) -> Result<TransferredFile> {
        let is_folder = local.is_dir() || local.as_os_str().as_encoded_bytes().ends_with(b"/");
        let place =
            if is_folder { local.join(target(name(&file.path))?) } else { local.to_owned() };
        tally.expect(1, file.size_bytes);
        let to = move || Target::make(&place);
        self.fetch(file.clone(), to, existing, tally).await
    }

    /// Fetches all files below a folder into the folder `local`, which is created if it is missing. Each complete file
    /// is reported on `done`.
    ///
    /// # Errors
    /// Those of [`Client::download`] for the first file that fails; [`Error::NoFolder`] if a file or a symbolic link is
    /// in the place of a folder below `local`.
    ///
    /// # Cancel safety
    /// When the future is dropped, the complete files stay.
    pub async fn download_folder(
        &self,
        (folder, local): (&Entry, &Path),
        options: FolderDownload,
        tally: &Arc<TransferProgress>,
        done: &mpsc::Sender<TransferredFile>,
    ) -> Result<()> {
        tally.expect(folder.file_count, folder.size_bytes);
        let root = local.to_owned();
        let root = joined(tokio::task::spawn_blocking(move || Folder::make(&root))).await?;
        let root = &root;
        let found = self.files(&folder.path);
        found
            .try_for_each_concurrent(options.jobs, |listed| async move {
                let place = target(relative(&folder.path, &listed.path)?)?;
                // Only `Stat` returns the digest; entries of `List` have none.
                let entry = present(self.stat(&listed.path).await?.entry)?;
                let root = root.clone();
                let to = move || Target::below(&root, &place);
                report(done, self.fetch(entry, to, options.existing, tally).await?).await;
                Ok(())
            })
            .await
    }

    async fn fetch(
        &self,
        mut file: Entry,
        to: impl FnOnce() -> Result<Target> + Send + 'static,
        existing: Existing,
        tally: &Arc<TransferProgress>,
    ) -> Result<TransferredFile> {
        if file.kind() != EntryKind::File {
            return Err(Error::Answer(format!("{:?} became a folder", file.path)));
        }
        let target = joined(tokio::task::spawn_blocking(to)).await?;
        let local = Some(target.path());
        if let Some(here) = local_digest(&target, file.size_bytes).await? {
            self.digested(&mut file).await?;
            if file.digest == here.to_hex().as_str() {
                tally.add(1, file.size_bytes);
                return Ok(TransferredFile { entry: file, local, files_replaced: None });
            }
        }
        // Owned by this future: when the future is dropped, the temporary file is removed.
        let partials = TempFiles::default();
        let register = partials.register();
        let create = tokio::task::spawn_blocking(move || register.create(target, existing));
        let partial = joined(create).await?;
        let (sender, data) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        let writer = tokio::task::spawn_blocking(move || write(partial, data));
        let mut this = Attempt::begin(tally);
        let received = self.receive(&file, &mut this, &sender).await;
        drop(sender);
        // A local error comes first: it is the reason why the channel was closed.
        let (digest, partial) = joined(writer).await?;
        received?;
        self.digested(&mut file).await?;
        if file.digest != digest.to_hex().as_str() {
            let why = format!("its BLAKE3 is {digest}, not {}; fetch it again", file.digest);
            return Err(Error::Damaged { path: file.path, why });
        }
        joined(tokio::task::spawn_blocking(move || partial.keep(existing))).await?;
        this.arrived(0);
        Ok(TransferredFile { entry: file, local, files_replaced: None })
    }

    /// Waits until the server has computed the digest of a file, which it does after the commit of a chunked upload.
    ///
    /// # Errors
    /// [`Error::Unchecked`] after [`limits::DIGEST_TIME`]; [`Kind::Changed`] if the file in the store is another one
    /// now.
    pub(super) async fn digested(&self, file: &mut Entry) -> Result<()> {
        let end = Instant::now() + limits::DIGEST_TIME;
        let mut pause = limits::DIGEST_PAUSE;
        while file.digest.is_empty() {
            if Instant::now() >= end {
                return Err(Error::Unchecked { path: file.path.clone() });
            }
            let now = present(self.stat(&file.path).await?.entry)?;
            if now.etag != file.etag || now.kind() != EntryKind::File {
                let message =
                    format!("{:?} changed while it was fetched; fetch it again", file.path);
                return Err(Error::Server { kind: Kind::Changed, message, pause: None });
            }
            file.digest = now.digest;
            if file.digest.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::DIGEST_PAUSE_MAX);
            }
        }
        Ok(())
    }

    /// Receives the bytes of a file from the offset `this.bytes()` to the end; continues after a lost connection.
    pub(super) async fn receive(
        &self,
        file: &Entry,
        this: &mut Attempt,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let wait = self.wait(format!("send {:?}", file.path), limits::TRANSFER_SILENCE);
        let received = async {
            let mut backoff = self.backoff();
            while this.bytes() < file.size_bytes {
                let before = this.bytes();
                let received = self.receive_once((file, &wait), this, sink).await;
                if this.bytes() > before {
                    backoff.renew();
                }
                match received {
                    Ok(()) if this.bytes() < file.size_bytes && !sink.is_closed() => {
                        let why = format!("it ended {} after {} bytes", file.path, this.bytes());
                        let lost = Error::Lost { server: self.server.clone(), why };
                        backoff.after(lost, &wait).await?;
                    }
                    Ok(()) => break,
                    Err(error) => backoff.after(error, &wait).await?,
                }
            }
            Ok(())
        };
        self.attended(&wait, received).await
    }

    async fn receive_once(
        &self,
        (file, wait): (&Entry, &Timeout),
        this: &mut Attempt,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let request = DownloadRequest {
            path: file.path.clone(),
            offset: this.bytes(),
            length: None,
            etag: file.etag.clone(),
        };
        let mut stream = self.answer(self.stub.clone().download(request).await)?;
        while let Some(message) = stream.message().await.map_err(|status| self.error(&status))? {
            this.moved(message.data.len());
            if this.bytes() > file.size_bytes {
                let why = format!("more than its {} bytes came", file.size_bytes);
                return Err(Error::Damaged { path: file.path.clone(), why });
            }
            wait.pause();
            if sink.send(message.data).await.is_err() {
                break;
            }
            wait.resume(this.bytes());
        }
        Ok(())
    }
}

/// The digest of the local file at the target, if it has `size` bytes: an earlier download may have stored it. `None`
/// for a symbolic link, which is not followed, and for a file that cannot be read.
async fn local_digest(target: &Target, size: u64) -> Result<Option<blake3::Hash>> {
    let target = target.clone();
    let hash = move || {
        let hash = |file: File| {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).ok().map(|hasher| hasher.finalize())
        };
        Ok(target.open(size).and_then(hash))
    };
    joined(tokio::task::spawn_blocking(hash)).await
}

/// Writes and hashes the bytes of a channel, until the channel is closed. Blocks.
pub(super) fn write(
    mut partial: TempFile,
    mut data: mpsc::Receiver<Bytes>,
) -> Result<(blake3::Hash, TempFile)> {
    let mut hasher = blake3::Hasher::new();
    while let Some(data) = data.blocking_recv() {
        hasher.update(&data);
        partial.write_all(&data).map_err(|why| partial.failed(why))?;
    }
    Ok((hasher.finalize(), partial))
}
