//! A circuit breaker: callers do not wait, one after the other, for a database that does not respond.
//!
//! ```text
//!   closed ──── a begin that fails as busy, or a statement that takes too long ────► open
//!     ▲                                                                               │
//!     │ answers                        the pause is over: one tries                   │
//!     └─────────────────────────────── half open ◄────────────────────────────────────┤
//!                                          └──── fails: open, for twice as long ──────┘
//! ```
//!
//! While the breaker is open, and while one thread tries in the state half open, all other jobs are refused
//! at once, as `Busy`.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Kind, Result},
    limits::{DATABASE_PAUSE_FIRST, DATABASE_PAUSE_MAX},
    namespace::sql::{Connection, Mode},
};

/// The circuit breaker of the writer, or of all readers; closed while it holds `None`.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    /// Why the last try failed.
    error: Error,
    pause: Duration,
    /// When the next try is allowed.
    until: Instant,
    is_tried: bool,
}

impl Breaker {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a transaction, unless the breaker is open. After a success the caller must call
    /// [`Breaker::judge`] at the end of the transaction.
    ///
    /// # Errors
    /// The error of the last try while the breaker is open, or the error of the begin.
    pub(super) fn begin(&self, connection: &mut dyn Connection, mode: Mode) -> Result<()> {
        if let Some(open) = &mut *self.open() {
            if open.is_tried || Instant::now() < open.until {
                return Err(open.error.clone());
            }
            open.is_tried = true;
        }
        connection.begin(mode).inspect_err(|error| {
            if error.kind() == Kind::Busy {
                self.failed(error.clone());
            } else {
                self.answered();
            }
        })
    }

    /// Closes or opens the breaker at the end of a transaction. Returns whether the database responded to
    /// every statement in time.
    pub(super) fn judge(&self, connection: &dyn Connection) -> bool {
        let stalled = connection.stalled();
        let is_well = stalled.is_none();
        stalled.map_or_else(|| self.answered(), |error| self.failed(error));
        is_well
    }

    /// The error that callers are refused with; `None` while the breaker is closed.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.open().as_ref().map(|open| open.error.clone())
    }

    /// Ends the pause at once, and returns its length.
    #[cfg(test)]
    pub(super) fn over(&self) -> Duration {
        let mut open = self.open();
        let open = open.as_mut().expect("open");
        open.until = Instant::now();
        open.pause
    }

    fn answered(&self) {
        if self.open().take().is_some() {
            tracing::info!("the database answers again");
        }
    }

    fn failed(&self, error: Error) {
        let mut open = self.open();
        let pause = match &*open {
            None => {
                tracing::warn!(
                    ?error,
                    "the database does not answer; calls are refused until it does"
                );
                DATABASE_PAUSE_FIRST
            }
            Some(open) if open.is_tried => (open.pause * 2).min(DATABASE_PAUSE_MAX),
            // Another thread began before the breaker opened, and failed too.
            Some(open) => open.pause,
        };
        *open = Some(Open { error, pause, until: Instant::now() + pause, is_tried: false });
    }
}
