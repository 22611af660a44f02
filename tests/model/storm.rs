//! Random histories while the blob store fails at random: a call either does what the plain store expects, or
//! fails with a clear error and changes nothing. After the faults, both stores are the same.

use bytes::Bytes;
use imagestore::{
    error::{Error, Kind, Result},
    limits::INLINE_BYTES_MAX,
    model::{ChunkRange, CopyRequest, EntryKind, IfExists, SessionId},
    store::Call,
};

use crate::{
    audit,
    concurrent::{some_content, some_path},
    dice::{Dice, is_long, seed},
    faults::{assert_clean, assert_clear, faulty_store},
    faulty::{Asked, Fault, Faulty, stop_clock},
    harness::{Fixture, copy, copy_without, digest},
    machine::send_chunk,
    plain::{File, Plain},
};

const HISTORIES: u64 = 8;
const HISTORIES_LONG: u64 = 400;
const STEPS: usize = 150;
/// One blob store call in this many fails.
const RARITY: usize = 4;

/// The random fault of a blob store call, if any.
fn fault(dice: &mut Dice, asked: Asked) -> Option<Fault> {
    if dice.roll(RARITY) > 0 {
        return None;
    }
    let faults: &[Fault] = match asked {
        Asked::Put => &[Fault::Fail, Fault::Tear, Fault::Lie, Fault::Full, Fault::Stall],
        Asked::Get => &[Fault::Fail, Fault::Flip, Fault::Stall],
        Asked::Delete => &[Fault::Fail, Fault::Lie, Fault::Stall],
        Asked::List => &[Fault::Fail],
    };
    faults.get(dice.roll(faults.len())).cloned()
}

/// Checks that an error can come from a fault.
fn assert_fault(error: &Error, at: &str) {
    let faults = [Kind::Internal, Kind::Corrupt, Kind::NoSpace, Kind::Busy];
    assert!(faults.contains(&error.kind()), "{error:?}");
    assert_clear(error, error.kind(), at);
}

struct Storm<'a> {
    fixture: &'a mut Fixture,
    plain: Plain,
    dice: Dice,
    /// The number of calls that succeeded; `failed` counts the others.
    done: usize,
    failed: usize,
}

