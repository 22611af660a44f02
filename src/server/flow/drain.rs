//! Drains the body of an HTTP/2 request that is answered before its body has arrived.
//!
//! Where such a body is dropped, hyper resets the stream after the response. Clients handle that, but haproxy and
//! other proxies forward the reset and lose the response before it. So the rest of the body is read and discarded
//! within bounds, and the client ends the stream when it has the response. HTTP/1 uses a lingering close instead,
//! see [`super::stream`].

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http::{Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{runtime::Handle, time::timeout};

use crate::limits::{REFUSED_BODY_BYTES, REFUSED_BODY_TIME};

/// Drains the body of a request, if it is one of HTTP/2, whoever drops it.
pub(in crate::server) fn drained<B>(request: Request<B>) -> Request<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let is_http2 = request.version() == Version::HTTP_2;
    request.map(|body| {
        let body = Body::new(body);
        if is_http2 { Body::new(Drain::new(body)) } else { body }
    })
}

/// A request body whose rest is read and discarded in a background task when it is dropped before its end.
struct Drain {
    body: Body,
    has_ended: bool,
}

impl Drain {
    fn new(body: Body) -> Self {
        Self { body, has_ended: false }
    }
}

impl HttpBody for Drain {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        // An error is the last item of a body.
        self.has_ended |= matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if self.has_ended || self.body.is_end_stream() {
            return;
        }
        let body = mem::take(&mut self.body);
        // Without a runtime there is no connection any more either.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(REFUSED_BODY_TIME, read(body)));
        }
    }
}

async fn read(mut body: Body) {
    let mut left = REFUSED_BODY_BYTES;
    while left > 0
        && let Some(Ok(frame)) = body.frame().await
    {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, channel::mpsc};

    use super::*;

    type Sender = mpsc::Sender<Result<Bytes, std::io::Error>>;

    fn body() -> (Sender, Drain) {
        let (sender, receiver) = mpsc::channel(0);
        (sender, Drain::new(Body::from_stream(receiver)))
    }

    #[tokio::test]
    async fn what_comes_after_the_answer_is_read_within_bounds() {
        let (mut sender, mut body) = body();
        let piece = Bytes::from(vec![7; REFUSED_BODY_BYTES / 4]);
        let (sent, frame) = futures::join!(sender.send(Ok(piece.clone())), body.frame());
        sent.expect("taken");
        frame.expect("a frame").expect("a piece");
        drop(body);
        let mut taken = 0;
        while sender.send(Ok(piece.clone())).await.is_ok() {
            taken += 1;
        }
        assert!((4..8).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_more_is_left_in_the_end() {
        let (sender, body) = body();
        drop(body);
        let mut sender = sender;
        futures::future::poll_fn(|cx| sender.poll_ready(cx)).await.expect("room for one");
        tokio::time::sleep(REFUSED_BODY_TIME * 2).await;
        assert!(sender.is_closed());
    }

    #[tokio::test]
    async fn a_body_that_has_ended_is_left_at_once() {
        let (mut sender, mut body) = body();
        sender.close_channel();
        assert!(body.frame().await.is_none());
        drop(body);
        let (mut sender, mut body) = self::body();
        let broken = Err(std::io::Error::other("reset"));
        let (sent, frame) = futures::join!(sender.send(broken), body.frame());
        sent.expect("taken");
        frame.expect("a frame").expect_err("broken");
        drop(body);
        assert!(sender.is_closed());
    }
}
