//! Migrations: a store is copied into another one, whatever databases and blob stores the two have.
//!
//! A pass reads a snapshot of the source as a backup for a copy, and the target takes it in one last transaction. Parts
//! and folders that the target has from earlier passes are not sent. A source that serves clients is read over gRPC, and
//! again until nothing has changed meanwhile, at most [`MIGRATE_PASSES_MAX`] times. A source that is stopped is opened here
//! and stands still, so one pass is enough; then the tokens and the key of links come along.
//!
//! **Invariants:** the source is only pinned. The target is marked as an unfinished copy before the first change, and as
//! whole in the last transaction, which compares the totals of both. So a migration may be killed at any moment; the next
//! one goes on with what is there.
//!
//! **Deliberately absent:** operations and upload sessions. They belong to the servers of the source.

mod plan;
mod source;

use std::sync::Arc;

pub use plan::Plan;

use super::{Error, config::Config, locks::Locks, open};
use crate::{
    client::{Client, transfer::TransferProgress},
    limits::MIGRATE_PASSES_MAX,
    model::{BackupRecord, CopySource, Moved},
    namespace::{Purpose, migration::Credentials},
    server::migrate::{
        plan::End,
        source::{Reading, Source},
    },
    store::{BackupMessage, Call, Copied, Restore, Store},
};

/// Copies the source of a plan into its target. `client` is connected to the server of the source; it is needed if the
/// plan names no store that is stopped.
///
/// # Errors
///
/// A source or target that another server has open, that cannot be reached, or that is of a newer format; a source that
/// is an unfinished copy; a target that holds something else than an earlier copy of the source; what breaks a transfer.
/// The target is then as it was, or an unfinished copy, with which the next migration goes on.
///
/// # Cancel safety
///
/// As after an error, when the future is dropped. The locks are held until the process ends.
pub async fn run(
    plan: Plan,
    client: Option<Client>,
    progress: Arc<TransferProgress>,
) -> Result<Moved, Error> {
    let source = match (plan.source, client) {
        (Some(end), _) => Source::Stopped(OpenEnd::open(end, Purpose::Command).await?),
        (None, Some(client)) => Source::Running(Box::new(client)),
        (None, None) => return Err(Error::new("no server and no store to copy from is named")),
    };
    let moved = Box::pin(into(&source, plan.target, &progress)).await;
    source.close().await;
    moved
}

/// Opens the target and copies into it.
async fn into(source: &Source, target: End, progress: &TransferProgress) -> Result<Moved, Error> {
    // The source comes first: if it cannot be read, no target is made.
    let first = source.begin().await?;
    let target = OpenEnd::open(target, Purpose::Copy).await?;
    let moved = Box::pin(passes(source, first, &target.store, progress)).await;
    target.close().await;
    moved
}

/// Reads the source until it has not changed since the last pass.
async fn passes(
    source: &Source,
    first: Reading,
    target: &Store,
    progress: &TransferProgress,
) -> Result<Moved, Error> {
    let passes_max = if source.is_running() { MIGRATE_PASSES_MAX } else { 1 };
    let credentials = source.credentials().await?;
    let tokens = credentials.as_ref().map(Credentials::tokens);
    let mut moved = Moved { tokens, ..Moved::default() };
    let mut seen: Option<CopySource> = None;
    let mut next = Some(first);
    while moved.passes < passes_max {
        let reading = match next.take() {
            Some(reading) => reading,
            None => source.begin().await?,
        };
        let state = reading.header.source;
        if seen.is_some() && state == seen {
            break;
        }
        if moved.passes == 0 {
            let expected = reading.header.expected;
            progress.expect(expected.files as u64, expected.bytes as u64);
        }
        let copied = pass(reading, target, credentials.clone(), progress).await?;
        moved.passes += 1;
        moved.totals = copied.totals;
        moved.parts += copied.parts;
        moved.bytes += copied.bytes;
        moved.folders += copied.folders;
        seen = state;
    }
    Ok(moved)
}

/// Copies one snapshot of the source.
async fn pass(
    mut reading: Reading,
    target: &Store,
    credentials: Option<Credentials>,
    progress: &TransferProgress,
) -> Result<Copied, Error> {
    let refused = |error| Error::new("cannot migrate").because(error);
    let call = Call::system();
    let mut restore = target.restore_copy(&call).map_err(refused)?;
    restore.record(BackupRecord::Header(reading.header)).await.map_err(refused)?;
    while let Some(message) = reading.next().await? {
        take(message, &mut reading, &mut restore, progress).await?;
    }
    restore.finish_copy(credentials, &call).await.map_err(refused)
}

/// Gives one message of the source to the target.
async fn take(
    message: BackupMessage,
    reading: &mut Reading,
    restore: &mut Restore,
    progress: &TransferProgress,
) -> Result<(), Error> {
    let refused = |error| Error::new("cannot migrate").because(error);
    match message {
        BackupMessage::Offer(parts) => {
            let sizes: Vec<i64> = parts.iter().map(|part| part.size).collect();
            let wanted = restore.offer(parts).await.map_err(refused)?;
            let there: i64 = sizes.iter().sum::<i64>()
                - wanted.iter().filter_map(|at| sizes.get(*at as usize)).sum::<i64>();
            progress.add(0, there.unsigned_abs());
            reading.want(Some(wanted)).await;
        }
        BackupMessage::Folders(folders) => {
            let wanted = restore.offer_folders(folders).await.map_err(refused)?;
            reading.want(wanted).await;
        }
        BackupMessage::Record(record) => {
            if matches!(record, BackupRecord::Content { .. }) {
                progress.add(1, 0);
            }
            restore.record(record).await.map_err(refused)?;
        }
        BackupMessage::Data(data) => {
            progress.add(0, data.len() as u64);
            restore.data(data).await.map_err(refused)?;
        }
    }
    Ok(())
}

/// The source or the target, opened.
struct OpenEnd {
    store: Store,
    /// Held until the store is closed.
    locks: Locks,
}

impl OpenEnd {
    async fn open(end: End, purpose: Purpose) -> Result<Self, Error> {
        let End { config, side, is_data_own } = end;
        Self::try_open(&config, purpose, is_data_own)
            .await
            .map_err(|error| Error::new(format!("cannot open the {side}")).because(error))
    }

    async fn try_open(config: &Config, purpose: Purpose, is_data_own: bool) -> Result<Self, Error> {
        let mut locks = Locks::take(config)?;
        let (blobs, leftovers) = open::blobs(config).await?;
        let store = open::store(config, purpose, blobs, leftovers).await?;
        // A folder that was only made for the locks goes with them.
        if is_data_own {
            locks.keep();
        }
        Ok(Self { store, locks })
    }

    async fn close(self) {
        self.store.close().await;
        drop(self.locks);
    }
}
