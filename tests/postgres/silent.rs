//! A database that does not answer: every waiting call fails in time, and calls succeed once the database
//! answers again.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use imagestore::{
    error::{Error, Kind},
    limits::STOP_TIME,
    namespace::sql::{Connection, Mode},
    server::{Server, config::Config},
    store::Call,
};
use postgres::NoTls;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

use crate::{
    database::parse,
    driver::{connect, ints, named, url},
    store::{open, path, try_upload, upload},
    wire::Wire,
};

/// Longer than all timeouts involved together.
const LONG: Duration = Duration::from_mins(2);
const INSERT: &str = "INSERT INTO t (i) VALUES (1)";
const COUNT: &str = "SELECT COUNT(*) FROM t";

/// A write connection in the state after a start, and a table `t`.
fn writer(database: &imagestore::namespace::Database) -> Box<dyn Connection> {
    let mut writer = connect(database, Mode::Write);
    writer.settle().expect("settled");
    writer.begin(Mode::Write).expect("begun");
    writer.make_tables("CREATE TABLE t (i BIGINT);").expect("made");
    writer.commit().expect("committed");
    writer
}

/// Checks the error of a database that did not answer in time, and that the connection reports the same error
/// to the engine.
#[track_caller]
fn assert_stalled(writer: &dyn Connection, (error, kind): (&Error, Kind), says: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().contains(says), "{error:?}");
    assert_eq!(writer.stalled().map(|error| error.kind()), Some(Kind::Busy));
}

#[test]
fn a_silent_server_is_left_and_found_again() {
    let (wire, database) = Wire::new();
    let mut writer = writer(&database);
    writer.begin(Mode::Write).expect("begun");
    writer.execute(INSERT, &[]).expect("inserted");
    wire.fall_silent();
    let error = writer.execute(INSERT, &[]).expect_err("silence");
    assert_stalled(writer.as_ref(), (&error, Kind::Busy), "did not answer within 10 s");
    writer.rollback();
    let error = writer.begin(Mode::Write).expect_err("no handshake");
    assert!(error.message().contains("did not answer within 5 s"), "{error:?}");
    wire.speak();
    writer.begin(Mode::Write).expect("begun");
    assert_eq!(ints(&writer.query(COUNT, &[]).expect("a row")), [0], "all of it is undone");

    // The commit is in flight, and reaches the database after the client has stopped waiting. Before that the database
    // has ended the transaction, so that its lock does not keep other servers out.
    writer.execute(INSERT, &[]).expect("inserted");
    wire.fall_silent();
    let error = writer.commit().expect_err("silence");
    assert_stalled(
        writer.as_ref(),
        (&error, Kind::VerdictUnknown),
        "did not say whether it has made the change",
    );
    wire.speak();
    writer.begin(Mode::Write).expect("begun");
    assert_eq!(ints(&writer.query(COUNT, &[]).expect("a row")), [0]);
    writer.rollback();
}

#[test]
fn a_server_that_never_says_anything_is_left() {
    // The kernel completes connections that the listener has not accepted.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let database = parse(&format!("postgres://me:secret@127.0.0.1:{port}/x"));
    let error = database.connect(Mode::Write).err().expect("refused");
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.message().contains("did not answer within 5 s"), "{error:?}");
}

#[test]
fn the_locks_of_others_are_waited_for_and_not_for_ever() {
    let (schema, database) = named();
    let mut writer = writer(&database);
    let mut other = postgres::Client::connect(&url(), NoTls).expect("connected");
    let mut other = |sql: String| other.batch_execute(&sql).expect("done");

    other(format!("SELECT pg_advisory_lock(1229801299, hashtext('{schema}'))"));
    let error = writer.begin(Mode::Write).expect_err("locked");
    assert_stalled(writer.as_ref(), (&error, Kind::Busy), "the database is busy");
    other("SELECT pg_advisory_unlock_all()".to_owned());

    writer.begin(Mode::Write).expect("begun");
    writer.rollback();
    other(format!("BEGIN; LOCK TABLE {schema}.t IN ACCESS EXCLUSIVE MODE"));
    writer.begin(Mode::Write).expect("begun");
    let error = writer.query(COUNT, &[]).expect_err("locked");
    assert_stalled(writer.as_ref(), (&error, Kind::Busy), "the database is busy");
    writer.rollback();
    other("ROLLBACK".to_owned());
    writer.begin(Mode::Write).expect("begun");
    writer.query(COUNT, &[]).expect("a row");

    let slow = writer.query("SELECT pg_sleep(3600)", &[]).expect_err("too slow");
    assert_stalled(writer.as_ref(), (&slow, Kind::Busy), "the database is busy");
    writer.rollback();
    writer.begin(Mode::Write).expect("begun");
    writer.rollback();
}

