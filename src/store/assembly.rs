//! Files of many parts: their content is built in several transactions before the commit gives it a path.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    error::Result,
    limits::LIST_STEP_ROWS,
    model::SessionId,
    namespace::{
        assembly::{self, Assembled, Cursor},
        content::{self, ListedPart, Part, Summary},
        pin::Owner,
        session,
        sql::Tx,
    },
    store::{Call, Store},
};

/// The source of a list of parts: a function that returns the parts from a cursor on, at most
/// [`LIST_STEP_ROWS`], and none after the last.
pub(super) type PartSource =
    Arc<dyn Fn(&mut Tx<'_>, Cursor) -> Result<Vec<ListedPart>> + Send + Sync>;

/// The cleanup after the attempt to commit a session whose content was built. Dropped, it drops the pieces of the
/// session in steps if the session is committed, and has the background compute the digest of the content.
pub(super) struct Rest {
    pub(super) store: Store,
    pub(super) session: SessionId,
    pub(super) content: i64,
}

impl Drop for Rest {
    fn drop(&mut self) {
        let (store, content) = (self.store.clone(), self.content);
        self.store.drop_pieces(self.session);
        // The id of the content may be below the last one that the digest work has looked at. The empty job
        // waits until the commit is done.
        self.store.spawn(async move {
            store.0.engine.write(None, |_| Ok(())).await.ok();
            store.0.digested.fetch_min(content - 1, Ordering::Relaxed);
        });
    }
}

impl Store {
    /// Builds a content from a list of parts, pinned by the owner, in steps. If an equal content exists, returns that.
    /// A content that is not finished is reclaimed when the owner's pins are dropped.
    ///
    /// # Errors
    /// Those of the source, `Timeout`.
    pub(super) async fn assemble(
        &self,
        owner: &Owner,
        source: PartSource,
        call: &Call,
    ) -> Result<Assembled> {
        let list = self.sum_up(&source, call).await?;
        let own = owner.clone();
        let begin = move |tx: &mut Tx<'_>| assembly::begin(tx, &own, &list);
        let (assembled, is_found) = self.0.engine.write(call.deadline(), begin).await?;
        if is_found && self.is_whole(assembled.content, &source, call).await? {
            return Ok(assembled);
        }
        let mut at = Cursor::default();
        loop {
            let (own, source, to) = (owner.clone(), Arc::clone(&source), assembled.clone());
            let step = move |tx: &mut Tx<'_>| {
                let page = source(tx, at)?;
                assembly::write(tx, &own, &to, at, &page)?;
                let mut next = at;
                next.pass(&page);
                Ok(next)
            };
            let next = self.0.engine.write(call.deadline(), step).await?;
            if next == at {
                return Ok(assembled);
            }
            at = next;
        }
    }

    /// The summary (etag and size) of a list.
    async fn sum_up(&self, source: &PartSource, call: &Call) -> Result<Summary> {
        let (mut list, mut at) = (Summary::default(), Cursor::default());
        loop {
            let source = Arc::clone(source);
            let step = move |tx: &mut Tx<'_>| {
                let page = source(tx, at)?;
                list.add(&page);
                let mut next = at;
                next.pass(&page);
                Ok((list, next))
            };
            let next;
            (list, next) = self.0.engine.read(call.deadline(), step).await?;
            if next == at {
                return Ok(list);
            }
            at = next;
        }
    }

    /// Whether an existing content has exactly this list.
    async fn is_whole(&self, content: i64, source: &PartSource, call: &Call) -> Result<bool> {
        let mut at = Cursor::default();
        loop {
            let source = Arc::clone(source);
            let step = move |tx: &mut Tx<'_>| {
                let page = source(tx, at)?;
                let mut next = at;
                next.pass(&page);
                Ok((assembly::has(tx, content, at, &page)?, next))
            };
            let (is_same, next) = self.0.engine.read(call.deadline(), step).await?;
            if !is_same || next == at {
                return Ok(is_same);
            }
            at = next;
        }
    }

    /// Like [`Store::assemble`], for the stored and pinned parts of an upload, if they are more than
    /// [`LIST_STEP_ROWS`]; otherwise returns the parts.
    ///
    /// # Errors
    /// Those of [`Store::assemble`]; `Busy` if a stored part was reclaimed meanwhile.
    pub(super) async fn assemble_long(
        &self,
        owner: &Owner,
        parts: Vec<Part>,
        call: &Call,
    ) -> Result<(Option<Assembled>, Vec<Part>)> {
        if parts.len() <= LIST_STEP_ROWS {
            return Ok((None, parts));
        }
        let parts = Arc::<[Part]>::from(parts);
        let source: PartSource = Arc::new(move |tx: &mut Tx<'_>, at: Cursor| {
            let page = parts.iter().skip(at.parts).take(LIST_STEP_ROWS);
            let listed = |part: &Part| {
                let id = content::find_or_insert_part(tx, part)?;
                Ok((id, part.size, part.digest))
            };
            page.map(listed).collect()
        });
        // Boxed: this large future is rarely used, and would be part of the future of every upload.
        let list = Box::pin(self.assemble(owner, source, call)).await?;
        Ok((Some(list), Vec::new()))
    }

    /// Drops the pieces of a session that is committed or deleted, in a task of its own, in steps.
    pub(super) fn drop_pieces(&self, session: SessionId) {
        let store = self.clone();
        self.spawn(async move {
            loop {
                let step = move |tx: &mut Tx<'_>| session::drop_pieces(tx, session);
                match store.0.engine.write(None, step).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(?error, "pieces of an upload session wait for its expiry");
                        return;
                    }
                }
            }
        });
    }
}
