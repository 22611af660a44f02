//! The background work: reclamation of garbage, pins of earlier runs, expiry, digests of chunked uploads, free pages,
//! and the sweep of objects without a row.
//!
//! Each kind of work runs in short transactions, yields to waiting writers, and may be dropped at any await. A
//! failure is logged, and the work is tried again.

use std::{sync::atomic::Ordering, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    blob,
    error::{Error, Kind, Result},
    limits::{
        CLEAR_EVERY, EXPIRE_EVERY, RECLAIM_IDLE, RECLAIM_OBJECTS, RECLAIM_OBJECTS_IN_FLIGHT,
        RECLAIM_OWED, RECLAIM_OWED_MAX, RECLAIM_QUIET, RECLAIM_REST, RECLAIM_STEP, SERVER_ROW_LIFE,
        STEP, SUSPECTS_STEP, SWEEP_FIRST, micros,
    },
    model::{Digest, StorePath},
    namespace::{
        content,
        garbage::{self, DeadObject},
        operation,
        pin::Owner,
        server, session,
        sql::Tx,
        suspect,
    },
    store::{Store, blob_error, poll::Cursor, schedule::Schedule},
};

/// Whether a step of reclamation ends after it has taken `done` items apart, of which it owes `owed`, in the time
/// `took`.
pub(super) fn is_enough(
    (done, owed): (u64, u64),
    took: Duration,
    has_waiting_writers: bool,
) -> bool {
    took >= STEP || (done >= owed && (has_waiting_writers || took >= RECLAIM_STEP))
}

/// Starts the background work of a store.
pub(super) fn start(store: &Store, last_change: i64) {
    let tasks = &store.0.tasks;
    let (each, first) = (Schedule::each, Schedule::first);
    tasks.spawn(store.clone().every(each(EXPIRE_EVERY), "the age of the id", Store::touch_id));
    tasks.spawn(store.clone().every(each(RECLAIM_IDLE), "reclamation", Store::reclaim_gently));
    tasks.spawn(store.clone().every(each(RECLAIM_IDLE), "free pages", Store::tend_free_pages));
    if let Some(lease) = store.0.config.lease {
        tasks.spawn(store.clone().keep_lease(lease));
        tasks.spawn(store.clone().poll(Cursor::new(last_change)));
        tasks.spawn(store.clone().keep_progress());
        let judge = each(EXPIRE_EVERY);
        tasks.spawn(store.clone().every(judge, "suspects", Store::judge_suspects));
    }
    let digests = first(RECLAIM_IDLE, RECLAIM_IDLE);
    tasks.spawn(store.clone().every(digests, "digests", Store::digest));
    let clear = first(Duration::ZERO, CLEAR_EVERY);
    tasks.spawn(store.clone().every(clear, "dead servers", Store::clear_dead));
    let expiry = first(EXPIRE_EVERY, EXPIRE_EVERY);
    tasks.spawn(store.clone().every(expiry, "expiry", Store::expire));
    // The first sweep is early, so that a server which is restarted often sweeps, too.
    let sweep_every = store.0.config.sweep_every;
    let sweep = first(sweep_every.min(SWEEP_FIRST), sweep_every);
    tasks.spawn(store.clone().every(sweep, "sweep", Store::sweep));
}

impl Store {
    /// Takes apart all garbage that is due, and deletes its objects, without the rests of the background work.
    ///
    /// # Errors
    /// `Internal` or `Busy` if an object cannot be deleted. That object stays due; the others are deleted, unless
    /// the blob store deletes none of a batch or does not answer.
    ///
    /// # Cancel safety
    /// Can be dropped and called again: it works in steps.
    pub async fn reclaim(&self) -> Result<()> {
        self.take_apart(0, true).await?;
        self.delete_dead().await
    }

    /// Reclamation as background work, with rests between its steps.
    async fn reclaim_gently(&self) -> Result<()> {
        let does_all = self.is_first().await?;
        self.take_apart(RECLAIM_REST, does_all).await?;
        if does_all { self.delete_dead().await } else { Ok(()) }
    }

