//! The audit log: a line of JSON at the end of each call that changes something, of backups, and of each refusal.
//!
//! A thread of its own writes the lines, so that a slow disk delays no call. A line that cannot be written is lost and
//! counted: the log never stops a call. Only a start fails with it.

mod repeats;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use serde_json::Value;
use tokio::time::Instant;
use tracing::error;

use self::writer::Writer;
use super::Error;
use crate::limits::{AUDIT_ERROR_EVERY, AUDIT_LINES_WAITING_MAX};

/// Where the audit log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    #[default]
    Off,
    /// To the standard error.
    Stderr,
    /// To the end of a file, which is made if it is missing.
    File(PathBuf),
}

/// The settings of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where it goes.
    pub target: Target,
    /// Whether it has the calls that only read, too.
    pub reads: bool,
}

/// One entry.
pub(super) struct Entry {
    /// The line.
    pub(super) line: Value,
    /// What makes two refusals equal, if the call was refused: of equal ones, one a second is written, with their
    /// number.
    pub(super) refusal: Option<String>,
}

/// The audit log of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Audit(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    entries: SyncSender<Entry>,
    reads: bool,
    losses: Arc<Losses>,
}

/// The lines that were not written.
#[derive(Debug, Default)]
struct Losses {
    count: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Losses {
    /// Counts lost lines, and logs their number now and then.
    fn add(&self, count: u64, why: &str) {
        let lost = self.count.fetch_add(count, Relaxed) + count;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= AUDIT_ERROR_EVERY) {
            *told = Some(Instant::now());
            drop(told);
            error!(lost, why, "lines of the audit log are lost");
        }
    }
}

/// The thread that writes the log. It ends after every clone of its [`Audit`] is dropped.
#[derive(Debug)]
pub(super) struct AuditThread(Option<JoinHandle<()>>);

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub(super) fn open(settings: &Settings) -> Result<(Self, AuditThread), Error> {
        let Some(writer) = Writer::open(&settings.target)? else {
            return Ok((Self(None), AuditThread(None)));
        };
        let (entries, waiting) = sync_channel(AUDIT_LINES_WAITING_MAX);
        let losses = Arc::new(Losses::default());
        let counted = Arc::clone(&losses);
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&waiting, &counted))
            .map_err(|error| {
                Error::new("cannot start the thread of the audit log").because(error)
            })?;
        let inner = Inner { entries, reads: settings.reads, losses };
        Ok((Self(Some(Arc::new(inner))), AuditThread(Some(thread))))
    }

    /// No log.
    pub(super) fn off() -> Self {
        Self(None)
    }

    /// Whether there is a log.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the log has the calls that only read.
    pub(super) fn has_reads(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.reads)
    }

    /// Writes an entry, without waiting.
    pub(super) fn write(&self, entry: Entry) {
        let Some(inner) = &self.0 else { return };
        match inner.entries.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => inner.losses.add(1, "the disk is too slow"),
            Err(TrySendError::Disconnected(_)) => inner.losses.add(1, "its thread has ended"),
        }
    }
}

impl AuditThread {
    /// Waits until all lines are written. Blocks.
    pub(super) fn join(self) {
        if let Some(thread) = self.0 {
            // A thread that has panicked has logged it.
            thread.join().ok();
        }
    }
}
