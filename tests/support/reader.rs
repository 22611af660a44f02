//! A reader of the tables of a store that is open, on either engine.

use std::{
    sync::{
        Mutex,
        mpsc::{self, Sender},
    },
    thread,
};

use imagestore::namespace::{
    Database,
    sql::{Mode, Row},
};

/// A read-only connection on a thread of its own, because a query blocks and must not run on a thread of an async
/// runtime.
pub(crate) struct Reader(Mutex<Sender<Question>>);

/// A statement, and the channel for its rows.
type Question = (&'static str, Sender<Vec<Row>>);

impl Reader {
    /// Connects.
    pub(crate) fn open(database: &Database) -> Self {
        let database = database.clone();
        let (questions, asked) = mpsc::channel::<Question>();
        thread::spawn(move || {
            let mut connection = database.connect(Mode::Read).expect("connected");
            for (sql, answer) in asked {
                // A closed channel means that the calling test has failed already.
                answer.send(connection.query(sql, &[]).expect(sql)).ok();
            }
        });
        Self(Mutex::new(questions))
    }

    /// The rows of a statement on the newest snapshot. Blocks.
    pub(crate) fn rows(&self, sql: &'static str) -> Vec<Row> {
        let (answer, rows) = mpsc::channel();
        self.0.lock().expect("no panic").send((sql, answer)).expect("it reads");
        rows.recv().expect(sql)
    }

    /// The integer in the first column of the first row. Blocks.
    pub(crate) fn number(&self, sql: &'static str) -> i64 {
        self.rows(sql).first().expect("a row").int(0).expect("a number")
    }
}
