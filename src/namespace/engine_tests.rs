//! Tests of the batches of the writer: what the jobs of one share, and what is separate.

use std::sync::mpsc::{Sender, channel};

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::namespace::{
    sql::{Mode, Param, Row, params},
    sqlite::SqliteConnection,
};

const SOON: Duration = Duration::from_secs(20);
/// An insert of a number below 0 rolls back the whole transaction, as SQLite does by itself when a disk fails
/// or is full.
const TABLES: &str = "
CREATE TABLE number (value BIGINT NOT NULL);
CREATE TRIGGER undo BEFORE INSERT ON number WHEN new.value < 0
BEGIN SELECT RAISE(ROLLBACK, 'undone'); END;
";

/// What the tests observe and control of the writer's connection.
#[derive(Debug, Default)]
struct Watch {
    commits: AtomicUsize,
    fails_to_commit: AtomicBool,
}

/// A connection that counts its commits, and fails one on demand.
struct Watched(SqliteConnection, Arc<Watch>);

impl Connection for Watched {
    fn begin(&mut self, mode: Mode) -> Result<()> {
        self.0.begin(mode)
    }

    fn commit(&mut self) -> Result<()> {
        if self.1.fails_to_commit.swap(false, Ordering::SeqCst) {
            return Err(Error::new(Kind::NoSpace, "the disk is full"));
        }
        self.1.commits.fetch_add(1, Ordering::SeqCst);
        self.0.commit()
    }

    fn rollback(&mut self) {
        self.0.rollback();
    }

    fn in_transaction(&self) -> bool {
        self.0.in_transaction()
    }

    fn undone(&mut self) -> Error {
        self.0.undone()
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        self.0.execute(sql, params)
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.0.query(sql, params)
    }

    fn now(&mut self) -> Result<i64> {
        self.0.now()
    }

    fn disk_bytes(&mut self) -> Result<i64> {
        self.0.disk_bytes()
    }

    fn has_tables(&mut self) -> Result<bool> {
        self.0.has_tables()
    }

    fn make_tables(&mut self, tables: &str) -> Result<()> {
        self.0.make_tables(tables)
    }

    fn settle(&mut self) -> Result<()> {
        self.0.settle()
    }
}

/// An engine on a table of numbers.
struct Fixture {
    engine: Engine,
    watch: Arc<Watch>,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("numbers.sqlite");
        let open = |mode| SqliteConnection::open(&file, mode).unwrap();
        let mut writer = open(Mode::Write);
        writer.make_tables(TABLES).unwrap();
        let watch = Arc::new(Watch::default());
        let readers = vec![Box::new(open(Mode::Read)) as Box<dyn Connection>];
        let writer = Box::new(Watched(writer, Arc::clone(&watch)));
        let engine = Engine::start(writer, readers, None).unwrap();
        Self { engine, watch, _dir: dir }
    }

    /// Blocks the writer until the returned sender is dropped.
    async fn hold(&self) -> Sender<()> {
        let (go_on, wait) = channel::<()>();
        let (begun, began) = oneshot::channel();
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let job = move |_: &mut Tx<'_>| {
                begun.send(()).unwrap();
                wait.recv_timeout(SOON).ok();
                Ok(())
            };
            engine.write(None, job).await
        });
        began.await.unwrap();
        go_on
    }

    /// Queues a job and returns once the job waits, runs or has ended.
    async fn queue(
        &self,
        deadline: Option<Instant>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<i64> + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<i64>> {
        let (waiting, written) = (self.engine.waiting(), self.engine.written());
        let engine = self.engine.clone();
        let handle = tokio::spawn(async move { engine.write(deadline, job).await });
        let started = Instant::now();
        // A job that has begun no longer counts as waiting.
        while (self.engine.waiting(), self.engine.written()) == (waiting, written)
            && !handle.is_finished()
        {
            assert!(started.elapsed() < SOON);
            tokio::task::yield_now().await;
        }
        handle
    }

    async fn numbers(&self) -> Vec<i64> {
        let sql = "SELECT value FROM number ORDER BY value";
        let rows = self.engine.read(None, move |tx| tx.all(sql, &[])).await.unwrap();
        rows.iter().map(|row| row.int(0).unwrap()).collect()
    }

    fn commits(&self) -> usize {
        self.watch.commits.load(Ordering::SeqCst)
    }
}

