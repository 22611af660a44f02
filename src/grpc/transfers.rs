//! Receiving the bytes of uploads and chunks.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::{
    access::{RequestContext, Rpc},
    budget::PermitHandle,
    error::{Error, Kind, Result},
    grpc::messages,
    limits::MESSAGE_BYTES_MAX,
    model::{ChunkRange, Digest, SessionId, StorePath},
    store::{Call, Store, Unpack, UploadSpec},
    wire::{
        status,
        v1::{
            self, UploadChunkHeader, UploadChunkRequest, UploadFinish, UploadHeader, UploadRequest,
            upload_chunk_request::Payload as ChunkPayload, upload_request::Payload,
        },
    },
};

/// A request stream: a header, then data, and in an upload an optional last message (`finish`), which confirms that
/// the data is complete.
struct Body<T> {
    messages: Streaming<T>,
    finish: Option<UploadFinish>,
}

/// The payload of one message of a [`Body`].
enum Piece<H> {
    Header(H),
    Data(Bytes),
    Finish(UploadFinish),
}

trait Message {
    type Header;
    fn open(self) -> Option<Piece<Self::Header>>;
}

impl Message for UploadRequest {
    type Header = UploadHeader;

    fn open(self) -> Option<Piece<UploadHeader>> {
        Some(match self.payload? {
            Payload::Header(header) => Piece::Header(header),
            Payload::Data(data) => Piece::Data(data),
            Payload::Finish(finish) => Piece::Finish(finish),
        })
    }
}

impl Message for UploadChunkRequest {
    type Header = UploadChunkHeader;

    fn open(self) -> Option<Piece<UploadChunkHeader>> {
        Some(match self.payload? {
            ChunkPayload::Header(header) => Piece::Header(header),
            ChunkPayload::Data(data) => Piece::Data(data),
        })
    }
}

impl<T: Message> Body<T> {
    fn new(messages: Streaming<T>) -> Self {
        Self { messages, finish: None }
    }

    async fn header(&mut self) -> Result<T::Header> {
        match next(&mut self.messages).await?.and_then(Message::open) {
            Some(Piece::Header(header)) => Ok(header),
            Some(Piece::Data(_) | Piece::Finish(_)) | None => {
                Err(Error::invalid("header", "the first message has no header; send it first"))
            }
        }
    }

    /// The next bytes; `None` at the end of the stream, when `finish` has the last message if it was sent. A caller
    /// that stalls loses its turn if another peer needs the turn.
    async fn data(&mut self, turn: &mut PermitHandle) -> Result<Option<Bytes>> {
        while let Some(message) = next_in_turn(&mut self.messages, turn).await? {
            let piece = message.open();
            if self.finish.is_some() {
                return Err(Error::invalid("finish", "a message came after finish; send it last"));
            }
            match piece {
                Some(Piece::Data(data)) => return Ok(Some(data)),
                Some(Piece::Finish(finish)) => self.finish = Some(finish),
                Some(Piece::Header(_)) => {
                    return Err(Error::invalid("header", "a header came twice; send it once"));
                }
                None => return Err(Error::invalid("data", "a message has nothing in it")),
            }
        }
        Ok(None)
    }
}

/// The next message of a request stream.
///
/// # Errors
/// `Timeout` if the caller is too slow, `Busy` if the memory budget has no room for the message,
/// `MessageTooLarge` or `TooLarge` if the message or a list in it is too long, `Cancelled` if the caller has
/// disconnected or has sent an invalid message.
pub(super) async fn next<T>(messages: &mut Streaming<T>) -> Result<Option<T>> {
    messages.message().await.map_err(|status| broken(&status))
}

/// The next message of a caller that holds a turn.
///
/// # Errors
/// As [`next`], and the error of the budget if the turn is revoked while the caller stalls.
async fn next_in_turn<T>(
    messages: &mut Streaming<T>,
    turn: &mut PermitHandle,
) -> Result<Option<T>> {
    turn.stalls();
    let message = tokio::select! {
        biased;
        message = next(messages) => message,
        error = turn.revoked() => {
            Err(Error::new(error.kind(), format!("{}; nothing is stored", error.message())))
        }
    };
    turn.progress();
    message
}

/// The error for a request stream that has failed: an error of this server keeps its kind; `Cancelled` if the client
/// has disconnected or has sent an invalid message.
fn broken(status: &Status) -> Error {
    match status::kind_of_broken_body(status) {
        Some(kind @ Kind::MessageTooLarge) => {
            let message = format!(
                "a message has more than {MESSAGE_BYTES_MAX} bytes; nothing is stored; send less"
            );
            Error::new(kind, message)
        }
        Some(kind) => Error::new(kind, format!("{}; nothing is stored", status.message())),
        None => Error::new(Kind::Cancelled, "the upload broke off; nothing is stored")
            .because(status.to_string()),
    }
}

/// The time limits of a transfer: the deadline of the call, and the timeout of the header, which limits the time
/// that the server works, without the time in which it waits for the client's bytes.
struct Clock {
    call: Call,
    left: Option<Duration>,
}

impl Clock {
    /// # Errors
    /// `InvalidArgument` for a negative timeout.
    fn new(call: Call, timeout: Option<prost_types::Duration>) -> Result<Self> {
        let bad = |_| Error::invalid("timeout", "the timeout is below zero; send a time, or none");
        let left = timeout.map(Duration::try_from).transpose().map_err(bad)?;
        Ok(Self { call, left })
    }

    /// The call with the deadline for the next step.
    fn call(&self) -> Call {
        self.call.within(self.left)
    }

