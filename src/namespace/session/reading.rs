//! Reads of sessions in steps: a session can have many pieces, and other readers wait during a step.
//!
//! Each step sees the state of the store at that time. So a description can lack a change that was made
//! between two steps, as one that was sent a moment earlier would.

use crate::{
    error::{Error, Kind, Result},
    limits::{
        LIST_PAGE_BYTES, RECORDS_PAGE_DEFAULT, RECORDS_PAGE_MAX, SESSION_RANGES_MAX,
        SESSION_STEP_ROWS,
    },
    model::{ByteRange, Page, Session, SessionId, StorePath},
    namespace::{
        list::check_token,
        session::{find, unknown},
        sql::{Tx, params},
    },
};

/// The bytes of a session on a page beside its path: the other fields of its message.
const SESSION_OVERHEAD_BYTES: usize = 96;
/// The bytes of a missing range of a session.
const RANGE_BYTES: usize = 24;

/// The state of reading one session.
#[derive(Debug)]
pub struct Reading {
    id: SessionId,
    received: i64,
    /// The offset in the file up to which the pieces were read.
    next: i64,
    /// The missing ranges before that offset, in ascending order.
    gaps: Vec<ByteRange>,
}

impl Reading {
    /// Begins to read a session.
    pub fn new(id: SessionId) -> Self {
        Self { id, received: 0, next: 0, gaps: Vec::new() }
    }

    /// Continues for at most [`SESSION_STEP_ROWS`] pieces. Returns the session once it is read.
    ///
    /// # Errors
    /// `SessionNotFound`.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<Option<Session>> {
        self.read(tx, &mut { SESSION_STEP_ROWS })
    }

    /// Continues for at most `rows` pieces, and takes the number of pieces read off `rows`.
    fn read(&mut self, tx: &mut Tx<'_>, rows: &mut i64) -> Result<Option<Session>> {
        let session = find(tx, self.id)?.ok_or_else(|| unknown(self.id))?;
        // A session that expires loses its pieces from the first one on, so the reading starts again.
        if session.received < self.received {
            (self.next, self.gaps) = (0, Vec::new());
        }
        self.received = session.received;
        let is_whole = session.committed || session.received == session.total;
        if !is_whole && !self.find_gaps(tx, session.total, rows)? {
            return Ok(None);
        }
        Ok(Some(Session {
            id: self.id,
            path: session.path,
            total: session.total,
            modified: session.modified,
            expected: if is_whole { Vec::new() } else { std::mem::take(&mut self.gaps) },
            committed: session.committed,
        }))
    }

    /// Reads pieces and records the missing ranges. Returns whether that is complete.
    fn find_gaps(&mut self, tx: &mut Tx<'_>, total: i64, rows: &mut i64) -> Result<bool> {
        let limit = *rows;
        let found = tx.all(
            "SELECT start, size FROM upload_chunk WHERE session = $1 AND start >= $2
             ORDER BY start LIMIT $3",
            params![&self.id.to_string(), self.next, limit],
        )?;
        *rows -= found.len() as i64;
        for row in &found {
            let (start, size) = (row.count(0)?, row.count(1)?);
            if start > self.next {
                self.gaps.push(ByteRange { start: self.next, end: start - 1 });
            }
            self.next = start + size;
        }
        let is_end = (found.len() as i64) < limit;
        if is_end && self.next < total {
            self.gaps.push(ByteRange { start: self.next, end: total - 1 });
        }
        let is_full = self.gaps.len() >= SESSION_RANGES_MAX;
        self.gaps.truncate(SESSION_RANGES_MAX);
        Ok(is_end || is_full)
    }
}

/// The state of reading a page of sessions: those of a path, or all, ordered by id.
#[derive(Debug)]
pub struct Listing {
    path: Option<StorePath>,
    size: usize,
    /// A lower bound of the ids that remain to be read.
    from: String,
    items: Vec<Session>,
    bytes: usize,
    /// The session that is being read, between two steps.
    reading: Option<Reading>,
}

impl Listing {
    /// Begins a page. `token` is the id of its first session. The page ends at `size` sessions (0: the
    /// default) or at [`LIST_PAGE_BYTES`].
    ///
    /// # Errors
    /// `InvalidArgument` for a token that no page has.
    pub fn new(path: Option<StorePath>, size: usize, token: String) -> Result<Self> {
        check_token(&token)?;
        let size = if size == 0 { RECORDS_PAGE_DEFAULT } else { size.min(RECORDS_PAGE_MAX) };
        Ok(Self { path, size, from: token, items: Vec::new(), bytes: 0, reading: None })
    }

