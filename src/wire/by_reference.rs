//! Messages that a caller in this process hands to a call that takes a stream of them: nobody writes or reads
//! their bytes.
//!
//! The generated service takes a [`Streaming`], which can only be made of the body of a request. This one has an
//! empty message for each that is handed over, and its decoder returns that one instead.

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

/// A message of gRPC of no bytes: that it is not compressed, and its length.
const EMPTY: &[u8] = &[0; 5];

/// The messages that were handed over and not taken: one, as a rule, since the body is asked for the next one
/// only when there is none.
type Queue<M> = Arc<Mutex<VecDeque<M>>>;

/// Makes a stream that a call takes of messages.
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

/// Returns for each empty message the one that was handed over.
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
