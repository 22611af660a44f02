//! The state machine: it applies every step to the real store and to the plain one, and compares both after
//! each step.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use imagestore::{
    error::{Error, Kind, Result},
    limits::INLINE_BYTES_MAX,
    model::{
        ChunkRange, Conditions, CopyRequest, EntryKind, IfExists, OperationId, OperationState,
        Replaces, SessionId, SkipFiles,
    },
    store::{Call, UploadSpec},
};
use object_store::memory::InMemory;

use crate::{
    audit,
    harness::{Fixture, digest, path},
    plain::{File, Listed, Plain, Session},
    step::{Claim, Step, contents},
};

/// The most files of a tree: more make a history slow and show nothing new.
const FILES_MAX: i64 = 400;
/// All listings are compared after this number of steps; one of them after each step.
const LISTINGS_EVERY: usize = 20;
/// The invariants are checked after this number of steps: a violation persists.
const AUDIT_EVERY: usize = 4;
/// The number of equal pieces of a content at whose bounds chunks begin and end.
pub(crate) const CUTS: usize = 4;
/// The number of concurrent sessions.
pub(crate) const SESSIONS: usize = 3;

/// The last copy, so that it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    request: CopyRequest,
    /// Whether the operation succeeded; `None` if it has no row.
    row: Option<bool>,
}

/// The real store and the plain one.
pub(crate) struct Machine {
    pub(crate) fixture: Fixture,
    pub(crate) memory: Arc<InMemory>,
    pub(crate) plain: Plain,
    pub(crate) sessions: Vec<(SessionId, Option<Session>)>,
    pub(crate) last: Option<Sent>,
    last_version: i64,
    /// The listing that was seen for each path and change tag.
    pub(crate) tagged: BTreeMap<(String, String), Vec<Listed>>,
    pub(crate) steps: usize,
}

pub(crate) fn new_session() -> (SessionId, Option<Session>) {
    (SessionId::parse(&uuid::Uuid::new_v4().to_string()).unwrap(), None)
}

impl Machine {
    pub(crate) async fn new() -> Self {
        let memory = Arc::new(InMemory::new());
        let fixture = Fixture::with(|_| {}, Arc::<InMemory>::clone(&memory)).await;
        let sessions = (0..SESSIONS).map(|_| new_session()).collect();
        Self {
            fixture,
            memory,
            plain: Plain::default(),
            sessions,
            last: None,
            last_version: 0,
            tagged: BTreeMap::new(),
            steps: 0,
        }
    }

    /// Runs a history, and checks after each step. Leaves an empty store for the next history.
    pub(crate) async fn run(&mut self, history: &[Step]) {
        for step in history {
            self.step(step).await;
            self.compare_tree();
            self.compare_listings(self.steps.is_multiple_of(LISTINGS_EVERY)).await;
            self.compare_sessions(step).await;
            if self.steps.is_multiple_of(AUDIT_EVERY) {
                audit::check(&self.fixture, &self.memory).await;
            }
        }
        audit::check(&self.fixture, &self.memory).await;
        self.compare_listings(true).await;
        self.read_all().await;
        self.clear().await;
    }

    async fn step(&mut self, step: &Step) {
        self.steps += 1;
        match step {
            Step::Upload { path, content, claim } => self.upload(path, *content, *claim).await,
            Step::Uploads { files } => self.upload_together(files).await,
            Step::Abandon { path, content } => self.abandon(path, *content).await,
            Step::Chunk { session, path, content, from, to, short } => {
                self.chunk(*session, path, *content, (*from, *to, *short)).await;
            }
            Step::Commit { session } => self.commit(*session).await,
            Step::DeleteSession { session } => self.delete_session(*session).await,
            Step::Copy { source, destination, skip, how } => {
                let request = CopyRequest {
                    source: path(source),
                    destination: path(destination),
                    skip_files: SkipFiles::new(skip).unwrap(),
                    check_mark_file: how.check_mark,
                    if_exists: if how.keep { IfExists::Keep } else { IfExists::Overwrite },
                    conditions: Conditions::default(),
                    verify: how.verify,
                    id: OperationId::new(),
                };
                self.copy(request, None).await;
            }
            Step::CopyAgain { is_changed } => self.copy_again(*is_changed).await,
            Step::Delete { path: at } => {
                let gone = self.fixture.store.delete(&path(at), &Call::system()).await.unwrap();
                assert_eq!(
                    (gone.files, gone.bytes),
                    self.plain.remove(at),
                    "what a delete deletes"
                );
            }
            Step::Read { path, from, length } => self.read(path, *from, *length).await,
            Step::Stat { path } => self.stat(path).await,
            Step::Reclaim => self.fixture.store.reclaim().await.unwrap(),
            Step::Restart => self.restart().await,
        }
    }

    async fn restart(&mut self) {
        self.fixture.restart().await;
        assert_eq!(self.fixture.recovered.operations, 0, "no operation was running");
    }

