//! Frames as clients send them, whole and cut anywhere.

use std::time::Duration;

use futures::{FutureExt, StreamExt, join, stream};
use http_body_util::{BodyExt, StreamBody};

use super::*;

/// The bytes of a frame with a payload.
fn frame_of(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn pool() -> Budget {
    Budget::new("tests", 8 * UNREAD_STEP_BYTES)
}

/// The parser of a connection of one peer.
fn counter(budget: &Budget) -> FrameCounter {
    FrameCounter::new(UnreadFrames::new(budget.clone(), Peer::default()))
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
        let mut reader = counter(&pool());
        bytes.chunks(size).for_each(|piece| reader.follow(piece));
        assert_eq!(unread(&reader), 4, "{size}");
    }
}

#[test]
fn long_trailers_end_the_connection() {
    let long = |second: (u32, u8, usize)| {
        let mut reader = counter(&pool());
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
    let mut reader = counter(&pool());
    reader.follow(b"PUT /ImageStore/a HTTP/1.1\r\n\r\n");
    reader.follow(&frame_of(DATA, 0, b"x").repeat(1000));
    assert_eq!(unread(&reader), 0);
    assert_eq!(room(&mut reader).await, usize::MAX);
}

/// A body of frames of a byte, which does not end.
fn body(
    unread: &UnreadFrames,
    version: Version,
) -> impl Body<Data = Bytes, Error = axum::Error> + Unpin {
    let piece = |_| Ok(Frame::data(Bytes::from_static(b"x")));
    let body = StreamBody::new(stream::iter((0..10_000).map(piece)).chain(stream::pending()));
    let mut request = Request::new(body);
    *request.version_mut() = version;
    unread.count(request).into_body()
}

/// Receives as many frames of a byte, with so many bytes of other frames before each, as there is room for. Returns
/// how many that were.
fn fill(reader: &mut FrameCounter, filler: usize) -> usize {
    let frame = [frame_of(0xee, 0, &vec![0; filler]), frame_of(DATA, 0, b"x")].concat();
    let before = unread(reader);
    'full: loop {
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let Some(room) = room(reader).now_or_never() else { break 'full };
            let (some, later) = rest.split_at(room.min(rest.len()));
            reader.follow(some);
            rest = later;
        }
    }
    unread(reader) - before
}

#[tokio::test(start_paused = true)]
async fn what_the_frames_of_all_connections_take_is_bounded() {
    for filler in [0, 100, FRAME_BUFFER_BYTES / 2] {
        let pool = pool();
        let mut readers: Vec<FrameCounter> = (0..10).map(|_| counter(&pool)).collect();
        let mut kept = 0;
        for reader in &mut readers {
            reader.follow(PREFACE);
            let frames = fill(reader, filler);
            assert!(frames > 0, "{filler}");
            let buffer = BUFFER_PER_RECEIVED * (filler + 2 * HEAD_BYTES + 1);
            kept += frames * (FRAME_OVERHEAD_BYTES + buffer.min(FRAME_BUFFER_BYTES));
        }
        let most = 10 * (UNREAD_FREE_BYTES + 2 * FRAME_BUFFER_BYTES) + 8 * UNREAD_STEP_BYTES;
        assert!(kept <= most && kept > most / 3, "{filler}: {kept} of {most}");
        // One peer takes seven eighths of the pool.
        assert_eq!(pool.free(), UNREAD_STEP_BYTES, "{filler}");
        drop(readers);
        assert_eq!(pool.free(), 8 * UNREAD_STEP_BYTES);
    }
}

#[tokio::test(start_paused = true)]
async fn the_list_of_frames_is_charged_until_the_connection_ends() {
    let pool = pool();
    let mut first = counter(&pool);
    let unread_frames = first.unread.clone();
    let body = body(&unread_frames, Version::HTTP_2);
    first.follow(PREFACE);
    let frames = fill(&mut first, 0);
    drop(body);
    assert_eq!(unread(&first), 0);
    let held = 8 * UNREAD_STEP_BYTES - pool.free();
    assert_eq!(held, frames * FRAME_OVERHEAD_BYTES - LIST_FREE_BYTES);
    // Another connection takes the rest. Both are read on.
    let mut second = counter(&pool);
    second.follow(PREFACE);
    assert!(fill(&mut second, 0) > 0);
    assert!(fill(&mut first, 0) > 0);
    drop((first, second, unread_frames));
    assert_eq!(pool.free(), 8 * UNREAD_STEP_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_read_on_when_its_frames_are_read_or_forgotten() {
    let pool = Budget::new("tests", 1);
    let mut reader = counter(&pool);
    let unread = reader.unread.clone();
    let _other = body(&unread, Version::HTTP_11);
    let mut body = body(&unread, Version::HTTP_2);
    reader.follow(PREFACE);
    let frames = fill(&mut reader, 0);
    assert!(frames >= LIST_FREE_BYTES / FRAME_OVERHEAD_BYTES * 3 / 4, "{frames}");
    let begun = Instant::now();
    let (more, ()) = join!(room(&mut reader), async {
        body.frame().await.expect("a frame").expect("no error");
    });
    assert!(more >= FRAME_BYTES_MIN, "{more}");
    fill(&mut reader, 0);
    // The unread frames of a body count as read when the body is dropped.
    let (_, ()) = join!(room(&mut reader), async { drop(body) });
    assert_eq!((self::unread(&reader), begun.elapsed()), (0, Duration::ZERO), "woken");
    // Frames that arrive for the dropped body are no longer counted after a while.
    fill(&mut reader, 0);
    room(&mut reader).await;
    assert_eq!((self::unread(&reader), begun.elapsed()), (0, SMALL_FRAME_FORGET));
}

#[tokio::test(start_paused = true)]
async fn frames_of_a_body_count_as_long_as_it_lives() {
    let pool = Budget::new("tests", 1);
    let mut reader = counter(&pool);
    let unread = reader.unread.clone();
    let _body = body(&unread, Version::HTTP_2);
    reader.follow(PREFACE);
    let frames = fill(&mut reader, FRAME_BUFFER_BYTES / 2);
    for _ in 0..10 {
        sleep(2 * SMALL_FRAME_FORGET).await;
        assert!(room(&mut reader).now_or_never().is_none());
        assert_eq!(self::unread(&reader), frames);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_before_their_body_count() {
    let mut reader = counter(&pool());
    reader.follow(PREFACE);
    sleep(10 * SMALL_FRAME_FORGET).await;
    // The library reads on before it hands over the request.
    for frames in 1..=10 {
        reader.follow(&frame_of(DATA, 0, b"x"));
        room(&mut reader).await;
        assert_eq!(unread(&reader), frames);
    }
}

/// How many bytes may be received.
async fn room(reader: &mut FrameCounter) -> usize {
    std::future::poll_fn(|cx| reader.poll_room(cx)).await
}
