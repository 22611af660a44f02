//! Request streams of callers in this process: messages are passed by reference, without encoding and decoding.
//!
//! The generated service takes a [`Streaming`], which can only be made from a request body. So the body has one
//! empty message for each message of the caller, and the decoder returns the caller's message in its place.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{DecodeBuf, Decoder},
};

/// An empty gRPC message: the compression flag and the length, both 0.
const EMPTY: &[u8] = &[0; 5];

/// The messages that are not decoded yet. Usually at most one, since the body is polled only when the decoder has
/// no message.
type Queue<M> = Arc<Mutex<VecDeque<M>>>;

/// Makes a [`Streaming`] from messages, for the request of a call.
pub fn streaming<M: Send + 'static>(
    messages: impl Stream<Item = M> + Send + 'static,
) -> Streaming<M> {
    let taken = Queue::default();
    let queue = Arc::clone(&taken);
    let frames = messages.map(move |message| {
        queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        Ok::<_, Status>(Frame::data(Bytes::from_static(EMPTY)))
    });
    let body = Body::new(StreamBody::new(Box::pin(frames)));
    Streaming::new_request(Taker(taken), body, None, None)
}

/// The decoder: returns the caller's next message for each empty message.
struct Taker<M>(Queue<M>);

impl<M> Decoder for Taker<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front())
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn messages_arrive_as_they_are() {
        let bytes: Vec<_> = (0..9_u8).map(|number| Bytes::from(vec![number; 100])).collect();
        let messages = streaming(stream::iter(bytes.clone()));
        let arrived: Vec<_> = messages.map(|message| message.expect("a message")).collect().await;
        let places = |all: &[Bytes]| all.iter().map(|bytes| bytes.as_ptr()).collect::<Vec<_>>();
        assert_eq!(arrived, bytes);
        assert_eq!(places(&arrived), places(&bytes));
    }

    #[tokio::test]
    async fn a_message_is_taken_when_it_is_asked_for() {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let mut messages = streaming(stream::repeat_with(move || {
            *count.lock().expect("no panic") += 1;
        }));
        assert_eq!(*asked.lock().expect("no panic"), 0);
        for number in 1..4 {
            messages.message().await.expect("a message").expect("not the end");
            assert_eq!(*asked.lock().expect("no panic"), number);
        }
    }
}
