//! Tests of a database that does not respond: which jobs are refused, and how often a transaction is tried.

use std::sync::{
    Condvar,
    mpsc::{Receiver, Sender, channel},
};

use tokio::task::JoinHandle;

use super::*;
use crate::{
    limits::{DATABASE_PAUSE_MAX, WRITE_BATCH_MAX},
    namespace::{
        engine::breaker::Breaker,
        sql::{Mode, Param, Row},
    },
};

const SOON: Duration = Duration::from_secs(20);

/// How the database of a test behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Answers,
    /// A begin fails.
    Away,
    /// A statement takes too long.
    Stalls,
    /// A begin waits.
    Waits,
}

/// A database without rows, whose connections count their begins.
#[derive(Debug)]
struct Db {
    mood: Mutex<Mood>,
    changed: Condvar,
    begins: AtomicUsize,
    begun: Mutex<Sender<()>>,
}

impl Db {
    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }

    fn begins(&self) -> usize {
        self.begins.load(Ordering::SeqCst)
    }
}

struct Link(Arc<Db>, Option<Error>);

fn busy(why: &str) -> Error {
    Error::new(Kind::Busy, why)
}

impl Connection for Link {
    fn begin(&mut self, _: Mode) -> Result<()> {
        self.1 = None;
        self.0.begins.fetch_add(1, Ordering::SeqCst);
        self.0.begun.lock().unwrap().send(()).ok();
        let mood = self.0.mood.lock().unwrap();
        let mood = self.0.changed.wait_while(mood, |mood| *mood == Mood::Waits).unwrap();
        if *mood == Mood::Away { Err(busy("nobody is there")) } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn rollback(&mut self) {}

    fn in_transaction(&self) -> bool {
        true
    }

    fn stalled(&self) -> Option<Error> {
        self.1.clone()
    }

    fn execute(&mut self, sql: &'static str, _: &[Param<'_>]) -> Result<u64> {
        if sql == "SLOW" && *self.0.mood.lock().unwrap() == Mood::Stalls {
            self.1 = Some(busy("it took too long"));
            return Err(busy("it took too long"));
        }
        Ok(0)
    }

