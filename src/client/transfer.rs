//! Progress and reports of uploads and downloads.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::mpsc;

use crate::wire::v1::Entry;

/// The progress of a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files done.
    pub files_done: u64,
    /// Total number of files; 0 while unknown.
    pub files_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Total number of bytes; 0 while unknown.
    pub bytes_total: u64,
}

/// A transferred file: its entry in the store and its local path.
#[derive(Clone, Debug)]
pub struct TransferredFile {
    /// The file in the store.
    pub entry: Entry,
    /// The local file; `None` for an upload from a stream, and for a mark file without a local file.
    pub local: Option<PathBuf>,
    /// The number of files in the store that it has replaced; `None` for a download.
    pub files_replaced: Option<u64>,
}

/// Reports a transferred file; a closed channel is not an error of the transfer.
pub(super) async fn report(done: &mpsc::Sender<TransferredFile>, moved: TransferredFile) {
    done.send(moved).await.ok();
}

/// The counters of a running transfer; other threads may read them at any time.
///
/// Each counter is updated separately: a reader may see the bytes of a file before the file is counted.
#[derive(Debug, Default)]
pub struct TransferProgress {
    files_done: AtomicU64,
    files_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    files_replaced: AtomicU64,
}

impl TransferProgress {
    /// The progress of the transfer.
    pub fn progress(&self) -> Progress {
        Progress {
            files_done: self.files_done.load(Relaxed),
            files_total: self.files_total.load(Relaxed),
            bytes_done: self.bytes_done.load(Relaxed),
            bytes_total: self.bytes_total.load(Relaxed),
        }
    }

    /// The number of files in the store that were replaced so far.
    pub fn files_replaced(&self) -> u64 {
        self.files_replaced.load(Relaxed)
    }

    /// Adds to the files and bytes done.
    pub fn add(&self, files: u64, bytes: u64) {
        self.files_done.fetch_add(files, Relaxed);
        self.bytes_done.fetch_add(bytes, Relaxed);
    }

    /// Adds to the totals. Only the caller of [`Client::upload`](crate::client::Client::upload) has to do this; other
    /// transfers do it themselves, except an upload from a stream, whose size is unknown.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Relaxed);
        self.bytes_total.fetch_add(bytes, Relaxed);
    }
}

/// The bytes counted for one attempt to transfer one file. Dropping it subtracts them again, unless the file has
/// arrived.
#[derive(Debug)]
pub(super) struct Attempt {
    tally: Arc<TransferProgress>,
    bytes: u64,
    arrived: bool,
}

impl Attempt {
    /// Begins an attempt.
    pub(super) fn begin(tally: &Arc<TransferProgress>) -> Self {
        Self { tally: Arc::clone(tally), bytes: 0, arrived: false }
    }

    /// Adds to the totals of the transfer.
    pub(super) fn expect(&self, files: u64, bytes: u64) {
        self.tally.expect(files, bytes);
    }

    /// Counts bytes that were read or received.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.tally.bytes_done.fetch_add(bytes as u64, Relaxed);
    }

    /// The bytes counted so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends a successful attempt: keeps the bytes, and counts the file and the files that it has replaced.
    pub(super) fn arrived(mut self, files_replaced: u64) {
        self.arrived = true;
        self.tally.files_replaced.fetch_add(files_replaced, Relaxed);
        self.tally.files_done.fetch_add(1, Relaxed);
    }
}

impl Drop for Attempt {
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
        let tally = Arc::new(TransferProgress::default());
        tally.expect(1, 8);
        let mut broken = Attempt::begin(&tally);
        broken.moved(5);
        assert_eq!(tally.progress().bytes_done, 5);
        drop(broken);
        assert_eq!(tally.progress().bytes_done, 0);
        let mut whole = Attempt::begin(&tally);
        whole.moved(8);
        assert_eq!(whole.bytes(), 8);
        whole.arrived(3);
        assert_eq!(tally.files_replaced(), 3);
        let done = Progress { files_done: 1, files_total: 1, bytes_done: 8, bytes_total: 8 };
        assert_eq!(tally.progress(), done);
    }
}
