//! The PostgreSQL driver, against a PostgreSQL server.

use imagestore::{
    error::{Error, Kind},
    model::BlobOwner,
    namespace::{
        self, Database,
        server::Joining,
        sql::{Connection, Mode, Param, Row, Value},
    },
};

use crate::{
    database::{administer, new_schema, parse, postgres},
    wire::Wire,
};

pub(crate) fn url() -> String {
    postgres().expect("IMAGESTORE_TEST_POSTGRES is the URL of a server; tests/run sets it")
}

pub(crate) fn connect(database: &Database, mode: Mode) -> Box<dyn Connection> {
    database.connect(mode).expect("connected")
}

/// Terminates the server processes of a [`named`] database's connections, as a failing server does.
pub(crate) fn cut(name: &str) {
    let sql = format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE application_name = '{name}'"
    );
    administer(&url(), &sql);
}

/// Creates a schema. Returns its name, and its database with this name as `application_name`, by which
/// [`cut`] finds the connections.
pub(crate) fn named() -> (String, Database) {
    let url = new_schema(&url());
    let name = url.rsplit("%3D").next().expect("a schema").to_owned();
    let database = parse(&format!("{url}&application_name={name}"));
    (name, database)
}

pub(crate) fn ints(rows: &[Row]) -> Vec<i64> {
    rows.iter().map(|row| row.int(0).expect("an integer")).collect()
}

pub(crate) fn explain(error: &Error) -> String {
    format!("{error}: {error:?}")
}

#[test]
fn values_come_back_as_they_were() {
    let (_, database) = named();
    let mut connection = connect(&database, Mode::Write);
    connection.begin(Mode::Write).expect("begun");
    connection
        .make_tables("CREATE TABLE t (id {id}, i BIGINT, s {text}, b {bytes});")
        .expect("made");
    let insert = "INSERT INTO t (i, s, b) VALUES ($1, $2, $3) RETURNING id, i, s, b";
    let text = "grün \u{1F600} \u{FFFF} ' \\ %";
    // The statement is prepared for the parameter types of its first use, and must accept those of later
    // uses.
    for (number, params) in [
        [Param::Null, Param::Null, Param::Null],
        [Param::Int(i64::MIN), Param::Text(text), Param::Bytes(&[0, 255])],
        [Param::Int(7), Param::Text(""), Param::Bytes(&[])],
    ]
    .iter()
    .enumerate()
    {
        let rows = connection.query(insert, params).expect("inserted");
        let expect = params.iter().map(|param| match *param {
            Param::Null => Value::Null,
            Param::Int(value) => Value::Int(value),
            Param::Text(value) => Value::Text(value.to_owned()),
            Param::Bytes(value) => Value::Bytes(value.to_vec()),
        });
        let expect = std::iter::once(Value::Int(number as i64 + 1)).chain(expect).collect();
        assert_eq!(rows, [Row(expect)]);
    }
    connection.commit().expect("committed");
    assert!(connection.disk_bytes().expect("measured") > 0);
    let now = connection.now().expect("a clock");
    // In microseconds since 1970: a time between 2023 and 2096, so not in milliseconds or nanoseconds.
    assert!((1_700_000_000_000_000..4_000_000_000_000_000).contains(&now), "{now}");
}

#[test]
fn text_is_ordered_by_its_bytes() {
    let (_, database) = named();
    let mut connection = connect(&database, Mode::Write);
    connection.begin(Mode::Write).expect("begun");
    connection.make_tables("CREATE TABLE t (i BIGINT, s {text} PRIMARY KEY);").expect("made");
    for (number, text) in ["a", "Z", "é", "z", "_", "\u{1F600}", "\u{FFFD}", "A"].iter().enumerate()
    {
        let insert = "INSERT INTO t (i, s) VALUES ($1, $2)";
        connection.execute(insert, &[(number as i64).into(), (*text).into()]).expect("inserted");
    }
    let rows = connection.query("SELECT i FROM t ORDER BY s", &[]).expect("rows");
    assert_eq!(ints(&rows), [7, 1, 4, 0, 3, 2, 6, 5]);
    let sql = "SELECT i FROM t WHERE s > $1 ORDER BY s";
    assert_eq!(ints(&connection.query(sql, &["Z".into()]).expect("rows")), [4, 0, 3, 2, 6, 5]);
    connection.commit().expect("committed");
}