    /// Runs work, and subtracts the time that it takes from the timeout.
    async fn count<T>(&mut self, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = work.await;
        self.left = self.left.map(|left| left.saturating_sub(begun.elapsed()));
        done
    }
}

/// Receives a file and makes it visible.
pub(super) async fn upload(
    store: &Store,
    context: &RequestContext,
    messages: Streaming<UploadRequest>,
) -> Result<v1::UploadResponse> {
    let mut body = Body::new(messages);
    let header = context.until(body.header()).await?;
    let path = StorePath::parse(&header.path, "path")?;
    let call = context.authorize(Rpc::Upload, &[&path])?;
    let mut clock = Clock::new(call.clone(), header.timeout)?;
    let digest = digest(&header.blake3)?;
    let conditions = messages::conditions(
        &header.if_match,
        &header.if_none_match,
        header.if_unmodified_since.as_ref(),
    )?;
    let replaces = messages::replaces(header.if_exists)?;
    let unpack = unpack(&header)?;
    let size = header.size_bytes;
    let incoming = UploadSpec { path, size, digest, conditions, replaces, unpack };
    let first = clock.call();
    let mut upload = clock.count(store.upload(incoming, &first)).await?;
    let mut turn = upload.turn();
    while let Some(data) = upload.wait_for(call.until(body.data(&mut turn))).await?? {
        upload.limit(clock.call());
        upload.write(data).await?;
    }
    upload.limit(clock.call());
    match body.finish {
        Some(finish) => upload.end(finish.size_bytes, self::digest(&finish.blake3)?)?,
        None if header.ends_with_finish => {
            let message = "the upload ended without finish; nothing is stored";
            return Err(Error::new(Kind::DataLoss, message).field("finish"));
        }
        None => {}
    }
    let stored = upload.store().await?;
    let files_replaced = stored.files_replaced as u64;
    Ok(v1::UploadResponse { entry: Some(messages::stat(&stored.stat)), files_replaced })
}

/// Whether the bytes are an archive to unpack.
fn unpack(header: &UploadHeader) -> Result<Option<Unpack>> {
    if header.mark && !header.unpack {
        let message = "mark is for an archive that is unpacked; set unpack, or leave out mark";
        return Err(Error::invalid("mark", message));
    }
    Ok(header.unpack.then_some(Unpack { marks: header.mark }))
}

/// Parses an optional digest; empty: `None`.
fn digest(text: &str) -> Result<Option<Digest>> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// Receives a chunk and adds it to its session.
pub(super) async fn chunk(
    store: &Store,
    context: &RequestContext,
    messages: Streaming<UploadChunkRequest>,
) -> Result<v1::UploadChunkResponse> {
    let mut body = Body::new(messages);
    let header = context.until(body.header()).await?;
    let path = StorePath::parse(&header.path, "path")?;
    let call = context.authorize(Rpc::UploadChunk, &[&path])?;
    let mut clock = Clock::new(call.clone(), header.timeout)?;
    let session = SessionId::parse(&header.session_id)?;
    context.note_id(&session);
    let range = ChunkRange::new(header.offset, header.length, header.total_bytes)?;
    let replaces = messages::replaces(header.if_exists)?;
    let first = clock.call();
    let begin = store.chunk_over(session, (path, replaces), range, &first);
    let mut chunk = clock.count(begin).await?;
    let mut turn = chunk.turn();
    while let Some(data) = chunk.wait_for(call.until(body.data(&mut turn))).await?? {
        chunk.limit(clock.call());
        chunk.write(data).await?;
    }
    chunk.limit(clock.call());
    chunk.finish().await?;
    Ok(v1::UploadChunkResponse {})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::from_error;

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_the_bytes_come_does_not_count() {
        let second = Duration::from_secs(1);
        let time = prost_types::Duration { seconds: 3, nanos: 0 };
        let mut clock = Clock::new(Call::system(), Some(time)).expect("a time");
        clock.count(tokio::time::sleep(second)).await;
        tokio::time::sleep(5 * second).await;
        let call = clock.call();
        tokio::time::sleep(second).await;
        call.check().expect("time is left");
        tokio::time::sleep(second).await;
        assert_eq!(call.check().expect_err("late").kind(), Kind::Timeout);
        clock.call().check().expect("the next step has the same time");
        clock.count(tokio::time::sleep(second * 2)).await;
        assert_eq!(clock.call().check().expect_err("late").kind(), Kind::Timeout);
        // The deadline of the call counts everything.
        let clock = Clock::new(Call::system().within(Some(second)), Some(time)).expect("a time");
        tokio::time::sleep(second).await;
        assert_eq!(clock.call().check().expect_err("late").kind(), Kind::Timeout);
    }

    #[test]
    fn who_is_to_blame_for_a_broken_upload_is_told() {
        let check = |status: &Status, kind: Kind, message: &str| {
            let error = broken(status);
            assert_eq!((error.kind(), error.message()), (kind, message));
        };
        for kind in [Kind::Timeout, Kind::Busy] {
            let status = from_error(&Error::new(kind, "because of that"));
            check(&status, kind, "because of that; nothing is stored");
        }
        let broke_off = "the upload broke off; nothing is stored";
        let large = "a message has more than 4194304 bytes; nothing is stored; send less";
        check(&Status::out_of_range("found 5"), Kind::MessageTooLarge, large);
        check(&Status::resource_exhausted("unpacked"), Kind::MessageTooLarge, large);
        check(&Status::internal("a stream error"), Kind::Cancelled, broke_off);
    }
}
