//! The service as the gateway calls it: in this process, or on another machine.
//!
//! Both are the generated trait of the service. In this process a call is a call of a function, and the bytes of
//! files go by reference ([`by_reference`](super::by_reference)).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt, future::BoxFuture};
use http::Request as HttpRequest;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming, body::Body};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    limits::MESSAGE_BYTES_MAX,
    wire::{
        request::{self, Id},
        v1::{self, image_store_client::ImageStoreClient, image_store_server::ImageStore},
    },
};

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Cheap to clone.
pub type Backend = Arc<
    dyn ImageStore<
            CopyStream = Answers<v1::Operation>,
            WatchOperationStream = Answers<v1::Operation>,
            WatchOperationsStream = Answers<v1::Operation>,
            DownloadStream = Answers<v1::DownloadResponse>,
            CheckStream = Answers<v1::CheckResponse>,
            BackupStream = Answers<v1::BackupResponse>,
        >,
>;

/// The client. Its transport has an error of its own, because with a boxed one the compiler does not see that
/// the client's futures can be sent to another thread.
type Client =
    ImageStoreClient<BoxCloneSyncService<HttpRequest<Body>, http::Response<Body>, Status>>;

/// The service behind a transport: each call is one of the generated client.
struct Remote(Client);

/// The service behind a transport, such as a channel of tonic's. It is told the id of the request that it works
/// for.
pub fn remote<T>(transport: T) -> Backend
where
    T: Service<HttpRequest<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
    T::Future: Send + 'static,
    T::Error: Into<BoxError> + 'static,
{
    let transport =
        transport.map_err(|error| Status::from_error(error.into())).map_request(with_id);
    let client = Client::new(BoxCloneSyncService::new(transport))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Arc::new(Remote(client))
}

/// Has the service work under the id of the request that it is called for.
fn with_id(mut request: HttpRequest<Body>) -> HttpRequest<Body> {
    if let Some(id) = Id::current() {
        request.headers_mut().insert(request::HEADER, id.value().clone());
    }
    request
}

/// The messages of a caller. Those of a stream that fails never end, so that nobody takes them for whole; why it
/// failed is told elsewhere.
struct Messages<M> {
    messages: Streaming<M>,
    failed: Option<oneshot::Sender<Status>>,
}

impl<M> Messages<M> {
    /// Takes the messages out of a request. The other one is told why they fail, if they do.
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
                // Gone where the call is.
                self.failed.take().map(|failed| failed.send(status));
                Poll::Pending
            }
        }
    }
}

/// The answer of a call, or why its messages failed.
async fn answer<T>(
    call: BoxFuture<'static, Result<T, Status>>,
    has_failed: oneshot::Receiver<Status>,
) -> Result<T, Status> {
    tokio::select! {
        answer = call => answer,
        Ok(status) = has_failed => Err(status),
    }
}

/// Implements the service by a client: a line for each call.
macro_rules! remote {
    (
        answers { $($answers:ident($request:ty) -> $response:ty;)* }
        streams { $($streams:ident($asks:ty) -> $items:ty as $stream:ident;)* }
        takes { $($takes:ident($message:ty) -> $whole:ty;)* }
        talks { $($talks:ident($says:ty) -> $replies:ty as $replies_stream:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl ImageStore for Remote {
            $(
                async fn $answers(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    self.0.clone().$answers(request).await
                }
            )*
            $(
                type $stream = Answers<$items>;
                async fn $streams(
                    &self,
                    request: Request<$asks>,
                ) -> Result<Response<Answers<$items>>, Status> {
                    Ok(self.0.clone().$streams(request).await?.map(|items| items.boxed()))
                }
            )*
            $(
                async fn $takes(
                    &self,
                    request: Request<Streaming<$message>>,
                ) -> Result<Response<$whole>, Status> {
                    let (request, has_failed) = Messages::of(request);
                    let mut client = self.0.clone();
                    answer(Box::pin(async move { client.$takes(request).await }), has_failed).await
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
                    let call = Box::pin(async move { client.$talks(request).await });
                    Ok(answer(call, has_failed).await?.map(|items| items.boxed()))
                }
            )*
        }
    };
}

remote! {
    answers {
        list_operations(v1::ListOperationsRequest) -> v1::ListOperationsResponse;
        get_operation(v1::GetOperationRequest) -> v1::Operation;
        cancel_operation(v1::CancelOperationRequest) -> v1::Operation;
        list(v1::ListRequest) -> v1::ListResponse;
        stat(v1::StatRequest) -> v1::StatResponse;
        delete(v1::DeleteRequest) -> v1::DeleteResponse;
        get_upload_session(v1::GetUploadSessionRequest) -> v1::UploadSession;
        list_upload_sessions(v1::ListUploadSessionsRequest) -> v1::ListUploadSessionsResponse;
        commit_upload_session(v1::CommitUploadSessionRequest) -> v1::CommitUploadSessionResponse;
        delete_upload_session(v1::DeleteUploadSessionRequest) -> v1::DeleteUploadSessionResponse;
        get_store_info(v1::GetStoreInfoRequest) -> v1::GetStoreInfoResponse;
    }
    streams {
        copy(v1::CopyRequest) -> v1::Operation as CopyStream;
        watch_operation(v1::WatchOperationRequest) -> v1::Operation as WatchOperationStream;
        watch_operations(v1::WatchOperationsRequest) -> v1::Operation as WatchOperationsStream;
        download(v1::DownloadRequest) -> v1::DownloadResponse as DownloadStream;
        check(v1::CheckRequest) -> v1::CheckResponse as CheckStream;
    }
    takes {
        upload(v1::UploadRequest) -> v1::UploadResponse;
        upload_chunk(v1::UploadChunkRequest) -> v1::UploadChunkResponse;
        restore(v1::RestoreRequest) -> v1::RestoreResponse;
    }
    talks {
        backup(v1::BackupRequest) -> v1::BackupResponse as BackupStream;
    }
}
