//! Uploads of files and whole folders.
//!
//! A blocking task reads and hashes a file. It runs ahead of the connection by at most
//! [`limits::TRANSFER_MESSAGES_IN_FLIGHT`] messages, so memory does not depend on the file's size. An upload that
//! breaks off leaves nothing in the store, so a retry sends the file again from its start. The header has the size, and
//! the finish message the size and the digest, so that a proxy that cuts the stream off cannot cause a truncated file.

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
        transfer::{Attempt, TransferProgress, TransferredFile, report},
        tree::{FoundKind, Mark, UploadPlan, Walk, regular},
        wait::Timeout,
    },
    limits,
    wire::v1::{
        Entry, EntryKind, IfExists, UploadFinish, UploadHeader, UploadRequest, UploadResponse,
        upload_request::Payload,
    },
};

pub use crate::client::tree::{Marks, Omitted};

/// How a folder is uploaded.
#[derive(Clone, Copy, Debug)]
pub struct FolderUpload {
    /// The number of files that are sent in parallel.
    pub jobs: usize,
    /// Which folders get their mark file.
    pub marks: Marks,
    /// What the files may replace.
    pub if_exists: IfExists,
}

/// What the bytes of a file become in the store.
#[derive(Clone, Copy, Debug)]
pub struct FileUpload {
    /// What the file, or the folder of an archive, may replace.
    pub if_exists: IfExists,
    /// Whether the file is a ZIP archive that becomes a folder.
    pub unpack: bool,
    /// With `unpack`: whether each folder of the archive gets a mark file.
    pub mark: bool,
}

impl FileUpload {
    /// A file that stays a file.
    pub fn new(if_exists: IfExists) -> Self {
        Self { if_exists, unpack: false, mark: false }
    }
}

/// The header of an upload, without the size.
pub(super) fn header(path: &str, options: FileUpload) -> UploadHeader {
    UploadHeader {
        path: path.to_owned(),
        if_exists: options.if_exists.into(),
        ends_with_finish: true,
        unpack: options.unpack,
        mark: options.mark,
        ..UploadHeader::default()
    }
}

impl Client {
    /// Stores a local file at `path`; a symbolic link is followed. The caller has added the file to the totals of
    /// `tally`.
    ///
    /// # Errors
    /// Those of the server; [`Error::Local`] if the file cannot be read; [`Error::NotUploadable`] if it changes meanwhile or is
    /// no regular file; [`Error::Damaged`] if the stored bytes are not the bytes that were read; [`Error::NotUnpacked`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the store has either nothing of the file or the whole file.
    pub async fn upload(
        &self,
        local: &Path,
        path: &str,
        options: FileUpload,
        tally: &Arc<TransferProgress>,
    ) -> Result<TransferredFile> {
        self.upload_with_retry(Some(local), path, options, tally).await
    }

    /// Stores a local folder as `path`: first all files, then the mark files, those of deeper folders first and that of
    /// `path` last, so that a mark file says that everything below its folder is stored.
    ///
    /// Each stored file is reported on `done`. Returns what was left out.
    ///
    /// # Errors
    /// Those of [`Client::upload`] for the first file that fails; [`Error::NotUploadable`] for a symbolic link or an unfit
    /// name, before anything is sent.
    ///
    /// # Cancel safety
    /// When the future is dropped, the stored files stay.
    pub async fn upload_folder(
        &self,
        (local, path): (&Path, &str),
        options: FolderUpload,
        tally: &Arc<TransferProgress>,
        done: &mpsc::Sender<TransferredFile>,
    ) -> Result<Omitted> {
        let root = local.to_owned();
        let survey =
            joined(tokio::task::spawn_blocking(move || UploadPlan::take(&root, options.marks)))
                .await?;
        tally.expect(survey.files, survey.bytes);
        let (sender, files) = mpsc::channel(options.jobs);
        let root = local.to_owned();
        let walk = tokio::task::spawn_blocking(move || send_files(&root, &sender));
        ReceiverStream::new(files)
            .try_for_each_concurrent(options.jobs, |(local, relative)| async move {
                let (to, file) = (join(path, &relative), FileUpload::new(options.if_exists));
                report(done, self.upload_with_retry(Some(&local), &to, file, tally).await?).await;
                Ok(())
            })
            .await?;
        joined(walk).await?;
        for level in survey.marks.chunk_by(|one, other| one.depth == other.depth) {
            stream::iter(level.iter().map(Ok))
                .try_for_each_concurrent(options.jobs, |mark: &Mark| async move {
                    let (local, path) = (mark.local.as_deref(), join(path, &mark.relative));
                    let file = FileUpload::new(options.if_exists);
                    report(done, self.upload_with_retry(local, &path, file, tally).await?).await;
                    Ok(())
                })
                .await?;
        }
        Ok(survey.omitted)
    }

