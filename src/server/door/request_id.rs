//! The layer that gives each request an id: the id in its headers, or a new one. All work for the request runs
//! under this id, including that of the response body, and the response has the id in a header.

use axum::{body::Body, extract::Request, middleware::Next, response::Response};

use crate::wire::request::{HEADER, Id};

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let id = Id::of(request.headers());
    let mut response = id.clone().run(next.run(request)).await;
    response.headers_mut().insert(HEADER, id.value().clone());
    response.map(|body| Body::new(id.body(body)))
}
