//! Many concurrent callers on the same few paths, some of which cancel their calls.
//!
//! Every read returns a whole content; and when all callers have ended, the tables keep their invariants and
//! nothing is left over.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use imagestore::{
    error::{Error, Kind, Result},
    model::{ChunkRange, CopyRequest, IfExists, SessionId},
    store::Call,
};
use object_store::memory::InMemory;

use crate::{
    audit,
    dice::{Dice, is_long, seed},
    harness::{Fixture, copy, copy_without, path, until},
    machine::send_chunk,
    step::contents,
};

const CALLERS: u64 = 12;
const CALLS: u32 = 150;
const CALLS_LONG: u32 = 10_000;

/// A random path of few names, so that the callers' paths collide.
pub(crate) fn some_path(dice: &mut Dice, depth: usize) -> String {
    let names = ["a", "b", "c", "x"];
    let depth = 1 + dice.roll(depth);
    (0..depth).map(|_| names[dice.roll(names.len())]).collect::<Vec<_>>().join("/")
}

/// A random content; the large one is rare.
pub(crate) fn some_content(dice: &mut Dice) -> Bytes {
    let large = contents().len() - 1;
    let content = if dice.roll(500) == 0 { large } else { dice.roll(large) };
    contents()[content].clone()
}

fn session(number: usize) -> SessionId {
    SessionId::parse(&format!("00000000-0000-4000-8000-{number:012}")).unwrap()
}

/// Makes one random call. [`is_expected`] accepts the errors that concurrent callers cause.
async fn act(fixture: &Fixture, dice: &mut Dice) -> Result<()> {
    match dice.roll(100) {
        0..30 => {
            let (at, bytes) = (some_path(dice, 4), some_content(dice));
            fixture.upload(&at, bytes).await.map(drop)
        }
        30..55 => {
            let (from, to) = (some_path(dice, 3), some_path(dice, 3));
            let mut request: CopyRequest = match dice.roll(3) {
                0 => copy_without(&from, &to, &["x"]),
                _ => copy(&from, &to),
            };
            request.verify = dice.roll(5) == 0;
            if dice.roll(5) == 0 {
                request.if_exists = IfExists::Keep;
            }
            if dice.roll(2) == 0 {
                // The same request is sent twice concurrently.
                let twice = tokio::join!(fixture.copy(request.clone()), fixture.copy(request));
                return twice.0.and(twice.1).map(drop);
            }
            fixture.copy(request).await.map(drop)
        }
        55..65 => fixture.delete(&some_path(dice, 3)).await,
        65..80 => {
            let at = some_path(dice, 3);
            let found = fixture.read(&at).await?;
            let is_whole = contents().iter().any(|content| *content == found);
            assert!(is_whole, "{} bytes of \"{at}\" that nobody uploaded", found.len());
            Ok(())
        }
        80..88 => {
            let number = dice.roll(3);
            let bytes = &contents()[4 + number % 3];
            let half = bytes.len() / 2;
            let (start, end) = if dice.roll(2) == 0 { (0, half) } else { (half, bytes.len()) };
            let chunk = ChunkRange::new(start as u64, (end - start) as u64, bytes.len() as u64)?;
            let at = format!("a/{number}");
            send_chunk(fixture, session(number), &at, chunk, bytes.slice(start..end)).await
        }
        88..92 => {
            let id = session(dice.roll(3));
            fixture.store.commit_session(id, &Call::system()).await.map(drop)
        }
        92..94 => {
            let id = session(dice.roll(3));
            fixture.store.delete_session(id, &Call::system()).await
        }
        94..98 => fixture.list(&some_path(dice, 2), 2).await.map(drop),
        98 => fixture.store.sweep().await,
        _ => fixture.store.reclaim().await,
    }
}

/// Whether concurrent callers can cause an error.
fn is_expected(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::AlreadyExists
            | Kind::BadRange
            | Kind::Busy
            | Kind::FileNotFound
            | Kind::InvalidArgument
            | Kind::PathNotFound
            | Kind::SessionConflict
            | Kind::SessionNotFound
    )
}

async fn caller(fixture: Arc<Fixture>, seed: u64, calls: u32) {
    let mut dice = Dice(seed);
    for _ in 0..calls {
        // Some calls are cancelled at once, some a little later, most not at all.
        let patience = match dice.roll(6) {
            0 => Duration::from_micros(dice.roll(300) as u64),
            1 => Duration::from_micros(dice.roll(5_000) as u64),
            _ => Duration::MAX,
        };
        match tokio::time::timeout(patience, act(&fixture, &mut dice)).await {
            Ok(Err(error)) if !is_expected(&error) => panic!("{error:?}"),
            Ok(_) | Err(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_at_once_see_whole_files_and_leave_nothing() {
    let (seed, calls) = (seed(), if is_long() { CALLS_LONG } else { CALLS });
    println!("TEST_SEED={seed}");
    // A grace that outlasts every read of this test.
    let memory = Arc::new(InMemory::new());
    let grace = Duration::from_secs(2);
    let fixture =
        Fixture::with(|config| config.reclaim_grace = grace, Arc::<InMemory>::clone(&memory));
    let fixture = Arc::new(fixture.await);
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| tokio::spawn(caller(Arc::clone(&fixture), seed.wrapping_add(number), calls)))
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let running = "SELECT (SELECT COUNT(*) FROM operation WHERE state = 1)
                   + (SELECT COUNT(*) FROM pin)";
    until("all work has ended", async || fixture.tables.number(running) == 0).await;
    audit::check(&fixture, &memory).await;
    for file in fixture.files("").await {
        let found = fixture.read(&file).await.unwrap();
        assert!(contents().iter().any(|content| *content == found), "{file}");
    }
    for number in 0..3 {
        let delete = fixture.store.delete_session(session(number), &Call::system()).await;
        assert!(delete.is_ok() || delete.unwrap_err().kind() == Kind::SessionNotFound);
    }
    let root = fixture.store.stat(&path(""), &Call::system()).await.unwrap().entry.totals;
    assert_eq!(root.files, fixture.files("").await.len() as i64);
    fixture.empty().await;
    assert_eq!(fixture.object_keys().await, [""; 0]);
}
