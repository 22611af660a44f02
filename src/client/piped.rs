//! Transfers of one file from or to a local stream, such as the standard input.
//!
//! The bytes of a stream can be read only once, so an upload from a stream is not retried. A download to a stream
//! writes bytes before the digest of the file is checked; the reader of the stream must check the result of the
//! command.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    client::{
        Client,
        error::{Error, Result},
        joined,
        transfer::{Attempt, TransferProgress, TransferredFile},
        upload::{FileUpload, header},
    },
    limits,
    wire::v1::{Entry, UploadFinish, UploadHeader, UploadRequest, upload_request::Payload},
};

impl Client {
    /// Stores the bytes of a stream up to its end. Errors call the stream `name`.
    ///
    /// # Errors
    /// [`Error::Local`] if the stream cannot be read; those of an upload. Bytes that were read cannot be read again.
    ///
    /// # Cancel safety
    /// When the future is dropped, the store has either nothing of the file or the whole file.
    pub async fn upload_stream(
        &self,
        (stream, name): (impl Read + Send + 'static, &'static str),
        path: &str,
        options: FileUpload,
        tally: &Arc<TransferProgress>,
    ) -> Result<TransferredFile> {
        let header = header(path, options);
        let first = header.clone();
        let read = move |messages: mpsc::Sender<UploadRequest>, this| {
            read((stream, name), first, &messages, this)
        };
        let wait = self.storing(path, options);
        let stored = self.upload_from((&header, &wait), Attempt::begin(tally), read);
        let (entry, files_replaced) = self.attended(&wait, stored).await?;
        Ok(TransferredFile { entry, local: None, files_replaced: Some(files_replaced) })
    }

    /// Writes the bytes of a file to a stream; continues after a lost connection. Errors call the stream `name`.
    ///
    /// # Errors
    /// [`Error::Local`] if the stream cannot be written, [`Error::Damaged`] if the bytes do not match the digest of the
    /// store, [`Error::Unchecked`] if the server has no digest in time. Bytes may have been written by then.
    ///
    /// # Cancel safety
    /// When the future is dropped, the bytes that were written stay written.
    pub async fn download_stream(
        &self,
        file: &Entry,
        (stream, name): (impl Write + Send + 'static, &'static str),
        tally: &Arc<TransferProgress>,
    ) -> Result<()> {
        tally.expect(1, file.size_bytes);
        let (sender, data) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        let writer = tokio::task::spawn_blocking(move || write(stream, name, data));
        let mut this = Attempt::begin(tally);
        let received = self.receive(file, &mut this, &sender).await;
        drop(sender);
        // A local error comes first: it is the reason why the channel was closed.
        let digest = joined(writer).await?;
        received?;
        let mut file = file.clone();
        self.digested(&mut file).await?;
        if file.digest != digest.to_hex().as_str() {
            let why = format!("its BLAKE3 is {digest}, not {}; fetch it again", file.digest);
            return Err(Error::Damaged { path: file.path, why });
        }
        this.arrived(0);
        Ok(())
    }
}

/// Reads a stream into messages. Returns the digest of the bytes; `None` if the receiver of the messages was dropped.
fn read(
    (mut stream, name): (impl Read, &'static str),
    header: UploadHeader,
    messages: &mpsc::Sender<UploadRequest>,
    mut this: Attempt,
) -> Result<Option<(blake3::Hash, Attempt)>> {
    let send = |payload| messages.blocking_send(UploadRequest { payload: Some(payload) }).is_ok();
    let mut hasher = blake3::Hasher::new();
    if !send(Payload::Header(header)) {
        return Ok(None);
    }
    loop {
        let mut data = Vec::with_capacity(limits::STREAM_MESSAGE_BYTES);
        (&mut stream)
            .take(limits::STREAM_MESSAGE_BYTES as u64)
            .read_to_end(&mut data)
            .map_err(Error::local("read", name))?;
        if data.is_empty() {
            break;
        }
        hasher.update(&data);
        this.moved(data.len());
        if !send(Payload::Data(Bytes::from(data))) {
            return Ok(None);
        }
    }
    let digest = hasher.finalize();
    let finish = UploadFinish { size_bytes: Some(this.bytes()), blake3: digest.to_string() };
    Ok(send(Payload::Finish(finish)).then_some((digest, this)))
}

/// Writes and hashes the bytes of a channel, until the channel is closed. Blocks.
fn write(
    mut stream: impl Write,
    name: &'static str,
    mut data: mpsc::Receiver<Bytes>,
) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    while let Some(data) = data.blocking_recv() {
        hasher.update(&data);
        stream.write_all(&data).map_err(Error::local("write", name))?;
    }
    stream.flush().map_err(Error::local("write", name))?;
    Ok(hasher.finalize())
}
