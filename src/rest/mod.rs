//! The REST gateway: turns each call of a REST client into the gRPC request for it.
//!
//! Upstream is the image store service of Service Fabric, whose documented API this gateway implements.
//!
//! The gateway parses paths itself, behind one catch-all route, because a router does not fit the documented calls:
//! literals are matched after percent-decoding, `$` ends the path of the content, a wrong verb is 400, and every
//! response has upstream's body and reason phrase.
//!
//! **Invariants:** the gateway uses only the generated messages and the trait of the service, never the store, so
//! that it can serve a remote backend as well ([`Backend`]); dropping a REST request drops its call; every error has
//! the documented JSON body.

pub mod api_version;
pub mod codes;
pub mod content_range;
pub mod copy_body;
pub mod path;
pub mod query;

mod answer;
mod byte_range;
mod call;
mod conditions;
mod content;
mod content_headers;
mod copy;
mod digests;
mod disposition;
mod events;
mod info;
mod json;
mod link;
mod list;
mod operations;
mod package;
mod payload;
mod route;
mod sessions;
mod upload;
mod warning;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts};
use tokio::{sync::watch, time::Instant};
use tower::ServiceExt;

pub use self::package::COMPRESS;
use self::{
    answer::Failure,
    api_version::ApiVersion,
    call::{Call, Client},
    payload::Payload,
    route::{PathParameters, RequestContent, Route},
};
use crate::{access::Grants, error::Error, wire::backend::Backend};

/// The header with the path before the one of the request, which a proxy has removed. The server around the gateway
/// lets it pass only from a trusted proxy, as a path without a `/` at its end.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What the gateway gets from the server around it.
#[derive(Debug)]
pub struct Config {
    /// Whether the server can serve calls, for `GET /health`.
    pub ready: watch::Receiver<bool>,
    /// The message of `GET /health` while it cannot.
    pub unready: &'static str,
    /// How `sfctl` signs in, for `GET /$/GetAadMetadata`.
    pub grants: watch::Receiver<Arc<Grants>>,
    /// The router for all paths that the gateway does not know: the web page at `GET /` and its assets. Its
    /// requests have no body. A 405 response of this router is replaced by the documented error.
    pub page: Router,
}

/// Makes the router for all requests that are not gRPC.
pub fn router(backend: Backend, config: Config) -> Router {
    Router::new().fallback(handle).with_state(Arc::new(Gateway { backend, config }))
}

/// The error response for an error of the server around the gateway.
pub fn error_response(error: Error) -> Response {
    Failure::from(error).into_response()
}

/// The gateway.
struct Gateway {
    backend: Backend,
    config: Config,
}

/// Answers a request.
async fn handle(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut payload = Payload::new(body);
    let is_http2 = head.version == Version::HTTP_2;
    let takes_none = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let answer = gateway.answer(head, &mut payload).await;
    let mut answer = answer.unwrap_or_else(Failure::into_response);
    if takes_none {
        payload.skip().await;
    }
    if !is_http2 && !payload.is_read() {
        // The connection closes after a linger: the client must not send the next request on it.
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

impl Gateway {
    /// Finds the route of a request, and answers the request.
    async fn answer(
        self: Arc<Self>,
        head: Parts,
        payload: &mut Payload,
    ) -> Result<Response, Failure> {
        let Some(target) = path::parse(head.uri.path())? else {
            return self.outside_store(head).await;
        };
        let client = Client::new(Arc::clone(&self.backend), &head)?;
        let (verbs, is_documented) = route::allowed(&target);
        if head.method == Method::OPTIONS && !verbs.is_empty() {
            return Ok(answer::options(&verbs));
        }
        let (route, parameters) = route::find(&head.method, &target).map_err(|error| {
            if verbs.is_empty() || is_documented {
                return Failure::from(error);
            }
            Failure::not_allowed(error.message(), &verbs)
        })?;
        content_headers::check(route.content, &head.headers)?;
        let query = query::parse(head.uri.query().unwrap_or_default());
        let version = match version(&query)? {
            Some(version) => version,
            None if route.is_documented() => return Err(api_version::missing().into()),
            None => ApiVersion::NEWEST,
        };
        let arrived = Instant::now();
        let call = Call { client, head, query, version, arrived };
        dispatch(call, (route, parameters), payload).await
    }

    /// Answers a request outside of `/ImageStore` and `/Packages`.
    async fn outside_store(&self, head: Parts) -> Result<Response, Failure> {
        if let Some(answer) = self.fixed_route(&head) {
            return answer;
        }
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let request = Request::from_parts(head, axum::body::Body::empty());
        let page = self.config.page.clone().oneshot(request).await;
        let page = page.unwrap_or_else(|never| match never {});
        if page.status() == StatusCode::METHOD_NOT_ALLOWED {
            return other_verb(&method, &uri, &["GET", "HEAD"]);
        }
        Ok(page)
    }

    /// Answers health checks, the calls of `sfctl` outside of the store, and `OPTIONS *`; `None` for other paths, which are
    /// the page's.
    fn fixed_route(&self, head: &Parts) -> Option<Result<Response, Failure>> {
        let names = head.uri.path().split('/').filter(|name| !name.is_empty()).map(path::decode);
        let names = names.collect::<Result<Vec<_>, _>>().ok()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let answer = match (&head.method, names.as_slice()) {
            (&Method::GET | &Method::HEAD, ["health"]) => info::health(&self.config),
            (&Method::GET, ["$", name @ ("GetClusterVersion" | "GetAadMetadata")]) => {
                let answer = || match *name {
                    "GetAadMetadata" => info::aad_metadata(&self.config.grants.borrow()),
                    _ => info::cluster_version(),
                };
                version(&query::parse(head.uri.query().unwrap_or_default()))
                    .map(|_| answer())
                    .map_err(Failure::from)
            }
            // Liveness: a server that answers is alive.
            (&Method::GET | &Method::HEAD, ["health", "live"]) => Ok(answer::empty()),
            (method, ["health"] | ["health", "live"]) => {
                other_verb(method, &head.uri, &["GET", "HEAD"])
            }
            (method, ["$", "GetClusterVersion" | "GetAadMetadata"]) => {
                other_verb(method, &head.uri, &["GET"])
            }
            // `OPTIONS *` asks for the verbs of the server as a whole.
            (&Method::OPTIONS, ["*"]) => Ok(answer::options(&route::VERBS)),
            _ => return None,
        };
        Some(answer)
    }
}

/// Answers `OPTIONS` with the verbs of a path, and any other verb with 405.
fn other_verb(method: &Method, uri: &Uri, verbs: &[&str]) -> Result<Response, Failure> {
    if method == Method::OPTIONS {
        return Ok(answer::options(verbs));
    }
    let message = format!("there is no call '{method} {}'", uri.path());
    Err(Failure::not_allowed(message, verbs))
}

/// The `api-version` of a call, if there is one. A malformed pair with this name is an error.
fn version(query: &query::Query) -> Result<Option<ApiVersion>, Error> {
    let name = "api-version";
    query.given(name).map(api_version::parse).transpose()
}

/// Calls the handler of a route. For a POST or DELETE without a used body, the body is read whole first.
async fn dispatch(
    call: Call,
    (route, parameters): (&Route, PathParameters),
    payload: &mut Payload,
) -> Result<Response, Failure> {
    let is_small = matches!(call.head.method, Method::POST | Method::DELETE);
    if is_small && route.content == RequestContent::Nothing {
        payload.whole(call.deadline()).await?;
    }
    (route.handler)(call, parameters, payload).await
}