    /// Continues for at most [`SESSION_STEP_ROWS`] sessions and pieces. Returns the page once it is complete.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<Option<Page<Session>>> {
        let mut rows = SESSION_STEP_ROWS;
        while rows > 0 {
            let mut reading = match self.reading.take() {
                Some(reading) => reading,
                None => match self.next(tx)? {
                    None => return Ok(Some(self.end(None))),
                    Some(id) if self.items.len() == self.size => {
                        return Ok(Some(self.end(Some(id))));
                    }
                    Some(id) => Reading::new(id),
                },
            };
            rows -= 1;
            let session = match reading.read(tx, &mut rows) {
                Ok(Some(session)) => session,
                Ok(None) => {
                    self.reading = Some(reading);
                    continue;
                }
                // The session was deleted since the step before.
                Err(error) if error.kind() == Kind::SessionNotFound => {
                    self.pass(reading.id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let ranges = session.expected.len() * RANGE_BYTES;
            self.bytes += session.path.as_str().len() + ranges + SESSION_OVERHEAD_BYTES;
            if self.bytes > LIST_PAGE_BYTES && !self.items.is_empty() {
                return Ok(Some(self.end(Some(session.id))));
            }
            self.pass(session.id);
            self.items.push(session);
        }
        Ok(None)
    }

    /// The id of the next session.
    fn next(&self, tx: &mut Tx<'_>) -> Result<Option<SessionId>> {
        let row = match &self.path {
            // From `path = $1`, SQLite would conclude that the first condition is redundant, and would not
            // use the index, which needs that condition.
            Some(path) => tx.first(
                "SELECT id FROM upload_session
                 WHERE substr(path, 1, 256) = substr($1, 1, 256) AND path || '' = $1 AND id >= $2
                   AND committed < 2
                 ORDER BY id LIMIT 1",
                params![path.as_str(), &self.from],
            )?,
            None => tx.first(
                "SELECT id FROM upload_session WHERE id >= $1 AND committed < 2 ORDER BY id LIMIT 1",
                params![&self.from],
            )?,
        };
        let id = row.map(|row| SessionId::parse(&row.text(0)?).map_err(Error::internal));
        id.transpose()
    }

    /// Continues after a session: no id has a control character.
    fn pass(&mut self, id: SessionId) {
        self.from = format!("{id}\u{1}");
    }

    fn end(&mut self, next: Option<SessionId>) -> Page<Session> {
        Page { items: std::mem::take(&mut self.items), next: next.map(|id| id.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Database, metered::Metered, sql::Mode};

    const PIECES: i64 = 2 * SESSION_STEP_ROWS + SESSION_STEP_ROWS / 2;

    fn id(number: i64) -> SessionId {
        SessionId::parse(&format!("00000000-0000-4000-8000-{number:012}")).unwrap()
    }

    /// Makes sessions of many pieces of one byte. One byte in the middle and the last byte are missing.
    fn store(sessions: i64) -> (Metered, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(dir.path().join("namespace.sqlite"));
        let mut store = Metered::new(database.connect(Mode::Write).unwrap());
        store.job(|tx| {
            for number in 0..sessions {
                tx.execute(
                    "INSERT INTO upload_session (id, path, total, received, pieces, modified, committed)
                     VALUES ($1, 'a', $2 + 2, $2, $2, 0, 0)",
                    params![&id(number).to_string(), PIECES],
                )?;
                tx.execute(
                    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
                     INSERT INTO upload_chunk (session, start, size, part)
                     SELECT $1, i, 1, 1 FROM n WHERE i <> $2 / 2",
                    params![&id(number).to_string(), PIECES],
                )?;
            }
            Ok(())
        });
        (store, dir)
    }

    fn missing() -> Vec<ByteRange> {
        [PIECES / 2, PIECES + 1].map(|at| ByteRange { start: at, end: at }).to_vec()
    }

    #[test]
    fn a_session_of_many_pieces_is_read_in_steps() {
        let (mut store, _dir) = store(1);
        let mut reading = Reading::new(id(0));
        let mut steps = 1;
        let session = loop {
            let (session, counts) = store.job(|tx| reading.step(tx));
            assert!(counts.rows as i64 <= SESSION_STEP_ROWS + 1, "{counts:?}");
            match session {
                Some(session) => break session,
                None => steps += 1,
            }
        };
        assert_eq!((session.expected, steps), (missing(), 3));
    }

    #[test]
    fn a_page_of_them_is_too_and_what_goes_meanwhile_is_left_out() {
        let (mut store, _dir) = store(5);
        let mut listing = Listing::new(None, 3, id(1).to_string()).unwrap();
        let mut steps = 0;
        let page = loop {
            let (page, counts) = store.job(|tx| listing.step(tx));
            assert!(counts.rows as i64 <= SESSION_STEP_ROWS + 8, "{counts:?}");
            if let Some(page) = page {
                break page;
            }
            if steps == 0 {
                store.job(|tx| crate::namespace::session::delete(tx, id(1)));
            }
            steps += 1;
        };
        assert!(steps > 6, "{steps}");
        let ids: Vec<_> = page.items.iter().map(|session| session.id).collect();
        assert_eq!((ids, page.next), (vec![id(2), id(3), id(4)], None));
        assert!(page.items.iter().all(|session| session.expected == missing()));
    }

    #[test]
    fn a_session_that_loses_pieces_is_read_anew() {
        let (mut store, _dir) = store(1);
        let mut reading = Reading::new(id(0));
        assert_eq!(store.job(|tx| reading.step(tx)).0, None);
        store.job(|tx| {
            tx.execute("DELETE FROM upload_chunk WHERE start < 2", &[])?;
            tx.execute("UPDATE upload_session SET received = received - 2", &[])
        });
        let session = loop {
            if let (Some(session), _) = store.job(|tx| reading.step(tx)) {
                break session;
            }
        };
        assert_eq!(session.expected[0], ByteRange { start: 0, end: 1 });
        assert_eq!(session.expected[1..], missing());
    }
}
