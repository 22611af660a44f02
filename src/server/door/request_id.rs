//! The layer that gives a request its id: the one that it brings, or a new one. All further work is done
//! under it, that of the answer's body too, and the answer tells it.

use axum::{body::Body, extract::Request, middleware::Next, response::Response};

use crate::wire::request::{HEADER, Id};

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let id = Id::of(request.headers());
    let mut response = id.clone().run(next.run(request)).await;
    response.headers_mut().insert(HEADER, id.value().clone());
    response.map(|body| Body::new(id.body(body)))
}
