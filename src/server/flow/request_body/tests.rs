//! Slow bodies, and bodies that are charged to a budget.

use futures::{FutureExt, SinkExt, channel::mpsc, stream};
use http_body_util::BodyExt;

use super::*;
use crate::limits::{BODY_POOL_BYTES, BUDGET_RESERVE, BUDGET_STALL, KIB, MIB, ROOM_WAIT};

const MINUTE: Duration = Duration::from_mins(1);

fn sender() -> Sender {
    Sender { peer: Peer::default(), call: None, stall: MINUTE }
}

fn peer(number: u8) -> Peer {
    Peer::from(std::net::IpAddr::from([10, 0, 0, number]))
}

fn pool() -> Budget {
    Budget::new("bytes of tests", BODY_POOL_BYTES).with_queue(KIB, ROOM_WAIT)
}

/// A body whose bytes come from the test.
fn open(
    sender: Sender,
    buffering: Buffering,
) -> (mpsc::Sender<std::io::Result<Bytes>>, RequestBody) {
    let (bytes, receiver) = mpsc::channel(8);
    (bytes, RequestBody::new(Body::from_stream(receiver), sender, buffering))
}

async fn status_of(body: &mut RequestBody) -> Status {
    Status::from_error(body.frame().await.expect("a frame").expect_err("it fails"))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_fails_with_a_status() {
    let (mut bytes, mut body) = open(sender(), Buffering::None);
    bytes.send(Ok(Bytes::from_static(b"a"))).await.expect("sent");
    let frame = body.frame().await.expect("a frame").expect("a piece");
    assert_eq!(frame.into_data().expect("data"), "a");
    let found = status_of(&mut body).await;
    assert_eq!(status::kind(&found), Kind::Timeout);
    assert!(found.message().starts_with("fewer than 16384 bytes"), "{found}");
}

#[tokio::test(start_paused = true)]
async fn whoever_talks_has_the_time_anew_for_each_message() {
    let (mut bytes, mut body) = open(sender(), Buffering::PerTurn(pool()));
    for _ in 0..5 {
        assert!(body.frame().now_or_never().is_none());
        tokio::time::advance(MINUTE * 5 / 6).await;
        bytes.send(Ok(Bytes::from_static(&[0, 0, 0, 0, 1, 7]))).await.expect("sent");
        body.frame().await.expect("a frame").expect("a message");
    }
    // A large message is refused.
    let (mut large, mut refused) = open(sender(), Buffering::PerTurn(pool()));
    large.send(Ok(Bytes::from_static(&[0, 0, 1, 0, 1, 7]))).await.expect("sent");
    assert_eq!(status::kind(&status_of(&mut refused).await), Kind::MessageTooLarge);
    // Half a message does not start the time limit again.
    bytes.send(Ok(Bytes::from_static(&[0, 0, 0, 0, 9, 7]))).await.expect("sent");
    body.frame().await.expect("a frame").expect("half a message");
    let found = status_of(&mut body).await;
    assert_eq!(status::kind(&found), Kind::Timeout);
    assert_eq!(found.message(), "no message from the client for 60 s; start the call again");
}

#[tokio::test]
async fn a_body_of_messages_that_is_cancelled_has_not_ended() {
    let cancelled =
        || Body::from_stream(stream::iter([Err::<Bytes, _>(Status::cancelled("left"))]));
    for buffering in [Buffering::PerMessage(pool()), Buffering::PerTurn(pool())] {
        let mut body = RequestBody::new(cancelled(), sender(), buffering);
        assert_eq!(status_of(&mut body).await.code(), tonic::Code::DataLoss);
    }
}

#[tokio::test]
async fn a_body_that_ends_has_no_limit() {
    let sender = Sender { stall: Duration::ZERO, ..sender() };
    let mut body = RequestBody::new(Body::from("abc"), sender, Buffering::None);
    assert_eq!(body.size_hint().exact(), Some(3));
    let frame = body.frame().await.expect("a frame").expect("a piece");
    assert_eq!(frame.into_data().expect("data"), "abc");
    assert!(body.is_end_stream() && body.frame().await.is_none());
}

#[tokio::test]
async fn bodies_that_are_kept_take_from_one_pool_and_give_it_back() {
    let pool = pool();
    let body = |bytes: usize| {
        RequestBody::new(Body::from(vec![7; bytes]), sender(), Buffering::Full(pool.clone()))
    };
    let reserve = BODY_POOL_BYTES / BUDGET_RESERVE;
    let mut large = body(BODY_POOL_BYTES - reserve - KIB);
    large.frame().await.expect("a frame").expect("room for it");
    let mut small = body(KIB);
    small.frame().await.expect("a frame").expect("room for it");
    assert_eq!(status::kind(&status_of(&mut body(1)).await), Kind::Busy);
    drop(large);
    body(MIB).frame().await.expect("a frame").expect("room again");
    // A body that is not buffered is not charged.
    let whole = Body::from(vec![7; 2 * BODY_POOL_BYTES]);
    let mut streamed = RequestBody::new(whole, sender(), Buffering::None);
    streamed.frame().await.expect("a frame").expect("a piece");
    assert_eq!(pool.free(), BODY_POOL_BYTES - KIB);
}

/// The beginning of a message of some bytes.
fn half(bytes: usize) -> Body {
    let size = u32::try_from(bytes).expect("a size").to_be_bytes();
    Body::from([&[0], &size[..], &[7; KIB]].concat())
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_for_room() {
    let pool = pool();
    let begin =
        |bytes| RequestBody::new(half(bytes), sender(), Buffering::PerMessage(pool.clone()));
    let fit = (BODY_POOL_BYTES - BODY_POOL_BYTES / BUDGET_RESERVE) / MESSAGE_BYTES_MAX;
    let mut others: Vec<_> = (0..fit).map(|_| begin(MESSAGE_BYTES_MAX)).collect();
    for other in &mut others {
        other.frame().await.expect("a frame").expect("room for it");
    }
    let mut late = begin(2 * KIB);
    assert!(late.frame().now_or_never().is_none() && !late.is_end_stream());
    others.pop();
    let frame = late.frame().await.expect("a frame").expect("room again");
    assert_eq!(frame.into_data().expect("data").len(), 5 + KIB);
    assert!(late.is_end_stream());
    assert_eq!(status::kind(&status_of(&mut begin(MESSAGE_BYTES_MAX)).await), Kind::Busy);
    // A message that the decoder will refuse is not charged.
    begin(MESSAGE_BYTES_MAX + 1).frame().await.expect("a frame").expect("handed on");
}

/// Sends the pieces of a body, and returns after each how many bytes of the pool are taken.
struct Pieces {
    pool: Budget,
    bytes: mpsc::Sender<std::io::Result<Bytes>>,
    body: RequestBody,
}

impl Pieces {
    fn new() -> Self {
        let pool = pool();
        let (bytes, body) = open(sender(), Buffering::PerMessage(pool.clone()));
        Self { pool, bytes, body }
    }

    async fn send(&mut self, bytes: &[u8]) -> usize {
        self.bytes.send(Ok(Bytes::copy_from_slice(bytes))).await.expect("sent");
        self.body.frame().await.expect("a frame").expect("a piece");
        BODY_POOL_BYTES - self.pool.free()
    }
}

#[tokio::test]
async fn a_compressed_message_has_the_room_of_the_largest_until_it_is_used() {
    let mut pieces = Pieces::new();
    // A message in one piece, a message in several pieces, an uncompressed one, an empty one.
    assert_eq!(pieces.send(&[1, 0, 0, 0, 1, 7]).await, MESSAGE_BYTES_MAX);
    assert_eq!(pieces.send(&[1, 0, 0]).await, 0);
    assert_eq!(pieces.send(&[0, 2, 7]).await, MESSAGE_BYTES_MAX);
    assert_eq!(pieces.send(&[7]).await, MESSAGE_BYTES_MAX);
    assert_eq!(pieces.send(&[0, 0, 0, 0, 1, 7]).await, 1);
    assert_eq!(pieces.send(&[1, 0, 0, 0, 0]).await, 0);
}

#[tokio::test]
async fn the_room_of_a_message_is_given_back_when_it_is_used() {
    let mut pieces = Pieces::new();
    let size = 128 * KIB;
    assert_eq!(pieces.send(&[0]).await, 0);
    assert_eq!(pieces.send(&u32::try_from(size).expect("a size").to_be_bytes()).await, size);
    assert_eq!(pieces.send(&vec![7; size / 2]).await, size);
    // The handler processes it now; its permit is released when the next message is requested.
    assert_eq!(pieces.send(&vec![7; size / 2]).await, size);
    assert_eq!(pieces.send(&[0, 0, 0]).await, 0);
    // The next message begins in the frame in which this one ends.
    assert_eq!(pieces.send(&[0, 1, 7, 0]).await, 1);
    let Pieces { bytes, mut body, .. } = pieces;
    drop(bytes);
    let rest = body.frame().await.expect("a frame").expect("a piece");
    assert_eq!(rest.into_data().expect("data"), [0][..]);
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_others_wait_for_fails_while_it_stands_still() {
    let pool = pool();
    let calls = Budget::new("calls", 8);
    let permits: Vec<_> = (0..7).map(|_| calls.try_acquire(peer(1), 1).expect("room")).collect();
    let of_call = Sender { peer: peer(1), call: Some(permits[0].hold().clone()), stall: MINUTE };
    let (_bytes, mut waits) = open(of_call, Buffering::None);
    assert!(waits.frame().now_or_never().is_none());
    let of_bytes = Sender { peer: peer(1), ..sender() };
    let (mut bytes, mut kept) = open(of_bytes, Buffering::Full(pool.clone()));
    let most = BODY_POOL_BYTES - BODY_POOL_BYTES / BUDGET_RESERVE;
    bytes.send(Ok(vec![7; most].into())).await.expect("sent");
    kept.frame().await.expect("a frame").expect("room for it");
    assert!(kept.frame().now_or_never().is_none());
    tokio::time::advance(BUDGET_STALL).await;
    let _call = calls.try_acquire(peer(2), 1).expect("of the reserve");
    let _bytes = pool.try_acquire(peer(2), 1).expect("of the reserve");
    for (body, what) in [(&mut waits, "too many calls"), (&mut kept, "too many bytes of tests")] {
        let found = status_of(body).await;
        assert_eq!(status::kind(&found), Kind::Busy);
        assert!(found.message().contains(what), "{found}");
    }
}
