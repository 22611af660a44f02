//! Tests of long lists of parts, and of how much one job writes.

use bytes::Bytes;

use super::*;
use crate::{
    limits::{BACKUP_PAGE_ROWS, RESTORE_STEP_ROWS, UPLOAD_PARTS_MAX},
    model::{FileVersion, Replaces},
    namespace::{
        Database,
        content::{NewFile, put_file},
        metered::{Counts, Metered},
        sql::Mode,
    },
};

/// A restore into a store of its own.
struct Fixture {
    store: Metered,
    build: Build,
    most: Counts,
    _dir: tempfile::TempDir,
}

impl Fixture {
    /// A restore with two parts: the first of one byte, the second of two bytes.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(dir.path().join("namespace.sqlite"));
        let store = Metered::new(database.connect(Mode::Write).unwrap());
        let version = FileVersion { epoch_data_loss: 1, epoch_configuration: 1, number: 1 };
        let taken = Taken { at: 0, version, totals: Totals::default() };
        let build = Build::new(Owner::new("test"), taken);
        let mut fixture = Self { store, build, most: Counts::default(), _dir: dir };
        for part in parts() {
            fixture.add(&Step::Part(part)).unwrap();
        }
        fixture
    }

    /// Adds a step in a job of its own.
    fn add(&mut self, step: &Step) -> Result<()> {
        let build = &mut self.build;
        let (added, counts) = self.store.job(|tx| Ok(build.add(tx, step)));
        self.most.statements = self.most.statements.max(counts.statements);
        self.most.written = self.most.written.max(counts.written);
        self.most.rows_at_once = self.most.rows_at_once.max(counts.rows_at_once);
        added
    }

    /// Adds a list of `count` parts: the first part repeated, then the second part once.
    fn list(&mut self, count: usize) -> Result<()> {
        let mut numbers = vec![0; count - 1];
        numbers.push(1);
        for page in numbers.chunks(BACKUP_PAGE_ROWS) {
            self.add(&Step::Record(BackupRecord::List(page.to_vec())))?;
        }
        Ok(())
    }

    fn content(&mut self, size: usize) -> Result<()> {
        self.add(&Step::Record(BackupRecord::Content { digest: None, size: size as i64 }))
    }

    fn number(&mut self, sql: &'static str) -> i64 {
        self.store.job(|tx| tx.one(sql, &[])?.int(0)).0
    }
}

fn parts() -> [Part; 2] {
    ["a", "bb"].map(|bytes| {
        let bytes = Bytes::from(bytes);
        let (digest, size) = (Digest::of(&bytes), bytes.len() as i64);
        Part { digest, size, place: Place::Inline(bytes) }
    })
}

const MANY: usize = 10 * RESTORE_STEP_ROWS + 7;

#[test]
fn a_long_list_is_written_in_steps() {
    let mut fixture = Fixture::new();
    fixture.list(MANY).unwrap();
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content WHERE etag IS NOT NULL"), 0);
    fixture.content(MANY + 1).unwrap();
    let most = (RESTORE_STEP_ROWS + BACKUP_PAGE_ROWS) as u64;
    assert!(fixture.most.written <= most, "{:?}", fixture.most);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content_part"), MANY as i64);
    assert_eq!(fixture.number("SELECT size FROM content"), MANY as i64 + 1);
    // The pin of the content has replaced those of its parts.
    assert_eq!((fixture.number("SELECT COUNT(*) FROM pin"), fixture.build.pinned), (1, 1));
    // An upload of the same parts finds this content.
    let [one, last] = parts();
    let mut parts = vec![one; MANY - 1];
    parts.push(last);
    let path = StorePath::parse("a", "path").unwrap();
    let file = NewFile { path, replaces: Replaces::File, parts, digest: None };
    fixture.store.job(|tx| put_file(tx, &file));
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content"), 1);
}

#[test]
fn a_long_list_that_is_there_is_used() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        fixture.list(MANY).unwrap();
        fixture.content(MANY + 1).unwrap();
    }
    // Neither list was read into memory.
    assert!(fixture.most.rows_at_once <= 1, "{:?}", fixture.most);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content WHERE etag IS NOT NULL"), 1);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM garbage WHERE kind = 2"), 1);
    assert_eq!(fixture.build.contents[0].id, fixture.build.contents[1].id);
}

#[test]
fn a_long_list_that_is_there_is_healed_and_used() {
    let mut fixture = Fixture::new();
    fixture.list(MANY).unwrap();
    fixture.content(MANY + 1).unwrap();
    fixture.store.job(|tx| tx.execute("DELETE FROM content_part WHERE start = 5", &[]));
    fixture.list(MANY).unwrap();
    fixture.content(MANY + 1).unwrap();
    let sql = "SELECT COUNT(*) FROM content_part p JOIN content c ON c.id = p.content
               WHERE c.etag IS NOT NULL";
    assert_eq!(fixture.number(sql), MANY as i64);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM garbage WHERE kind = 2"), 1);
    assert_eq!(fixture.build.contents[0].id, fixture.build.contents[1].id);
}

#[test]
fn a_long_list_of_another_size_is_refused() {
    let mut fixture = Fixture::new();
    fixture.list(MANY).unwrap();
    let error = fixture.content(MANY).unwrap_err();
    assert!(error.message().contains("another size"), "{error:?}");
}

#[test]
fn a_list_is_bounded() {
    let mut fixture = Fixture::new();
    let error = fixture.list(UPLOAD_PARTS_MAX + RESTORE_STEP_ROWS).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.message().contains("more than 262144 parts"), "{error:?}");
}
