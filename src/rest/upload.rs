//! The calls that upload bytes: `PUT /ImageStore/{path}` and `$/UploadChunk` (reference, sections 3.1 and 3.3).
//!
//! **Invariant:** for the backend, the end of the request stream means that the upload is complete. So the stream ends
//! only when the body is complete and its digests match; in every other case the stream never ends and the call is
//! dropped, and nothing is stored. A proxy before a remote backend may end the stream nevertheless, so the stream of a
//! file ends with the message `finish`, and the header of a chunk has the length of the chunk.
//!
//! The body is not read before the backend asks for it, which it does when it has checked the path and the conditions
//! and has room: so a client that waits for `100 Continue` does not send a body that will be refused. The transport to
//! a remote backend reads ahead, and asks at once.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use axum::response::Response;
use bytes::Bytes;
use futures::Stream;
use http::header;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{
    answer::{self, Failure},
    call::Call,
    conditions::{self, WriteConditions},
    content_range::{self, ContentRange},
    digests::Digests,
    payload::Payload,
    sessions,
};
use crate::{
    error::{Error, Kind},
    limits,
    wire::by_reference::streaming,
    wire::v1::{
        UploadChunkHeader, UploadChunkRequest, UploadFinish, UploadHeader, UploadRequest,
        upload_chunk_request, upload_request,
    },
};

/// How many messages of one upload may be queued for the backend.
const MESSAGES: usize = 4;

/// Stores a file.
pub(super) async fn upload(
    call: Call,
    path: String,
    payload: &mut Payload,
) -> Result<Response, Failure> {
    let digests = Digests::parse(&call.head.headers)?;
    let message = |payload| UploadRequest { payload: Some(payload) };
    let WriteConditions { if_match, if_none_match, if_unmodified_since } =
        conditions::write_conditions(&call)?;
    let header = UploadHeader {
        path,
        if_exists: conditions::if_exists(&call.query)?,
        size_bytes: payload.size(),
        if_match,
        if_none_match,
        if_unmodified_since,
        ends_with_finish: true,
        timeout: call.timeout(),
        unpack: call.query.flag("unpack")?,
        mark: call.query.flag("mark")?,
        ..UploadHeader::default()
    };
    let header = message(upload_request::Payload::Header(header));
    let data = move |bytes| message(upload_request::Payload::Data(bytes));
    let finish = move |size| {
        let finish = UploadFinish { size_bytes: Some(size), ..UploadFinish::default() };
        Some(message(upload_request::Payload::Finish(finish)))
    };
    let client = call.client;
    let stored = transfer(payload, digests, header, (data, finish), |messages| async move {
        client.upload(client.request(streaming(messages))).await
    });
    Ok(answer::stored(stored.await?.get_ref().files_replaced))
}

/// Stores a chunk.
pub(super) async fn chunk(
    call: Call,
    path: String,
    payload: &mut Payload,
) -> Result<Response, Failure> {
    let session_id = sessions::id(&call)?;
    conditions::refuse(&call)?;
    let range = content_range(&call)?;
    let length = range.unwrap_or_default().length;
    if let Some(size) = payload.size()
        && size != length
    {
        let message = match range {
            Some(_) => format!("the body has {size} bytes, its Content-Range has {length}"),
            None => format!("the body has {size} bytes and no Content-Range; say which they are"),
        };
        return Err(Failure::new(Kind::BadRange, message));
    }
    let digests = Digests::parse(&call.head.headers)?;
    let message = |payload| UploadChunkRequest { payload: Some(payload) };
    let ContentRange { offset, total: total_bytes, .. } = range.unwrap_or_default();
    let (timeout, if_exists) = (call.timeout(), conditions::if_exists(&call.query)?);
    let header =
        UploadChunkHeader { session_id, path, offset, length, total_bytes, timeout, if_exists };
    let header = message(upload_chunk_request::Payload::Header(header));
    let data = move |bytes| message(upload_chunk_request::Payload::Data(bytes));
    let client = call.client;
    let stored = transfer(payload, digests, header, (data, |_| None), |messages| async move {
        client.upload_chunk(client.request(streaming(messages))).await
    });
    stored.await?;
    Ok(answer::empty())
}