impl Storm<'_> {
    async fn step(&mut self) {
        match self.dice.roll(100) {
            0..35 => self.upload().await,
            35..47 => self.chunks().await,
            47..65 => self.copy().await,
            65..72 => {
                let at = some_path(&mut self.dice, 3);
                self.fixture.delete(&at).await.unwrap();
                self.plain.remove(&at);
            }
            72..90 => {
                let at = self.any_path();
                self.read(&at).await;
            }
            90..97 => {
                let reclaimed = self.fixture.store.reclaim().await;
                self.judge(reclaimed, "");
            }
            97..99 => {
                let swept = self.fixture.store.sweep().await;
                self.judge(swept, "");
            }
            _ => self.fixture.restart().await,
        }
        self.compare();
    }

    /// Counts a result; an error must come from a fault.
    fn judge<T>(&mut self, result: Result<T>, at: &str) -> Option<T> {
        match result {
            Ok(value) => {
                self.done += 1;
                Some(value)
            }
            Err(error) => {
                assert_fault(&error, at);
                self.failed += 1;
                None
            }
        }
    }

    /// Adds an acknowledged file to the plain store.
    fn put(&mut self, at: String, bytes: Bytes, kind: &EntryKind) {
        let EntryKind::File { version, modified } = *kind else { panic!("{at} is a folder") };
        let digest = digest(&bytes);
        self.plain.files.insert(at, File { bytes, digest, version: version.number, modified });
    }

    /// Random bytes, mostly of an object, from a few dozen contents, so that some are stored already.
    fn content(&mut self) -> Bytes {
        let mut bytes = some_content(&mut self.dice).to_vec();
        if bytes.len() < INLINE_BYTES_MAX {
            bytes = vec![1; 2 * INLINE_BYTES_MAX];
        }
        bytes[0] = u8::try_from(self.dice.roll(12)).unwrap();
        bytes.into()
    }

    /// The path of a file or of a folder above one, or a random path.
    fn any_path(&mut self) -> String {
        let number = self.dice.roll(2 * self.plain.files.len() + 1);
        let Some(file) = self.plain.files.keys().nth(number).cloned() else {
            return some_path(&mut self.dice, 2);
        };
        match file.rsplit_once('/') {
            Some((folder, _)) if self.dice.roll(2) == 0 => folder.to_owned(),
            _ => file,
        }
    }

    async fn upload(&mut self) {
        let (at, bytes) = (some_path(&mut self.dice, 3), self.content());
        let result = self.fixture.upload(&at, bytes.clone()).await;
        if let Err(kind) = self.plain.check_put(&at) {
            assert_eq!(result.unwrap_err().kind(), kind, "upload of {at}");
        } else if let Some(stat) = self.judge(result, &at) {
            self.put(at, bytes, &stat.entry.kind);
        }
    }

    /// Sends a file in two chunks and commits it; a session that is not complete is deleted.
    async fn chunks(&mut self) {
        let at = some_path(&mut self.dice, 3);
        if self.plain.check_put(&at).is_err() {
            return;
        }
        let bytes = self.content();
        let id = SessionId::parse(&uuid::Uuid::new_v4().to_string()).unwrap();
        let (total, half) = (bytes.len(), bytes.len() / 2);
        let (mut is_begun, mut is_complete) = (false, true);
        for (start, end) in [(0, half), (half, total)] {
            let range = ChunkRange::new(start as u64, (end - start) as u64, total as u64).unwrap();
            let sent = send_chunk(self.fixture, id, &at, range, bytes.slice(start..end)).await;
            let is_stored = self.judge(sent, &at).is_some();
            is_begun |= is_stored;
            is_complete &= is_stored;
        }
        if is_complete {
            let entry = self.fixture.store.commit_session(id, &Call::system()).await.unwrap();
            self.put(at, bytes, &entry.unwrap().kind);
            return;
        }
        // If no chunk was stored, there is no session.
        let deleted = self.fixture.store.delete_session(id, &Call::system()).await;
        assert!(deleted.is_ok() || !is_begun, "{at} has no session");
    }

    async fn copy(&mut self) {
        let (from, to) = (self.any_path(), some_path(&mut self.dice, 3));
        let mut request: CopyRequest = match self.dice.roll(3) {
            0 => copy_without(&from, &to, &["x"]),
            _ => copy(&from, &to),
        };
        request.verify = self.dice.roll(2) == 0;
        if self.dice.roll(5) == 0 {
            request.if_exists = IfExists::Keep;
        }
        let mut after = self.plain.clone();
        let expected = after.copy(&request);
        let result = self.fixture.copy(request.clone()).await;
        match expected {
            Err((kind, _)) => assert_eq!(result.unwrap_err().kind(), kind, "{request:?}"),
            Ok(_) if request.verify => {
                if self.judge(result, "").is_some() {
                    self.plain = after;
                }
            }
            Ok(_) => {
                result.expect("a copy that reads nothing");
                self.plain = after;
            }
        }
    }

    async fn read(&mut self, at: &str) {
        let result = self.fixture.read(at).await;
        let Some(file) = self.plain.files.get(at) else {
            assert_eq!(result.unwrap_err().kind(), Kind::FileNotFound, "{at}");
            return;
        };
        let bytes = file.bytes.clone();
        if let Some(found) = self.judge(result, at) {
            assert!(found == bytes, "{at} has other bytes");
        }
    }

    /// Compares the whole trees of both stores.
    fn compare(&self) {
        let expected = self.plain.tree();
        let mut found = audit::tree(&self.fixture.tables);
        for (path, entry) in &mut found {
            // The digest of a chunked upload is computed later, in the background.
            if entry.digest.is_none() {
                entry.digest = expected.get(path).and_then(|expected| expected.digest);
            }
        }
        assert_eq!(found, expected, "the tree");
    }
}

/// Runs one history from its seed with faults, then checks the store without faults. Returns how many calls
/// succeeded and failed.
async fn history(fixture: &mut Fixture, faulty: &Faulty, seed: u64) -> (usize, usize) {
    let mut chance = Dice(!seed);
    faulty.schedule(move |asked| fault(&mut chance, asked));
    let (plain, dice) = (Plain::default(), Dice(seed));
    let mut storm = Storm { fixture, plain, dice, done: 0, failed: 0 };
    for _ in 0..STEPS {
        faulty.run(storm.step()).await;
    }
    faulty.stop();
    for (at, file) in &storm.plain.files {
        assert!(storm.fixture.read(at).await.unwrap() == file.bytes, "{at} has other bytes");
    }
    assert_clean(storm.fixture, faulty).await;
    storm.compare();
    storm.fixture.empty().await;
    assert_eq!(storm.fixture.object_keys().await, [""; 0]);
    (storm.done, storm.failed)
}

#[tokio::test]
async fn random_histories_with_faults_end_as_in_a_plain_map() {
    let _clock = stop_clock();
    let first = seed();
    let (mut done, mut failed) = (0, 0);
    for number in 0..if is_long() { HISTORIES_LONG } else { HISTORIES } {
        let seed = first.wrapping_add(number);
        println!("TEST_SEED={seed}");
        let (mut fixture, faulty) = faulty_store().await;
        let calls = history(&mut fixture, &faulty, seed).await;
        fixture.store.close().await;
        (done, failed) = (done + calls.0, failed + calls.1);
    }
    println!("{done} calls did what they should and {failed} failed");
    assert!(done > failed && failed > 0, "{done} calls succeeded and {failed} failed");
}
