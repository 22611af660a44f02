//! The registration of this server among others on one store: its id, its heartbeat, and what it does for dead ones.
//!
//! The heartbeat is a write transaction, which counts in the row of the server. In it the server reads the rows of the
//! others and declares dead whose count stands still.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    limits::{HEARTBEATS_IN_LEASE, SERVER_ROW_LIFE},
    namespace::{
        expelled::Expelled,
        lost_server,
        server::{self, Observer, boot_time},
        sql::Tx,
    },
    store::{Store, schedule::Schedule},
};

/// The file with the id of the last run, in the data folder.
pub const ID_FILE: &str = "server-id";

/// What follows an id whose run has found that the database has lost commits.
const LOSS: &str = " has lost commits";

/// The id of an earlier run with this data folder, which has certainly ended, and whether it has found that the database
/// has lost commits. No id if there was none, it has told its end to the database, or its row may be gone.
///
/// Without it the lease of that run ends by itself, so a failure is only logged.
pub(super) fn previous(data: &Path) -> (Option<Uuid>, bool) {
    let found = read(data);
    let found =
        found.inspect_err(|error| tracing::warn!(%error, "the id of the run before is not known"));
    found.unwrap_or_default()
}

fn read(data: &Path) -> io::Result<(Option<Uuid>, bool)> {
    let file = data.join(ID_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, false)),
        Err(error) => return Err(error),
    };
    let text = text.trim();
    let (id, has_lost_commits) =
        text.strip_suffix(LOSS).map_or((text, false), |before| (before, true));
    let age = fs::metadata(&file)?.modified()?.elapsed().unwrap_or_default();
    let id = Uuid::parse_str(id).ok().filter(|_| age < SERVER_ROW_LIFE);
    Ok((id, has_lost_commits))
}

/// Keeps the id of this run, which has its row, for the next one.
pub(super) fn keep(data: &Path, id: Uuid) {
    write(data, &format!("{id}\n"));
}

/// Keeps with the id that its run has found that the database has lost commits.
pub(super) fn keep_loss(data: &Path, id: Uuid) {
    write(data, &format!("{id}{LOSS}\n"));
}

/// Tells the next run that this one still has its row: the age of the file says whether the row may be gone.
fn touch(data: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let file = fs::File::options().write(true).open(data.join(ID_FILE));
    if let Err(error) = file.and_then(|file| Ok(futimens(&file, &times)?)) {
        tracing::debug!(%error, "the id of this run keeps its age");
    }
}

fn write(data: &Path, text: &str) {
    if let Err(error) = fs::write(data.join(ID_FILE), text) {
        tracing::warn!(%error, "the id of this run is not kept");
    }
}

/// Forgets the id of this run, which has told its end to the database.
fn forget(data: &Path) {
    if let Err(error) = fs::remove_file(data.join(ID_FILE)) {
        tracing::debug!(%error, "the id of this run stays");
    }
}

/// The time between two heartbeats.
fn every(lease: Duration) -> Duration {
    lease / HEARTBEATS_IN_LEASE
}

/// An observer of the servers beside one with this lease. A look is void if the one before is over two heartbeats ago.
pub(super) fn observer(lease: Option<Duration>) -> Arc<Mutex<Observer>> {
    Arc::new(Mutex::new(Observer::new(every(lease.unwrap_or_default()) * 2)))
}

impl Store {
    /// Waits until this server must start over under another id, because it was declared dead, the database has lost
    /// commits, or another process has its id. All calls fail as `Busy` from then on.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn expelled(&self) -> Expelled {
        self.0.engine.expelled().await
    }

    /// Tells the next run with this data folder that this one still has its row.
    pub(super) async fn touch_id(&self) -> Result<()> {
        let data = self.0.config.data.clone();
        tokio::task::spawn_blocking(move || touch(&data)).await.map_err(Error::internal)
    }

    /// Sends heartbeats until the store closes.
    pub(super) async fn keep_lease(self, lease: Duration) {
        self.every(Schedule::each(every(lease)), "the heartbeat", Self::beat).await;
    }

    /// Commits a heartbeat, and declares dead which servers stand still.
    async fn beat(&self) -> Result<()> {
        let (me, observer) = (self.0.server.clone(), Arc::clone(&self.0.observer));
        let look = move |tx: &mut Tx<'_>| {
            let mut others = server::living(tx)?;
            others.retain(|row| row.id != me);
            let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
            let dead = observer.look(&others, boot_time());
            drop(observer);
            for id in &dead {
                server::end(tx, id)?;
            }
            Ok(dead)
        };
        let looked = self.0.engine.write(None, look).await;
        let dead = looked.inspect_err(|_| {
            // What was seen in a transaction that may not be committed counts as an absence.
            self.0.observer.lock().unwrap_or_else(PoisonError::into_inner).void();
        })?;
        for id in dead {
            tracing::warn!(id, "a server was declared dead, because it has stopped to commit");
        }
        Ok(())
    }

    /// Whether this server does the background work of the store.
    pub(super) async fn is_first(&self) -> Result<bool> {
        if self.0.config.lease.is_none() {
            return Ok(true);
        }
        let me = self.0.server.clone();
        self.0.engine.read(None, move |tx: &mut Tx<'_>| server::is_first(tx, &me)).await
    }

    /// Tells the other servers that this one stops.
    pub(super) async fn tell_draining(&self) {
        self.tell("that this server stops", server::drain).await;
    }

    /// Tells the other servers, and the next run, that this one has ended.
    pub(super) async fn tell_end(&self) {
        if self.tell("that this server has ended", server::end).await {
            forget(&self.0.config.data);
        }
    }

    async fn tell(&self, what: &str, tell: fn(&mut Tx<'_>, &str) -> Result<()>) -> bool {
        if self.0.config.lease.is_none() {
            return false;
        }
        let me = self.0.server.clone();
        let told = self.0.engine.write(None, move |tx: &mut Tx<'_>| tell(tx, &me)).await;
        if let Err(error) = &told {
            tracing::warn!(?error, "the database does not know {what}");
        }
        told.is_ok()
    }

    /// Fails the operations of dead servers and drops their pins, in steps.
    pub(super) async fn clear_dead(&self) -> Result<()> {
        for id in self.0.engine.read(None, server::dead_owners).await? {
            let error = lost_server();
            loop {
                let (id, error) = (id.clone(), error.clone());
                let step = move |tx: &mut Tx<'_>| server::clear(tx, &id, &error);
                if !self.0.engine.write(None, step).await?.1 {
                    break;
                }
            }
        }
        Ok(())
    }
}
