//! The innermost service of the stack: routes a request to gRPC or to REST.

use axum::{Router, extract::Request, response::Response};
use tower::ServiceExt;

use super::{Class, Protocol};
use crate::server::status_details;

/// Joins the interfaces. Over HTTP/1 a web page could call whose host name was made to mean this machine,
/// so that gRPC has nothing of it.
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