/// The range of the request, if it has one.
fn content_range(call: &Call) -> Result<Option<ContentRange>, Error> {
    let value = call.head.headers.get(header::CONTENT_RANGE);
    value.map(|value| content_range::parse(&String::from_utf8_lossy(value.as_bytes()))).transpose()
}

/// Sends a body to the backend and returns the response of the backend, which may be a refusal before the body ends.
async fn transfer<M, C, F, T>(
    payload: &mut Payload,
    digests: Digests,
    header: M,
    messages: (impl Fn(Bytes) -> M, impl FnOnce(u64) -> Option<M>),
    call: C,
) -> Result<T, Failure>
where
    C: FnOnce(Messages<M>) -> F,
    F: Future<Output = Result<T, Status>>,
{
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let (asked, is_asked) = oneshot::channel();
    let mut call = pin!(call(Messages { receiver, stage: Stage::Header, asked: Some(asked) }));
    let send = async move {
        // If the backend has dropped the stream, its response has the error.
        if sender.send(Some(header)).await.is_err() || is_asked.await.is_err() {
            return Ok(());
        }
        send(payload, digests, messages, sender).await
    };
    tokio::select! {
        biased;
        answered = &mut call => Ok(answered?),
        sent = send => {
            sent?;
            Ok(call.await?)
        }
    }
}

/// Sends a body as messages. If the body is complete and its digests match, sends the message that `finish` makes from
/// its size, if any, and ends the stream with `None`.
async fn send<M>(
    payload: &mut Payload,
    mut digests: Digests,
    (data, finish): (impl Fn(Bytes) -> M, impl FnOnce(u64) -> Option<M>),
    sender: mpsc::Sender<Option<M>>,
) -> Result<(), Failure> {
    let mut size = 0;
    let mut sent = Ok(());
    while sent.is_ok()
        && let Some(mut bytes) = payload.next().await?
    {
        digests = digests.add(&bytes).await;
        size += bytes.len() as u64;
        while sent.is_ok() && !bytes.is_empty() {
            let message = bytes.split_to(bytes.len().min(limits::STREAM_MESSAGE_BYTES));
            sent = sender.send(Some(data(message))).await;
        }
    }
    // If the backend has dropped the stream, its response has the error.
    if sent.is_ok() {
        digests.verify()?;
        for last in finish(size).map(Some).into_iter().chain([None]) {
            drop(sender.send(last).await);
        }
    }
    Ok(())
}

/// The request stream of an upload. It ends only when `None` is received, not when the sender is dropped.
struct Messages<M> {
    receiver: mpsc::Receiver<Option<M>>,
    stage: Stage,
    /// Signals that the backend polls for the message after the header.
    asked: Option<oneshot::Sender<()>>,
}

enum Stage {
    Header,
    Pause,
    Body,
}

impl<M> Stream for Messages<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        match self.stage {
            Stage::Header => {
                let header = ready!(self.receiver.poll_recv(cx));
                self.stage = Stage::Pause;
                return header.map_or(Poll::Pending, Poll::Ready);
            }
            // tonic's encoder polls until no message is ready, and only then passes on the encoded ones. This pending
            // poll makes it pass on the header alone, so the next poll means that the backend asks for more.
            Stage::Pause => {
                self.stage = Stage::Body;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Stage::Body => {}
        }
        if let Some(asked) = self.asked.take() {
            // An error means that the call has ended.
            asked.send(()).ok();
        }
        match ready!(self.receiver.poll_recv(cx)) {
            Some(message) => Poll::Ready(message),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    };

    use axum::body::Body;
    use futures::{FutureExt, StreamExt, stream};
    use http::HeaderMap;
    use http_body_util::BodyExt;
    use tokio::sync::Notify;

