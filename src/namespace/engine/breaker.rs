//! What keeps callers from waiting, one after the other, for a database that does not answer.
//!
//! ```text
//!   closed ──── a begin that fails as busy, or a statement that takes too long ────► open
//!     ▲                                                                               │
//!     │ answers                        the pause is over: one tries                   │
//!     └─────────────────────────────── half open ◄────────────────────────────────────┤
//!                                          └──── fails: open, for twice as long ──────┘
//! ```
//!
//! While it is open, and while one tries, all others are refused as busy at once.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Kind, Result},
    limits::{DATABASE_PAUSE_FIRST, DATABASE_PAUSE_MAX},
    namespace::sql::{Connection, Mode},
};

/// The breaker of some database threads that do the same.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    /// Why the last try failed.
    error: Error,
    pause: Duration,
    /// When somebody may try again.
    until: Instant,
    is_tried: bool,
}

impl Breaker {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a transaction, unless a database that does not answer is left alone. Whoever has begun calls
    /// [`Breaker::judge`] in the end.
    ///
    /// # Errors
    /// Why the last try failed, or that of the begin.
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

    /// Looks at the end of a transaction whether the database has answered every statement. Returns it.
    pub(super) fn judge(&self, connection: &dyn Connection) -> bool {
        let stalled = connection.stalled();
        let is_well = stalled.is_none();
        stalled.map_or_else(|| self.answered(), |error| self.failed(error));
        is_well
    }

    /// Why callers are refused, if they are.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.open().as_ref().map(|open| open.error.clone())
    }

    /// Ends a pause, and returns how long it was to be.
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
            // It failed for another thread, too, that had begun before.
            Some(open) => open.pause,
        };
        *open = Some(Open { error, pause, until: Instant::now() + pause, is_tried: false });
    }
}
