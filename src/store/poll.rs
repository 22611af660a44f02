//! What other servers on the store change, read from the database: operations that begin, go on and end there, and
//! tokens.
//!
//! The row of an operation is the truth. Its server adds progress to a row that runs, once a second. The other servers
//! read all changes since the last one that they know, with one query for all their watchers.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{
    error::{Kind, Result},
    limits::{ACCESS_AGE_MAX, CHANGES_PAGE, POLL_EVERY, POLL_IDLE, PROGRESS_KEPT_EVERY},
    model::{Operation, OperationId, Progress},
    namespace::{operation, schema, server::boot_time, sql::Tx, token},
    store::Store,
};

/// How far a server has read the changes of others.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The number of the last change of an operation.
    change: i64,
    /// The epoch, and the number of the last change of a token in it.
    access: (i64, i64),
    /// When the progress of the operations of other servers is read again.
    progress_at: Instant,
}

impl Cursor {
    /// The cursor of a server that has just opened the store.
    pub(super) fn new(change: i64) -> Self {
        // The first look reads all tokens in memory again: there are none.
        Self { change, access: (0, 0), progress_at: Instant::now() }
    }
}

impl Store {
    /// Reads the changes of others until the store closes.
    pub(super) async fn poll(self, mut cursor: Cursor) {
        let stop = self.0.stop.clone();
        let mut failed = false;
        let mut pause = POLL_IDLE;
        while timeout(pause, stop.cancelled()).await.is_err() {
            let polled = tokio::select! {
                polled = self.poll_once(&mut cursor) => polled,
                () = stop.cancelled() => return,
            };
            if let Err(error) = &polled
                && !failed
            {
                tracing::warn!(
                    ?error,
                    "the changes of other servers are not known; they are read again"
                );
            }
            failed = polled.is_err();
            pause = if self.0.runs.is_followed() { POLL_EVERY } else { POLL_IDLE };
        }
    }

    /// Reads and tells all changes since the last time.
    async fn poll_once(&self, cursor: &mut Cursor) -> Result<()> {
        loop {
            let (since, asked) = (cursor.change, millis(boot_time()));
            let read = move |tx: &mut Tx<'_>| {
                let access = (schema::meta(tx, "epoch_data_loss")?, schema::meta(tx, "access")?);
                let changed = match operation::changed_since(tx, since, CHANGES_PAGE) {
                    // This server was away for so long that the rows are gone; its watchers read them anew, too.
                    Err(error) if error.kind() == Kind::ChangesForgotten => {
                        return Ok((access, schema::meta(tx, "change")?, Vec::new()));
                    }
                    changed => changed?,
                };
                let last = changed.last().map_or(since, |operation| operation.change);
                Ok((access, last, changed))
            };
            let (access, last, changed) = self.0.engine.read(None, read).await?;
            self.0.runs.record_elsewhere(&changed);
            cursor.change = last;
            if access != cursor.access {
                self.reread_tokens().await?;
                cursor.access = access;
            }
            self.0.polled.store(asked, Ordering::Release);
            if changed.len() < CHANGES_PAGE {
                break;
            }
        }
        let now = Instant::now();
        if cursor.progress_at <= now && self.0.runs.is_followed() {
            cursor.progress_at = now + PROGRESS_KEPT_EVERY;
            self.poll_progress().await?;
        }
        Ok(())
    }

    /// Reads the progress of the operations that run on other servers.
    async fn poll_progress(&self) -> Result<()> {
        let (me, followed) = (self.0.server.clone(), self.0.runs.followed_elsewhere());
        let read = move |tx: &mut Tx<'_>| {
            let mut found = operation::running(tx)?;
            found.retain(|(_, owner)| *owner != me);
            let mut found: Vec<_> = found.into_iter().map(|(operation, _)| operation).collect();
            // An operation may have ended between the look of its watcher and the beginning of the watch.
            let mut gone = Vec::new();
            for id in followed {
                if found.iter().any(|operation: &Operation| operation.id == id) {
                    continue;
                }
                match operation::find(tx, id)? {
                    Some(row) => found.push(row.operation),
                    None => gone.push(id),
                }
            }
            Ok((found, gone))
        };
        let (found, gone) = self.0.engine.read(None, read).await?;
        self.0.runs.publish_elsewhere(&found);
        for id in gone {
            self.0.runs.forget_elsewhere(id);
        }
        Ok(())
    }

    /// Keeps the progress of the operations of this server in their rows, for the watchers of other servers, until the
    /// store closes.
    pub(super) async fn keep_progress(self) {
        let mut kept: HashMap<OperationId, Progress> = HashMap::new();
        let stop = self.0.stop.clone();
        while timeout(PROGRESS_KEPT_EVERY, stop.cancelled()).await.is_err() {
            let mut running = self.0.runs.subscribe().running;
            running.retain(|operation| !operation.state.is_final());
            kept.retain(|id, _| running.iter().any(|operation| operation.id == *id));
            running.retain(|operation| kept.get(&operation.id) != Some(&operation.progress));
            if running.is_empty() {
                continue;
            }
            let progress: Vec<_> = running
                .iter()
                .map(|operation| (operation.id, operation.progress.clone()))
                .collect();
            let me = self.0.server.clone();
            let keep = move |tx: &mut Tx<'_>| operation::keep_progress(tx, &me, &running);
            match self.0.engine.write(None, keep).await {
                Ok(()) => kept.extend(progress),
                Err(error) => tracing::debug!(?error, "the progress of operations is not kept"),
            }
        }
    }

    /// Whether what this server knows of tokens and of the key of links in memory may be relied on: that it has read the
    /// changes of others lately.
    pub(super) fn knows_access(&self) -> bool {
        let since = millis(boot_time()).saturating_sub(self.0.polled.load(Ordering::Acquire));
        self.0.config.lease.is_none() || since < millis(ACCESS_AGE_MAX)
    }

    /// Looks at the rows of the tokens in memory again.
    async fn reread_tokens(&self) -> Result<()> {
        let ids = self.0.tokens.lock().suspect_all();
        let read = move |tx: &mut Tx<'_>| {
            let now = tx.now()?;
            let rows = ids.into_iter().map(|id| Ok((token::get(tx, &id)?, id)));
            Ok((now, rows.collect::<Result<Vec<_>>>()?))
        };
        let (now, rows) = self.0.engine.read(None, read).await?;
        for (kept, id) in rows {
            self.apply_token(&id, kept, now);
        }
        self.0.link_key.forget();
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
