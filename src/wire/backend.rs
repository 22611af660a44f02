//! The service as the gateway calls it: in this process, or on another machine.
//!
//! Both implement the generated trait of the service. In this process a call is a function call, and the bytes of
//! files are passed by reference ([`by_reference`](super::by_reference)).

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    future::{BoxFuture, Fuse},
    stream,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request as HttpRequest};
use tokio::sync::oneshot::{self, error::RecvError};
use tonic::{Request, Response, Status, Streaming, body::Body};
use tower::{BoxError, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::{
    error::{Error, Kind},
    limits::MESSAGE_BYTES_MAX,
    wire::{
        TOKEN_EXPIRES,
        request::{self, Id},
        status,
        v1::{self, image_store_client::ImageStoreClient, image_store_server::ImageStore},
    },
};

/// The metadata in which a gateway sends the address of a request with a signed link.
pub const LINK: HeaderName = HeaderName::from_static("imagestore-link");

/// What a remote backend is told of who sends a request, and what it tells of the credential. In the extensions of the
/// request, and of the calls that are made for it. Clones share what the backend tells.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// The metadata of the calls.
    pub headers: HeaderMap,
    /// When the token of the request ends, as the backend says it in [`TOKEN_EXPIRES`].
    pub token_expires: Arc<OnceLock<HeaderValue>>,
}

/// A response stream.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Cheap to clone.
pub type Backend = Arc<
    dyn ImageStore<
            CopyStream = Answers<v1::Operation>,
            WatchOperationStream = Answers<v1::Operation>,
            WatchOperationsStream = Answers<v1::Operation>,
            DownloadStream = Answers<v1::DownloadResponse>,
            DownloadPackageStream = Answers<v1::DownloadPackageResponse>,
            CheckStream = Answers<v1::CheckResponse>,
            BackupStream = Answers<v1::BackupResponse>,
        >,
>;

/// The generated client. The error type of its transport is `Status`: with a boxed error the compiler does not see
/// that the client's futures are `Send`.
type Client =
    ImageStoreClient<BoxCloneSyncService<HttpRequest<Body>, http::Response<Body>, Status>>;

/// The service behind a transport: each call is a call of the generated client.
struct Remote(Client);

/// Creates the service behind a transport, such as a channel of tonic. Each call carries the id of the request that it
/// is made for, and what is said of its caller ([`Passed`]).
pub fn remote<T>(transport: T) -> Backend
where
    T: Service<HttpRequest<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
    T::Future: Send + 'static,
    T::Error: Into<BoxError> + 'static,
{
    let told = service_fn(move |request| told(transport.clone(), request));
    let client = Client::new(BoxCloneSyncService::new(told))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Arc::new(Remote(client))
}

/// Makes a call with the id of the current request and with what is said of its caller, and notes what the backend says
/// of the credential.
async fn told<T>(
    transport: T,
    mut request: HttpRequest<Body>,
) -> Result<http::Response<Body>, Status>
where
    T: Service<HttpRequest<Body>, Response = http::Response<Body>>,
    T::Error: Into<BoxError>,
{
    if let Some(id) = Id::current() {
        request.headers_mut().insert(request::HEADER, id.value().clone());
    }
    let passed = request.extensions().get::<Passed>().cloned();
    if let Some(passed) = &passed {
        request.headers_mut().extend(passed.headers.clone());
    }
    let answer = transport.oneshot(request).await;
    let answer = answer.map_err(|error| Status::from_error(error.into()))?;
    if let (Some(passed), Some(at)) = (passed, answer.headers().get(TOKEN_EXPIRES)) {
        // An error means that another call for the same request was told it.
        passed.token_expires.set(at.clone()).ok();
    }
    Ok(answer)
}

/// The error of a failed call: `Busy` if the service cannot be reached, the status of the service otherwise.
fn lost(status: Status) -> Status {
    if !status::is_transport(&status) {
        return status;
    }
    let message = "the service behind the gateway does not answer; try again";
    status::from_error(&Error::new(Kind::Busy, message).because(status))
}

/// The messages of a caller's request stream. If the stream fails, this one never ends, so that the remote service
/// does not see a clean end; the error goes to `failed`.
struct Messages<M> {
    messages: Streaming<M>,
    failed: Option<oneshot::Sender<Status>>,
}