#[test]
fn a_failed_job_is_undone_alone() {
    let (_, database) = named();
    let mut connection = connect(&database, Mode::Write);
    connection.begin(Mode::Write).expect("begun");
    connection.make_tables("CREATE TABLE t (i BIGINT PRIMARY KEY);").expect("made");
    let insert = "INSERT INTO t (i) VALUES ($1)";
    for (number, is_good) in [(1, true), (1, false), (2, true)] {
        connection.execute("SAVEPOINT job", &[]).expect("saved");
        let done = connection.execute(insert, &[Param::Int(number)]);
        assert_eq!(done.is_ok(), is_good);
        assert!(connection.in_transaction());
        if !is_good {
            let error = connection.query("SELECT 1", &[]).expect_err("only a rollback is accepted");
            assert_eq!(error.kind(), Kind::Internal, "{error:?}");
            connection.execute("ROLLBACK TO job", &[]).expect("undone");
        }
        connection.execute("RELEASE job", &[]).expect("released");
    }
    connection.commit().expect("committed");
    assert!(!connection.in_transaction());
    let rows = connection.query("SELECT i FROM t ORDER BY i", &[]).expect("rows");
    assert_eq!(ints(&rows), [1, 2]);
}

#[test]
fn a_reader_sees_one_snapshot_and_writes_nothing() {
    let (_, database) = named();
    let mut writer = connect(&database, Mode::Write);
    let mut reader = connect(&database, Mode::Read);
    writer.begin(Mode::Write).expect("begun");
    writer.make_tables("CREATE TABLE t (i BIGINT PRIMARY KEY);").expect("made");
    writer.commit().expect("committed");

    let count = "SELECT COUNT(*) FROM t";
    reader.begin(Mode::Read).expect("begun");
    assert_eq!(ints(&reader.query(count, &[]).expect("a row")), [0]);
    writer.begin(Mode::Write).expect("begun");
    writer.execute("INSERT INTO t (i) VALUES (1)", &[]).expect("inserted");
    writer.commit().expect("committed");
    assert_eq!(ints(&reader.query(count, &[]).expect("a row")), [0]);
    reader.execute("INSERT INTO t (i) VALUES (2)", &[]).expect_err("it only reads");
    reader.rollback();
    reader.begin(Mode::Read).expect("begun again");
    assert_eq!(ints(&reader.query(count, &[]).expect("a row")), [1]);
    reader.rollback();
}

#[test]
fn a_rollback_gives_the_write_lock_to_others_at_once() {
    let (_, database) = named();
    let mut first = connect(&database, Mode::Write);
    let mut second = connect(&database, Mode::Read);
    for fails in [false, true] {
        first.begin(Mode::Write).expect("begun");
        assert_eq!(first.query("SELECT 1 / $1", &[Param::Int(i64::from(!fails))]).is_err(), fails);
        first.rollback();
        // The first connection is silent now, and would lose its session to a timeout before it loses the lock.
        second.begin(Mode::Write).expect("begun");
        second.rollback();
    }
    first.begin(Mode::Write).expect("begun");
    assert_eq!(ints(&first.query("SELECT CAST(7 AS BIGINT)", &[]).expect("a row")), [7]);
    first.commit().expect("committed");
    assert_eq!([first.reconnects(), second.reconnects()], [0, 0]);
}

#[test]
fn a_database_is_open_once() {
    let (_, database) = named();
    let engine =
        namespace::open(&database, &Joining::alone(uuid::Uuid::new_v4()), BlobOwner::Unknown)
            .expect("opened")
            .engine;
    let error =
        namespace::open(&database, &Joining::alone(uuid::Uuid::new_v4()), BlobOwner::Unknown)
            .expect_err("refused");
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.message().starts_with("another server has the database open"), "{error}");
    // Another schema is another store.
    let (_, other) = named();
    namespace::open(&other, &Joining::alone(uuid::Uuid::new_v4()), BlobOwner::Unknown)
        .expect("opened")
        .engine
        .close();
    engine.close();
    namespace::open(&database, &Joining::alone(uuid::Uuid::new_v4()), BlobOwner::Unknown)
        .expect("opened")
        .engine
        .close();
}

#[test]
fn a_lost_connection_is_made_again() {
    let (name, database) = named();
    let mut writer = connect(&database, Mode::Write);
    writer.begin(Mode::Write).expect("begun");
    writer.make_tables("CREATE TABLE t (i BIGINT PRIMARY KEY);").expect("made");
    writer.commit().expect("committed");

    // A connection lost between transactions is replaced without an error.
    cut(&name);
    writer.begin(Mode::Write).expect("begun on a new connection");
    writer.execute("INSERT INTO t (i) VALUES (1)", &[]).expect("inserted");

    // A connection lost within a transaction: all of the transaction is undone, and it can be repeated.
    cut(&name);
    let insert = "INSERT INTO t (i) VALUES (2)";
    let error = writer.execute(insert, &[]).expect_err("lost");
    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    let error = writer.execute(insert, &[]).expect_err("still lost");
    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    assert_eq!(writer.commit().expect_err("lost").kind(), Kind::Busy);
    writer.rollback();
    writer.begin(Mode::Write).expect("begun on a new connection");
    assert_eq!(ints(&writer.query("SELECT COUNT(*) FROM t", &[]).expect("a row")), [0]);
    writer.rollback();

    // The new connection has acquired the claim again.
    let error = database.connect(Mode::Write).err().expect("refused");
    assert!(error.message().starts_with("another server has the database open"), "{error}");
}

