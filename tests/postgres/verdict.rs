//! A commit whose response is lost: the caller is told what has become of it.

use std::time::Duration;

use imagestore::{
    error::{Error, Kind},
    model::BlobOwner,
    namespace::{self, Database, Engine, expelled::Expelled, server::Joining, sql::Param},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    database::{administer, new_schema, parse},
    driver::url,
    reader::Reader,
    wire::{Cut, Wire},
};

/// Longer than a verdict takes.
const SOON: Duration = Duration::from_mins(1);

/// A server that has the store for itself.
pub(crate) async fn open(database: &Database) -> Engine {
    join(database, None).await
}

async fn join(database: &Database, lease: Option<Duration>) -> Engine {
    let database = database.clone();
    let joining = Joining { lease, ..Joining::alone(Uuid::new_v4()) };
    let open = move || namespace::open(&database, &joining, BlobOwner::Nobody);
    tokio::task::spawn_blocking(open).await.expect("no panic").expect("opened").engine
}

/// Writes a number that can be looked for.
pub(crate) async fn write(engine: &Engine, number: i64) -> Result<(), Error> {
    let write = engine.write(None, move |tx| {
        let sql = "INSERT INTO meta (name, value) VALUES ($1, $2)";
        tx.execute(sql, &[Param::Text(&format!("n{number}")), Param::Int(number)]).map(drop)
    });
    timeout(SOON, write).await.expect("in time")
}

pub(crate) async fn close(engine: Engine) {
    tokio::task::spawn_blocking(move || engine.close()).await.expect("closed");
}

/// The numbers that are written.
pub(crate) fn written(database: &Database) -> i64 {
    Reader::open(database).number("SELECT COUNT(*) FROM meta WHERE name LIKE 'n%'")
}

#[tokio::test]
async fn a_commit_whose_response_is_lost_is_acknowledged() {
    let (wire, database) = Wire::new();
    let engine = open(&database).await;
    for number in 1..=3 {
        wire.cut_at_commit(Cut::After);
        write(&engine, number).await.expect("the commit was made");
        assert_eq!(written(&database), number);
    }
    close(engine).await;
}

#[tokio::test]
async fn a_commit_that_did_not_arrive_has_changed_nothing() {
    let (wire, database) = Wire::new();
    let engine = open(&database).await;
    for number in 1..=3 {
        wire.cut_at_commit(Cut::Before);
        let error = write(&engine, number).await.expect_err("the commit was not made");
        assert_eq!(error.kind(), Kind::Busy, "{error:?}");
        assert!(error.message().contains("nothing has changed"), "{error:?}");
        assert_eq!(written(&database), number - 1);
        write(&engine, number).await.expect("written");
    }
    close(engine).await;
}

/// The verdict waits for the write lock, which the transaction of the commit still has.
#[tokio::test]
async fn a_commit_that_is_still_on_its_way_is_awaited() {
    let (wire, database) = Wire::new();
    // A server that has the store for itself waits for its claim, which its last connection still has.
    let engine = join(&database, Some(SOON)).await;
    for number in 1..=3 {
        wire.cut_at_commit(Cut::Late);
        write(&engine, number).await.expect("the commit was made");
        assert_eq!(written(&database), number);
    }
    close(engine).await;
}

#[tokio::test]
async fn a_commit_without_a_verdict_is_said_to_have_none() {
    let (wire, database) = Wire::new();
    let engine = open(&database).await;
    wire.cut_at_commit(Cut::After);
    wire.refuse(true);
    let error = write(&engine, 1).await.expect_err("nobody answers");
    assert_eq!(error.kind(), Kind::VerdictUnknown, "{error:?}");
    wire.refuse(false);
    // The next transaction finds that the count is two more.
    while let Err(error) = write(&engine, 2).await {
        assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    }
    assert_eq!(written(&database), 2);
    close(engine).await;
}

#[tokio::test]
async fn a_server_that_is_expelled_neither_writes_nor_reads() {
    for (sql, why) in [
        ("UPDATE server SET state = 3", Expelled::Dead),
        ("DELETE FROM server", Expelled::CommitsLost),
        ("UPDATE server SET batch = batch - 1", Expelled::CommitsLost),
        ("UPDATE server SET batch = batch + 1", Expelled::Cloned),
    ] {
        let url = new_schema(&url());
        let database = parse(&url);
        let engine = open(&database).await;
        write(&engine, 1).await.expect("written");
        administer(&url, sql);
        for _ in 0..2 {
            let error = write(&engine, 2).await.expect_err("refused");
            assert_eq!(error.kind(), Kind::Busy, "{error:?}");
            assert_eq!(error.message(), why.error().message());
        }
        assert_eq!(timeout(SOON, engine.expelled()).await.expect("told"), why);
        let error = engine.read(None, |_| Ok(())).await.expect_err("refused");
        assert_eq!(error.message(), why.error().message());
        assert_eq!(written(&database), 1);
        close(engine).await;
    }
}

#[tokio::test]
async fn a_dead_row_has_the_verdict_of_the_last_commit() {
    let (wire, database) = Wire::new();
    let engine = open(&database).await;
    // The server is declared dead before its next transaction, whenever that begins.
    let sql = "CREATE FUNCTION bury() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN NEW.state = 3; RETURN NEW; END $$;
        CREATE TRIGGER bury BEFORE UPDATE ON server FOR EACH ROW EXECUTE FUNCTION bury()";
    administer(wire.url(), sql);
    wire.cut_at_commit(Cut::After);
    write(&engine, 1).await.expect("made before the server was dead");
    assert_eq!(timeout(SOON, engine.expelled()).await.expect("told"), Expelled::Dead);
    assert_eq!(written(&database), 1);
    close(engine).await;
}
