//! Statements over sets of rows, which the driver sends together.

use bytes::Bytes;
use imagestore::{
    model::{BlobOwner, Conditions, Digest, StorePath},
    namespace::{
        self,
        content::{Part, Place},
        group::{self, NameCache, PlainFile},
        server::Joining,
        sql::{Mode, Param, Row, Rows, Set, Tx, Value},
    },
};

use crate::driver::{connect, ints, named};

const INSERT: Set = Set {
    one: "INSERT INTO t (i, s, b) SELECT r.x, r.y, r.z FROM (SELECT $1 AS x, $2 AS y, $3 AS z) AS r",
    many: "INSERT INTO t (i, s, b) SELECT r.x, r.y, r.z
           FROM UNNEST(CAST($1 AS BIGINT[]), CAST($2 AS TEXT[]), CAST($3 AS BYTEA[])) AS r (x, y, z)",
};
const FIND: Set = Set {
    one: "SELECT i, s, b FROM t WHERE i = $1",
    many: "SELECT t.i, t.s, t.b FROM UNNEST(CAST($1 AS BIGINT[])) AS r (x) JOIN t ON t.i = r.x
           ORDER BY t.i",
};

fn find(numbers: &[i64]) -> Rows<'static> {
    Rows::new(FIND, numbers.iter().map(|number| [Param::Int(*number)]).collect::<Vec<_>>())
}

#[test]
fn sets_run_one_after_the_other_and_return_their_rows() {
    let (_, database) = named();
    let mut connection = connect(&database, Mode::Write);
    connection.begin(Mode::Write).expect("begun");
    connection.make_tables("CREATE TABLE t (i BIGINT UNIQUE, s {text}, b {bytes});").expect("made");
    let rows = [
        [Param::Int(1), Param::Text("a,{}\"'"), Param::Bytes(&[0, 255])],
        [Param::Int(i64::MIN), Param::Null, Param::Null],
        [Param::Int(3), Param::Text(""), Param::Bytes(&[])],
    ];
    let sets = [find(&[1, 3]), Rows::new(INSERT, rows), find(&[]), find(&[3, 7, i64::MIN])];
    let found = connection.run(&sets).expect("found");
    let row = |number, text: Value, bytes| Row(vec![Value::Int(number), text, bytes]);
    assert_eq!(found.len(), sets.len());
    assert_eq!(found[0], [], "before the insert");
    assert_eq!((found[1].len(), found[2].len()), (0, 0));
    let expect = [
        row(i64::MIN, Value::Null, Value::Null),
        row(3, Value::Text(String::new()), Value::Bytes(Vec::new())),
    ];
    assert_eq!(found[3], expect);
    assert_eq!(connection.run(&[]).expect("nothing to do"), Vec::<Vec<Row>>::new());
}

#[test]
fn after_a_set_that_fails_the_savepoint_can_be_restored() {
    let (_, database) = named();
    let mut connection = connect(&database, Mode::Write);
    connection.begin(Mode::Write).expect("begun");
    connection.make_tables("CREATE TABLE t (i BIGINT UNIQUE, s {text}, b {bytes});").expect("made");
    let insert = |numbers: [i64; 2]| {
        Rows::new(INSERT, numbers.map(|number| [Param::Int(number), Param::Null, Param::Null]))
    };
    connection.execute("SAVEPOINT job", &[]).expect("a savepoint");
    connection.run(&[insert([1, 2]), insert([3, 2]), find(&[1])]).expect_err("2 is there twice");
    assert!(connection.in_transaction() && connection.stalled().is_none());
    connection.execute("ROLLBACK TO job", &[]).expect("restored");
    let found = connection.run(&[insert([2, 3]), find(&[1, 2, 3])]).expect("inserted");
    assert_eq!(ints(&found[1]), [2, 3]);
    connection.commit().expect("committed");
}

/// A file of a part.
fn file(at: &str, place: Place) -> PlainFile {
    let part = Part { digest: Digest::of(at.as_bytes()), size: at.len() as i64, place };
    let path = StorePath::parse(at, "path").expect("a path");
    PlainFile::new(path, Conditions::default(), &[part]).expect("one part")
}

#[test]
fn files_are_put_together() {
    let (_, database) = named();
    let opened =
        namespace::open(&database, &Joining::alone(uuid::Uuid::new_v4()), BlobOwner::Nobody)
            .expect("opened");
    opened.engine.close();
    let mut connection = connect(&database, Mode::Write);
    connection.begin(Mode::Write).expect("begun");
    let inline = |at: &str| file(at, Place::Inline(Bytes::copy_from_slice(at.as_bytes())));
    let far = file("a/b/far", Place::Object("far".to_owned()));
    let files = [inline("a/one"), inline("a/B/two"), far, inline("a/one")];
    let files: Vec<_> = files.iter().collect();
    let mut cache = NameCache::default();
    for replaced in [[0, 0, 0, 1], [1, 1, 1, 1]] {
        let placed =
            group::put(&mut Tx::new(connection.as_mut()), &files, &mut cache).expect("put");
        let found: Vec<_> = placed.iter().flatten().map(|placed| placed.files_replaced).collect();
        assert_eq!(found, replaced);
    }
    connection.commit().expect("committed");
}
