//! The two interfaces behind one service, and the door before them.
//!
//! A call of gRPC comes over HTTP/2, says so in its content type and names a service; everything else
//! is REST. Over HTTP/1 a web page could call whose host name was made to mean this machine; REST has
//! a guard against that. A handler that panics costs its own call and no other.
//!
//! Calls beyond a bound are refused at the door as busy, with a hint when to come again; a call
//! counts until the last byte of its answer is taken. A question after the server's health is
//! always let in: a server that is full is well, and who takes it for dead and starts it anew breaks
//! the calls of all others.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::{
    framing, head,
    incoming::{Incoming, Keeps},
    listen::Bounds,
    outgoing::Outgoing,
    pool::Pool,
    read_on::ReadOn,
    untold,
};
use crate::{
    error::{Error, Kind},
    limits::{ANSWER_POOL_BYTES, BODY_POOL_BYTES, MESSAGE_POOL_BYTES},
    rest,
    wire::{
        request::{self, Id},
        status,
    },
};

/// The calls that ask after the server's health.
const HEALTH: [&str; 2] = ["/health", "/grpc.health.v1.Health/Check"];

/// The calls of gRPC whose body is a file, a chunk or a backup.
const UPLOADS: [&str; 3] = [
    "/imagestore.v1.ImageStore/Upload",
    "/imagestore.v1.ImageStore/UploadChunk",
    "/imagestore.v1.ImageStore/Restore",
];
/// The call in which a client answers now and then, in few bytes. It has a bound of its own.
const DIALOGUE: &str = "/imagestore.v1.ImageStore/Backup";

/// The calls that answer with a stream: of short messages, or of stored bytes, by whose compression
/// little is gained. The library would compress them for whoever takes that.
const STREAMS: [&str; 6] = [
    "/imagestore.v1.ImageStore/Backup",
    "/imagestore.v1.ImageStore/Check",
    "/imagestore.v1.ImageStore/Copy",
    "/imagestore.v1.ImageStore/Download",
    "/imagestore.v1.ImageStore/WatchOperation",
    "/imagestore.v1.ImageStore/WatchOperations",
];

/// Joins the interfaces: `grpc` gets what is `application/grpc` over HTTP/2, `rest` everything else.
pub fn app(grpc: Router, rest: Router, bounds: Bounds) -> Router {
    let calls = Arc::new(Semaphore::new(bounds.calls));
    let requests = Pool::new("requests", BODY_POOL_BYTES);
    let messages = Pool::new("messages", MESSAGE_POOL_BYTES);
    let answers = Pool::new("answers", ANSWER_POOL_BYTES);
    let door = async move |mut request: Request| {
        if let Err(error) = framing::check(&request) {
            return last_fault(error);
        }
        let is_grpc = is_grpc(&request);
        if let Err(error) = head::check(&request) {
            return head::fault(is_grpc, error);
        }
        let uri = request.uri().clone();
        if STREAMS.contains(&uri.path()) {
            request.headers_mut().remove("grpc-accept-encoding");
        }
        let call = Arc::clone(&calls).try_acquire_owned().ok();
        if call.is_none() && !asks_health(&request) {
            return fault(is_grpc, busy("calls"));
        }
        let request = if request.version() == Version::HTTP_2 {
            request.map(|body| Body::new(ReadOn::new(body)))
        } else {
            request
        };
        let request = if request.uri().path() == DIALOGUE {
            request
        } else {
            let keeps = keeps(&request, requests, messages);
            request.map(|body| Body::new(Incoming::new(body, bounds.stall, keeps)))
        };
        let answered = answer(if is_grpc { grpc } else { rest }, request).await;
        let response = answered.unwrap_or_else(|error| fault(is_grpc, error));
        let (mut head, body) = response.into_parts();
        if is_grpc {
            untold::tell(&mut head.headers, uri.path());
        }
        match Outgoing::new(body, call, &answers) {
            Ok(body) => Response::from_parts(head, Body::new(body)),
            Err(error) => fault(is_grpc, error),
        }
    };
    Router::new().fallback(async move |request: Request| with_id(request, door).await)
}

