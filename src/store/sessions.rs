//! Chunked uploads: chunks are stored as parts as they arrive, in any order; the commit is one
//! metadata transaction, whatever the size; the list of a file of many pieces is built in steps before, and
//! its pieces are dropped in steps after it. Bytes that come for a range which is stored are compared.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    budget::{Hold, Permit},
    error::{Error, Kind, Result},
    limits::UNPIN_ROWS,
    model::{
        ChunkRange, Conditions, Digest, Entry, OperationKind, Page, Replaces, Session, SessionId,
        StorePath, Totals,
    },
    namespace::{
        list, operation,
        pin::{self, Owner},
        session::{self, Built, Long, Outcome, Sent, Verdict},
        sql::Tx,
    },
    store::{
        Call, Store,
        assembly::{Rest, Source},
        comparison::Comparison,
        cutter::Cutter,
        done,
        object::NewObject,
        pins::Held,
    },
};

/// A chunk on its way. Dropped before [`Chunk::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Chunk {
    store: Store,
    session: SessionId,
    path: StorePath,
    replaces: Replaces,
    range: ChunkRange,
    received: i64,
    bytes: Arriving,
    call: Call,
}

/// What becomes of the bytes of a chunk.
#[derive(Debug)]
enum Arriving {
    /// They are stored.
    New(Box<Cutter>),
    /// They are stored already, and compared.
    Again(Box<Comparison>, Permit),
}

/// What came of a commit: the file, if it is there still, and how many it replaced; or nothing, because it
/// is to be built first.
enum Ended {
    Done(Option<(Entry, i64)>),
    Long(Long),
}

impl Store {
    /// Begins a chunk of an upload session.
    ///
    /// # Errors
    /// `SessionConflict`, `BadRange`, `InvalidArgument`, `AlreadyExists`, `NoSpace`, `Busy`, `Timeout`.
    pub async fn chunk(
        &self,
        session: SessionId,
        path: StorePath,
        range: ChunkRange,
        call: Call,
    ) -> Result<Chunk> {
        self.chunk_over(session, (path, Replaces::default()), range, call).await
    }

    /// The same for a file that is to replace what it may.
    ///
    /// # Errors
    /// Those of [`Store::chunk`].
    pub async fn chunk_over(
        &self,
        session: SessionId,
        (path, replaces): (StorePath, Replaces),
        range: ChunkRange,
        call: Call,
    ) -> Result<Chunk> {
        let at = path.clone();
        let check =
            move |tx: &mut Tx<'_>| session::check_chunk(tx, session, (&at, replaces), range);
        let bytes = match self.0.engine.read(call.deadline, check).await? {
            Verdict::Wanted => {
                let cutter = self.cut(&path, Some(range.length as u64), call).await?;
                Arriving::New(Box::new(cutter))
            }
            Verdict::There => {
                let turn = call.until(self.0.budgets.uploads.acquire(call.peer, 1)).await?;
                let comparison =
                    Comparison::new(self.clone(), session, path.clone(), range, call.peer);
                Arriving::Again(Box::new(comparison), turn)
            }
        };
        let store = self.clone();
        Ok(Chunk { store, session, path, replaces, range, received: 0, bytes, call })
    }

    /// Returns an upload session.
    ///
    /// # Errors
    /// `SessionNotFound`.
    pub async fn session(&self, id: SessionId, call: Call) -> Result<Session> {
        let mut reading = session::Reading::new(id);
        loop {
            let step = move |tx: &mut Tx<'_>| reading.step(tx).map(|session| (reading, session));
            let session;
            (reading, session) = self.0.engine.read(call.deadline, step).await?;
            if let Some(session) = session {
                return Ok(session);
            }
        }
    }

    /// Lists the upload sessions of a path, or all.
    ///
    /// # Errors
    /// `InvalidArgument` for a token that no page gave, `Timeout`.
    pub async fn sessions(
        &self,
        path: Option<StorePath>,
        size: usize,
        token: String,
        call: Call,
    ) -> Result<Page<Session>> {
        let mut listing = session::Listing::new(path, size, token)?;
        loop {
            let _turn = self.listing_turn(call).await?;
            let step = move |tx: &mut Tx<'_>| listing.step(tx).map(|page| (listing, page));
            let page;
            (listing, page) = self.0.engine.read(call.deadline, step).await?;
            if let Some(page) = page {
                return Ok(page);
            }
        }
    }

    /// Makes the file of a complete session visible. A repeated commit succeeds; it returns nothing
    /// if the file is gone since.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown or incomplete session, `AlreadyExists`.
    pub async fn commit_session(&self, id: SessionId, call: Call) -> Result<Option<Entry>> {
        let committed =
            self.commit_session_if(id, Replaces::default(), Conditions::default(), call);
        Ok(committed.await?.map(|(entry, _)| entry))
    }