    fn query(&mut self, _: &'static str, _: &[Param<'_>]) -> Result<Vec<Row>> {
        Ok(Vec::new())
    }

    fn now(&mut self) -> Result<i64> {
        Ok(0)
    }

    fn disk_bytes(&mut self) -> Result<i64> {
        Ok(0)
    }

    fn has_tables(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn make_tables(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// An engine with a writer and one reader, its database, and a receiver of its begins.
fn engine() -> (Engine, Arc<Db>, Receiver<()>) {
    let (begun, begins) = channel();
    let db = Arc::new(Db {
        mood: Mutex::new(Mood::Answers),
        changed: Condvar::new(),
        begins: AtomicUsize::new(0),
        begun: Mutex::new(begun),
    });
    let link = || -> Box<dyn Connection> { Box::new(Link(Arc::clone(&db), None)) };
    (Engine::start(link(), vec![link()], None).unwrap(), db, begins)
}

fn slow(tx: &mut Tx<'_>) -> Result<()> {
    tx.execute("SLOW", &[]).map(drop)
}

/// Queues a job for the writer, and returns once the job waits.
async fn queue(engine: &Engine) -> JoinHandle<Result<()>> {
    let waiting = engine.waiting();
    let writer = engine.clone();
    let job = tokio::spawn(async move { writer.write(None, slow).await });
    while engine.waiting() == waiting {
        tokio::task::yield_now().await;
    }
    job
}

/// Retries a write until it succeeds.
async fn write_in_the_end(engine: &Engine) {
    let written = async {
        while let Err(error) = engine.write(None, slow).await {
            assert_eq!(error.kind(), Kind::Busy, "{error:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, written).await.expect("written");
}

#[tokio::test]
async fn one_begin_that_fails_refuses_all_who_wait() {
    let (engine, db, begins) = engine();
    db.set(Mood::Waits);
    let first = queue(&engine).await;
    begins.recv_timeout(SOON).unwrap();
    let mut jobs = vec![first];
    for _ in 0..2 * WRITE_BATCH_MAX {
        jobs.push(queue(&engine).await);
    }
    db.set(Mood::Away);
    for job in jobs {
        assert_eq!(job.await.unwrap().unwrap_err().message(), "nobody is there");
    }
    assert_eq!(db.begins(), 1);
    // The readers have a breaker of their own.
    assert_eq!(engine.read(None, |_| Ok(())).await.unwrap_err().message(), "nobody is there");
    db.set(Mood::Answers);
    write_in_the_end(&engine).await;
}

#[tokio::test]
async fn one_statement_that_stalls_fails_its_batch_and_refuses_all_who_wait() {
    let (engine, db, begins) = engine();
    db.set(Mood::Waits);
    let mut jobs = vec![queue(&engine).await];
    begins.recv_timeout(SOON).unwrap();
    for _ in 0..2 * WRITE_BATCH_MAX {
        jobs.push(queue(&engine).await);
    }
    db.set(Mood::Stalls);
    for job in jobs {
        assert_eq!(job.await.unwrap().unwrap_err().message(), "it took too long");
    }
    assert_eq!(db.begins(), 1);
    assert_eq!(engine.read(None, slow).await.unwrap_err().message(), "it took too long");
    db.set(Mood::Answers);
    write_in_the_end(&engine).await;
    let both = async {
        while engine.check_ready(SOON, slow).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, both).await.expect("both answer");
}

#[tokio::test]
async fn who_has_left_costs_no_begin() {
    let (engine, db, begins) = engine();
    db.set(Mood::Waits);
    let first = queue(&engine).await;
    begins.recv_timeout(SOON).unwrap();
    let (reading, has_begun) = (engine.clone(), begins);
    let read = tokio::spawn(async move { reading.read(None, |_| Ok(())).await });
    tokio::task::spawn_blocking(move || has_begun.recv_timeout(SOON).unwrap()).await.unwrap();
    // The jobs below wait behind the two that run.
    let mut left = Vec::new();
    for _ in 0..10 {
        left.push(queue(&engine).await);
        let reader = engine.clone();
        left.push(tokio::spawn(async move { reader.read(None, slow).await }));
    }
    while engine.readers.capacity() > READ_QUEUE_MAX - 10 {
        tokio::task::yield_now().await;
    }
    for job in left {
        job.abort();
        assert!(job.await.unwrap_err().is_cancelled());
    }
    db.set(Mood::Answers);
    first.await.unwrap().unwrap();
    read.await.unwrap().unwrap();
    engine.write(None, slow).await.unwrap();
    engine.read(None, slow).await.unwrap();
    // Four transactions began. The cancelled jobs did not begin one, and did not run in the batch of the
    // first job.
    assert_eq!(db.begins(), 4);
    assert_eq!(engine.written(), 2);
}

#[tokio::test]
async fn a_database_that_waits_does_not_answer() {
    let (engine, db, _begins) = engine();
    engine.check_ready(SOON, slow).await.expect("both answer");
    assert_eq!(engine.written(), 0, "a question is no work");
    db.set(Mood::Waits);
    let short = Duration::from_millis(20);
    assert_eq!(engine.check_ready(short, slow).await.unwrap_err().kind(), Kind::Busy);
    db.set(Mood::Answers);
    engine.check_ready(SOON, slow).await.expect("both answer again");
}

#[test]
fn pauses_grow_and_end_with_an_answer() {
    let (db, mut link) = {
        let (_, db, _) = engine();
        (Arc::clone(&db), Link(db, None))
    };
    let breaker = Breaker::default();
    db.set(Mood::Away);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        breaker.begin(&mut link, Mode::Write).unwrap_err();
        pauses.push(breaker.over());
    }
    assert!(pauses.is_sorted() && pauses[0] < pauses[2], "{pauses:?}");
    assert_eq!(pauses.last(), Some(&DATABASE_PAUSE_MAX));
    assert_eq!(db.begins(), 8);
    breaker.begin(&mut link, Mode::Write).unwrap_err();
    breaker.begin(&mut link, Mode::Write).unwrap_err();
    assert_eq!(db.begins(), 9, "the second one comes within the pause");
    db.set(Mood::Answers);
    breaker.over();
    breaker.begin(&mut link, Mode::Write).unwrap();
    breaker.begin(&mut link, Mode::Write).unwrap_err();
    assert!(breaker.judge(&link));
    assert!(breaker.refusal().is_none());
}
