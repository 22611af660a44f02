//! An undamaged store has no findings while many clients write to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use imagestore::{
    error::{Kind, Result},
    model::{CheckRequest, SessionId},
    store::{Call, Store},
};

use crate::dice::{self, Dice};
use crate::harness::{Folder, check, chunk, copy, noise, path, put};

const WRITERS: u64 = 8;
/// Successful writes of all writers together before the test ends.
const WRITES: u64 = 3_000;
/// The same number with `TEST_LONG=1`.
const WRITES_LONG: u64 = 100_000;

async fn one(store: &Store, dice: &mut Dice) -> Result<()> {
    let folder = |dice: &mut Dice| format!("top/{}", dice.roll(5));
    let (from, to) = (folder(dice), folder(dice));
    let file = format!("{from}/{}/{}", dice.roll(3), dice.roll(20));
    match dice.roll(10) {
        0..4 => {
            let size = [0, 100, 20_000, 400_000][dice.roll(4)];
            put(store, &file, &noise(&dice.roll(30).to_string(), size)).await
        }
        4 => copy(store, &from, &to, &[]).await,
        5..7 => copy(store, &from, &format!("{to}/3"), &["1", "2", "3"]).await,
        7 => store.delete(&path(&from), &Call::system()).await.map(drop),
        8 => store.delete(&path(&file), &Call::system()).await.map(drop),
        _ => {
            let session = uuid::Uuid::new_v4().to_string();
            chunk(store, &session, &file, (20_000, 20_000, 40_000)).await?;
            chunk(store, &session, &file, (0, 20_000, 40_000)).await?;
            let id = SessionId::parse(&session)?;
            match dice.roll(3) {
                0 => store.delete_session(id, &Call::system()).await,
                1 => Ok(()),
                _ => store.commit_session(id, &Call::system()).await.map(drop),
            }
        }
    }
}

async fn write(store: Store, left: Arc<AtomicU64>, mut dice: Dice) {
    while left.load(Ordering::Relaxed) > 0 {
        match one(&store, &mut dice).await.map_err(|error| error.kind()) {
            Ok(()) => drop(
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)),
            ),
            Err(Kind::FileNotFound | Kind::AlreadyExists | Kind::InvalidArgument | Kind::Busy) => {}
            Err(kind) => panic!("{kind:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_gives_no_finding() {
    let folder = Folder::new();
    let store = folder.open(Duration::ZERO).await;
    let seed = dice::seed();
    println!("TEST_SEED={seed}");
    let writes = if dice::is_long() { WRITES_LONG } else { WRITES };
    let left = Arc::new(AtomicU64::new(writes));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let dice = Dice(seed.wrapping_add(number));
            tokio::spawn(write(store.clone(), Arc::clone(&left), dice))
        })
        .collect();
    let mut number = 0;
    while left.load(Ordering::Relaxed) > 0 {
        number += 1;
        let request = CheckRequest { deep: number % 3 == 1, repair: number % 3 == 2 };
        let report = check(&store, request).await;
        assert_eq!(report.findings, [], "seed {seed}, {request:?}");
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(check(&store, CheckRequest { deep: true, repair: false }).await.findings, []);
    store.close().await;
}
