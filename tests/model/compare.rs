//! The comparison of the real store with the plain one, after each step and at the end of a history.

use std::collections::BTreeMap;

use imagestore::{
    error::Kind,
    model::{Digest, Entry, EntryKind},
    store::Call,
};

use crate::{
    audit,
    machine::{Machine, SESSIONS, new_session},
    plain::{Listed, Plain},
    step::Step,
};

impl Machine {
    /// Compares the whole tree with its totals, read from the tables.
    pub(crate) fn compare_tree(&self) {
        let mut found = audit::tree(&self.fixture.tables);
        let expected = self.plain.tree();
        for (path, entry) in &mut found {
            // The digest of a chunked upload is computed later, in the background.
            if entry.digest.is_none() {
                entry.digest = expected.get(path).and_then(|expected| expected.digest);
            }
        }
        assert_eq!(found, expected, "the tree");
    }

    /// Compares the listings of all folders, or of one folder, which differs from step to step.
    pub(crate) async fn compare_listings(&mut self, all: bool) {
        // Every page size gives the same listing; 0 is the default size.
        let size = if all { 0 } else { self.steps % 4 };
        let folders = self.plain.folders();
        let one = self.steps % folders.len();
        for (_, folder) in folders.iter().enumerate().filter(|(number, _)| all || *number == one) {
            let (found, tags) = self.fixture.list_tagged(folder, size).await.unwrap();
            let found: Vec<Listed> = found.iter().map(listed).collect();
            assert_eq!(found, self.plain.list(folder), "listing of \"{folder}\"");
            // Equal change tags of a path mean equal listings, at all times and on every page.
            for tag in tags {
                let key = ((*folder).to_owned(), tag.expect("a folder has a change tag"));
                let known = self.tagged.entry(key).or_insert_with(|| found.clone());
                assert_eq!(*known, found, "listings of one tag of \"{folder}\"");
            }
        }
    }

    pub(crate) async fn compare_sessions(&self, step: &Step) {
        let is_about_sessions = matches!(
            step,
            Step::Chunk { .. } | Step::Commit { .. } | Step::DeleteSession { .. } | Step::Restart
        );
        for (id, known) in self.sessions.iter().filter(|_| is_about_sessions) {
            let found = self.fixture.store.session(*id, &Call::system()).await;
            match known {
                None => assert_eq!(found.map_err(|e| e.kind()), Err(Kind::SessionNotFound)),
                Some(session) => {
                    let found = found.unwrap();
                    let gaps: Vec<_> = found.expected.iter().map(|g| (g.start, g.end)).collect();
                    assert_eq!(gaps, session.gaps(), "gaps");
                    assert_eq!(found.committed, session.committed, "committed");
                }
            }
        }
    }

    /// Reads one file of every content; the comparison of the trees covers the other files.
    pub(crate) async fn read_all(&mut self) {
        let contents: BTreeMap<Digest, String> =
            self.plain.files.iter().map(|(at, file)| (file.digest, at.clone())).collect();
        for at in contents.into_values() {
            self.read(&at, 0, None).await;
        }
    }

    /// Deletes everything, reclaims, and checks that nothing is left.
    pub(crate) async fn clear(&mut self) {
        for session in 0..self.sessions.len() {
            self.delete_session(session).await;
        }
        self.sessions = (0..SESSIONS).map(|_| new_session()).collect();
        self.plain = Plain::default();
        self.last = None;
        self.fixture.empty().await;
        assert_eq!(self.fixture.object_keys().await, [""; 0], "objects are left");
    }
}

fn listed(entry: &Entry) -> Listed {
    let file = match &entry.kind {
        EntryKind::Folder => None,
        EntryKind::File { version, modified } => Some((version.number, *modified)),
    };
    Listed {
        path: entry.path.as_str().to_owned(),
        file,
        files: entry.totals.files,
        bytes: entry.totals.bytes,
    }
}