#[test]
fn who_lost_its_claim_to_another_server_does_not_write() {
    let (name, database) = named();
    let mut first = connect(&database, Mode::Write);
    cut(&name);
    let second = connect(&database, Mode::Write);
    let error = first.begin(Mode::Write).expect_err("refused");
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.message().starts_with("another server has the database open"), "{error}");
    assert!(!first.in_transaction());
    drop(second);
    first.begin(Mode::Write).expect("claimed again");
    first.rollback();
}

#[test]
fn what_cannot_hold_a_store_is_refused() {
    let url = url();
    let (base, _) = url.rsplit_once('/').expect("a database");
    let latin = format!("latin_{}", uuid::Uuid::new_v4().simple());
    let make = format!(
        "CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    );
    administer(&url, &make);
    for (url, kind, why) in [
        (format!("{base}/{latin}"), Kind::InvalidArgument, "ENCODING 'UTF8'"),
        (format!("{url}?options=-c%20search_path%3Dnone"), Kind::InvalidArgument, "no schema"),
        (format!("{base}/no_such_database"), Kind::Internal, "does not exist"),
        ("postgres://me:secret@127.0.0.1:1/x".to_owned(), Kind::Busy, "cannot be reached"),
        (with_password(&url, "secret"), Kind::Internal, "authentication failed"),
    ] {
        let error = parse(&url).connect(Mode::Read).err().expect("refused");
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(explain(&error).contains(why), "{error:?}");
        assert!(!explain(&error).contains("secret"), "{error:?}");
    }
}

#[test]
fn a_database_without_rights_is_refused() {
    let url = new_schema(&url());
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    let (_, schema) = url.rsplit_once("%3D").expect("a schema");
    let make = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA {schema} TO {role}"
    );
    administer(&url, &make);
    let reader = with_password(&url, "secret").replace("tests:", &format!("{role}:"));
    let error = parse(&reader).connect(Mode::Write).err().expect("refused");
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error:?}");
    let says = format!("the role {role} may not create tables in the schema {schema} of");
    assert!(explain(&error).contains(&says), "{error:?}");
}

#[test]
fn a_read_only_database_is_refused() {
    let url = format!("{}%20-c%20default_transaction_read_only%3Don", new_schema(&url()));
    let error = parse(&url).connect(Mode::Write).err().expect("refused");
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error:?}");
    assert!(explain(&error).contains("the database is read-only"), "{error:?}");
}

#[test]
fn a_database_whose_locks_do_not_hold_is_refused() {
    let stub = ("SELECT pg_advisory_xact_lock(1229801299, hashtext(current_schema()))", "SELECT 1");
    let snapshot = (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
    );
    for (edit, why) in [
        (stub, "its write lock does not keep a second writer out"),
        (snapshot, "does not see what its holder committed"),
    ] {
        let (_wire, database) = Wire::editing(&[edit]);
        let error = database.connect(Mode::Write).err().expect("refused");
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error:?}");
        assert!(explain(&error).contains(why), "{error:?}");
        let mut reader = connect(&database, Mode::Read);
        let sql = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()";
        assert_eq!(reader.query(sql, &[]).expect("read"), [], "nothing is left");
    }
}

fn with_password(url: &str, password: &str) -> String {
    let (login, host) = url.rsplit_once('@').expect("a login");
    let (user, _) = login.rsplit_once(':').expect("a password");
    format!("{user}:{password}@{host}")
}

#[test]
fn faults_of_the_database_are_told_apart() {
    let (_, database) = named();
    let mut connection = connect(&database, Mode::Write);
    for (code, kind) in [
        ("53100", Kind::NoSpace),
        ("40001", Kind::Busy),
        ("40P01", Kind::Busy),
        ("08006", Kind::Busy),
        ("XX001", Kind::Internal),
    ] {
        connection.begin(Mode::Write).expect("begun");
        let function = format!(
            "CREATE FUNCTION fail() RETURNS BIGINT LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END $$"
        );
        connection.make_tables(&function).expect("made");
        let error = connection.query("SELECT fail()", &[]).expect_err(code);
        assert_eq!(error.kind(), kind, "{code}: {error:?}");
        connection.rollback();
    }
}
