//! One file from or to a stream of this side, such as the standard input.
//!
//! What is read from a stream cannot be read again, so that an upload is tried once. What is written to
//! one is written before all of it is checked; whoever reads it has to look at how the command ended.

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
        transfer::{Moved, Tally, Try},
        upload::header,
    },
    limits,
    wire::v1::{
        Entry, IfExists, UploadFinish, UploadHeader, UploadRequest, upload_request::Payload,
    },
};

impl Client {
    /// Stores what a stream has up to its end; `name` is what errors call it. `if_exists` says what it may
    /// replace.
    ///
    /// # Errors
    /// [`Error::Local`] where it cannot be read; any other, and the stream is used up.
    ///
    /// # Cancel safety
    /// An upload that is dropped leaves nothing.
    pub async fn upload_stream(
        &self,
        (stream, name): (impl Read + Send + 'static, &'static str),
        path: &str,
        if_exists: IfExists,
        tally: &Arc<Tally>,
    ) -> Result<Moved> {
        let header = header(path, if_exists);
        let read = move |messages: mpsc::Sender<UploadRequest>, this| {
            read((stream, name), header, &messages, this)
        };
        let wait = self.storing(path);
        let stored = self.upload_from((path, &wait), Try::begin(tally), read);
        let (entry, files_replaced) = self.attended(&wait, stored).await?;
        Ok(Moved { entry, local: None, files_replaced: Some(files_replaced) })
    }

    /// Writes the bytes of a file to a stream, across lost connections; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Local`] where it cannot be written, [`Error::Damaged`] where the bytes are not those of
    /// the store's digest, [`Error::Unchecked`] where that does not come. Some have been written then.
    ///
    /// # Cancel safety
    /// What has been written stays written.
    pub async fn download_stream(
        &self,
        file: &Entry,
        (stream, name): (impl Write + Send + 'static, &'static str),
        tally: &Arc<Tally>,
    ) -> Result<()> {
        tally.expect(1, file.size_bytes);
        let (sender, data) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        let writer = tokio::task::spawn_blocking(move || write(stream, name, data));
        let mut this = Try::begin(tally);
        let received = self.receive(file, &mut this, &sender).await;
        drop(sender);
        // What failed on this side is the reason why nobody took the bytes.
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

/// Reads a stream into messages. None: nobody takes them any more.
fn read(
    (mut stream, name): (impl Read, &'static str),
    header: UploadHeader,
    messages: &mpsc::Sender<UploadRequest>,
    mut this: Try,
) -> Result<Option<(blake3::Hash, Try)>> {
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

/// Writes and hashes what comes, until there is no more.
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
