//! Flow control and slow clients: every memory bound and every timeout of a request in one folder.
//!
//! | what the server keeps or waits for | bound | then | where |
//! |---|---|---|---|
//! | calls | [`CALLS_MAX`](limits::CALLS_MAX), [`URGENT_CALLS_MAX`](limits::URGENT_CALLS_MAX) for health and cancellation | busy | [`Flow`] |
//! | bytes of requests that are kept whole | [`BODY_POOL_BYTES`](limits::BODY_POOL_BYTES), [`URGENT_POOL_BYTES`](limits::URGENT_POOL_BYTES) | busy | [`request_body`] |
//! | the message of a stream that comes or is used | [`MESSAGE_POOL_BYTES`](limits::MESSAGE_POOL_BYTES) | waits for [`ROOM_WAIT`](limits::ROOM_WAIT), then busy | [`request_body`] |
//! | what calls of HTTP/2 send before they are read | [`STREAM_WINDOW_BYTES`](limits::STREAM_WINDOW_BYTES) each, with the bound of calls [`WINDOWS_BYTES`](limits::WINDOWS_BYTES) in all | the client waits | the library |
//! | small frames of them | [`SMALL_FRAMES_PER_CONNECTION`](limits::SMALL_FRAMES_PER_CONNECTION) | the client waits | [`small_frames`] |
//! | the next bytes of a body | [`PACE_BYTES`](limits::PACE_BYTES) in [`BODY_STALL`](limits::BODY_STALL) | the call fails | [`request_body`], [`throughput`] |
//! | the next message of a dialogue | [`BODY_STALL`](limits::BODY_STALL) | the call fails | [`request_body`] |
//! | a body that nobody reads any more | [`REFUSED_BODY_BYTES`](limits::REFUSED_BODY_BYTES), [`REFUSED_BODY_TIME`](limits::REFUSED_BODY_TIME); it costs no budget | reset | [`drain`], [`stream`] |
//! | bytes of large answers | [`ANSWER_POOL_BYTES`](limits::ANSWER_POOL_BYTES) | busy | [`response_body`] |
//! | a client of HTTP/2 that makes no room for an answer | [`BODY_STALL`](limits::BODY_STALL) for each piece | the call is reset | [`executor`] |
//! | a client that takes nothing from its socket | [`PACE_BYTES`](limits::PACE_BYTES) in [`BODY_STALL`](limits::BODY_STALL) | the connection is reset | [`stream`], [`throughput`] |
//! | a client that is gone without a word | [`SILENCE_TIME`](limits::SILENCE_TIME) | the kernel says so | [`stream`] |
//!
//! Every budget is shared among the addresses of the clients, see [`crate::budget`]. A client above its share
//! that stalls is aborted when others need its permits: a request body fails with an error, a response that has
//! begun is cut off. Uploads, downloads and watchers have further limits in the store, and so have parts in
//! memory.
//!
//! Each direction of a call has one timer, here. The store has none: when a call is aborted, the work for it is
//! dropped.

mod drain;
mod executor;
mod framing;
mod request_body;
mod response_body;
mod small_frames;
mod stream;
mod throughput;
mod waiting;

use std::time::Duration;

pub(super) use drain::Drain;
pub(super) use executor::StallExecutor;
pub(super) use request_body::{Buffering, RequestBody, Sender};
pub(super) use response_body::ResponseBody;
pub(super) use stream::ClientStream;
pub(super) use waiting::scope;

use super::Bounds;
use crate::{budget::Budget, limits};

/// What all calls share.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// How long a client may let the server wait.
    pub(super) stall: Duration,
    pub(super) calls: Budget,
    /// For what must go on whatever the others do: questions after the health, and cancellations.
    pub(super) urgent_calls: Budget,
    /// For the bodies that are kept whole.
    pub(super) requests: Budget,
    /// For those of urgent calls.
    pub(super) urgent_requests: Budget,
    /// For the messages of streams.
    pub(super) messages: Budget,
    /// For large answers.
    pub(super) answers: Budget,
}

impl Flow {
    /// Makes the budgets of a server.
    pub(super) fn new(bounds: Bounds) -> Self {
        let messages = Budget::new("bytes of messages", limits::MESSAGE_POOL_BYTES);
        Self {
            stall: bounds.stall,
            calls: Budget::new("calls", bounds.calls),
            urgent_calls: Budget::new("urgent calls", limits::URGENT_CALLS_MAX),
            requests: Budget::new("bytes of requests", limits::BODY_POOL_BYTES),
            urgent_requests: Budget::new("bytes of urgent requests", limits::URGENT_POOL_BYTES),
            messages: messages.with_queue(limits::CALLS_MAX, limits::ROOM_WAIT),
            answers: Budget::new("bytes of answers", limits::ANSWER_POOL_BYTES),
        }
    }
}
