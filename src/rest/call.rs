//! One call of a REST client: what it asks for, and the backend that answers.

use std::time::Duration;

use http::{HeaderName, header, request::Parts};
use tokio::time::Instant;
use tonic::{Request, Status, codec::Streaming};
use tower::{ServiceExt, util::BoxCloneSyncService};

use super::{Backend, answer::Failure, api_version::ApiVersion, query::Query};
use crate::{error::Kind, limits, wire::v1::image_store_client::ImageStoreClient};

/// The client of the backend. Its service has an error of its own, because with a boxed one the
/// compiler does not see that the client's futures can be sent to another thread.
pub(super) type Client = ImageStoreClient<
    BoxCloneSyncService<
        http::Request<tonic::body::Body>,
        http::Response<tonic::body::Body>,
        Status,
    >,
>;

/// Makes the client.
pub(super) fn client(backend: Backend) -> Client {
    Client::new(BoxCloneSyncService::new(backend.map_err(Status::from_error)))
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
}

/// What every call needs.
pub(super) struct Call {
    /// The backend.
    pub(super) client: Client,
    /// The head of the request.
    pub(super) head: Parts,
    /// The query of the request.
    pub(super) query: Query,
    /// The version whose shapes are asked for.
    pub(super) version: ApiVersion,
    /// When the call arrived.
    pub(super) arrived: Instant,
}

impl Call {
    /// Until when a plain call has its answer.
    pub(super) fn deadline(&self) -> Instant {
        let timeout = self.query.timeout().unwrap_or(limits::REST_TIMEOUT_DEFAULT);
        self.arrived.checked_add(timeout).unwrap_or(self.arrived)
    }

    /// What is left of the time of a plain call.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// A request that the backend ends at the deadline.
    pub(super) fn plain<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.time_left());
        request
    }

    /// A request for a further piece of an answer that has begun, with a time of its own: the client takes
    /// the pieces at its pace.
    pub(super) fn further<M>(message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(limits::REST_TIMEOUT_DEFAULT);
        request
    }

    /// A request that has a deadline only if the caller asked for one.
    pub(super) fn watched<M>(&self, message: M) -> Request<M> {
        if self.query.timeout().is_some() { self.plain(message) } else { Request::new(message) }
    }

    /// Whether the caller wants events instead of an answer.
    pub(super) fn wants_events(&self) -> bool {
        self.has(header::ACCEPT, "text/event-stream")
    }

    /// Whether the caller does not wait for the end.
    pub(super) fn wants_async(&self) -> bool {
        self.has(HeaderName::from_static("prefer"), "respond-async")
    }

    /// Whether a header that is a list has a member, whatever its parameters.
    fn has(&self, name: HeaderName, member: &str) -> bool {
        let values = self.head.headers.get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |value| {
                let value = value.split(';').next().unwrap_or_default();
                value.trim().eq_ignore_ascii_case(member)
            },
        )
    }
}

/// The first message of a stream: a call that is refused fails here.
pub(super) async fn first<M>(stream: &mut Streaming<M>) -> Result<M, Failure> {
    stream.message().await?.ok_or_else(broken)
}

/// The failure of a backend that breaks its own contract.
pub(super) fn broken() -> Failure {
    tracing::error!("the backend ended a stream too early");
    Failure::new(Kind::Internal, "the server failed; its log says why")
}

/// A message field that the backend always sets.
pub(super) fn present<T>(field: Option<T>) -> Result<T, Failure> {
    field.ok_or_else(|| Status::internal("the answer of the backend is incomplete").into())
}
