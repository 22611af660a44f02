//! Flow control and slow clients: every memory bound and every timeout of a request in one folder.
//!
//! | what the server keeps or waits for | bound | then | where |
//! |---|---|---|---|
//! | concurrent calls | [`CALLS_MAX`](limits::CALLS_MAX), and [`URGENT_CALLS_MAX`](limits::URGENT_CALLS_MAX) for health checks and cancellations | busy | [`Flow`] |
//! | bytes of requests that are buffered whole | [`BODY_POOL_BYTES`](limits::BODY_POOL_BYTES), [`URGENT_POOL_BYTES`](limits::URGENT_POOL_BYTES) | busy | [`request_body`] |
//! | bytes of stream messages that are received or processed | [`MESSAGE_POOL_BYTES`](limits::MESSAGE_POOL_BYTES) | waits for [`ROOM_WAIT`](limits::ROOM_WAIT), then busy | [`request_body`] |
//! | unread bytes of HTTP/2 request bodies | [`STREAM_WINDOW_BYTES`](limits::STREAM_WINDOW_BYTES) each; with the bound of calls [`WINDOWS_BYTES`](limits::WINDOWS_BYTES) in all | the client waits | hyper |
//! | what unread small frames of those bodies keep | [`UNREAD_FREE_BYTES`](limits::UNREAD_FREE_BYTES) for each connection, and [`UNREAD_POOL_BYTES`](limits::UNREAD_POOL_BYTES) for all | the client waits | [`small_frames`] |
//! | the next bytes of a request body | [`THROUGHPUT_BYTES_MIN`](limits::THROUGHPUT_BYTES_MIN) in [`BODY_STALL`](limits::BODY_STALL) | the call fails | [`request_body`], [`throughput`] |
//! | the next message of a bidirectional stream | [`BODY_STALL`](limits::BODY_STALL) | the call fails | [`request_body`] |
//! | a request body that no handler reads any more | [`REFUSED_BODY_BYTES`](limits::REFUSED_BODY_BYTES), [`REFUSED_BODY_TIME`](limits::REFUSED_BODY_TIME); no budget | reset | [`drain`], [`stream`] |
//! | bytes of large responses | [`ANSWER_POOL_BYTES`](limits::ANSWER_POOL_BYTES) | busy | [`response_body`] |
//! | an HTTP/2 client that does not open its window for a response | [`BODY_STALL`](limits::BODY_STALL) for each piece | the call is reset | [`executor`] |
//! | a client that does not read from its socket | [`THROUGHPUT_BYTES_MIN`](limits::THROUGHPUT_BYTES_MIN) in [`BODY_STALL`](limits::BODY_STALL) | the connection is reset | [`stream`], [`throughput`] |
//! | a client that disappears without closing | [`SILENCE_TIME`](limits::SILENCE_TIME) | the kernel reports an error | [`stream`] |
//!
//! Every budget is shared among the addresses of the clients, see [`crate::budget`]. A client above its share
//! that stalls is aborted when others need its permits: a request body fails with an error, a response that has
//! begun is cut off. Uploads, downloads and watchers have further limits in the store, and so have parts in
//! memory.
//!
//! Each direction of a call has one timer, which is in this module: the store aborts no call because of a slow
//! client. When a call is aborted, the work for it is dropped.

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

pub(super) use drain::drained;
pub(super) use executor::StallExecutor;
pub(super) use request_body::{Buffering, RequestBody, Sender};
pub(super) use response_body::ResponseBody;
pub(super) use small_frames::UnreadFrames;
pub(super) use stream::{ClientStream, Transport, set_options};
pub(super) use waiting::scope;

use super::Bounds;
use crate::{budget::Budget, limits};

/// The budgets that all calls share, and the stall timeout. Clones share the budgets.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// How long a client may stall.
    pub(super) stall: Duration,
    pub(super) calls: Budget,
    /// The reserve of calls for health checks and cancellations.
    pub(super) urgent_calls: Budget,
    /// Bytes of request bodies that are buffered whole.
    pub(super) requests: Budget,
    /// Bytes of the request bodies of urgent calls.
    pub(super) urgent_requests: Budget,
    /// Bytes of the messages of request streams.
    pub(super) messages: Budget,
    /// Bytes of large responses.
    pub(super) answers: Budget,
}

impl Flow {
    /// Creates the budgets of a server.
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
