//! The layer that writes the audit log: an entry at the end of a call, when the last byte of its response is taken, or
//! when its client has left.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use headers::{ContentLength, HeaderMapExt as _};
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Class, Protocol};
use crate::{
    access::CallRecord,
    limits::AUDIT_TARGET_BYTES_MAX,
    server::audit::{Audit, Entry},
    wire::request::Id,
};

/// The address of a client, in the extensions of its requests: that of its connection, or the one that a trusted proxy
/// tells.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct ClientAddress(pub(in crate::server) IpAddr);

pub(super) async fn layer(
    State(audit): State<Audit>,
    mut request: Request,
    next: Next,
) -> Response {
    if !audit.is_on() {
        return next.run(request).await;
    }
    let record = CallRecord::default();
    request.extensions_mut().insert(record.clone());
    let address = request.extensions().get::<ClientAddress>().map(|address| address.0);
    let (bytes_in, bytes_out) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let mut call = Call {
        audit,
        record,
        class: Class::of(&request),
        target: request.uri().path().to_owned(),
        method: request.method().to_string(),
        address: address.map(|address| address.to_string()),
        id: Id::current(),
        begun: Instant::now(),
        bytes_in: Arc::clone(&bytes_in),
        bytes_out: Arc::clone(&bytes_out),
        outcome: None,
        is_whole: false,
        expected: None,
    };
    let request = request.map(|body| Body::new(Counted { body, bytes: bytes_in, call: None }));
    let response = next.run(request).await;
    call.outcome = call.begin(&response);
    // The body of a response to `HEAD` is not sent, and hyper asks for no more than the announced bytes.
    call.is_whole = call.method == "HEAD" || response.body().is_end_stream();
    call.expected = response.headers().typed_get().map(|ContentLength(length)| length);
    response.map(|body| Body::new(Counted { body, bytes: bytes_out, call: Some(call) }))
}

/// A call that is written when it is dropped.
struct Call {
    audit: Audit,
    record: CallRecord,
    class: Class,
    target: String,
    method: String,
    address: Option<String>,
    id: Option<Id>,
    begun: Instant,
    bytes_in: Arc<AtomicU64>,
    bytes_out: Arc<AtomicU64>,
    /// The code of the response; `None` while it is not known.
    outcome: Option<Outcome>,
    /// Whether the body of the response was taken to its end.
    is_whole: bool,
    /// The bytes that the response announces.
    expected: Option<u64>,
}

/// How a call has ended.
#[derive(Clone, Copy)]
enum Outcome {
    Http(StatusCode),
    Grpc(Code),
}

impl Outcome {
    /// Whether the call was refused to its caller. `at_door`: no rpc was called.
    fn is_refusal(self, at_door: bool) -> bool {
        match self {
            Self::Http(status) => matches!(status.as_u16(), 401 | 403 | 429),
            Self::Grpc(Code::ResourceExhausted) => at_door,
            Self::Grpc(code) => matches!(code, Code::Unauthenticated | Code::PermissionDenied),
        }
    }

    fn is_success(self) -> bool {
        match self {
            Self::Http(status) => status.is_success() || status == StatusCode::NOT_MODIFIED,
            Self::Grpc(code) => code == Code::Ok,
        }
    }

    fn code(self) -> Value {
        match self {
            Self::Http(status) => status.as_u16().into(),
            Self::Grpc(code) => i32::from(code).into(),
        }
    }
}

impl Call {
    /// What the head of a response says: the status of REST, or of a gRPC call without messages.
    fn begin(&self, response: &Response) -> Option<Outcome> {
        match self.class.protocol {
            Protocol::Rest => Some(Outcome::Http(response.status())),
            Protocol::Grpc(_) => grpc(response.headers()),
        }
    }

    /// Whether the client has not taken the whole body of the response.
    fn breaks_off(&self) -> bool {
        !self.is_whole && self.expected.is_none_or(|length| self.bytes_out.load(Relaxed) < length)
    }

    fn entry(&self) -> Option<Entry> {
        let recorded = self.record.recorded();
        let is_refusal = self.outcome.is_some_and(|outcome| outcome.is_refusal(recorded.is_none()));
        let is_audited = recorded.as_ref().is_some_and(|recorded| recorded.rpc.is_audited());
        if !(is_audited || is_refusal || (self.audit.has_reads() && recorded.is_some())) {
            return None;
        }
        let call: &str = if let Some(recorded) = &recorded {
            recorded.rpc.into()
        } else {
            let end = self.target.floor_char_boundary(AUDIT_TARGET_BYTES_MAX);
            self.target.get(..end).unwrap_or_default()
        };
        let identity = self.record.identity();
        let (caller, via, credential) = match &identity {
            Some(Ok(caller)) => (Some(caller.name()), caller.via(), caller.credential()),
            Some(Err(_)) => (None, "refused", None),
            None => (None, "none", None),
        };
        let paths = recorded.as_ref().map(|recorded| recorded.paths.as_slice()).unwrap_or_default();
        let (source, destination) = match paths {
            [source, destination] => (Some(source), Some(destination)),
            [path] => (None, Some(path)),
            _ => (None, None),
        };
        let outcome = match self.outcome {
            None if std::thread::panicking() => "failed",
            None => "aborted",
            Some(Outcome::Http(_)) if self.breaks_off() => "aborted",
            Some(outcome) if outcome.is_success() => "done",
            Some(_) if is_refusal => "refused",
            Some(_) => "failed",
        };
        let is_rest = self.class.protocol == Protocol::Rest;
        let line = json!({
            "time": Timestamp::now().to_string(),
            "id": self.id.as_ref().map(Id::text),
            "caller": caller,
            "via": via,
            "credential": credential,
            "address": self.address,
            "interface": if is_rest { "rest" } else { "grpc" },
            "method": is_rest.then_some(&self.method),
            "call": call,
            "source": source,
            "destination": destination,
            "operation": recorded.as_ref().and_then(|recorded| recorded.id.as_ref()),
            "outcome": outcome,
            "code": self.outcome.map(Outcome::code),
            "bytes_in": self.bytes_in.load(Relaxed),
            "bytes_out": self.bytes_out.load(Relaxed),
            "ms": u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        // Who is refused at the door may name any path.
        let kind = recorded.as_ref().map_or("", |recorded| recorded.rpc.into());
        let code = self.outcome.map(Outcome::code);
        let key = format!("{caller:?} {:?} {kind} {paths:?} {code:?}", self.address);
        Some(Entry { line, refusal: is_refusal.then_some(key) })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(entry) = self.entry() {
            self.audit.write(entry);
        }
    }
}

/// The status in headers or trailers of gRPC.
fn grpc(headers: &HeaderMap) -> Option<Outcome> {
    Status::from_header_map(headers).map(|status| Outcome::Grpc(status.code()))
}

/// A body whose bytes are counted. That of a response has the call, which ends with it.
struct Counted {
    body: Body,
    bytes: Arc<AtomicU64>,
    call: Option<Call>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            if let Some(data) = frame.data_ref() {
                this.bytes.fetch_add(data.len() as u64, Relaxed);
            }
            if let (Some(trailers), Some(call)) = (frame.trailers_ref(), &mut this.call)
                && let Some(outcome) = grpc(trailers)
            {
                call.outcome = Some(outcome);
            }
        }
        if let (Poll::Ready(frame), Some(call)) = (&frame, &mut this.call) {
            match frame {
                Some(Err(_)) => call.outcome = None,
                Some(Ok(_)) => call.is_whole |= this.body.is_end_stream(),
                None => call.is_whole = true,
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
