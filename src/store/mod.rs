//! The domain: copy, upload, download, list, delete, operations, reclamation.
//!
//! The store combines the namespace and the blob store, and does not depend on tonic, axum or prost. Work
//! that must finish runs in tasks of its own, so that a caller may drop its future at any time.
//!
//! **Invariants:** the object of a part is durable before the row that names it is committed. An object without
//! a row is marked for deletion by the guard that put it. Each change becomes visible by one transaction.

mod assembly;
mod background;
mod backup;
mod budgets;
mod check;
mod comparison;
mod config;
mod copy;
mod download;
mod hash;
mod heartbeat;
mod known_tokens;
mod links;
mod listing;
mod object;
mod operations;
mod package;
mod part;
mod part_writer;
mod pieces;
mod pins;
mod poll;
mod readiness;
mod report;
mod restore;
mod run;
mod runs;
mod schedule;
mod sessions;
mod space;
mod sweep;
mod tokens;
mod unpack;
mod upload;
mod upload_spec;
mod verify;
mod watch;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64},
    },
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use uuid::Uuid;

pub use backup::{Backup, BackupMessage};
pub use check::Checking;
pub use config::Config;
pub use copy::Copying;
pub use download::Download;
pub use heartbeat::ID_FILE;
pub use links::NewLink;
pub use package::{Compression, Package, PackageHeader};
pub use restore::{Copied, Restore};
pub use sessions::Chunk;
pub use tokens::NewToken;
pub use upload::Upload;
pub use upload_spec::{Unpack, UploadSpec};
pub use watch::{AllUpdates, Updates};

pub use crate::access::Call;
use crate::{
    access::Caller,
    blob::{self, Blobs},
    error::{Error, Kind, Result},
    limits::BLOB_TIME,
    model::{
        BlobOwner, Conditions, Digest, Info, Operation, OperationId, OperationKind, OperationState,
        Stat, StorePath, Totals, reserved,
    },
    namespace::{
        self, Engine, Opened, Recovered, condition,
        expelled::Expelled,
        list, operation,
        server::{Joining, Observer},
        sql::Tx,
        tree,
    },
    store::{
        budgets::Budgets, known_tokens::KnownTokens, links::KnownLinkKey, object::PendingObjects,
        runs::Runs, space::Space,
    },
};

