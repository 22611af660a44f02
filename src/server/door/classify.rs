//! The layer that determines the class of a request: gRPC or REST, and whether it is urgent.
//!
//! A gRPC call is an HTTP/2 POST with a content type of gRPC and a path with a service name; every other request is
//! REST, which accepts any content type. The descriptors tell whether a call is unary or streaming. A call that is
//! not in the descriptors gets no special treatment.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, Method, Version, header};
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH;
use tonic_reflection::pb::{
    v1::FILE_DESCRIPTOR_SET as REFLECTION, v1alpha::FILE_DESCRIPTOR_SET as OLD_REFLECTION,
};

use crate::{
    error::Source,
    wire::{
        DESCRIPTOR,
        rpc::{Rpc, rpcs},
    },
};

/// The paths of the health checks of REST.
const HEALTH_PATHS: [&str; 2] = ["/health", "/health/live"];
/// The prefix of the paths of the gRPC health service.
const HEALTH_SERVICE: &str = "/grpc.health.v1.Health/";
/// The path of the gRPC call that cancels an operation.
const CANCEL_PATH: &str = "/imagestore.v1.ImageStore/CancelOperation";
/// The prefix of the REST path that cancels an operation.
const OPERATIONS_PATH: &str = "/ImageStore/$/Operations/";
/// The suffix of the REST path that cancels an operation.
const CANCEL_END: &str = "/$/Cancel";

/// The class of a request, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) protocol: Protocol,
    /// Whether the request is a health check. A watch of the health is not: it is a call like others.
    pub(super) asks_health: bool,
    /// Whether the request cancels an operation.
    pub(super) cancels: bool,
}

/// Which interface a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// gRPC, and the shape of the call (unary or streaming); `None` for an unknown call.
    Grpc(Option<Rpc>),
    Rest,
}

/// The known gRPC calls, by path.
#[derive(Debug)]
pub(super) struct Classes(HashMap<String, Rpc>);

impl Classes {
    /// Reads the descriptors of every service.
    ///
    /// # Errors
    /// A descriptor that cannot be read.
    pub(super) fn new() -> Result<Self, Source> {
        Ok(Self(rpcs(&[DESCRIPTOR, HEALTH, REFLECTION, OLD_REFLECTION])?))
    }

    fn class(&self, request: &Request) -> Class {
        let path = request.uri().path();
        if !is_grpc(request) {
            let cancels = request.method() == Method::POST
                && path.starts_with(OPERATIONS_PATH)
                && path.ends_with(CANCEL_END);
            return Class {
                protocol: Protocol::Rest,
                asks_health: HEALTH_PATHS.contains(&path),
                cancels,
            };
        }
        let rpc = self.0.get(path).copied();
        let is_short = rpc.is_some_and(|rpc| !rpc.streams_in && !rpc.streams_out);
        let asks_health = is_short && path.starts_with(HEALTH_SERVICE);
        Class { protocol: Protocol::Grpc(rpc), asks_health, cancels: path == CANCEL_PATH }
    }
}

impl Class {
    /// The class of a request that has passed this layer; REST and not urgent for another request.
    pub(super) fn of(request: &Request) -> Self {
        let class = request.extensions().get::<Self>().copied();
        class.unwrap_or(Self { protocol: Protocol::Rest, asks_health: false, cancels: false })
    }

    /// Whether the request may use the reserve that admission control keeps for urgent requests.
    pub(super) fn is_urgent(self) -> bool {
        self.asks_health || self.cancels
    }
}

pub(super) async fn layer(
    State(classes): State<Arc<Classes>>,
    mut request: Request,
    next: Next,
) -> Response {
    let class = classes.class(&request);
    request.extensions_mut().insert(class);
    next.run(request).await
}

fn is_grpc(request: &Request) -> bool {
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && is_grpc_path(request.uri().path())
        && is_grpc_type(request.headers())
}

/// Whether a path has the form `/package.Service/Method`. The first segment of a REST path has no dot.
fn is_grpc_path(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    service.is_some_and(|(service, _)| service.contains('.'))
}

/// Whether the content type is `application/grpc`, with any suffix such as `+proto`. `application/grpc-web` is not.
fn is_grpc_type(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_call_of_grpc_names_a_service() {
        let classes = Classes::new().expect("descriptors");
        for path in classes.0.keys().map(String::as_str).chain(["/a.b/"]) {
            assert!(is_grpc_path(path), "{path}");
        }
        for path in ["", "/", "/ImageStore/a.b/c", "//a.b/c", "/a.b", "/ImageStore/$/Copy"] {
            assert!(!is_grpc_path(path), "{path}");
        }
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

    #[test]
    fn a_request_has_one_class() {
        let classes = Classes::new().expect("descriptors");
        let class = |version, method: &str, path: &str| {
            let request = Request::builder().version(version).method(method).uri(path);
            let request = request.header(header::CONTENT_TYPE, "application/grpc");
            classes.class(&request.body(Body::empty()).expect("a request"))
        };
        let grpc = |path: &str| class(Version::HTTP_2, "POST", path);
        let known = |streams_in, streams_out| Protocol::Grpc(Some(Rpc { streams_in, streams_out }));
        for (path, protocol, asks_health) in [
            ("/imagestore.v1.ImageStore/Stat", known(false, false), false),
            ("/imagestore.v1.ImageStore/Restore", known(true, false), false),
            ("/imagestore.v1.ImageStore/Check", known(false, true), false),
            ("/imagestore.v1.ImageStore/CancelOperation", known(false, false), false),
            ("/imagestore.v1.ImageStore/Nothing", Protocol::Grpc(None), false),
            ("/grpc.health.v1.Health/Check", known(false, false), true),
            ("/grpc.health.v1.Health/Watch", known(false, true), false),
            ("/grpc.health.v1.Health/Nothing", Protocol::Grpc(None), false),
            (
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                known(true, true),
                false,
            ),
            ("/health", Protocol::Rest, true),
            ("/health/live", Protocol::Rest, true),
        ] {
            let cancels = path == CANCEL_PATH;
            assert_eq!(grpc(path), Class { protocol, asks_health, cancels }, "{path}");
        }
        let rest = Class { protocol: Protocol::Rest, asks_health: false, cancels: false };
        let operation = "/ImageStore/$/Operations/0b5d1c1e-52a7-4a4c-8d3e-6a1f2f5b7a11/$/Cancel";
        let cancels = Class { cancels: true, ..rest };
        assert_eq!(class(Version::HTTP_11, "POST", operation), cancels);
        assert_eq!(class(Version::HTTP_11, "GET", operation), rest);
        assert_eq!(class(Version::HTTP_11, "POST", "/ImageStore/$/Operations"), rest);
        assert_eq!(class(Version::HTTP_11, "POST", "/grpc.health.v1.Health/Check"), rest);
        assert_eq!(class(Version::HTTP_2, "GET", "/grpc.health.v1.Health/Check"), rest);
        assert_eq!(class(Version::HTTP_2, "GET", "/healthy"), rest);
    }
}
