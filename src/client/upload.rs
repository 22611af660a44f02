//! Uploads of files and whole folders.
//!
//! A file is read and hashed on a thread of its own, which runs ahead of the connection by
//! [`limits::TRANSFER_MESSAGES_IN_FLIGHT`] messages, so memory does not depend on its size. A file that
//! breaks off is not visible in the store, so it is simply sent again from its start. Its size comes
//! before its bytes, and size and digest after them: no proxy can make a file of a part of it.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    client::{
        Client,
        error::{Error, Result},
        joined,
        path::join,
        present,
        transfer::{Moved, Tally, Try, report},
        tree::{FoundKind, Mark, Survey, Walk, regular},
        wait::Wait,
    },
    limits,
    wire::v1::{
        Entry, IfExists, UploadFinish, UploadHeader, UploadRequest, UploadResponse,
        upload_request::Payload,
    },
};

pub use crate::client::tree::{Marks, Omitted};

/// How a folder is uploaded.
#[derive(Clone, Copy, Debug)]
pub struct FolderUpload {
    /// Files that are sent at once.
    pub jobs: usize,
    /// Which folders get their mark file.
    pub marks: Marks,
    /// What the files may replace.
    pub if_exists: IfExists,
}

/// How an upload begins.
pub(super) fn header(path: &str, if_exists: IfExists) -> UploadHeader {
    UploadHeader {
        path: path.to_owned(),
        if_exists: if_exists.into(),
        ends_with_finish: true,
        ..UploadHeader::default()
    }
}

impl Client {
    /// Stores a local file; a link is followed. The caller has told `tally` what to expect, and says by
    /// `if_exists` what it may replace.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the store has other bytes than were read.
    ///
    /// # Cancel safety
    /// An upload that is dropped leaves nothing.
    pub async fn upload(
        &self,
        local: &Path,
        path: &str,
        if_exists: IfExists,
        tally: &Arc<Tally>,
    ) -> Result<Moved> {
        self.upload_with_retry(Some(local), path, if_exists, tally).await
    }

    /// Stores a local folder as `path`: first all files, then the marks of its folders, those of
    /// deeper folders first and its own last, so that a mark says that all below is there.
    ///
    /// Every file that has arrived is sent to `done`. Symbolic links are refused before anything is
    /// sent. What is not stored is returned.
    ///
    /// # Cancel safety
    /// When it is dropped, the files that have arrived stay.
    pub async fn upload_folder(
        &self,
        (local, path): (&Path, &str),
        options: FolderUpload,
        tally: &Arc<Tally>,
        done: &mpsc::Sender<Moved>,
    ) -> Result<Omitted> {
        let root = local.to_owned();
        let survey =
            joined(tokio::task::spawn_blocking(move || Survey::take(&root, options.marks))).await?;
        tally.expect(survey.files, survey.bytes);
        let (sender, files) = mpsc::channel(options.jobs);
        let root = local.to_owned();
        let walk = tokio::task::spawn_blocking(move || send_files(&root, &sender));
        ReceiverStream::new(files)
            .try_for_each_concurrent(options.jobs, |(local, relative)| async move {
                let (to, if_exists) = (join(path, &relative), options.if_exists);
                report(done, self.upload_with_retry(Some(&local), &to, if_exists, tally).await?)
                    .await;
                Ok(())
            })
            .await?;
        joined(walk).await?;
        for level in survey.marks.chunk_by(|one, other| one.depth == other.depth) {
            stream::iter(level.iter().map(Ok))
                .try_for_each_concurrent(options.jobs, |mark: &Mark| async move {
                    let (local, path) = (mark.local.as_deref(), join(path, &mark.relative));
                    let if_exists = options.if_exists;
                    report(done, self.upload_with_retry(local, &path, if_exists, tally).await?)
                        .await;
                    Ok(())
                })
                .await?;
        }
        Ok(survey.omitted)
    }

    /// Sends a file until it has arrived; an empty one where there is no local file.
    async fn upload_with_retry(
        &self,
        local: Option<&Path>,
        path: &str,
        if_exists: IfExists,
        tally: &Arc<Tally>,
    ) -> Result<Moved> {
        let (mut backoff, wait) = (self.backoff(), self.storing(path));
        let header = header(path, if_exists);
        let arrived = async {
            loop {
                match self.upload_once(local, &header, &wait, Try::begin(tally)).await {
                    Ok(stored) => return Ok(stored),
                    Err(error) => backoff.after(error, &wait).await?,
                }
            }
        };
        let (entry, files_replaced) = self.attended(&wait, arrived).await?;
        let local = local.map(Path::to_owned);
        Ok(Moved { entry, local, files_replaced: Some(files_replaced) })
    }

    /// Begins to wait for the end of an upload.
    pub(super) fn storing(&self, path: &str) -> Wait {
        self.wait(format!("store {path:?}"), limits::TRANSFER_SILENCE)
    }