    use super::*;
    use crate::{rest::call::Client, wire::backend::remote};

    /// Sends pieces to a backend that reads to the end. Returns what the backend received, if it saw the end.
    async fn sent(pieces: Vec<Result<&'static [u8], std::io::Error>>, md5: &str) -> Option<String> {
        let mut payload = Payload::new(Body::from_stream(stream::iter(pieces)));
        let headers = HeaderMap::from_iter([(
            header::HeaderName::from_static("content-md5"),
            md5.parse().expect("md5"),
        )]);
        let digests = Digests::parse(&headers).expect("digests");
        let mut got = None;
        let stored = transfer(
            &mut payload,
            digests,
            Bytes::new(),
            (|bytes| bytes, |size| Some(Bytes::from(format!(" {size}")))),
            async |stream| {
                let bytes: Vec<Bytes> = stream.collect().await;
                got = Some(String::from_utf8(bytes.concat()).expect("text"));
                Ok(())
            },
        );
        assert_eq!(stored.await.is_ok(), got.is_some());
        got
    }

    const HELLO: &str = "XUFAKrxLKna5cZ2REBfFkg==";

    #[tokio::test]
    async fn only_a_whole_body_ends_the_messages() {
        let whole = Some("hello 5".to_owned());
        assert_eq!(sent(vec![Ok(b"hel"), Ok(b"lo")], HELLO).await, whole);
        assert_eq!(sent(vec![Ok(b"hel"), Ok(b"lO")], HELLO).await, None);
        let reset = std::io::Error::other("reset");
        assert_eq!(sent(vec![Ok(b"hello"), Err(reset)], HELLO).await, None);
    }

    #[tokio::test]
    async fn a_sender_that_is_gone_does_not_end_the_messages() {
        for stage in [Stage::Header, Stage::Pause, Stage::Body] {
            let (_, closed) = mpsc::channel::<Option<u8>>(1);
            let mut messages = Messages { receiver: closed, stage, asked: None };
            assert!(messages.next().now_or_never().is_none());
            assert!(messages.next().now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn an_early_refusal_is_the_answer() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let mut payload = Payload::new(body);
        let refused =
            transfer(&mut payload, Digests::default(), (), (drop, |_| None), async |_| {
                Err::<(), _>(Status::invalid_argument("no"))
            });
        assert_eq!(refused.await.expect_err("a refusal").kind, Kind::InvalidArgument);
    }

    #[tokio::test]
    async fn a_body_is_not_read_before_the_backend_asks_for_it() {
        let (is_judged, is_read) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (judged, read) = (Arc::clone(&is_judged), Arc::clone(&is_read));
        let backend = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let judged = Arc::clone(&judged);
            async move {
                let mut body = request.into_body();
                body.frame().await.expect("a header").expect("a frame");
                judged.notified().await;
                body.frame().await.expect("a piece").expect("a frame");
                Ok::<_, Status>(Status::aborted("seen").into_http())
            }
        });
        let client = Client::of_backend(remote(backend));
        let body = stream::once(async move {
            read.store(true, SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(b"a"))
        });
        let mut payload = Payload::new(Body::from_stream(body));
        let header = UploadRequest { payload: None };
        let data = |bytes| UploadRequest { payload: Some(upload_request::Payload::Data(bytes)) };
        let (digests, messages) = (Digests::default(), (data, |_| None));
        let mut sent =
            Box::pin(transfer(&mut payload, digests, header, messages, |messages| async move {
                client.upload(client.request(streaming(messages))).await.map(drop)
            }));
        for _ in 0..10 {
            assert!(sent.as_mut().now_or_never().is_none());
        }
        assert!(!is_read.load(SeqCst));
        is_judged.notify_one();
        assert_eq!(sent.await.expect_err("the answer").kind, Kind::Changed);
        assert!(is_read.load(SeqCst));
    }
}
