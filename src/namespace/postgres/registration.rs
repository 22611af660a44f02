//! The row of this server in the table `server`, which each write transaction counts up.
//!
//! The count is the fence and the verdict. A row that is dead, or is not there, keeps a server that was declared dead
//! from writing. And when the connection is lost between COMMIT and its response, the next write transaction finds the
//! count of that commit, or the one before. It reads the row under the write lock, because the COMMIT may still be on
//! its way otherwise.
//!
//! **Invariant:** the count that a transaction finds is the one that this server has committed last, plus one. Less: the
//! database has lost commits, by a failover or a restore. More: another process writes with the same id.

use std::{thread::sleep, time::Instant};

use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    limits::{VERDICT_PAUSE_FIRST, VERDICT_PAUSE_MAX, VERDICT_TIME},
    namespace::{
        expelled::Expelled,
        postgres::{BEGIN_WRITE, NOW, PostgresConnection},
        sql::{Connection as _, Mode},
    },
};

/// The row of this server.
#[derive(Debug)]
pub(super) struct Registration {
    /// Begins a write transaction: the write lock first. The fence is a statement of its own after it, which sees what
    /// was committed while it waited for the lock.
    begin: String,
    row: String,
    /// The count that was committed last.
    committed: i64,
    /// Whether it is not known if the next count is committed as well.
    is_in_doubt: bool,
    /// Why no further transaction begins, and whether the commit that was in doubt then has been made.
    expelled: Option<(Expelled, Option<bool>)>,
}

impl Registration {
    /// The row of the server `id`, which is a UUID and has the count `committed`.
    pub(super) fn new(id: &Uuid, committed: i64) -> Self {
        let begin = format!(
            "{BEGIN_WRITE}; UPDATE server SET batch = batch + 1
             WHERE id = '{id}' AND state <> 3 RETURNING batch, ({NOW})"
        );
        let row = format!("SELECT batch FROM server WHERE id = '{id}'");
        Self { begin, row, committed, is_in_doubt: false, expelled: None }
    }

    /// The statement that reads the row, dead or alive.
    pub(super) fn row(&self) -> &str {
        &self.row
    }

    /// Why this server never writes again under its id.
    pub(super) fn expelled(&self) -> Option<Expelled> {
        self.expelled.map(|(why, _)| why)
    }

    /// The statements that begin a write transaction. The last one returns the count and the time.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    /// Takes note of the count that a write transaction has found and raised. Returns whether the commit that was in doubt
    /// has been made.
    ///
    /// # Errors
    /// `Busy` if the database has lost commits or another process writes with the same id. The transaction must be rolled
    /// back, and there is none after it.
    pub(super) fn found(&mut self, count: i64) -> Result<bool> {
        let was_made = match count.checked_sub(self.committed) {
            Some(1) => false,
            Some(2) if self.is_in_doubt => true,
            other => {
                let is_more = other.is_some_and(|more| more > 1);
                let why = if is_more { Expelled::Cloned } else { Expelled::CommitsLost };
                return Err(self.expel(why, None));
            }
        };
        self.committed += i64::from(was_made);
        self.is_in_doubt = false;
        Ok(was_made)
    }

    /// Takes note that a write transaction has found no living row, and the count of a dead one. Returns the error of the
    /// transaction.
    pub(super) fn missed(&mut self, dead: Option<i64>) -> Error {
        let Some(count) = dead else { return self.expel(Expelled::CommitsLost, None) };
        let was_made = match count.checked_sub(self.committed) {
            Some(0) => false,
            Some(1) if self.is_in_doubt => true,
            Some(1..) => return self.expel(Expelled::Cloned, None),
            _ => return self.expel(Expelled::CommitsLost, None),
        };
        self.expel(Expelled::Dead, Some(was_made))
    }

    fn expel(&mut self, why: Expelled, was_made: Option<bool>) -> Error {
        self.expelled = Some((why, was_made));
        tracing::error!("{}", why.error());
        why.error()
    }

    /// Takes note that the transaction is committed.
    pub(super) fn committed(&mut self) {
        self.committed += 1;
    }

    /// Takes note that it is not known whether the transaction is committed.
    pub(super) fn in_doubt(&mut self) {
        self.is_in_doubt = true;
    }
}

