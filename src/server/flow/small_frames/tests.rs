//! Frames as clients send them, whole and cut anywhere.

use std::time::Duration;

use futures::{StreamExt, join, stream};
use http_body_util::{BodyExt, StreamBody};

use super::*;

/// The bytes of a frame with a payload.
fn frame_of(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn unread(reader: &FrameCounter) -> usize {
    reader.unread.lock().frames
}

#[test]
fn small_frames_are_counted_wherever_the_bytes_are_cut() {
    let padded = |data: usize, padding: u8| {
        [&[padding][..], &vec![1; data], &vec![0; usize::from(padding)]].concat()
    };
    let bytes = [
        PREFACE.to_vec(),
        frame_of(4, 0, &[0; 6]),
        frame_of(1, 4, &[0; 30]),
        frame_of(DATA, 0, b"x"),
        frame_of(DATA, 0, &vec![0; SMALL_FRAME_BYTES - 1]),
        frame_of(DATA, PADDED, &padded(1, 255)),
        // Four that do not count.
        frame_of(DATA, 0, &vec![0; SMALL_FRAME_BYTES]),
        frame_of(DATA, 1, b""),
        frame_of(DATA, PADDED, &padded(SMALL_FRAME_BYTES, 9)),
        frame_of(DATA, PADDED, &padded(0, 200)),
        frame_of(DATA, 1, b"end"),
    ]
    .concat();
    for size in [1, 2, 3, 9, 10, 11, 100, bytes.len()] {
        let mut reader = FrameCounter::default();
        bytes.chunks(size).for_each(|piece| reader.follow(piece));
        assert_eq!(unread(&reader), 4, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_begins_has_frames_of_its_own() {
    let mut reader = FrameCounter::default();
    let (unread, begun) = (reader.unread(), Instant::now());
    unread.arrived(SMALL_FRAMES_PER_CONNECTION);
    let mut request = Request::new(axum::body::Body::empty());
    *request.version_mut() = Version::HTTP_2;
    let (free, _body) = join!(room(&mut reader), async { unread.count(request) });
    assert_eq!((free, begun.elapsed()), (SMALL_FRAMES_PER_BODY, Duration::ZERO), "woken");
}

#[test]
fn long_trailers_end_the_connection() {
    let long = |second: (u32, u8, usize)| {
        let mut reader = FrameCounter::default();
        reader.follow(PREFACE);
        for (stream, flags, size) in [(1, END_HEADERS, 5000), (3, 0, 5000), second] {
            let mut bytes = frame_of(HEADERS, flags, &vec![0x82; size]);
            bytes[5..HEAD_BYTES].copy_from_slice(&stream.to_be_bytes());
            reader.follow(&bytes);
        }
        reader.has_long_trailers()
    };
    assert!(!long((5, END_HEADERS, 5000)), "a head");
    assert!(!long((1, END_HEADERS, TRAILER_BYTES_MAX)));
    assert!(long((1, END_HEADERS, TRAILER_BYTES_MAX + 1)));
    assert!(long((3, 0, 1)), "they go on");
}

#[tokio::test(start_paused = true)]
async fn other_connections_are_read_as_they_come() {
    let mut reader = FrameCounter::default();
    reader.follow(b"PUT /ImageStore/a HTTP/1.1\r\n\r\n");
    reader.follow(&frame_of(DATA, 0, b"x").repeat(1000));
    assert_eq!(unread(&reader), 0);
    assert_eq!(room(&mut reader).await, usize::MAX / FRAME_BYTES_MIN);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_read_on_when_its_frames_are_read_or_forgotten() {
    let mut reader = FrameCounter::default();
    let unread = reader.unread();
    let most = SMALL_FRAMES_PER_CONNECTION + SMALL_FRAMES_PER_BODY;
    let piece = || Ok::<_, axum::Error>(Frame::data(Bytes::from_static(b"x")));
    let request = |version| {
        let body =
            StreamBody::new(stream::iter((0..most).map(move |_| piece())).chain(stream::pending()));
        let mut request = Request::new(body);
        *request.version_mut() = version;
        unread.count(request).into_body()
    };
    let _other = request(Version::HTTP_11);
    let mut body = request(Version::HTTP_2);
    reader.follow(PREFACE);
    assert_eq!(room(&mut reader).await, most);
    let begun = Instant::now();
    unread.arrived(most);
    let (free, ()) = join!(room(&mut reader), async {
        body.frame().await.expect("a frame").expect("no error");
    });
    assert_eq!((free, begun.elapsed()), (1, Duration::ZERO), "woken");
    // The unread frames of a body count as read when the body is dropped.
    unread.arrived(1);
    let (free, ()) = join!(room(&mut reader), async { drop(body) });
    let expected = SMALL_FRAMES_PER_CONNECTION - 1;
    assert_eq!((free, begun.elapsed()), (expected, Duration::ZERO), "woken");
    // A frame that arrives for the dropped body is discounted after a while.
    unread.arrived(expected);
    assert_eq!((room(&mut reader).await, begun.elapsed()), (1, SMALL_FRAME_FORGET));
}

/// How many small frames may arrive.
async fn room(reader: &mut FrameCounter) -> usize {
    std::future::poll_fn(|cx| reader.poll_room(cx)).await / FRAME_BYTES_MIN
}
