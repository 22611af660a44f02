//! What an upload or a download has done so far, and what it reports.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::mpsc;

use crate::wire::v1::Entry;

/// How far a piece of work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files done.
    pub files_done: u64,
    /// Files in all; 0 while that is not known.
    pub files_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all; 0 while that is not known.
    pub bytes_total: u64,
}

/// A file that has arrived, with both its places.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The file in the store.
    pub entry: Entry,
    /// The file on this side; none for a mark that was made for a folder.
    pub local: Option<PathBuf>,
    /// How many files in the store it has replaced; none for a download.
    pub files_replaced: Option<u64>,
}

/// Tells of a file; that nobody listens is no failure of the transfer.
pub(super) async fn report(done: &mpsc::Sender<Moved>, moved: Moved) {
    done.send(moved).await.ok();
}

/// Counts the work of a transfer while it runs; the transfer writes, anybody reads.
///
/// The counters are apart from each other: a reader may see a file's bytes before the file.
#[derive(Debug, Default)]
pub struct Tally {
    files_done: AtomicU64,
    files_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    files_replaced: AtomicU64,
}

impl Tally {
    /// How far the transfer is.
    pub fn progress(&self) -> Progress {
        Progress {
            files_done: self.files_done.load(Relaxed),
            files_total: self.files_total.load(Relaxed),
            bytes_done: self.bytes_done.load(Relaxed),
            bytes_total: self.bytes_total.load(Relaxed),
        }
    }

    /// How many files in the store were replaced so far.
    pub fn files_replaced(&self) -> u64 {
        self.files_replaced.load(Relaxed)
    }

    /// Adds to what is done.
    pub(super) fn add(&self, files: u64, bytes: u64) {
        self.files_done.fetch_add(files, Relaxed);
        self.bytes_done.fetch_add(bytes, Relaxed);
    }

    /// Adds to what there is to do. Transfers of folders and downloads do so themselves.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Relaxed);
        self.bytes_total.fetch_add(bytes, Relaxed);
    }
}

/// The bytes that one try to move one file has counted; they are taken back unless it arrives.
#[derive(Debug)]
pub(super) struct Try {
    tally: Arc<Tally>,
    bytes: u64,
    arrived: bool,
}

impl Try {
    /// Begins a try.
    pub(super) fn begin(tally: &Arc<Tally>) -> Self {
        Self { tally: Arc::clone(tally), bytes: 0, arrived: false }
    }

    /// Counts bytes that have moved.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.tally.bytes_done.fetch_add(bytes as u64, Relaxed);
    }

    /// The bytes counted so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps what was counted, and counts the file and those that it has replaced.
    pub(super) fn arrived(mut self, files_replaced: u64) {
        self.arrived = true;
        self.tally.files_replaced.fetch_add(files_replaced, Relaxed);
        self.tally.files_done.fetch_add(1, Relaxed);
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if !self.arrived {
            self.tally.bytes_done.fetch_sub(self.bytes, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_arrives_counts() {
        let tally = Arc::new(Tally::default());
        tally.expect(1, 8);
        let mut broken = Try::begin(&tally);
        broken.moved(5);
        assert_eq!(tally.progress().bytes_done, 5);
        drop(broken);
        assert_eq!(tally.progress().bytes_done, 0);
        let mut whole = Try::begin(&tally);
        whole.moved(8);
        assert_eq!(whole.bytes(), 8);
        whole.arrived(3);
        assert_eq!(tally.files_replaced(), 3);
        let done = Progress { files_done: 1, files_total: 1, bytes_done: 8, bytes_total: 8 };
        assert_eq!(tally.progress(), done);
    }
}
