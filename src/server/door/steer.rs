//! The innermost service of the stack: routes a request to gRPC or to REST.

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use futures::stream;
use http::{Method, header};
use tower::ServiceExt;

use super::{Class, Protocol};
use crate::server::status_details;

/// Joins the interfaces: requests of the gRPC class go to `grpc`, all others to `rest`.
pub(super) fn router(grpc: Router, rest: Router) -> Router {
    Router::new().fallback(async move |request: Request| match Class::of(&request).protocol {
        Protocol::Grpc(_) => {
            let path = request.uri().path().to_owned();
            let mut response = answer(grpc, request).await;
            status_details::complete(response.headers_mut(), &path);
            response
        }
        Protocol::Rest => {
            let is_head = request.method() == Method::HEAD;
            let response = answer(rest, request).await;
            if !is_head || response.headers().contains_key(header::CONTENT_LENGTH) {
                return response;
            }
            // The length of the response to a GET is not known. The router around this one would tell the length of the
            // body, which is empty.
            response.map(|_| Body::from_stream(stream::empty::<Result<Bytes, Infallible>>()))
        }
    })
}

async fn answer(router: Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
