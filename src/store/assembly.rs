//! Files of many parts: their content is built in steps before it gets a path.

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

/// Where the parts of a list come from: some of those from a place on, at most
/// [`LIST_STEP_ROWS`]; none behind the last.
pub(super) type Source = Arc<dyn Fn(&mut Tx<'_>, Cursor) -> Result<Vec<ListedPart>> + Send + Sync>;

/// What is left of a session whose file was built, whether that was committed or not. Dropped, its pieces
/// are dropped in steps if it was, and its digest is looked for.
pub(super) struct Rest {
    pub(super) store: Store,
    pub(super) session: SessionId,
    pub(super) content: i64,
}

impl Drop for Rest {
    fn drop(&mut self) {
        let (store, content) = (self.store.clone(), self.content);
        self.store.drop_pieces(self.session);
        // Its id may be lower than those of files that have theirs. The job comes after the commit.
        self.store.spawn(async move {
            store.0.engine.write(None, |_| Ok(())).await.ok();
            store.0.digested.fetch_min(content - 1, Ordering::Relaxed);
        });
    }
}

impl Store {
    /// Builds the content of a list, pinned by the owner, in steps. Dropped half-way, or with an error, it
    /// goes with the pins of the owner.
    ///
    /// # Errors
    /// Those of the source, `Cancelled`, `Timeout`.
    pub(super) async fn assemble(
        &self,
        owner: &Owner,
        source: Source,
        call: Call,
    ) -> Result<Assembled> {
        let list = self.sum_up(&source, call).await?;
        let own = owner.clone();
        let begin = move |tx: &mut Tx<'_>| assembly::begin(tx, &own, &list);
        let (assembled, is_found) = self.0.engine.write(call.deadline, begin).await?;
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
            let next = self.0.engine.write(call.deadline, step).await?;
            if next == at {
                return Ok(assembled);
            }
            at = next;
        }
    }

    /// The etag and size of a list.
    async fn sum_up(&self, source: &Source, call: Call) -> Result<Summary> {
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
            (list, next) = self.0.engine.read(call.deadline, step).await?;
            if next == at {
                return Ok(list);
            }
            at = next;
        }
    }

    /// Whether a content that was found has the list as it is.
    async fn is_whole(&self, content: i64, source: &Source, call: Call) -> Result<bool> {
        let mut at = Cursor::default();
        loop {
            let source = Arc::clone(source);
            let step = move |tx: &mut Tx<'_>| {
                let page = source(tx, at)?;
                let mut next = at;
                next.pass(&page);
                Ok((assembly::has(tx, content, at, &page)?, next))
            };
            let (is_same, next) = self.0.engine.read(call.deadline, step).await?;
            if !is_same || next == at {
                return Ok(is_same);
            }
            at = next;
        }
    }

    /// The same for the parts of an upload, which are stored and pinned, if they are many; else they come
    /// back.
    ///
    /// # Errors
    /// Those of [`Store::assemble`]; `Busy` if a part that was thought to be stored is gone.
    pub(super) async fn assemble_long(
        &self,
        owner: &Owner,
        parts: Vec<Part>,
        call: Call,
    ) -> Result<(Option<Assembled>, Vec<Part>)> {
        if parts.len() <= LIST_STEP_ROWS {
            return Ok((None, parts));
        }
        let parts = Arc::<[Part]>::from(parts);
        let source: Source = Arc::new(move |tx: &mut Tx<'_>, at: Cursor| {
            let page = parts.iter().skip(at.parts).take(LIST_STEP_ROWS);
            let listed = |part: &Part| {
                let id = content::find_or_insert_part(tx, part)?;
                Ok((id, part.size, part.digest))
            };
            page.map(listed).collect()
        });
        // Few uploads are so long that each should have room for this.
        let list = Box::pin(self.assemble(owner, source, call)).await?;
        Ok((Some(list), Vec::new()))
    }

    /// Drops the pieces of a session that is committed or given up, in steps.
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
