//! The record of the gRPC calls of the tests and their responses, which `tests/support/calls.py` checks.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::LazyLock,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tonic::body::Body;
use tower::Service;

/// The environment variable with the path of the record. If it is not set, nothing is recorded.
const FILE: &str = "IMAGESTORE_TEST_CALLS";

/// A transport that records its calls: for each call one line for its first response message, and one for its status,
/// such as `/imagestore.v1.ImageStore/Stat message` and `/imagestore.v1.ImageStore/Stat 0`.
#[derive(Clone, Debug)]
pub(crate) struct Recorded<S>(pub(crate) S);

impl<S, B> Service<Request<Body>> for Recorded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let answer = self.0.call(request);
        async move {
            let answer = answer.await?;
            record(&path, status(answer.headers()));
            let mut has_begun = false;
            Ok(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    match frame.trailers_ref() {
                        Some(trailers) => record(&path, status(trailers)),
                        None if !has_begun => record(&path, Some("message")),
                        None => {}
                    }
                    has_begun = true;
                    frame
                }))
            }))
        }
        .boxed()
    }
}

/// The gRPC status in headers or trailers, if they have it.
fn status(fields: &HeaderMap) -> Option<&str> {
    fields.get("grpc-status").map(|status| status.to_str().expect("a number"))
}

/// Appends a line to the record, unless `what` is `None`.
fn record(path: &str, what: Option<&str>) {
    static RECORD: LazyLock<Option<File>> = LazyLock::new(|| {
        let path = std::env::var_os(FILE)?;
        Some(OpenOptions::new().create(true).append(true).open(path).expect("a file"))
    });
    if let (Some(mut record), Some(what)) = (RECORD.as_ref(), what) {
        // One write for the line, because several processes and threads append to the file.
        record.write_all(format!("{path} {what}\n").as_bytes()).expect("written");
    }
}