impl PostgresConnection {
    /// Finds out whether a commit was made whose response is lost, for at most [`VERDICT_TIME`].
    ///
    /// # Errors
    /// `Busy` if the change was not made, `VerdictUnknown` if that cannot be said.
    pub(super) fn verdict(&mut self, lost: Error) -> Result<()> {
        tracing::warn!(error = ?lost, "the connection to the database was lost during a commit");
        let end = Instant::now() + VERDICT_TIME;
        let mut pause = VERDICT_PAUSE_FIRST;
        let begun = loop {
            self.stalled = None;
            let begun = self.try_begin(Mode::Write);
            self.rollback();
            match begun {
                Err(error)
                    if error.kind() == Kind::Busy
                        && self.expelled().is_none()
                        && Instant::now() + pause < end =>
                {
                    sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0));
                    pause = (pause * 2).min(VERDICT_PAUSE_MAX);
                }
                begun => break begun,
            }
        };
        // A dead row has the verdict, too.
        let of_dead = self.registration.as_ref().and_then(|row| row.expelled).and_then(|it| it.1);
        match of_dead.map_or(begun, Ok) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message =
                    "the connection to the database was lost, and nothing has changed; try again";
                Err(Error::new(Kind::Busy, message).because(lost))
            }
            Err(error) => Err(unknown(error)),
        }
    }
}

/// The error of a commit of which it is not known whether it was made.
pub(super) fn unknown(error: Error) -> Error {
    let message =
        "the database did not say whether it has made the change; look at it, or try again";
    Error::new(Kind::VerdictUnknown, message).because(error)
}

/// The count in the one row of the last statement, and the time if the statement returns it; `None` without a row.
pub(super) fn count(answers: &[SimpleQueryMessage]) -> Result<Option<(i64, Option<i64>)>> {
    let row = answers.iter().rev().find_map(|answer| {
        if let SimpleQueryMessage::Row(row) = answer { Some(row) } else { None }
    });
    let Some(row) = row.filter(|row| row.columns().first().is_some_and(|it| it.name() == "batch"))
    else {
        return Ok(None);
    };
    let number = |column| row.try_get(column).ok().flatten().and_then(|text| text.parse().ok());
    let count = number(0).ok_or_else(|| Error::internal("the count of a server is no number"))?;
    Ok(Some((count, number(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Registration {
        Registration::new(&Uuid::nil(), 7)
    }

    #[test]
    fn each_commit_raises_the_count_by_one() {
        let mut row = new();
        assert!(!row.found(8).expect("the next"));
        // What was rolled back has not raised it.
        assert!(!row.found(8).expect("the next"));
        row.committed();
        assert!(!row.found(9).expect("the next"));
    }

    #[test]
    fn a_commit_in_doubt_was_made_or_not() {
        for (count, was_made) in [(8, false), (9, true)] {
            let mut row = new();
            row.in_doubt();
            assert_eq!(row.found(count).expect("known"), was_made);
            row.committed();
            assert!(!row.found(count + 1).expect("the next"));
        }
    }

    #[test]
    fn other_counts_expel_the_server() {
        for (is_in_doubt, count, why) in [
            (false, 7, Expelled::CommitsLost),
            (true, 7, Expelled::CommitsLost),
            (true, i64::MIN, Expelled::CommitsLost),
            (false, 9, Expelled::Cloned),
            (true, 10, Expelled::Cloned),
        ] {
            let mut row = new();
            if is_in_doubt {
                row.in_doubt();
            }
            assert_eq!(row.expelled(), None);
            assert_eq!(row.found(count).expect_err("expelled").kind(), Kind::Busy);
            assert_eq!(row.expelled(), Some(why), "{count}");
        }
    }

    #[test]
    fn a_dead_row_has_the_verdict_and_a_missing_one_has_none() {
        for (is_in_doubt, count, expelled) in [
            (false, Some(7), (Expelled::Dead, Some(false))),
            (true, Some(7), (Expelled::Dead, Some(false))),
            (true, Some(8), (Expelled::Dead, Some(true))),
            (false, Some(8), (Expelled::Cloned, None)),
            (true, Some(9), (Expelled::Cloned, None)),
            (true, Some(6), (Expelled::CommitsLost, None)),
            (true, None, (Expelled::CommitsLost, None)),
        ] {
            let mut row = new();
            if is_in_doubt {
                row.in_doubt();
            }
            assert_eq!(row.missed(count).kind(), Kind::Busy);
            assert_eq!(row.expelled, Some(expelled), "{count:?}");
        }
    }
}