    async fn upload_once(
        &self,
        local: Option<&Path>,
        header: &UploadHeader,
        wait: &Wait,
        this: Try,
    ) -> Result<(Entry, u64)> {
        let (local, first) = (local.map(Path::to_owned), header.clone());
        let read = move |messages: mpsc::Sender<UploadRequest>, this| {
            read(local.as_deref(), first, &messages, this)
        };
        self.upload_from((&header.path, wait), this, read).await
    }

    /// Sends what `read` reads, on a thread of its own, and sees that the store has just that. `read` gives
    /// the digest of what it has sent, or nothing where nobody took it. Returns the file, and how many files
    /// it has replaced.
    pub(super) async fn upload_from(
        &self,
        (path, wait): (&str, &Wait),
        this: Try,
        read: impl FnOnce(mpsc::Sender<UploadRequest>, Try) -> Result<Option<(blake3::Hash, Try)>>
        + Send
        + 'static,
    ) -> Result<(Entry, u64)> {
        let (sender, messages) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        // While this is held the stream has no end that the server could take for the file's.
        let open = sender.clone();
        let mut stub = self.stub.clone();
        let mut call = pin!(stub.upload(wait.paced(ReceiverStream::new(messages))));
        let reader = tokio::task::spawn_blocking(move || read(sender, this));
        let (answer, read) = tokio::select! {
            answer = &mut call => (answer, None),
            read = joined(reader) => {
                let read = read?;
                drop(open);
                (call.await, read)
            }
        };
        let UploadResponse { entry, files_replaced } = self.answer(answer)?;
        let entry = present(entry)?;
        let Some((digest, this)) = read else {
            let why = "the server took it before it was sent as a whole";
            return Err(Error::Damaged { path: path.to_owned(), why: why.to_owned() });
        };
        if entry.digest != digest.to_hex().as_str() || entry.size_bytes != this.bytes() {
            let why = format!(
                "{} bytes with BLAKE3 {digest} were sent, {} bytes with {:?} were stored; upload \
                 it again",
                this.bytes(),
                entry.size_bytes,
                entry.digest,
            );
            return Err(Error::Damaged { path: path.to_owned(), why });
        }
        this.arrived(files_replaced);
        Ok((entry, files_replaced))
    }
}

/// Reads a file into messages. None: nobody takes them any more.
fn read(
    local: Option<&Path>,
    header: UploadHeader,
    messages: &mpsc::Sender<UploadRequest>,
    mut this: Try,
) -> Result<Option<(blake3::Hash, Try)>> {
    let send = |payload| messages.blocking_send(UploadRequest { payload: Some(payload) }).is_ok();
    let header = |size| Payload::Header(UploadHeader { size_bytes: Some(size), ..header });
    let finish = |size, digest: blake3::Hash| {
        Payload::Finish(UploadFinish { size_bytes: Some(size), blake3: digest.to_string() })
    };
    let mut hasher = blake3::Hasher::new();
    let Some(local) = local else {
        let digest = hasher.finalize();
        return Ok((send(header(0)) && send(finish(0, digest))).then_some((digest, this)));
    };
    let mut file = fs::File::open(local).map_err(Error::local("read", local))?;
    let metadata = file.metadata().map_err(Error::local("read", local))?;
    regular(local, &metadata)?;
    if !send(header(metadata.len())) {
        return Ok(None);
    }
    loop {
        let mut data = Vec::with_capacity(limits::STREAM_MESSAGE_BYTES);
        (&mut file)
            .take(limits::STREAM_MESSAGE_BYTES as u64)
            .read_to_end(&mut data)
            .map_err(Error::local("read", local))?;
        if data.is_empty() {
            break;
        }
        hasher.update(&data);
        this.moved(data.len());
        if this.bytes() > metadata.len() || !send(Payload::Data(Bytes::from(data))) {
            break;
        }
    }
    if this.bytes() > metadata.len() || (this.bytes() < metadata.len() && !messages.is_closed()) {
        let why = "it changed while it was read; upload it again when nobody writes it".to_owned();
        return Err(Error::Unfit { path: local.to_owned(), why });
    }
    let digest = hasher.finalize();
    let whole = this.bytes() == metadata.len() && send(finish(metadata.len(), digest));
    Ok(whole.then_some((digest, this)))
}

/// Walks a second time and hands out the files that are not marks.
fn send_files(root: &Path, files: &mpsc::Sender<Result<(PathBuf, String)>>) -> Result<()> {
    for found in Walk::open(root)? {
        let found = found?;
        let file = matches!(found.kind, FoundKind::File(_));
        if file && files.blocking_send(Ok((found.local, found.relative))).is_err() {
            break;
        }
    }
    Ok(())
}
