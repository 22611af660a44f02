//! Long messages: their encoding and compression does not block the threads of the runtime.
//!
//! tonic encodes and compresses a response when its body is polled, and decompresses a request when it is read. A
//! response carries its length ([`Long`]), and a long one is encoded as a whole on the blocking pool. The
//! decompressed size of a request is not known, so each poll of a call with compressed requests may block: the
//! runtime moves the other tasks of the thread away meanwhile.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

use crate::{error::Error, limits::COMPRESSION_WORK, offload, wire::status};

/// The header that names the compression of the messages, in requests and responses.
const ENCODING: &str = "grpc-encoding";

/// The encoded length in bytes of a response of one message, before compression. In the extensions of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Long(pub(super) usize);

/// A gRPC service whose long messages do not block a thread of the runtime.
#[derive(Clone, Debug)]
pub struct Offloaded<S>(pub(super) S);

impl<S: NamedService> NamedService for Offloaded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Offloaded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_packed = request.headers().get(ENCODING).is_some_and(|value| value != "identity");
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = if is_packed {
                InPlace(answer).await?.map(|body| Body::new(InPlace(body)))
            } else {
                answer.await?
            };
            Ok(written(answer).await)
        })
    }
}

/// Encodes the body of a response that carries its length; returns other responses unchanged.
async fn written(mut answer: Response<Body>) -> Response<Body> {
    let Some(Long(bytes)) = answer.extensions_mut().remove() else { return answer };
    let (head, body) = answer.into_parts();
    let is_packed = head.headers.contains_key(ENCODING);
    let work = if is_packed { bytes.saturating_mul(COMPRESSION_WORK) } else { bytes };
    // A response of one message is ready at the first poll.
    match offload::run(work, move || body.collect().now_or_never()).await {
        Some(Ok(body)) => Response::from_parts(head, Body::new(body)),
        Some(Err(status)) => status.into_http(),
        None => unwritten().into_http(),
    }
}

fn unwritten() -> Status {
    status::from_error(&Error::internal("an answer of one message came in pieces"))
}

/// A future or a response body whose polls may block.
struct InPlace<T>(T);

impl<F: Future + Unpin> Future for InPlace<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        offload::in_place(|| self.0.poll_unpin(cx))
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for InPlace<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        offload::in_place(|| Pin::new(&mut self.0).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::Ready,
        sync::mpsc,
        thread::{self, ThreadId},
    };

    use http::{HeaderName, HeaderValue};
    use http_body_util::StreamBody;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::limits::OFFLOAD_BYTES_MIN;

    type Answer = Ready<Result<Response<Body>, Infallible>>;

    /// A service with a response of this length, whose body sends the id of the thread that polls it.
    fn service(
        bytes: usize,
        encoding: Option<&'static str>,
        seen: mpsc::Sender<ThreadId>,
    ) -> impl FnMut(Request<Body>) -> Answer {
        move |_| {
            let seen = seen.clone();
            let message = futures::stream::once(async move {
                seen.send(thread::current().id()).expect("a listener");
                Ok::<_, Status>(Frame::data(Bytes::from_static(b"a")))
            });
            let mut answer = Response::new(Body::new(StreamBody::new(Box::pin(message))));
            answer.extensions_mut().insert(Long(bytes));
            let encoding = encoding.map(HeaderValue::from_static);
            answer
                .headers_mut()
                .extend(encoding.map(|encoding| (HeaderName::from_static(ENCODING), encoding)));
            std::future::ready(Ok(answer))
        }
    }

    #[tokio::test]
    async fn a_long_answer_is_written_elsewhere() {
        let (seen, writers) = mpsc::channel();
        let is_here = async |bytes, encoding| {
            let service = Offloaded(service_fn(service(bytes, encoding, seen.clone())));
            let answer = service.oneshot(Request::new(Body::empty())).await;
            let body = answer.expect("an answer").into_body();
            assert_eq!(body.collect().await.expect("a body").to_bytes(), "a");
            writers.recv().expect("a writer") == thread::current().id()
        };
        assert!(is_here(OFFLOAD_BYTES_MIN - 1, None).await);
        assert!(!is_here(OFFLOAD_BYTES_MIN, None).await);
        // Compression counts as more work.
        assert!(is_here(OFFLOAD_BYTES_MIN / COMPRESSION_WORK - 1, Some("zstd")).await);
        assert!(!is_here(OFFLOAD_BYTES_MIN / COMPRESSION_WORK, Some("zstd")).await);
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_an_error() {
        let pieces = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Status>>());
        let mut answer = Response::new(Body::new(pieces));
        answer.extensions_mut().insert(Long(0));
        let answer = written(answer).await;
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::Internal);
    }

    /// Whether another task of a runtime with one thread progresses while a call with this header blocks, and
    /// while its response body blocks.
    fn lets_others_go_on(encoding: &'static str) -> bool {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let call = async move {
            let work = || {
                let (other, done) = mpsc::channel();
                drop(tokio::spawn(async move { other.send(()).ok() }));
                // The timeout only ends a failing test.
                done.recv_timeout(std::time::Duration::from_mins(1)).is_ok()
            };
            let service = service_fn(move |_| {
                Box::pin(async move {
                    let called = work();
                    let message = futures::stream::once(async move {
                        let bytes = if called && work() { "yes" } else { "no" };
                        Ok::<_, Status>(Frame::data(Bytes::from_static(bytes.as_bytes())))
                    });
                    let body = Body::new(StreamBody::new(Box::pin(message)));
                    Ok::<_, Infallible>(Response::new(body))
                })
            });
            let request = Request::post("/").header(ENCODING, encoding).body(Body::empty());
            let answer = Offloaded(service).oneshot(request.expect("a request")).await;
            let body = answer.expect("an answer").into_body();
            body.collect().await.expect("a body").to_bytes() == "yes"
        };
        runtime.block_on(async { tokio::spawn(call).await.expect("no panic") })
    }

    #[test]
    fn a_compressed_request_lets_others_go_on() {
        assert!(lets_others_go_on("gzip"));
        assert!(lets_others_go_on("zstd"));
    }
}