    /// The same for what the file may replace, and under conditions on what is there; with the file comes
    /// how many files it replaced. A repeated commit does not look at them, and replaces none.
    ///
    /// # Errors
    /// `PreconditionFailed`, and those of [`Store::commit_session`].
    pub async fn commit_session_if(
        &self,
        id: SessionId,
        replaces: Replaces,
        conditions: Conditions,
        call: Call,
    ) -> Result<Option<(Entry, i64)>> {
        let how = (replaces, conditions);
        let long = match self.commit_once(id, how.clone(), None, call).await? {
            Ended::Done(committed) => return Ok(committed),
            Ended::Long(long) => long,
        };
        let owner = Owner::new(&self.0.server);
        // A caller that leaves releases what is built.
        let _held = Held { store: self.clone(), owner: owner.id.clone() };
        let source: Source = Arc::new(move |tx: &mut Tx<'_>, at| long.page(tx, at));
        let list = Box::pin(self.assemble(&owner, source, call)).await?;
        let _rest = Rest { store: self.clone(), session: id, content: list.content };
        let built = Built { session: long, owner, list };
        match self.commit_once(id, how, Some(built), call).await? {
            Ended::Done(committed) => Ok(committed),
            Ended::Long(_) => Err(session::changed(id)),
        }
    }

    /// The commit itself, in one transaction.
    async fn commit_once(
        &self,
        id: SessionId,
        (replaces, conditions): (Replaces, Conditions),
        built: Option<Built>,
        call: Call,
    ) -> Result<Ended> {
        let server = self.0.server.clone();
        let commit = move |tx: &mut Tx<'_>| {
            let how = (replaces, &conditions);
            let (path, file, replaced) = match session::commit(tx, id, how, built.as_ref())? {
                Outcome::Done(committed) => committed,
                Outcome::Long(long) => return Ok((Ended::Long(long), None)),
            };
            let Some(file) = file else { return Ok((Ended::Done(None), None)) };
            let entry = list::stat(tx, &path)?.entry;
            let Some(files_replaced) = replaced else {
                return Ok((Ended::Done(Some((entry, 0))), None));
            };
            let totals = Totals { files: 1, bytes: file.size };
            let kind = OperationKind::CommitUploadSession;
            let mut operation = done(file.modified, kind, (StorePath::root(), path), totals);
            operation.progress.files_replaced = files_replaced;
            operation::insert(tx, &mut operation, &Digest::of(b"commit"), &server)?;
            Ok((Ended::Done(Some((entry, files_replaced))), Some(operation)))
        };
        self.write_recorded(call, commit).await
    }

    /// Forgets an upload session and its chunks.
    ///
    /// # Errors
    /// `SessionNotFound`.
    pub async fn delete_session(&self, id: SessionId, call: Call) -> Result<()> {
        if self.0.engine.write(call.deadline, move |tx| session::delete(tx, id)).await? {
            self.drop_pieces(id);
        }
        Ok(())
    }
}

impl Chunk {
    /// Gives what follows another deadline.
    pub fn limit(&mut self, call: Call) {
        self.call = call;
    }

    /// Its turn among the uploads.
    pub fn turn(&self) -> Hold {
        match &self.bytes {
            Arriving::New(cutter) => cutter.turn.hold().clone(),
            Arriving::Again(_, turn) => turn.hold().clone(),
        }
    }

    /// Waits for the next bytes of the sender, as [`Upload::wait_for`](super::Upload::wait_for) does.
    ///
    /// # Errors
    /// As [`Chunk::write`]. The chunk is of no use any more then.
    pub async fn wait_for<T>(&mut self, bytes: impl Future<Output = T>) -> Result<T> {
        match &mut self.bytes {
            Arriving::New(cutter) => cutter.wait_for(bytes).await,
            Arriving::Again(..) => Ok(bytes.await),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `BadRange` if there are more than announced, `SessionConflict` if others are stored for the range,
    /// `NoSpace`, `Busy`, `Timeout`, `Internal`. The chunk is of no use any more then.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        self.call.check()?;
        self.received += data.len() as i64;
        if self.received > self.range.length {
            return Err(self.wrong_length());
        }
        match &mut self.bytes {
            Arriving::New(cutter) => self.call.until(Box::pin(cutter.write(data))).await,
            Arriving::Again(comparison, _) => {
                self.call.until(Box::pin(comparison.write(data))).await
            }
        }
    }

    /// Adds the chunk to its session, all of it at once.
    ///
    /// # Errors
    /// `BadRange` if bytes are missing, `Timeout`, and those of the session, which may have changed meanwhile.
    pub async fn finish(self) -> Result<()> {
        if self.received != self.range.length {
            return Err(self.wrong_length());
        }
        let (store, call) = (self.store, self.call);
        let (session, path, range) = (self.session, self.path, self.range);
        let replaces = self.replaces;
        let mut cutter = match self.bytes {
            Arriving::New(cutter) => cutter,
            Arriving::Again(comparison, _turn) => {
                let sent = Sent::Stored(comparison.finish());
                let add = move |tx: &mut Tx<'_>| {
                    session::add_chunk(tx, session, (&path, replaces), range, &sent)
                };
                return store.0.engine.write(call.deadline, add).await.map(drop);
            }
        };
        let (parts, _, object) = call.until(Box::pin(cutter.finish())).await?;
        let (pins, owner) = (cutter.parts.len(), cutter.owner.clone());
        let sent = Sent::Parts(parts);
        let add = move |tx: &mut Tx<'_>| {
            if pins > 0 {
                pin::check(tx, &owner.id, pins)?;
            }
            let verdict = session::add_chunk(tx, session, (&path, replaces), range, &sent)?;
            // Many go in steps, when the cutter is dropped.
            if pins <= UNPIN_ROWS {
                pin::unpin(tx, &owner.id)?;
            }
            Ok(verdict)
        };
        let verdict = store.0.engine.write(call.deadline, add).await?;
        cutter.has_pins = pins > UNPIN_ROWS;
        // The same chunk may have come twice at once; then this one's object is dropped.
        if verdict == Verdict::Wanted {
            object.into_iter().for_each(NewObject::decide);
        }
        Ok(())
    }

    fn wrong_length(&self) -> Error {
        let message = format!(
            "the chunk has another length than its range of {} bytes; nothing is stored",
            self.range.length
        );
        Error::new(Kind::BadRange, message).field("length")
    }
}
