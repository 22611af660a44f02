//! Upload sessions: chunks arrive in any order, and are stored as parts at once. The commit is one metadata
//! transaction, whatever the size of the file. For a file of many pieces, its list is built in steps before the
//! commit, and the pieces are dropped in steps after it. Bytes for a range that is stored already are compared.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    access::Role,
    budget::{Permit, PermitHandle},
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
        assembly::{PartSource, Rest},
        comparison::Comparison,
        done,
        listing::visible,
        object::ObjectGuard,
        part_writer::PartWriter,
        pins::PinGuard,
        upload::check_above,
    },
};

/// A chunk that is being received. Dropped before [`Chunk::finish`], it adds nothing to its session.
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

/// How the bytes of a chunk are used.
#[derive(Debug)]
enum Arriving {
    /// The range is missing: the bytes are stored. Has the permit of the upload.
    New(Box<PartWriter>, Permit),
    /// The range is stored already: the bytes are compared. Has the permit of the upload.
    Again(Box<Comparison>, Permit),
}

/// The result of a commit: the file, if it still exists, and the number of files that it replaced; or the session
/// of a long file, whose content must be built first.
enum Ended {
    Done(Option<(Entry, i64)>),
    Long(Long),
}

impl Store {
    /// Begins a chunk of an upload session, which the first chunk makes.
    ///
    /// # Errors
    /// `SessionConflict`, `BadRange`, `InvalidArgument`, `AlreadyExists`, `NoSpace`, `Busy`, `Timeout`.
    pub async fn chunk(
        &self,
        session: SessionId,
        path: StorePath,
        range: ChunkRange,
        call: &Call,
    ) -> Result<Chunk> {
        self.chunk_over(session, (path, Replaces::default()), range, call).await
    }

    /// Like [`Store::chunk`], and sets what the file may replace.
    ///
    /// # Errors
    /// Those of [`Store::chunk`].
    pub async fn chunk_over(
        &self,
        session: SessionId,
        (path, replaces): (StorePath, Replaces),
        range: ChunkRange,
        call: &Call,
    ) -> Result<Chunk> {
        let (at, caller) = (path.clone(), call.caller().clone());
        let check = move |tx: &mut Tx<'_>| {
            check_above(tx, (&at, replaces), &caller)?;
            session::check_chunk(tx, session, (&at, replaces), range)
        };
        let bytes = match self.0.engine.read(call.deadline(), check).await? {
            Verdict::Wanted => {
                let (part_writer, turn) = self.cut(&path, Some(range.length as u64), call).await?;
                Arriving::New(Box::new(part_writer), turn)
            }
            Verdict::There => {
                let turn = call.until(self.0.budgets.uploads.acquire(call.peer(), 1)).await?;
                let comparison =
                    Comparison::new(self.clone(), session, path.clone(), range, call.peer());
                Arriving::Again(Box::new(comparison), turn)
            }
        };
        let store = self.clone();
        let call = call.clone();
        Ok(Chunk { store, session, path, replaces, range, received: 0, bytes, call })
    }

    /// Returns an upload session. One whose path the caller may not write is unknown to the caller.
    ///
    /// # Errors
    /// `SessionNotFound`, `Timeout`.
    pub async fn session(&self, id: SessionId, call: &Call) -> Result<Session> {
        let mut reading = session::Reading::new(id);
        loop {
            let step = move |tx: &mut Tx<'_>| reading.step(tx).map(|session| (reading, session));
            let session;
            (reading, session) = self.0.engine.read(call.deadline(), step).await?;
            if let Some(session) = session {
                let is_theirs = call.may(Role::Writer, &session.path);
                return if is_theirs { Ok(session) } else { Err(session::unknown(id)) };
            }
        }
    }

    /// A page of the upload sessions of a path, or of all, without those whose path the caller may not write.
    ///
    /// # Errors
    /// `InvalidArgument` for a malformed token, `Timeout`, `Busy` if too many listings wait.
    pub async fn sessions(
        &self,
        path: Option<StorePath>,
        size: usize,
        token: String,
        call: &Call,
    ) -> Result<Page<Session>> {
        if path.as_ref().is_some_and(|path| !call.may(Role::Writer, path)) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let list = async |token: String| {
            let mut listing = session::Listing::new(path.clone(), size, token)?;
            loop {
                let step = move |tx: &mut Tx<'_>| listing.step(tx).map(|page| (listing, page));
                let page;
                (listing, page) = self.read_listing(call, step).await?;
                if let Some(page) = page {
                    return Ok(page);
                }
            }
        };
        if call.may(Role::Writer, &StorePath::root()) {
            return list(token).await;
        }
        let is_seen = |session: &Session| call.may(Role::Writer, &session.path);
        visible(token, size, list, (is_seen, |session: &Session| session.id.to_string())).await
    }

    /// Makes the file of a complete session visible. A repeated commit succeeds; it returns `None` if the file
    /// does not exist any more.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown or incomplete session, `AlreadyExists`.
    pub async fn commit_session(&self, id: SessionId, call: &Call) -> Result<Option<Entry>> {
        let committed =
            self.commit_session_if(id, Replaces::default(), Conditions::default(), call);
        Ok(committed.await?.map(|(entry, _)| entry))
    }

    /// Like [`Store::commit_session`], with what the file may replace, and conditions on the path. Also returns the
    /// number of files that the commit replaced. A repeated commit ignores the conditions, and replaces none.
    ///
    /// # Errors
    /// `PreconditionFailed`, and those of [`Store::commit_session`].
    pub async fn commit_session_if(
        &self,
        id: SessionId,
        replaces: Replaces,
        conditions: Conditions,
        call: &Call,
    ) -> Result<Option<(Entry, i64)>> {
        let how = (replaces, conditions);
        let long = match self.commit_once(id, how.clone(), None, call).await? {
            Ended::Done(committed) => return Ok(committed),
            Ended::Long(long) => long,
        };
        let owner = Owner::new(&self.0.server);
        // If this future is dropped, the content that is built is released.
        let _held = PinGuard { store: self.clone(), owner: owner.id.clone() };
        let source: PartSource = Arc::new(move |tx: &mut Tx<'_>, at| long.page(tx, at));
        let list = Box::pin(self.assemble(&owner, source, call)).await?;
        let _rest = Rest { store: self.clone(), session: id, content: list.content };
        let built = Built { session: long, owner, list };
        match self.commit_once(id, how, Some(built), call).await? {
            Ended::Done(committed) => Ok(committed),
            Ended::Long(_) => Err(session::changed(id)),
        }
    }

    /// The transaction of the commit.
    async fn commit_once(
        &self,
        id: SessionId,
        (replaces, conditions): (Replaces, Conditions),
        built: Option<Built>,
        call: &Call,
    ) -> Result<Ended> {
        let (server, caller) = (self.0.server.clone(), call.clone());
        let commit = move |tx: &mut Tx<'_>| {
            let at = session::path(tx, id)?;
            caller.note_paths(&at);
            if at.as_ref().is_some_and(|path| !caller.may(Role::Writer, path)) {
                return Err(session::not_to_commit(id));
            }
            let caller = caller.caller();
            at.map_or(Ok(()), |path| check_above(tx, (&path, replaces), caller))?;
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
            let ends = (StorePath::root(), path);
            let mut operation = done(file.modified, kind, ends, totals, caller);
            operation.progress.files_replaced = files_replaced;
            operation::insert(tx, &mut operation, &Digest::of(b"commit"), &server)?;
            Ok((Ended::Done(Some((entry, files_replaced))), Some(operation)))
        };
        self.write_recorded(call, commit).await
    }

    /// Deletes an upload session and its chunks.
    ///
    /// # Errors
    /// `SessionNotFound`, `Timeout`.
    pub async fn delete_session(&self, id: SessionId, call: &Call) -> Result<()> {
        let caller = call.clone();
        let delete = move |tx: &mut Tx<'_>| {
            let at = session::path(tx, id)?;
            caller.note_paths(&at);
            if at.is_some_and(|path| !caller.may(Role::Writer, &path)) {
                return Err(session::unknown(id));
            }
            session::delete(tx, id)
        };
        if self.0.engine.write(call.deadline(), delete).await? {
            self.drop_pieces(id);
        }
        Ok(())
    }
}