fn insert(value: i64) -> impl FnOnce(&mut Tx<'_>) -> Result<i64> + Send + 'static {
    move |tx| {
        tx.execute("INSERT INTO number (value) VALUES ($1)", params![value])?;
        Ok(value)
    }
}

#[tokio::test]
async fn jobs_that_come_while_one_runs_share_its_commit() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let mut jobs = Vec::new();
    for value in 0..100 {
        jobs.push(fixture.queue(None, insert(value)).await);
    }
    assert!(fixture.engine.has_waiting_writers());
    assert_eq!(fixture.commits(), 0);
    drop(held);
    for (value, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await.unwrap().unwrap(), value as i64);
    }
    assert_eq!(fixture.commits(), 1, "one for them and for the job that held them up");
    assert_eq!(fixture.numbers().await, (0..100).collect::<Vec<_>>());
    assert!(!fixture.engine.has_waiting_writers());
}

#[tokio::test]
async fn a_job_that_fails_or_panics_is_undone_alone() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let first = fixture.queue(None, insert(1)).await;
    let fails = fixture
        .queue(None, |tx| {
            insert(2)(tx)?;
            Err(Error::new(Kind::Changed, "changed its mind"))
        })
        .await;
    let panics = fixture
        .queue(None, |tx| {
            insert(3)(tx)?;
            panic!("a job of a test panics")
        })
        .await;
    let wrong = fixture
        .queue(None, |tx| {
            insert(4)(tx)?;
            tx.one("SELECT nothing FROM nowhere", &[])?.int(0)
        })
        .await;
    let last = fixture.queue(None, insert(5)).await;
    drop(held);
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(fails.await.unwrap().unwrap_err().kind(), Kind::Changed);
    assert_eq!(panics.await.unwrap().unwrap_err().kind(), Kind::Internal);
    assert_eq!(wrong.await.unwrap().unwrap_err().kind(), Kind::Internal);
    assert_eq!(last.await.unwrap().unwrap(), 5);
    assert_eq!(fixture.numbers().await, [1, 5]);
    assert_eq!(fixture.commits(), 1);
}

#[tokio::test]
async fn if_the_commit_fails_all_its_jobs_fail_and_the_next_ones_do_not() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let watch = Arc::clone(&fixture.watch);
    let lost = fixture
        .queue(None, move |tx| {
            watch.fails_to_commit.store(true, Ordering::SeqCst);
            insert(4)(tx)
        })
        .await;
    let also_lost = fixture.queue(None, insert(5)).await;
    let own_error =
        fixture.queue(None, |_| Err(Error::new(Kind::Changed, "changed its mind"))).await;
    drop(held);
    assert_eq!(lost.await.unwrap().unwrap_err().kind(), Kind::NoSpace);
    assert_eq!(also_lost.await.unwrap().unwrap_err().kind(), Kind::NoSpace);
    assert_eq!(own_error.await.unwrap().unwrap_err().kind(), Kind::Changed);
    assert_eq!(fixture.engine.write(None, insert(6)).await.unwrap(), 6);
    assert_eq!(fixture.numbers().await, [6]);
}

#[tokio::test]
async fn a_transaction_that_the_engine_gave_up_fails_what_ran_in_it_and_no_other() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let before = fixture.queue(None, insert(1)).await;
    let loses = fixture.queue(None, insert(-2)).await;
    let after = fixture.queue(None, insert(3)).await;
    drop(held);
    for job in [before, loses] {
        let error = job.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "not every fault is a full disk");
        assert!(format!("{error:?}").contains("undone"), "{error:?}");
    }
    assert_eq!(after.await.unwrap().unwrap(), 3);
    assert_eq!(fixture.numbers().await, [3]);
}

#[tokio::test]
async fn a_job_whose_caller_has_left_does_not_run() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let left = fixture.queue(None, insert(1)).await;
    let stays = fixture.queue(None, insert(2)).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    drop(held);
    stays.await.unwrap().unwrap();
    assert_eq!(fixture.numbers().await, [2]);
}

#[tokio::test]
async fn a_job_whose_deadline_passes_in_the_queue_does_not_run() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let deadline = Some(Instant::now() + Duration::from_millis(20));
    let late = fixture.queue(deadline, insert(1)).await;
    let patient = fixture.queue(Some(Instant::now() + SOON), insert(2)).await;
    assert_eq!(late.await.unwrap().unwrap_err().kind(), Kind::Timeout);
    drop(held);
    patient.await.unwrap().unwrap();
    assert_eq!(fixture.numbers().await, [2]);
}

