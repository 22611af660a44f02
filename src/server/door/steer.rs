//! The innermost service of the stack: routes a request to gRPC or to REST.

use axum::{Router, extract::Request, response::Response};
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
        Protocol::Rest => answer(rest, request).await,
    })
}

async fn answer(router: Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
