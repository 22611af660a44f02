//! One call of a REST client: its head, its deadline, and the backend that serves it.

use std::{ops::Deref, time::Duration};

use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, header, request::Parts};
use tokio::time::Instant;
use tonic::Request;

use super::{Backend, answer::Failure, api_version::ApiVersion, query::Query};
use crate::{
    access::{CallRecord, Identity},
    budget::Peer,
    error::Error,
    limits,
    wire::backend::{Answers, Passed},
};

/// The backend, together with who has sent the REST request.
#[derive(Clone)]
pub(super) struct Client {
    /// The backend.
    pub(super) backend: Backend,
    /// The peer that has sent the REST request.
    pub(super) peer: Peer,
    /// Its caller, if the server around the gateway has identified one.
    pub(super) identity: Option<Identity>,
    /// What the audit log says of the request.
    pub(super) record: Option<CallRecord>,
    /// What a remote backend is told of the caller.
    pub(super) passed: Option<Passed>,
}

impl Client {
    /// The client for a REST request with this head.
    ///
    /// # Errors
    /// The error of a credential that was refused.
    pub(super) fn new(backend: Backend, head: &Parts) -> Result<Self, Error> {
        let identity = head.extensions.get::<Identity>().cloned();
        if let Some(Err(error)) = identity {
            return Err(error);
        }
        Ok(Self {
            backend,
            peer: head.extensions.get::<Peer>().copied().unwrap_or_default(),
            identity,
            record: head.extensions.get::<CallRecord>().cloned(),
            passed: head.extensions.get::<Passed>().cloned(),
        })
    }

    /// The client for a REST request without a credential.
    #[cfg(test)]
    pub(super) fn of_backend(backend: Backend) -> Self {
        let head = http::Request::new(()).into_parts().0;
        Self::new(backend, &head).expect("no credential is refused")
    }

    /// A request without a deadline.
    pub(super) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.peer);
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(identity.clone());
        }
        if let Some(record) = &self.record {
            request.extensions_mut().insert(record.clone());
        }
        if let Some(passed) = &self.passed {
            request.extensions_mut().insert(passed.clone());
        }
        request
    }

    /// A request for a further page of a response that has begun. It has a new timeout
    /// ([`REST_TIMEOUT_DEFAULT`](limits::REST_TIMEOUT_DEFAULT)), since the client sets the pace of the pages.
    pub(super) fn next_page_request<M>(&self, message: M) -> Request<M> {
        let mut request = self.request(message);
        request.set_timeout(limits::REST_TIMEOUT_DEFAULT);
        request
    }
}

impl Deref for Client {
    type Target = <Backend as Deref>::Target;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

/// What the handler of a call gets, beside the body.
pub(super) struct Call {
    /// The backend, and the peer of the request.
    pub(super) client: Client,
    /// The head of the request.
    pub(super) head: Parts,
    /// The query of the request.
    pub(super) query: Query,
    /// The version that chooses the form of the response.
    pub(super) version: ApiVersion,
    /// When the call arrived: the start of its timeout.
    pub(super) arrived: Instant,
}

impl Call {
    /// The deadline of a plain call: the `timeout` of the query, or
    /// [`REST_TIMEOUT_DEFAULT`](limits::REST_TIMEOUT_DEFAULT).
    pub(super) fn deadline(&self) -> Instant {
        let timeout = self.query.timeout().unwrap_or(limits::REST_TIMEOUT_DEFAULT);
        self.arrived.checked_add(timeout).unwrap_or(self.arrived)
    }

    /// The time that is left until the deadline.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// The time that is left, for the header of an upload. There the time in which the body arrives does not count,
    /// so a deadline of the backend's call cannot express the timeout.
    pub(super) fn timeout(&self) -> Option<prost_types::Duration> {
        // A time that is too long for a message is the same as no timeout.
        self.time_left().try_into().ok()
    }

    /// A request with the deadline of the call.
    pub(super) fn request_within_deadline<M>(&self, message: M) -> Request<M> {
        let mut request = self.client.request(message);
        request.set_timeout(self.time_left());
        request
    }

    /// A request that has the deadline of the call only if the query has a `timeout`.
    pub(super) fn request_with_optional_deadline<M>(&self, message: M) -> Request<M> {
        if self.query.timeout().is_some() {
            self.request_within_deadline(message)
        } else {
            self.client.request(message)
        }
    }