/// Answers on a connection for which there is no room: a refusal, but for the server's health.
pub(super) fn full(app: Router) -> Router {
    Router::new().fallback(async move |request: Request| {
        if asks_health(&request) {
            return app.oneshot(request).await.unwrap_or_else(|never| match never {});
        }
        with_id(request, async |request| fault(is_grpc(&request), busy("connections"))).await
    })
}

/// Answers a request under its id, which the answer tells.
async fn with_id<F>(request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let id = Id::of(request.headers());
    let mut response = id.clone().run(answer(request)).await;
    response.headers_mut().insert(request::HEADER, id.value().clone());
    response.map(|body| Body::new(id.body(body)))
}

/// What the handler of a request keeps of its body.
fn keeps(request: &Request, requests: Pool, messages: Pool) -> Keeps {
    if UPLOADS.contains(&request.uri().path()) {
        Keeps::Message(messages)
    } else if request.method() == Method::PUT || asks_health(request) {
        Keeps::Piece
    } else {
        Keeps::Whole(requests)
    }
}

fn asks_health(request: &Request) -> bool {
    HEALTH.contains(&request.uri().path())
}

fn busy(what: &str) -> Error {
    Error::new(Kind::Busy, format!("the server has too many {what}; try again later"))
}

/// Whether a request is a call of gRPC. REST takes any content type, so this alone does not say it.
fn is_grpc(request: &Request) -> bool {
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && is_grpc_path(request.uri().path())
        && is_grpc_type(request.headers())
}

/// Whether a path is `/package.Service/Method`. No path of REST begins so.
fn is_grpc_path(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    service.is_some_and(|(service, _)| service.contains('.'))
}

/// Whether the content is that of gRPC, in whichever encoding. `application/grpc-web` is not.
fn is_grpc_type(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Answers a request, or tells that its handler panicked. The panic hook has logged it.
async fn answer(router: Router, request: Request) -> Result<Response, Error> {
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(answer) => Ok(answer.into_response()),
        Err(_) => Err(Error::internal("a handler panicked").told()),
    }
}

/// An error as the interface tells it.
fn fault(is_grpc: bool, error: Error) -> Response {
    if is_grpc { status::from_error(&error).into_http::<Body>() } else { rest::fault(error) }
}

/// An error after which the connection ends. There is none like it over HTTP/2.
fn last_fault(error: Error) -> Response {
    let mut response = rest::fault(error);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::wire;

    #[test]
    fn a_call_of_grpc_names_a_service() {
        for path in HEALTH.iter().skip(1).chain(&UPLOADS).chain([&DIALOGUE, &"/a.b/"]) {
            assert!(is_grpc_path(path), "{path}");
        }
        for path in ["", "/", "/ImageStore/a.b/c", "//a.b/c", "/a.b", "/ImageStore/$/Copy"] {
            assert!(!is_grpc_path(path), "{path}");
        }
    }

    #[test]
    fn every_stream_of_answers_is_known() {
        let set = FileDescriptorSet::decode(wire::DESCRIPTOR).expect("the descriptor");
        let services = set.file.iter().flat_map(|file| &file.service);
        let streams = services.flat_map(|service| &service.method);
        let streams = streams.filter(|method| method.server_streaming());
        let mut names: Vec<_> =
            streams.map(|method| format!("/{}/{}", super::super::SERVICE, method.name())).collect();
        names.sort();
        assert_eq!(names, STREAMS);
    }

    #[test]
    fn a_call_of_grpc_is_known_by_its_content_type() {
        let check = |content_type: &'static str, expect: bool| {
            let headers = HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(content_type),
            )]);
            assert_eq!(is_grpc_type(&headers), expect, "{content_type}");
        };
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc;charset=utf-8", true);
        check("application/grpc-web", false);
        check("application/json", false);
        check("", false);
        assert!(!is_grpc_type(&HeaderMap::new()));
    }
}