/// A store. Clones are cheap and share one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Engine,
    blobs: Blobs,
    runs: Runs,
    space: Space,
    tokens: KnownTokens,
    link_key: KnownLinkKey,
    config: Config,
    /// The id of this run of the server, which owns its pins and operations.
    server: String,
    /// What this server has seen of the others.
    observer: Arc<Mutex<Observer>>,
    /// The same id, as it is in the keys of its objects.
    id: Uuid,
    undecided: PendingObjects,
    budgets: Budgets,
    /// The number of jobs of the writer whose garbage is taken apart.
    settled: AtomicU64,
    /// When the changes of other servers were asked for that are known, in milliseconds of the boot time.
    polled: AtomicU64,
    /// The id of the last content whose digest the background work has looked at.
    digested: AtomicI64,
    tasks: TaskTracker,
    draining: CancellationToken,
    stop: CancellationToken,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store, recovers from an earlier run, and starts the background work.
    ///
    /// # Errors
    /// `InvalidArgument` for a store of a newer format or the objects of another store, `Busy` if
    /// another server has the database or the database or blob store does not answer, `Internal`.
    pub async fn open(config: Config, blobs: Blobs) -> Result<(Self, Recovered)> {
        let id = Uuid::now_v7();
        let (database, server) = (config.database.clone(), id.to_string());
        let root = StorePath::root();
        let owner = blobs.owner().await.map_err(|error| blob_error(&root, error))?;
        let (data, lease, purpose) = (config.data.clone(), config.lease, config.purpose);
        let open = move || {
            let (previous, has_lost_commits) = heartbeat::previous(&data);
            let joining = Joining { id, previous, has_lost_commits, lease, purpose };
            let opened = namespace::open(&database, &joining, owner);
            opened.inspect(|_| heartbeat::keep(&data, id))
        };
        let opened = tokio::task::spawn_blocking(open).await.map_err(Error::internal)??;
        let Opened { engine, recovered, store, last_change } = opened;
        if !matches!(owner, BlobOwner::Store(_))
            && let Err(error) = mark(&blobs, store).await
        {
            close(engine).await;
            return Err(error);
        }
        let store = Self(Arc::new(Inner {
            engine,
            blobs,
            runs: Runs::new(last_change),
            space: Space::new(&config),
            tokens: KnownTokens::default(),
            link_key: KnownLinkKey::default(),
            observer: heartbeat::observer(config.lease),
            config,
            server,
            id,
            undecided: PendingObjects::default(),
            budgets: Budgets::new(),
            settled: AtomicU64::new(0),
            polled: AtomicU64::new(0),
            digested: AtomicI64::new(0),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
        }));
        background::start(&store, last_change);
        Ok((store, recovered))
    }

    /// Cancels all running operations, waits for their end for at most
    /// [`CANCEL_TIME`](crate::limits::CANCEL_TIME), and then ends the streams of watchers. Transfers continue.
    pub async fn drain(&self) {
        self.tell_draining().await;
        self.cancel_all().await;
        self.0.draining.cancel();
    }

    /// Drains the store, ends its tasks, waits for them, and closes the database, which is free for another
    /// server then. What is left if this future is dropped is recovered by the next start.
    pub async fn close(&self) {
        // Operations that did not end in a first drain will not end in a second one.
        if !self.0.draining.is_cancelled() {
            self.drain().await;
        }
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.tell_end().await;
        close(self.0.engine.clone()).await;
    }

    /// Ends all calls, because this server is expelled from its store: what they do is lost with its id. The next start
    /// with its data folder begins a new epoch if the database has lost commits.
    pub async fn abandon(&self, why: Expelled) {
        if why == Expelled::CommitsLost {
            let (data, id) = (self.0.config.data.clone(), self.0.id);
            tokio::task::spawn_blocking(move || heartbeat::keep_loss(&data, id)).await.ok();
        }
        self.0.runs.refuse_all(&why.error());
        self.0.draining.cancel();
        self.0.stop.cancel();
    }

    /// A token that is cancelled when the store has drained: streams of watchers and backups end then.
    pub fn draining(&self) -> CancellationToken {
        self.0.draining.clone()
    }

    /// Spawns a task, in the tracing span of the current request. [`Store::close`] waits for it.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(work.in_current_span());
    }

    /// The metadata of one path.
    ///
    /// # Errors
    /// `PathNotFound`, `Timeout`.
    pub async fn stat(&self, path: &StorePath, call: &Call) -> Result<Stat> {
        let path = path.clone();
        self.0.engine.read(call.deadline(), move |tx| list::stat(tx, &path)).await
    }

    /// Deletes the file or folder at a path with everything below it, at constant cost. Returns its totals;
    /// zero if nothing is there.
    ///
    /// # Errors
    /// `Reserved`, `Timeout`; nothing has changed then.
    pub async fn delete(&self, path: &StorePath, call: &Call) -> Result<Totals> {
        self.delete_if(path, Conditions::default(), call).await
    }

    /// Like [`Store::delete`], under conditions on the file or folder at the path.
    ///
    /// # Errors
    /// `PreconditionFailed`, and those of [`Store::delete`].
    pub async fn delete_if(
        &self,
        path: &StorePath,
        conditions: Conditions,
        call: &Call,
    ) -> Result<Totals> {
        if path.is_reserved() {
            return Err(reserved(path, "path"));
        }
        let (path, server) = (path.clone(), self.0.server.clone());
        let caller = call.caller().clone();
        let delete = move |tx: &mut Tx<'_>| {
            condition::check(tx, &path, &conditions)?;
            let target = tree::resolve(tx, &path)?;
            let Some(gone) = tree::remove(tx, &path)? else {
                return Ok((Totals::default(), None));
            };
            if !matches!(target, Some(tree::Target::Folder(_))) {
                return Ok((gone, None));
            }
            let mut operation =
                done(tx.now()?, OperationKind::Delete, (path, StorePath::root()), gone, &caller);
            operation::insert(tx, &mut operation, &Digest::of(b"delete"), &server)?;
            Ok((gone, Some(operation)))
        };
        self.write_recorded(call, delete).await
    }

    /// Runs a write job that may insert an ended operation in its transaction. Records the operation for
    /// watchers once that is durable, even if the caller is gone.
    async fn write_recorded<T: Send + 'static>(
        &self,
        call: &Call,
        job: impl FnOnce(&mut Tx<'_>) -> Result<(T, Option<Operation>)> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        let record = move |(_, operation): &(T, Option<Operation>)| {
            if let Some(operation) = operation {
                store.0.runs.record(operation);
            }
        };
        let (value, _) = self.0.engine.write_and(call.deadline(), job, record).await?;
        Ok(value)
    }

    /// The space that the store uses.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn info(&self, call: &Call) -> Result<Info> {
        let mut info = self.0.engine.read(call.deadline(), list::info).await?;
        let disk = self.0.space.disk().await?;
        info.on_disk.bytes += info.metadata_bytes as i64;
        info.disk_capacity = disk.capacity;
        info.disk_available = disk.available;
        Ok(info)
    }
}