    async fn upload(&mut self, at: &str, content: usize, claim: Claim) {
        let bytes = contents()[content].clone();
        let size = bytes.len() as u64;
        let incoming = UploadSpec {
            path: path(at),
            size: match claim {
                Claim::Nothing => None,
                Claim::WrongSize => Some(size + 1),
                Claim::Right | Claim::WrongDigest => Some(size),
            },
            digest: match claim {
                Claim::Nothing | Claim::WrongSize => None,
                Claim::Right => Some(digest(&bytes)),
                Claim::WrongDigest => Some(digest(b"other bytes")),
            },
            conditions: Conditions::default(),
            replaces: Replaces::default(),
            unpack: None,
        };
        // The path of an upload that is announced to be small is checked only when its bytes have come.
        let is_small = incoming.size.is_some_and(|size| size <= INLINE_BYTES_MAX as u64);
        let result = send(&self.fixture, incoming, bytes.clone()).await;
        let fits = self.plain.check_put(at);
        let is_whole = match claim {
            Claim::Nothing | Claim::Right => Ok(()),
            Claim::WrongSize | Claim::WrongDigest => Err(Kind::DataLoss),
        };
        let expected = if is_small { is_whole.and(fits) } else { fits.and(is_whole) };
        assert_eq!(result.as_ref().map(drop).map_err(Error::kind), expected, "upload of {at}");
        let Ok(stat) = result else { return };
        assert_eq!(stat.digest, Some(digest(&bytes)), "digest of {at}");
        self.put(at, bytes, &stat.entry.kind);
    }

    /// Adds a file that the real store has stored to the plain store, with its version.
    pub(crate) fn put(&mut self, at: &str, bytes: Bytes, kind: &EntryKind) {
        let EntryKind::File { version, modified } = kind else { panic!("{at} is no file") };
        assert!(version.number > self.last_version, "versions rise");
        self.last_version = version.number;
        let (digest, version) = (digest(&bytes), version.number);
        let file = File { bytes, digest, version, modified: *modified };
        self.plain.files.insert(at.to_owned(), file);
    }

    async fn abandon(&mut self, at: &str, content: usize) {
        let incoming = UploadSpec::new(path(at));
        let begun = self.fixture.store.upload(incoming, &Call::system()).await;
        let expected = self.plain.check_put(at);
        assert_eq!(begun.as_ref().map(drop).map_err(Error::kind), expected, "upload of {at}");
        if let Ok(mut upload) = begun {
            upload.write(contents()[content].clone()).await.unwrap();
        }
    }

    async fn chunk(
        &mut self,
        session: usize,
        at: &str,
        content: usize,
        (from, to, short): (usize, usize, bool),
    ) {
        let bytes = &contents()[content];
        let cut = |number: usize| bytes.len() * number / CUTS;
        let (start, end) = (cut(from), cut(to));
        let Ok(range) = ChunkRange::new(start as u64, (end - start) as u64, bytes.len() as u64)
        else {
            return;
        };
        let short = short && end > start;
        let sent = bytes.slice(start..end - usize::from(short));
        let (id, known) = &mut self.sessions[session];
        let whole = (start, &bytes[start..end], bytes.len());
        let expected = match known {
            Some(session) => session.check_chunk(self.plain.files.get(at), at, whole),
            None => self.plain.check_put(at).map(|()| true),
        };
        let result = send_chunk(&self.fixture, *id, at, range, sent.clone()).await;
        let result = result.map_err(|e| e.kind());
        if short && expected.is_ok() {
            assert_eq!(result, Err(Kind::BadRange), "short chunk {start}..{end} of {at}");
            return;
        }
        // For a chunk that is short and has other bytes, either error is allowed.
        if !(short && result == Err(Kind::BadRange)) {
            assert_eq!(result, expected.map(|_| ()), "chunk {start}..{end} of {at}");
        }
        if expected == Ok(true) {
            let session = known.get_or_insert_with(|| Session {
                path: at.to_owned(),
                total: bytes.len(),
                pieces: BTreeMap::new(),
                committed: false,
            });
            if !sent.is_empty() {
                session.pieces.insert(start, sent);
            }
        }
    }

    async fn commit(&mut self, session: usize) {
        let (id, known) = self.sessions[session].clone();
        let result = self.fixture.store.commit_session(id, &Call::system()).await;
        let found = result.as_ref().map(Option::is_some).map_err(Error::kind);
        let Some(session_before) = known else {
            return assert_eq!(found, Err(Kind::InvalidArgument), "commit of an unknown session");
        };
        let at = &session_before.path;
        if session_before.committed {
            let is_there = self.plain.files.contains_key(at);
            return assert_eq!(found, Ok(is_there), "repeated commit of {at}");
        }
        let Some(bytes) = session_before.bytes() else {
            return assert_eq!(
                found,
                Err(Kind::InvalidArgument),
                "commit of an incomplete session"
            );
        };
        let expected = self.plain.check_put(at).map(|()| true);
        assert_eq!(found, expected, "commit of {at}");
        let Ok(Some(entry)) = result else { return };
        self.put(at, bytes, &entry.kind);
        if let Some(session) = &mut self.sessions[session].1 {
            session.committed = true;
            session.pieces.clear();
        }
    }

