//! What the audit log says of a call: its caller, which the door knows, and its rpc, its paths and its operation, which
//! only the service knows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    access::{Identity, Rpc},
    model::StorePath,
};

/// The record of one request, which the door and its rpcs fill. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CallRecord(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    identity: Option<Identity>,
    recorded: Option<Recorded>,
}

/// What an rpc has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The rpc.
    pub rpc: Rpc,
    /// Its paths, a source before a destination.
    pub paths: Vec<String>,
    /// The id of its operation, its upload session or its token.
    pub id: Option<String>,
}

impl CallRecord {
    /// Records an rpc. Of several rpcs of a request, the first one that changes something is kept, else the first one.
    pub(super) fn note(&self, rpc: Rpc, paths: &[&StorePath]) {
        let recorded = &mut self.lock().recorded;
        if recorded.as_ref().is_none_or(|first| rpc.is_audited() && !first.rpc.is_audited()) {
            let paths = paths.iter().map(ToString::to_string).collect();
            *recorded = Some(Recorded { rpc, paths, id: None });
        }
    }

    /// Sets the paths of an rpc that was recorded without any.
    pub(super) fn note_paths(&self, paths: Vec<String>) {
        if let Some(recorded) = &mut self.lock().recorded
            && recorded.paths.is_empty()
        {
            recorded.paths = paths;
        }
    }

    /// Adds the id of the operation or the upload session.
    pub(super) fn note_id(&self, id: String) {
        if let Some(recorded) = &mut self.lock().recorded {
            recorded.id = Some(id);
        }
    }

    /// What was recorded; `None` if the request has called no rpc.
    pub fn recorded(&self) -> Option<Recorded> {
        self.lock().recorded.clone()
    }

    /// Records the caller, or why there is none, before the call begins: it may never answer.
    pub fn note_identity(&self, identity: Identity) {
        self.lock().identity = Some(identity);
    }

    /// The caller; `None` if nobody has looked at the credential.
    pub fn identity(&self) -> Option<Identity> {
        self.lock().identity.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_kept() {
        let record = CallRecord::default();
        assert_eq!(record.recorded(), None);
        let path = StorePath::parse("a", "path").expect("a path");
        record.note(Rpc::Stat, &[&path]);
        record.note(Rpc::List, &[]);
        let rpc = |record: &CallRecord| record.recorded().expect("an rpc").rpc;
        assert_eq!(rpc(&record), Rpc::Stat);
        record.note(Rpc::Delete, &[&path]);
        record.note(Rpc::Upload, &[]);
        record.note_id("7".to_owned());
        let expected =
            Recorded { rpc: Rpc::Delete, paths: vec!["a".to_owned()], id: Some("7".to_owned()) };
        assert_eq!(record.recorded(), Some(expected));
    }
}