/// Ends the database threads after their queued jobs.
async fn close(engine: Engine) {
    tokio::task::spawn_blocking(move || engine.close()).await.ok(); // It joins threads that catch panics.
}

/// Marks the blob store as that of a store. On a full disk a later start does so, so that this start can
/// serve reads and deletes.
async fn mark(blobs: &Blobs, store: i64) -> Result<()> {
    match blobs.mark(store).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            let message =
                "another store has begun to use this blob store meanwhile; choose another --blobs";
            Err(Error::new(Kind::InvalidArgument, message))
        }
        Err(error @ blob::Error::NoSpace(_)) => {
            tracing::warn!(?error, "the blob store is not marked as that of this store");
            Ok(())
        }
        Err(error) => Err(blob_error(&StorePath::root(), error)),
    }
}

/// An operation that begins and succeeds in one transaction.
fn done(
    now: i64,
    kind: OperationKind,
    (source, destination): (StorePath, StorePath),
    totals: Totals,
    caller: &Caller,
) -> Operation {
    Operation {
        id: OperationId::new(),
        kind,
        state: OperationState::Succeeded,
        source,
        destination,
        progress: namespace::copy::all_done(totals),
        started: now,
        updated: now,
        finished: Some(now),
        error: None,
        caller: caller.name().to_owned(),
        credential: caller.credential().unwrap_or_default().to_owned(),
        change: 0,
    }
}

/// Translates an error of the blob store for the reader or writer of `path`; the root stands for no path.
fn blob_error(path: &StorePath, error: blob::Error) -> Error {
    let about = if path.is_root() { String::new() } else { format!(" for \"{path}\"") };
    let (kind, message) = match &error {
        blob::Error::NoSpace(_) => (
            Kind::NoSpace,
            format!(
                "the disk is full, so that \"{path}\" cannot be stored; delete something and try again"
            ),
        ),
        blob::Error::Corrupt { .. } | blob::Error::Missing { .. } => {
            (Kind::Corrupt, format!("the content of \"{path}\" is corrupt; upload it again"))
        }
        blob::Error::Stalled { .. } => {
            let seconds = BLOB_TIME.as_secs();
            let message =
                format!("the blob store did not answer{about} within {seconds} s; try again later");
            (Kind::Busy, message)
        }
        blob::Error::Io(_) => {
            (Kind::Internal, format!("the blob store failed{about}; the server's log says why"))
        }
    };
    Error::new(kind, message).with("path", path.as_str()).because(error)
}

#[cfg(test)]
mod tests;