    pub(crate) async fn delete_session(&mut self, session: usize) {
        let (id, known) = &mut self.sessions[session];
        let result = self.fixture.store.delete_session(*id, &Call::system()).await;
        let expected = known.take().map(drop).ok_or(Kind::SessionNotFound);
        assert_eq!(result.map_err(|e| e.kind()), expected, "delete of a session");
    }

    async fn copy_again(&mut self, is_changed: bool) {
        let Some(Sent { mut request, row }) = self.last.clone() else { return };
        if is_changed {
            request.verify = !request.verify;
        }
        match row {
            Some(_) if is_changed => {
                let error = self.fixture.copy(request).await.expect_err("a conflict");
                assert_eq!(error.kind(), Kind::WriteConflict);
            }
            Some(true) => {
                let operation = self.fixture.copy(request).await.unwrap();
                assert_eq!(operation.state, OperationState::Succeeded, "a repeated copy");
            }
            Some(false) | None => self.copy(request, row).await,
        }
    }

    /// `row` is [`Sent::row`] of an earlier request with the same id.
    async fn copy(&mut self, request: CopyRequest, row: Option<bool>) {
        let (files, _) = self.plain.totals(request.source.as_str());
        if files + self.plain.totals("").0 > FILES_MAX {
            return;
        }
        let expected = self.plain.copy(&request);
        let what = format!("{request:?}");
        let result = self.fixture.copy(request.clone()).await;
        let row = match (&expected, &result) {
            (Ok(copied), Ok(operation)) => {
                assert_eq!(operation.state, OperationState::Succeeded, "{what}");
                let progress = &operation.progress;
                assert_eq!(
                    (progress.files_done, progress.bytes_done),
                    (copied.files, copied.bytes),
                    "done of {what}"
                );
                assert_eq!(
                    (progress.files_skipped, progress.bytes_skipped),
                    (copied.files_skipped, copied.bytes_skipped),
                    "skipped of {what}"
                );
                assert_eq!(progress.files_total, copied.files + copied.files_skipped, "{what}");
                assert_eq!(progress.bytes_total, copied.bytes + copied.bytes_skipped, "{what}");
                Some(true)
            }
            (Err((kind, begun)), Err(error)) => {
                assert_eq!(error.kind(), *kind, "{what}: {error}");
                if *begun { Some(false) } else { row }
            }
            (expected, result) => panic!("{what}: {result:?}, not {expected:?}"),
        };
        self.last = Some(Sent { request, row });
    }

    pub(crate) async fn read(&mut self, at: &str, from: usize, length: Option<usize>) {
        let range = (from as u64, length.map(|length| length as u64));
        let result = self.fixture.read_range(at, range).await.map_err(|e| e.kind());
        let expected = match self.plain.files.get(at) {
            None => Err(Kind::FileNotFound),
            Some(file) if from > file.bytes.len() => Err(Kind::UnsatisfiableRange),
            Some(file) => {
                let to = length.map_or(file.bytes.len(), |l| (from + l).min(file.bytes.len()));
                Ok(file.bytes.slice(from..to))
            }
        };
        assert!(
            result.as_deref().map_err(|kind| *kind) == expected.as_deref().map_err(|kind| *kind),
            "bytes of {at} from {from}: {:?}, not {:?}",
            result.map(|bytes| bytes.len()),
            expected.map(|bytes| bytes.len())
        );
    }

    async fn stat(&mut self, at: &str) {
        let result = self.fixture.store.stat(&path(at), &Call::system()).await;
        if !self.plain.exists(at) {
            assert_eq!(result.map(drop).map_err(|e| e.kind()), Err(Kind::PathNotFound), "{at}");
            return;
        }
        let stat = result.unwrap();
        assert_eq!((stat.entry.totals.files, stat.entry.totals.bytes), self.plain.totals(at));
        if let Some(file) = self.plain.files.get(at) {
            let expected = digest(&file.bytes);
            assert!(stat.digest.is_none_or(|found| found == expected), "digest of {at}");
            assert!(stat.etag.is_some(), "etag of {at}");
        } else {
            let has_mark = self.plain.files.contains_key(&crate::plain::join(at, "_.dir"));
            assert_eq!(stat.has_mark_file, has_mark, "mark of {at}");
        }
    }
}

pub(crate) async fn send(
    fixture: &Fixture,
    incoming: UploadSpec,
    bytes: Bytes,
) -> Result<imagestore::model::Stat> {
    let mut upload = fixture.store.upload(incoming, &Call::system()).await?;
    upload.write(bytes).await?;
    upload.finish().await
}

pub(crate) async fn send_chunk(
    fixture: &Fixture,
    id: SessionId,
    at: &str,
    range: ChunkRange,
    bytes: Bytes,
) -> Result<()> {
    let mut chunk = fixture.store.chunk(id, path(at), range, &Call::system()).await?;
    chunk.write(bytes).await?;
    chunk.finish().await
}