impl Chunk {
    /// Replaces the call, and so the deadline, of all further steps.
    pub fn limit(&mut self, call: Call) {
        self.call = call;
    }

    /// The handle of its permit among the uploads.
    pub fn turn(&self) -> PermitHandle {
        match &self.bytes {
            Arriving::New(_, turn) | Arriving::Again(_, turn) => turn.hold().clone(),
        }
    }

    /// Awaits the next bytes of the sender, as [`Upload::wait_for`](super::Upload::wait_for).
    ///
    /// # Errors
    /// Those of [`Chunk::write`]. The chunk cannot continue then.
    pub async fn wait_for<T>(&mut self, bytes: impl Future<Output = T>) -> Result<T> {
        match &mut self.bytes {
            Arriving::New(part_writer, _) => part_writer.wait_for(bytes).await,
            Arriving::Again(..) => Ok(bytes.await),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `BadRange` for more bytes than announced, `SessionConflict` if other bytes are stored for the range,
    /// `NoSpace`, `Busy`, `Timeout`, `Internal`. The chunk cannot continue then.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        self.call.check()?;
        self.received += data.len() as i64;
        if self.received > self.range.length {
            return Err(self.wrong_length());
        }
        match &mut self.bytes {
            Arriving::New(part_writer, _) => {
                self.call.until(Box::pin(part_writer.write(data))).await
            }
            Arriving::Again(comparison, _) => {
                self.call.until(Box::pin(comparison.write(data))).await
            }
        }
    }

    /// Adds the chunk to its session, as a whole.
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
        let (mut part_writer, _turn) = match self.bytes {
            Arriving::New(part_writer, turn) => (part_writer, turn),
            Arriving::Again(comparison, _turn) => {
                let sent = Sent::Stored(comparison.finish());
                let add = move |tx: &mut Tx<'_>| {
                    session::add_chunk(tx, session, (&path, replaces), range, &sent)
                };
                return store.0.engine.write(call.deadline(), add).await.map(drop);
            }
        };
        let (parts, _, object) = call.until(Box::pin(part_writer.finish())).await?;
        let (pins, owner) = (part_writer.parts.len(), part_writer.owner.clone());
        let sent = Sent::Parts(parts);
        let add = move |tx: &mut Tx<'_>| {
            if pins > 0 {
                pin::check(tx, &owner.id, pins)?;
            }
            let verdict = session::add_chunk(tx, session, (&path, replaces), range, &sent)?;
            // More pins than that are dropped in steps, when the part writer is dropped.
            if pins <= UNPIN_ROWS {
                pin::unpin(tx, &owner.id)?;
            }
            Ok(verdict)
        };
        let verdict = store.0.engine.write(call.deadline(), add).await?;
        part_writer.has_pins = pins > UNPIN_ROWS;
        // If the same chunk was added concurrently, no row names this object, and its guard is dropped.
        if verdict == Verdict::Wanted {
            object.into_iter().for_each(ObjectGuard::disarm);
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