    /// Stores a file, with retries; without a local file, an empty one.
    async fn upload_with_retry(
        &self,
        local: Option<&Path>,
        path: &str,
        options: FileUpload,
        tally: &Arc<TransferProgress>,
    ) -> Result<TransferredFile> {
        let (mut backoff, wait) = (self.backoff(), self.storing(path, options));
        let header = header(path, options);
        let arrived = async {
            loop {
                match self.upload_once(local, &header, &wait, Attempt::begin(tally)).await {
                    Ok(stored) => return Ok(stored),
                    Err(error) => backoff.after(error, &wait).await?,
                }
            }
        };
        let (entry, files_replaced) = self.attended(&wait, arrived).await?;
        let local = local.map(Path::to_owned);
        Ok(TransferredFile { entry, local, files_replaced: Some(files_replaced) })
    }

    /// Begins the wait of an upload.
    pub(super) fn storing(&self, path: &str, options: FileUpload) -> Timeout {
        let silence =
            if options.unpack { limits::UNPACK_SILENCE } else { limits::TRANSFER_SILENCE };
        self.wait(format!("store {path:?}"), silence)
    }

    async fn upload_once(
        &self,
        local: Option<&Path>,
        header: &UploadHeader,
        wait: &Timeout,
        this: Attempt,
    ) -> Result<(Entry, u64)> {
        let (local, first) = (local.map(Path::to_owned), header.clone());
        let read = move |messages: mpsc::Sender<UploadRequest>, this| {
            read(local.as_deref(), first, &messages, this)
        };
        self.upload_from((header, wait), this, read).await
    }

    /// Makes one upload call, with the messages that `read` sends from a blocking task, and checks that the stored size
    /// and digest are those of the bytes sent, or that an archive has become a folder. `read` returns the digest, or `None` if the receiver of the messages was
    /// dropped. Returns the file, and the number of files that it has replaced.
    pub(super) async fn upload_from(
        &self,
        (header, wait): (&UploadHeader, &Timeout),
        this: Attempt,
        read: impl FnOnce(
            mpsc::Sender<UploadRequest>,
            Attempt,
        ) -> Result<Option<(blake3::Hash, Attempt)>>
        + Send
        + 'static,
    ) -> Result<(Entry, u64)> {
        let (sender, messages) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        // While this sender lives, the request stream stays open: after a read error the stream must not end, because
        // the server could take that for the end of the file.
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
            return Err(Error::Damaged { path: header.path.clone(), why: why.to_owned() });
        };
        // The server has compared the size and the digest of an archive, see `UploadFinish`.
        let is_file = entry.kind() != EntryKind::Folder;
        if is_file && header.unpack {
            return Err(Error::NotUnpacked(header.path.clone()));
        }
        if is_file && (entry.digest != digest.to_hex().as_str() || entry.size_bytes != this.bytes())
        {
            let why = format!(
                "{} bytes with BLAKE3 {digest} were sent, {} bytes with {:?} were stored; upload \
                 it again",
                this.bytes(),
                entry.size_bytes,
                entry.digest,
            );
            return Err(Error::Damaged { path: header.path.clone(), why });
        }
        this.arrived(files_replaced);
        Ok((entry, files_replaced))
    }
}

/// Reads a file into messages. Returns the digest of the bytes; `None` if the receiver of the messages was dropped.
fn read(
    local: Option<&Path>,
    header: UploadHeader,
    messages: &mpsc::Sender<UploadRequest>,
    mut this: Attempt,
) -> Result<Option<(blake3::Hash, Attempt)>> {
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
        return Err(Error::NotUploadable { path: local.to_owned(), why });
    }
    let digest = hasher.finalize();
    let whole = this.bytes() == metadata.len() && send(finish(metadata.len(), digest));
    Ok(whole.then_some((digest, this)))
}

/// Walks through the folder a second time and sends its files, without mark files, to the channel. Blocks.
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
