//! The two interfaces behind one service.
//!
//! A call of gRPC comes over HTTP/2 and says so in its content type; everything else is REST. Over
//! HTTP/1 a web page could call whose host name was made to mean this machine; REST has a guard
//! against that. A handler that panics costs its own call and no other.

use std::panic::AssertUnwindSafe;

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{HeaderMap, StatusCode, Version, header};
use tower::ServiceExt;

use crate::{error::Error, wire};

/// Joins the interfaces: `grpc` gets what is `application/grpc` over HTTP/2, `rest` everything else.
pub fn app(grpc: Router, rest: Router) -> Router {
    Router::new().fallback(async move |request: Request| {
        if request.version() == Version::HTTP_2 && is_grpc(request.headers()) {
            answer(grpc, request).await.unwrap_or_else(|error| grpc_fault(&error))
        } else {
            answer(rest, request).await.unwrap_or_else(|error| rest_fault(&error))
        }
    })
}

/// Whether a request is a call of gRPC, in whichever encoding. `application/grpc-web` is not.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Answers a request, or tells that its handler panicked. The panic hook has logged it.
async fn answer(router: Router, request: Request) -> Result<Response, Error> {
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(answer) => Ok(answer.into_response()),
        Err(_) => Err(Error::internal("a handler panicked")),
    }
}

fn grpc_fault(error: &Error) -> Response {
    wire::status::from_error(error).into_http::<Body>()
}

fn rest_fault(error: &Error) -> Response {
    let kind = error.kind();
    let body = serde_json::json!({"Error": {"Code": kind.code(), "Message": error.message()}});
    let status = StatusCode::from_u16(kind.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = (header::CONTENT_TYPE, "application/json; charset=utf-8");
    (status, [json, (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_grpc_is_known_by_its_content_type() {
        let check = |content_type: &'static str, expect: bool| {
            let headers = HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                http::HeaderValue::from_static(content_type),
            )]);
            assert_eq!(is_grpc(&headers), expect, "{content_type}");
        };
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc;charset=utf-8", true);
        check("application/grpc-web", false);
        check("application/json", false);
        check("", false);
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