impl<M> Messages<M> {
    /// Takes the messages out of a request. The receiver gets the error if the stream fails.
    fn of(request: Request<Streaming<M>>) -> (Request<Self>, oneshot::Receiver<Status>) {
        let (failed, has_failed) = oneshot::channel();
        (request.map(|messages| Self { messages, failed: Some(failed) }), has_failed)
    }
}

impl<M> Stream for Messages<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        if self.failed.is_none() {
            return Poll::Pending;
        }
        match ready!(self.messages.poll_next_unpin(cx)).transpose() {
            Ok(message) => Poll::Ready(message),
            Err(status) => {
                // The receiver is dropped if the call has ended.
                self.failed.take().map(|failed| failed.send(status));
                Poll::Pending
            }
        }
    }
}

/// The response of a call, or the error of its request stream, whichever is first.
async fn answer<T>(
    call: BoxFuture<'static, Result<T, Status>>,
    has_failed: impl Future<Output = Result<Status, RecvError>>,
) -> Result<T, Status> {
    tokio::select! {
        answer = call => answer.map_err(lost),
        Ok(status) = has_failed => Err(status),
    }
}

/// The response stream of a call, which ends with the error of its request stream if that fails.
fn unless_failed<T: Send + 'static>(
    answers: Streaming<T>,
    has_failed: Fuse<oneshot::Receiver<Status>>,
) -> Answers<T> {
    Box::pin(stream::unfold(Some((answers, has_failed)), |state| async move {
        let (mut answers, mut has_failed) = state?;
        tokio::select! {
            biased;
            Ok(status) = &mut has_failed => Some((Err(status), None)),
            answer = answers.next() => {
                answer.map(|answer| (answer.map_err(lost), Some((answers, has_failed))))
            }
        }
    }))
}

/// Implements the service by the generated client. The input has one line for each call.
macro_rules! remote {
    (
        unary { $($answers:ident($request:ty) -> $response:ty;)* }
        server_streaming { $($streams:ident($asks:ty) -> $items:ty as $stream:ident;)* }
        client_streaming { $($takes:ident($message:ty) -> $whole:ty;)* }
        bidirectional { $($talks:ident($says:ty) -> $replies:ty as $replies_stream:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl ImageStore for Remote {
            $(
                async fn $answers(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    self.0.clone().$answers(request).await.map_err(lost)
                }
            )*
            $(
                type $stream = Answers<$items>;
                async fn $streams(
                    &self,
                    request: Request<$asks>,
                ) -> Result<Response<Answers<$items>>, Status> {
                    let answer = self.0.clone().$streams(request).await.map_err(lost)?;
                    Ok(answer.map(|items| items.map_err(lost).boxed()))
                }
            )*
            $(
                async fn $takes(
                    &self,
                    request: Request<Streaming<$message>>,
                ) -> Result<Response<$whole>, Status> {
                    let (request, has_failed) = Messages::of(request);
                    let mut client = self.0.clone();
                    let call = Box::pin(async move { client.$takes(request).await });
                    answer(call, has_failed).await
                }
            )*
            $(
                type $replies_stream = Answers<$replies>;
                async fn $talks(
                    &self,
                    request: Request<Streaming<$says>>,
                ) -> Result<Response<Answers<$replies>>, Status> {
                    let (request, has_failed) = Messages::of(request);
                    let mut client = self.0.clone();
                    let mut has_failed = has_failed.fuse();
                    let call = Box::pin(async move { client.$talks(request).await });
                    let answer = answer(call, &mut has_failed).await?;
                    Ok(answer.map(|items| unless_failed(items, has_failed)))
                }
            )*
        }
    };
}

// `build.rs` generates the lines from the descriptor.
include!(concat!(env!("OUT_DIR"), "/remote.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{by_reference::streaming, v1::BackupRequest};

    #[tokio::test]
    async fn a_service_that_is_not_there_is_busy() {
        let remote = remote(service_fn(async |_: HttpRequest<Body>| {
            Err::<http::Response<Body>, BoxError>("connection refused".into())
        }));
        let busy = |status: Status| assert_eq!(status::kind(&status), Kind::Busy, "{status:?}");
        busy(remote.stat(Request::new(v1::StatRequest::default())).await.expect_err("lost"));
        let request = Request::new(v1::DownloadRequest::default());
        busy(remote.download(request).await.err().expect("lost"));
        let request = Request::new(streaming(stream::empty::<v1::UploadRequest>()));
        busy(remote.upload(request).await.expect_err("lost"));
        let request = Request::new(streaming(stream::empty::<BackupRequest>()));
        busy(remote.backup(request).await.err().expect("lost"));
    }
}