    /// Takes apart all garbage that is due, in steps. While others write, it rests after a step for `rest` times the
    /// duration of the step, unless it owes more. A server that does not do all takes apart only what it owes for its own
    /// writes.
    async fn take_apart(&self, rest: u32, does_all: bool) -> Result<()> {
        let grace = micros(self.0.config.reclaim_grace);
        let mut written =
            if does_all { self.0.engine.written() } else { self.0.settled.load(Ordering::Relaxed) };
        // Other servers may write at any time.
        let mut seen_others = self.0.config.lease.map(|_| Instant::now());
        let mut owed = 0;
        while self.0.engine.read(None, move |tx| garbage::is_due(tx, grace)).await? {
            let (engine, started) = (self.0.engine.clone(), Instant::now());
            let others = engine.written().saturating_sub(written);
            // Reclamation keeps pace with the garbage that the writes of others make.
            owed = (owed + others * RECLAIM_OWED).min(RECLAIM_OWED_MAX);
            if owed == 0 && !does_all {
                break;
            }
            // The step below is a write, too.
            written += others + 1;
            self.0.settled.store(written, Ordering::Relaxed);
            if others > 0 {
                seen_others = Some(started);
            }
            let step = move |tx: &mut Tx<'_>| {
                let started = Instant::now();
                garbage::reclaim(tx, grace, &|done| {
                    is_enough((done, owed), started.elapsed(), engine.has_waiting_writers())
                })
            };
            let reclaimed = self.0.engine.write(None, step).await?;
            if !reclaimed.is_more {
                break;
            }
            owed = owed.saturating_sub(reclaimed.done);
            let is_quiet = seen_others.is_none_or(|seen| seen.elapsed() >= RECLAIM_QUIET);
            if owed == 0 && !is_quiet && rest > 0 {
                tokio::time::sleep(started.elapsed() * rest).await;
            }
        }
        Ok(())
    }

    /// Deletes all objects whose rows were removed, and which have waited for the hold of the settings.
    async fn delete_dead(&self) -> Result<()> {
        let hold = micros(self.0.config.object_hold);
        let (mut after, mut failure) = (DeadObject::default(), None);
        loop {
            let from = after.clone();
            let dead =
                move |tx: &mut Tx<'_>| garbage::dead_objects(tx, &from, hold, RECLAIM_OBJECTS);
            let objects = self.0.engine.read(None, dead).await?;
            let Some(last) = objects.last() else { return failure.map_or(Ok(()), Err) };
            after.clone_from(last);
            let objects = objects.into_iter().map(|object| object.key).collect();
            let (deleted, failed) = self.delete_objects(objects).await?;
            failure = failed.or(failure);
            // A blob store that deletes nothing of a batch is tried again in the next round.
            if deleted == 0 {
                return failure.map_or(Ok(()), Err);
            }
        }
    }

    /// Deletes objects that are marked for deletion, and then their tombstones. They are claimed first, so that no
    /// row can name an object that is being deleted. Returns the number of deleted objects, and an error if some
    /// are left. If the blob store does not answer, the rest is not tried.
    pub(super) async fn delete_objects(
        &self,
        objects: Vec<String>,
    ) -> Result<(usize, Option<Error>)> {
        let claim = move |tx: &mut Tx<'_>| garbage::claim_objects(tx, objects);
        let objects = self.0.engine.write(None, claim).await?;
        let mut deletes = stream::iter(objects)
            .map(async |key| self.0.blobs.delete(&key).await.map(|()| key))
            .buffer_unordered(RECLAIM_OBJECTS_IN_FLIGHT);
        let (mut gone, mut failure) = (Vec::new(), None);
        while let Some(deleted) = deletes.next().await {
            match deleted {
                Ok(key) => gone.push(key),
                Err(error) => {
                    let is_over = matches!(error, blob::Error::Stalled { .. });
                    failure = Some(blob_error(&StorePath::root(), error));
                    if is_over {
                        break;
                    }
                }
            }
        }
        drop(deletes);
        let deleted = gone.len();
        self.0.engine.write(None, move |tx| garbage::forget_objects(tx, &gone)).await?;
        Ok((deleted, failure))
    }

    /// Deletes expired upload sessions, operations and rows of servers, as the background work does.
    ///
    /// # Errors
    /// Those of the database; what is left stays due.
    ///
    /// # Cancel safety
    /// Can be dropped and called again: it works in steps.
    pub async fn expire(&self) -> Result<()> {
        if self.0.config.lease.is_some() {
            // Another server may have committed a content with a lower id than those that were looked at.
            self.0.digested.store(0, Ordering::Relaxed);
        }
        let life = micros(self.0.config.session_life);
        while self.0.engine.write(None, move |tx| session::expire(tx, life)).await? {}
        let life = micros(self.0.config.operation_life);
        while self.0.engine.write(None, move |tx| operation::expire(tx, life)).await? {}
        let life = micros(SERVER_ROW_LIFE);
        while self.0.engine.write(None, move |tx| server::expire(tx, life)).await? {}
        while self.0.engine.write(None, |tx| suspect::expire(tx, SUSPECTS_STEP)).await? {}
        Ok(())
    }

    /// Computes the digests of files that were uploaded in chunks. A file that cannot be read is skipped until the
    /// next start.
    async fn digest(&self) -> Result<()> {
        loop {
            let above = self.0.digested.load(Ordering::Relaxed);
            let next = move |tx: &mut Tx<'_>| content::without_digest(tx, above);
            let Some((content, size)) = self.0.engine.read(None, next).await? else {
                return Ok(());
            };
            let digested = self.digest_content(content, size).await;
            if digested.as_ref().is_err_and(|error| error.kind() == Kind::Busy) {
                return digested;
            }
            // Ids of contents increase, so newer ones are above this one.
            let next = self.0.digested.compare_exchange(
                above,
                content,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            // The exchange fails if a content with a lower id was committed meanwhile, which is looked at next.
            next.ok();
            match digested {
                Err(error) if !matches!(error.kind(), Kind::Changed | Kind::Corrupt) => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }

    async fn digest_content(&self, content: i64, size: i64) -> Result<()> {
        let owner = Owner::new(&self.0.server);
        let id = owner.id.clone();
        let pin = move |tx: &mut Tx<'_>| content::pin_content(tx, &owner, content);
        self.0.engine.write(None, pin).await?;
        let digest = self.digest_of(content, size).await;
        let found = digest.as_ref().ok().copied();
        let end = move |tx: &mut Tx<'_>| match found {
            Some(digest) => content::set_digest(tx, content, &digest),
            None => Ok(()),
        };
        let end = self.0.engine.write(None, end).await;
        self.unpin(id);
        end.and(digest.map(drop))
    }

    async fn digest_of(&self, content: i64, size: i64) -> Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        let mut from = 0;
        while from < size {
            let parts = self.parts(&StorePath::root(), content, from).await?;
            from = parts.last().map_or(size, |last| last.start + last.size);
            for part in parts {
                let bytes = self.read_part(&StorePath::root(), part).await?;
                hasher = tokio::task::spawn_blocking(move || {
                    hasher.update(&bytes);
                    hasher
                })
                .await
                .map_err(Error::internal)?;
            }
        }
        Ok(hasher.finalize().into())
    }
}