    /// Whether the response shall be a stream of events: `Accept` names `text/event-stream`, and does not give JSON a
    /// higher quality.
    pub(super) fn wants_events(&self) -> bool {
        let quality = |kind| accepted(&self.head.headers, kind);
        let events = quality("text/event-stream").unwrap_or(0.0);
        let json = quality("application/json").or_else(|| quality("application/*"));
        events > 0.0 && json.is_none_or(|json| events >= json)
    }

    /// Whether the caller does not wait for the end of the operation (`Prefer: respond-async`).
    pub(super) fn wants_async(&self) -> bool {
        self.has(HeaderName::from_static("prefer"), "respond-async")
    }

    /// Whether a list header has a member; parameters are ignored.
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

/// The quality that `Accept` gives to a media type, from 0 to 1 (RFC 9110, section 12.4.2); `None` if `Accept` does
/// not name the type. A malformed quality counts as 1.
fn accepted(headers: &HeaderMap, kind: &str) -> Option<f64> {
    let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    let quality = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().filter(|name| name.eq_ignore_ascii_case(kind))?;
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim_end().eq_ignore_ascii_case("q").then_some(value.trim())
        });
        let weight = weight.and_then(|weight| weight.parse::<f64>().ok());
        Some(
            weight.filter(|weight| weight.is_finite()).map_or(1.0, |weight| weight.clamp(0.0, 1.0)),
        )
    };
    lines.flat_map(|line| line.split(',')).filter_map(quality).reduce(f64::max)
}

/// The first message of a response stream. A call that the backend refuses fails here.
pub(super) async fn first<M>(stream: &mut Answers<M>) -> Result<M, Failure> {
    stream.try_next().await?.ok_or_else(broken)
}

/// The failure for a response stream that ends too early.
pub(super) fn broken() -> Failure {
    Error::internal("the backend ended a stream too early").into()
}

/// The value of a message field that the backend always sets.
///
/// # Errors
/// `Kind::Internal` if the field is missing.
pub(super) fn present<T>(field: Option<T>) -> Result<T, Failure> {
    field.ok_or_else(|| Error::internal("the answer of the backend is incomplete").into())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::HeaderValue;
    use tower::{BoxError, service_fn};

    use super::*;
    use crate::wire::{
        TOKEN_EXPIRES,
        backend::remote,
        request::{self, Id},
        v1::StatRequest,
    };

    #[tokio::test]
    async fn the_backend_is_told_for_whom_it_works() {
        let seen = Arc::new(Mutex::new(None));
        let see = Arc::clone(&seen);
        let backend = service_fn(move |request: http::Request<tonic::body::Body>| {
            let peer = request.extensions().get::<Peer>().copied();
            let id = request.headers().get(request::HEADER).cloned();
            *see.lock().expect("no panic") =
                Some((peer, id, request.headers().get(header::AUTHORIZATION).cloned()));
            let mut answer = tonic::Status::not_found("no").into_http();
            answer.headers_mut().insert(TOKEN_EXPIRES, HeaderValue::from_static("soon"));
            async { Ok::<http::Response<tonic::body::Body>, BoxError>(answer) }
        });
        let peer = Peer::from(std::net::IpAddr::from([10, 0, 0, 1]));
        let credential = HeaderValue::from_static("Bearer x");
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, credential.clone())]);
        let passed = Passed { headers, ..Passed::default() };
        let mut head = http::Request::new(()).into_parts().0;
        head.extensions.insert(peer);
        head.extensions.insert(passed.clone());
        let client = Client::new(remote(backend), &head).expect("no refusal");
        let id = HeaderValue::from_static("mine");
        let asked = Id::of(&HeaderMap::from_iter([(request::HEADER, id.clone())]));
        let request = client.request(StatRequest::default());
        asked.run(client.stat(request)).await.expect_err("nothing is there");
        let expected = (Some(peer), Some(id), Some(credential));
        assert_eq!(seen.lock().expect("no panic").clone(), Some(expected));
        assert_eq!(passed.token_expires.get().expect("told"), "soon");
    }

    #[test]
    fn a_type_has_the_quality_that_is_given() {
        for (line, expected) in [
            ("text/event-stream", Some(1.0)),
            ("TEXT/Event-Stream; q=0.5", Some(0.5)),
            ("text/html, text/event-stream;charset=x;q=0.001", Some(0.001)),
            ("text/event-stream;q=0", Some(0.0)),
            ("text/event-stream;q=0, text/event-stream;q=0.2", Some(0.2)),
            ("text/event-stream;q=7", Some(1.0)),
            ("text/event-stream;q=x", Some(1.0)),
            ("text/*", None),
            ("*/*", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, line.parse().expect("a value"))]);
            assert_eq!(accepted(&headers, "text/event-stream"), expected, "{line}");
        }
    }
}
