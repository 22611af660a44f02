//! The sweep: objects that no row names or will name are marked for deletion.
//!
//! It judges by the server in the key of an object, never by age: that one alone can still name the object. It lists the
//! objects first and looks for their rows then. Of another server that lives it only notes the object as a suspect, which
//! that server judges itself.

use tokio::time::Instant;

use futures::StreamExt;

use crate::{
    blob::{self, ObjectInfo, Putter, Unlisted},
    error::{Error, Result},
    limits::{SUSPECTS_STEP, SWEEP_AGE_UNNAMED, SWEEP_STEP, micros},
    model::StorePath,
    namespace::{
        garbage, server,
        sql::Tx,
        suspect::{self, Suspect},
    },
    store::{Store, blob_error},
};

impl Store {
    /// Marks objects that no row names or will name for deletion, and deletes staged files: those that a crash or
    /// a failed put left. The background work does the same.
    ///
    /// # Errors
    /// `Internal` or `Busy` if a folder of the blob store cannot be listed; the other folders are swept,
    /// unless the blob store does not answer.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn sweep(&self) -> Result<()> {
        let started = Instant::now();
        let mut failure = None;
        let mut removed = self.sweep_objects(&mut failure).await?;
        let undecided = self.0.undecided.clone();
        match self.0.blobs.sweep_staging(move |key| undecided.contains(key)).await {
            Ok(files) => removed += files,
            Err(error) => {
                failure.get_or_insert(blob_error(&StorePath::root(), error));
            }
        }
        if removed > 0 {
            tracing::info!(removed, seconds = started.elapsed().as_secs(), "leftovers are swept");
        }
        failure.map_or(Ok(()), Err)
    }

    /// Marks the objects of a sweep. Returns their number; `failure` becomes the first failure of a listing.
    async fn sweep_objects(&self, failure: &mut Option<Error>) -> Result<u64> {
        let now = self.0.engine.read(None, |tx: &mut Tx<'_>| tx.now()).await?;
        // From anywhere, so that servers which restart often sweep all of it in the end.
        let mut objects = self.0.blobs.list_from(fastrand::u8(..));
        let (mut removed, mut batch, mut is_over) = (0, Vec::new(), false);
        while !is_over {
            match objects.next().await {
                Some(Ok(object)) if self.can_be_named(&object, now) => {}
                Some(Ok(object)) => batch.push(object),
                Some(Err(Unlisted { error, .. })) => {
                    is_over = matches!(error, blob::Error::Stalled { .. });
                    failure.get_or_insert(blob_error(&StorePath::root(), error));
                }
                None => is_over = true,
            }
            if batch.len() == SWEEP_STEP || is_over {
                removed += self.bury_all(std::mem::take(&mut batch)).await?;
            }
        }
        Ok(removed)
    }

    /// Whether this server may still write a row that names an object, or one of an old program may; `now` is in
    /// microseconds since 1970. Of the objects of old programs that name no run the age decides.
    pub(super) fn can_be_named(&self, object: &ObjectInfo, now: i64) -> bool {
        match blob::putter(&object.key) {
            Putter::Server(id) => id == self.0.id && self.0.undecided.contains(&object.key),
            Putter::Run => false,
            Putter::Unknown => {
                object.modified_micros > now.saturating_sub(micros(SWEEP_AGE_UNNAMED))
            }
        }
    }

    /// The server in a key, if it is another one than this.
    pub(super) fn other_putter(&self, key: &str) -> Option<String> {
        match blob::putter(key) {
            Putter::Server(id) if id != self.0.id => Some(id.to_string()),
            Putter::Server(_) | Putter::Run | Putter::Unknown => None,
        }
    }

    /// Marks those of the objects for deletion that no row names and whose server does not live. Returns their number.
    async fn bury_all(&self, objects: Vec<ObjectInfo>) -> Result<u64> {
        let keys: Vec<_> = objects.iter().map(|object| object.key.clone()).collect();
        let unknown = move |tx: &mut Tx<'_>| garbage::unknown_objects(tx, &keys);
        let unknown = self.0.engine.read(None, unknown).await?;
        let mut buried = 0;
        for object in objects.into_iter().filter(|object| unknown.contains(&object.key)) {
            buried += u64::from(self.bury(object).await?);
        }
        Ok(buried)
    }

    /// Marks an object for deletion that had no row, unless its server lives. Returns whether it is marked.
    async fn bury(&self, object: ObjectInfo) -> Result<bool> {
        let (other, undecided) = (self.other_putter(&object.key), self.0.undecided.clone());
        let bury = move |tx: &mut Tx<'_>| {
            let (key, size) = (object.key, object.size as i64);
            // All is proven once more under the write lock, where nobody can be declared dead or name an object.
            if let Some(server) = other
                && server::is_alive(tx, &server)?
            {
                suspect::add(tx, &Suspect { object: key, size, server })?;
                return Ok(false);
            }
            if undecided.contains(&key) {
                return Ok(false);
            }
            garbage::tombstone_object(tx, &key, size)?;
            Ok(true)
        };
        self.0.engine.write(None, bury).await
    }

    /// Judges the objects of this server that another one has found without a row, as the background work does.
    ///
    /// # Errors
    /// Those of the database; what is left is judged later.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn judge_suspects(&self) -> Result<()> {
        let me = self.0.server.clone();
        let any = move |tx: &mut Tx<'_>| Ok(!suspect::of(tx, &me, 1)?.is_empty());
        while self.0.engine.read(None, any.clone()).await? {
            let (me, undecided) = (self.0.server.clone(), self.0.undecided.clone());
            let judge = move |tx: &mut Tx<'_>| {
                for suspect in suspect::of(tx, &me, SUSPECTS_STEP)? {
                    if !undecided.contains(&suspect.object) {
                        garbage::tombstone_object(tx, &suspect.object, suspect.size)?;
                    }
                    suspect::remove(tx, &suspect.object)?;
                }
                Ok(())
            };
            self.0.engine.write(None, judge).await?;
        }
        Ok(())
    }
}
