//! The write lock, and what a writer finds that has waited for it.

use std::sync::mpsc::{self, Sender};

use imagestore::{
    error::Kind,
    namespace::{Database, Engine, expelled::Expelled, sql::Mode},
};

use crate::{
    database::{new_schema, parse},
    driver::url,
    verdict::{close, open, write, written},
    wire::until_a_writer_waits,
};

/// A server, and a connection beside it that has the write lock until its thread ends. The thread calls `last` in the
/// transaction when the sender sends, and commits; it ends without that when the sender is dropped.
async fn behind_a_lock(last: &'static str) -> (Database, Engine, Sender<()>) {
    let database = parse(&new_schema(&url()));
    let engine = open(&database).await;
    let (release, released) = mpsc::channel();
    let (told, begun) = mpsc::channel();
    let holder = database.clone();
    std::thread::spawn(move || {
        let mut connection = holder.connect(Mode::Read).expect("connected");
        connection.begin(Mode::Write).expect("begun");
        told.send(()).expect("the test waits");
        if released.recv().is_ok() {
            connection.execute(last, &[]).expect("changed");
            connection.commit().expect("committed");
        }
    });
    begun.recv().expect("begun");
    (database, engine, release)
}

/// The fence is a statement after the one that waits for the lock: one that waits itself sees what was before.
#[tokio::test]
async fn a_server_that_is_declared_dead_while_it_waits_for_the_lock_does_not_write() {
    let (database, engine, release) = behind_a_lock("UPDATE server SET state = 3").await;
    let waiting = database.clone();
    let bury = tokio::task::spawn_blocking(move || {
        until_a_writer_waits(&waiting);
        release.send(()).expect("it has the lock");
    });
    let error = write(&engine, 1).await.expect_err("dead");
    assert_eq!(error.message(), Expelled::Dead.error().message());
    bury.await.expect("no panic");
    assert_eq!(written(&database), 0);
    close(engine).await;
}

/// A server that is suspended in a transaction keeps its connection, and would keep the lock.
#[tokio::test]
async fn a_holder_of_the_lock_that_is_silent_loses_it() {
    let (database, engine, _silent) = behind_a_lock("SELECT 1").await;
    while let Err(error) = write(&engine, 1).await {
        assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    }
    assert_eq!(written(&database), 1);
    close(engine).await;
}