#[tokio::test]
async fn the_verdict_of_a_job_that_has_begun_is_the_answer_even_late() {
    let fixture = Fixture::new();
    let mut time = Duration::from_millis(20);
    // If the deadline passes before the job begins, the test tries again with twice the time.
    let (job, deadline, go_on) = loop {
        let (go_on, wait) = channel::<()>();
        let (begun, began) = oneshot::channel();
        let deadline = Instant::now() + time;
        let job = fixture
            .queue(Some(deadline), move |tx| {
                begun.send(()).unwrap();
                wait.recv_timeout(SOON).ok();
                insert(1)(tx)
            })
            .await;
        if began.await.is_ok() {
            break (job, deadline, go_on);
        }
        time *= 2;
    };
    tokio::time::sleep_until(deadline).await;
    tokio::task::yield_now().await;
    assert!(!job.is_finished());
    drop(go_on);
    assert_eq!(job.await.unwrap().unwrap(), 1);
    assert_eq!(fixture.numbers().await, [1]);
}

#[tokio::test]
async fn a_read_that_has_begun_is_not_awaited_beyond_the_deadline() {
    let fixture = Fixture::new();
    let (go_on, wait) = channel::<()>();
    let (begun, began) = oneshot::channel();
    let engine = fixture.engine.clone();
    let read = tokio::spawn(async move {
        let wait = move |_: &mut Tx<'_>| {
            begun.send(()).unwrap();
            wait.recv_timeout(SOON).ok();
            Ok(())
        };
        // Long enough for the job to begin.
        engine.read(Some(Instant::now() + Duration::from_secs(4)), wait).await
    });
    began.await.unwrap();
    assert_eq!(read.await.unwrap().unwrap_err().kind(), Kind::Timeout);
    drop(go_on);
    assert_eq!(fixture.numbers().await, [0_i64; 0]);
}

#[tokio::test]
async fn nothing_is_seen_or_answered_before_its_commit() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let insert = fixture.queue(None, insert(1)).await;
    // This job runs after the insert, in the same batch.
    let (go_on, wait) = channel::<()>();
    let (begun, began) = oneshot::channel();
    let behind = fixture
        .queue(None, move |_| {
            begun.send(()).unwrap();
            wait.recv_timeout(SOON).ok();
            Ok(0)
        })
        .await;
    drop(held);
    began.await.unwrap();
    assert_eq!(fixture.numbers().await, [0_i64; 0]);
    assert!(!insert.is_finished());
    drop(go_on);
    insert.await.unwrap().unwrap();
    behind.await.unwrap().unwrap();
    assert_eq!(fixture.numbers().await, [1]);
}

#[tokio::test]
async fn a_read_that_panics_or_fails_leaves_its_thread_usable() {
    let fixture = Fixture::new();
    fixture.engine.write(None, insert(1)).await.unwrap();
    let panics = fixture.engine.read(None, |_| -> Result<()> { panic!("a read of a test panics") });
    assert_eq!(panics.await.unwrap_err().kind(), Kind::Internal);
    let fails = fixture.engine.read(None, |tx| tx.one("SELECT nothing", &[]));
    assert_eq!(fails.await.unwrap_err().kind(), Kind::Internal);
    assert_eq!(fixture.numbers().await, [1]);
}

#[tokio::test]
async fn the_threads_end_after_the_jobs_they_have() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let job = fixture.queue(None, insert(1)).await;
    let Fixture { engine, watch, _dir } = fixture;
    drop(held);
    job.await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || engine.close()).await.unwrap();
    assert_eq!(Arc::strong_count(&watch), 1, "its connection is closed");
}

#[tokio::test]
async fn a_close_that_comes_while_a_job_runs_ends_the_threads() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let job = fixture.queue(None, insert(1)).await;
    let (engine, free) = (fixture.engine.clone(), fixture.engine.writer.capacity());
    let close = tokio::task::spawn_blocking(move || engine.close());
    let started = Instant::now();
    while fixture.engine.writer.capacity() == free {
        assert!(started.elapsed() < SOON, "nobody wakes the writer");
        tokio::task::yield_now().await;
    }
    drop(held);
    job.await.unwrap().unwrap();
    tokio::time::timeout(SOON, close).await.expect("closed").unwrap();
    assert_eq!(fixture.engine.write(None, insert(2)).await.unwrap_err().kind(), Kind::Busy);
}