/// Processes stopped by a signal. Dropping the value continues them.
struct Stopped(Vec<Pid>);

impl Stopped {
    /// Stops the server processes of a [`named`] database's connections.
    fn new(name: &str) -> Self {
        let mut client = postgres::Client::connect(&url(), NoTls).expect("connected");
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
        let rows = client.query(sql, &[&name]).expect("rows");
        let pids = rows.iter().map(|row| Pid::from_raw(row.get(0)).expect("a process"));
        let stopped = Self(pids.collect());
        stopped.send(Signal::STOP);
        stopped
    }

    fn send(&self, signal: Signal) {
        for pid in &self.0 {
            kill_process(*pid, signal).expect("sent");
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.send(Signal::CONT);
    }
}

#[test]
fn a_process_that_is_stopped_is_left_and_its_claim_awaited() {
    let (name, database) = named();
    let mut writer = writer(&database);
    writer.begin(Mode::Write).expect("begun");
    let stopped = Stopped::new(&name);
    let error = writer.execute(INSERT, &[]).expect_err("stopped");
    assert_stalled(writer.as_ref(), (&error, Kind::Busy), "did not answer within 10 s");
    let error = writer.begin(Mode::Write).expect_err("it has the claim");
    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    drop(stopped);
    writer.begin(Mode::Write).expect("begun");
    assert_eq!(ints(&writer.query(COUNT, &[]).expect("a row")), [0]);
    writer.rollback();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_are_refused_and_who_has_left_changes_nothing_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let (wire, database) = Wire::new();
    let store = open(folder.path(), database).await;
    upload(&store, &path("kept"), b"bytes").await;
    wire.fall_silent();
    let mut calls = JoinSet::new();
    for number in 0..300 {
        let store = store.clone();
        calls.spawn(async move {
            let path = path(&format!("new/{number}"));
            match number % 2 {
                0 => store.delete(&path, &Call::system()).await.map(drop),
                _ => store.stat(&path, &Call::system()).await.map(drop),
            }
        });
    }
    // The delete is cancelled while it waits, or after it has begun a transaction that is never committed.
    let kept = path("kept");
    let call = Call::system();
    let left = store.delete(&kept, &call);
    timeout(Duration::from_millis(10), left).await.expect_err("silence");
    while let Some(ended) = timeout(LONG, calls.join_next()).await.expect("an end") {
        let error = ended.expect("no panic").expect_err("silence");
        assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    }
    wire.speak();
    let works = async {
        while let Err(error) = try_upload(&store, &path("new"), b"bytes").await {
            assert_eq!(error.kind(), Kind::Busy, "{error:?}");
        }
    };
    timeout(LONG, works).await.expect("it works again");
    store.stat(&kept, &Call::system()).await.expect("it is there");
    store.close().await;
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    let next = timeout(LONG, watch.message()).await.expect("a change");
    next.expect("an answer").expect("a state").status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_whether_its_database_answers_and_stops_in_time_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let (wire, database) = Wire::new();
    let config = Config { database, ..Config::local(folder.path()) };
    let listener = tokio::net::TcpListener::bind(config.listen).await.expect("a port");
    let server = Server::start(&config, listener).await.expect("started");
    let address = server.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move { stopped.await.expect("a stop") }));
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
    let mut health = HealthClient::new(channel.connect().await.expect("connected"));
    let watch = health.watch(HealthCheckRequest::default()).await.expect("watched");
    let mut watch = watch.into_inner();
    assert_eq!(next(&mut watch).await, Serving);
    wire.fall_silent();
    assert_eq!(next(&mut watch).await, NotServing);
    wire.speak();
    assert_eq!(next(&mut watch).await, Serving);

    wire.fall_silent();
    let mut waits = TcpStream::connect(address).expect("connected");
    let request = "DELETE /ImageStore/a?api-version=6.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    waits.write_all(request.as_bytes()).expect("sent");
    // The server has accepted the request by now: the status changes only after the database has not answered
    // for a second.
    assert_eq!(next(&mut watch).await, NotServing);
    stop.send(()).expect("a server");
    timeout(2 * STOP_TIME, running).await.expect("in time").expect("no panic");
    wire.speak();
}
