//! The transport of the gateway: each call goes to a backend that serves, and to another one if that is safe.
//!
//! | what has happened | the call is made again |
//! |---|---|
//! | no byte of the request was read, as when the connection was refused | always |
//! | the connection was lost before the answer began | if the rpc is repeatable ([`Rpc::is_repeatable`]) |
//! | the backend is busy, or is stopping | if it is repeatable, and by another backend |
//! | the answer has begun | never |
//!
//! A call has at most [`BACKEND_TRIES`] tries. An upload whose body was read is never made again, since its bytes are
//! gone; its client has them.
//!
//! **Invariants:** dropping a call cancels it at its backend; a call ends at its deadline, and each try tells the time
//! that is left.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, Uri, request::Parts};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::ServiceExt as _;

use super::{
    answer::Answer,
    content::Content,
    pool::{Lease, Member, Pool},
};
use crate::{
    access::Rpc,
    budget::{Budget, Peer},
    error::{Error, Kind},
    limits::{BACKEND_RETRY_PAUSE, BACKEND_RETRY_TIME, BACKEND_TRIES, BACKEND_WAIT_TIME},
    wire::{
        status,
        timeout::{self, TIMEOUT},
    },
};

/// Makes the calls of a gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    /// The backends.
    pub(super) pool: Pool,
    /// The messages that are kept, see [`BACKEND_KEPT_BYTES`].
    pub(super) kept: Budget,
    /// Ends the watches.
    pub(super) stop: CancellationToken,
}

/// Why a try has failed.
enum Failed {
    /// The connection was not made, or it was lost before the answer began.
    Lost(Status),
    /// The backend takes no calls at this moment.
    Busy(Response<Body>),
    /// The deadline has passed.
    Late(Status),
}

impl Failed {
    fn into_answer(self) -> Result<Response<Body>, Status> {
        match self {
            Self::Lost(status) | Self::Late(status) => Err(status),
            Self::Busy(response) => Ok(response),
        }
    }
}

impl Calls {
    /// Makes a call.
    ///
    /// # Errors
    /// `Busy` if no backend serves, or too much is kept of other calls; `Timeout` at the deadline; the error of the transport if a backend is lost.
    ///
    /// # Cancel safety
    /// A call that is dropped is cancelled.
    pub(super) async fn make(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let time =
            request.headers().get(TIMEOUT).and_then(|value| timeout::parse(value.as_bytes()));
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let work = self.tries(request, deadline);
        match deadline {
            None => work.await,
            Some(deadline) => timeout_at(deadline, work).await.unwrap_or_else(|_| Err(late())),
        }
    }

    async fn tries(
        self,
        request: Request<Body>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let rpc = rpc(&head.uri);
        let (content, _permit) = if rpc.is_some_and(Rpc::is_repeatable) {
            let (bytes, content) = Content::keep(body).await?;
            let peer = head.extensions.get::<Peer>().copied().unwrap_or_default();
            let permit = self.kept.try_acquire(peer, bytes);
            (content, Some(permit.map_err(|error| status::from_error(&error))?))
        } else {
            (Content::once(body), None)
        };
        let stop = rpc
            .filter(|rpc| matches!(rpc, Rpc::WatchOperation | Rpc::WatchOperations))
            .map(|_| self.stop.clone());
        let end = Instant::now() + BACKEND_RETRY_TIME;
        let mut tried = Vec::new();
        let mut number = 1;
        loop {
            let lease = self.next(&mut tried, number).await?;
            let failed = match send(&lease, again(&head, &content, deadline)).await {
                Ok(response) => return Ok(Answer::wrap(response, lease, stop)),
                Err(failed) => failed,
            };
            tried.push(Arc::clone(&lease.member));
            let is_over = number == BACKEND_TRIES || Instant::now() >= end || !content.is_left();
            let is_last = match &failed {
                Failed::Lost(_) => false,
                // Who is busy is not asked again: that makes it busier, and the client knows when to ask.
                Failed::Busy(_) => self.pool.pick(&tried).is_none(),
                Failed::Late(_) => true,
            };
            if is_over || is_last {
                return failed.into_answer();
            }
            number += 1;
        }
    }

    /// The backend of the next try: one that was not tried if there is one, after a pause otherwise.
    ///
    /// # Errors
    /// `Busy` if none serves within [`BACKEND_WAIT_TIME`].
    async fn next(&self, tried: &mut Vec<Arc<Member>>, number: u32) -> Result<Lease, Status> {
        if let Some(lease) = self.pool.pick(tried) {
            return Ok(lease);
        }
        if !tried.is_empty() {
            let most = BACKEND_RETRY_PAUSE * (1 << number.min(BACKEND_TRIES));
            sleep(most.mul_f64(fastrand::f64())).await;
            tried.clear();
        }
        self.pool.wait(BACKEND_WAIT_TIME).await.ok_or_else(|| {
            let message = "no server behind the gateway serves at the moment; try again";
            status::from_error(&Error::new(Kind::Busy, message))
        })
    }
}

/// The rpc of a call.
fn rpc(uri: &Uri) -> Option<Rpc> {
    uri.path().rsplit('/').next()?.parse().ok()
}

/// The request of a try, with the time that is left.
fn again(head: &Parts, content: &Content, deadline: Option<Instant>) -> Request<Body> {
    let mut head = head.clone();
    let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
    if let Some(value) = left.map(|left| left.max(Duration::from_nanos(1))).and_then(timeout::value)
        && let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes())
    {
        head.headers.insert(TIMEOUT, value);
    }
    Request::from_parts(head, content.body())
}

/// Makes a try.
async fn send(lease: &Lease, request: Request<Body>) -> Result<Response<Body>, Failed> {
    let unconnected = || Failed::Lost(Status::unavailable("there is no connection"));
    let channel = lease.channel().ok_or_else(unconnected)?;
    match channel.oneshot(request).await {
        Ok(response) if is_busy(&response) => Err(Failed::Busy(response)),
        Ok(response) => Ok(response),
        Err(error) => {
            let status = Status::from_error(error.into());
            if status.code() == Code::DeadlineExceeded {
                return Err(Failed::Late(late()));
            }
            lease.member.doubt.notify_one();
            Err(Failed::Lost(status))
        }
    }
}

/// Whether a backend, or a proxy before it, takes no calls at this moment.
fn is_busy(response: &Response<Body>) -> bool {
    match Status::from_header_map(response.headers()) {
        Some(status) => status.code() == Code::Unavailable,
        None => matches!(
            response.status(),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ),
    }
}

/// The status of a call whose deadline has passed. A backend that the call has reached ends it at the same time.
fn late() -> Status {
    let message = "the deadline passed before a server behind the gateway answered";
    status::from_error(&Error::new(Kind::Timeout, message))
}
