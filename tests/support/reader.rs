//! A look at the tables of either engine, beside the store that has them open.

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

/// A connection that only reads, on a thread of its own: it blocks, which no thread of an async
/// runtime may do.
pub(crate) struct Reader(Mutex<Sender<Question>>);

/// A statement, and where its rows go.
type Question = (&'static str, Sender<Vec<Row>>);

impl Reader {
    /// Connects.
    pub(crate) fn open(database: &Database) -> Self {
        let database = database.clone();
        let (questions, asked) = mpsc::channel::<Question>();
        thread::spawn(move || {
            let mut connection = database.connect(Mode::Read).expect("connected");
            for (sql, answer) in asked {
                // Whoever asked has failed if it is gone.
                answer.send(connection.query(sql, &[]).expect(sql)).ok();
            }
        });
        Self(Mutex::new(questions))
    }

    /// The rows of a statement, on the newest snapshot.
    pub(crate) fn rows(&self, sql: &'static str) -> Vec<Row> {
        let (answer, rows) = mpsc::channel();
        self.0.lock().expect("no panic").send((sql, answer)).expect("it reads");
        rows.recv().expect(sql)
    }

    /// The number in the one row of a statement.
    pub(crate) fn number(&self, sql: &'static str) -> i64 {
        self.rows(sql).first().expect("a row").int(0).expect("a number")
    }
}
