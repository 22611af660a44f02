//! The context of a call beside its arguments: its deadline, its peer, and its caller, who may make the call.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    access::{
        CallRecord, Caller, Rights, Role,
        rpc::{Needs, Rpc},
    },
    budget::Peer,
    error::{Error, Result},
    model::{Operation, StorePath},
};

/// The context of a request that is not authorized yet.
#[derive(Clone, Debug)]
pub struct RequestContext {
    call: Call,
}

impl RequestContext {
    /// The context of a request of `caller`, for which `time` is left, if that is limited.
    pub fn new(caller: Caller, peer: Peer, time: Option<Duration>) -> Self {
        let call = Call { deadline: None, peer, caller, record: CallRecord::default() };
        Self { call: call.within(time) }
    }

    /// The same context, whose rpc goes into a record for the audit log.
    #[must_use]
    pub fn with_record(self, record: CallRecord) -> Self {
        Self { call: Call { record, ..self.call } }
    }

    /// Records the id of the operation or the upload session of the call.
    pub fn note_id(&self, id: &impl ToString) {
        self.call.record.note_id(id.to_string());
    }

    /// As [`Call::until`], for what comes before the call is authorized.
    ///
    /// # Errors
    /// `Timeout`, and those of the work.
    ///
    /// # Cancel safety
    /// That of the work.
    pub async fn until<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.call.until(work).await
    }

    /// Authorizes an rpc. `paths` are those that the rpc needs roles at, in the order of its table.
    ///
    /// The decision depends on the caller and the paths alone, so that it tells nothing about what is stored.
    ///
    /// # Errors
    /// `Forbidden`; `Unauthenticated` for a caller without a credential.
    pub fn authorize(&self, rpc: Rpc, paths: &[&StorePath]) -> Result<Call> {
        let call = &self.call;
        call.record.note(rpc, paths);
        let root = StorePath::root();
        match rpc.needs() {
            Needs::Paths(roles) => {
                // A table and a call that do not fit each other are refused.
                if roles.len() != paths.len() {
                    return Err(Error::internal("the paths of a call are not those of its rpc"));
                }
                for (role, path) in roles.iter().zip(paths) {
                    call.require(*role, path)?;
                }
            }
            Needs::Root(role) => call.require(role, &root)?,
            Needs::Folder => {
                for path in paths {
                    // Only who may not read all of the folder needs a look at all rights.
                    if !call.may(Role::Reader, path) && !call.caller.rights().may_see(path) {
                        call.require(Role::Reader, path)?;
                    }
                }
            }
            Needs::Identity => {}
            Needs::Stored => {
                if !call.caller.has_rights() {
                    call.require(Role::Reader, &root)?;
                }
            }
        }
        Ok(self.call.clone())
    }
}

/// The context of an authorized call of the store. Only [`RequestContext::authorize`] and [`Call::system`] make one.
#[derive(Clone, Debug)]
pub struct Call {
    deadline: Option<Instant>,
    peer: Peer,
    caller: Caller,
    record: CallRecord,
}

impl Call {
    /// A call of the server itself, which may do everything, without a deadline.
    pub fn system() -> Self {
        let (peer, caller, record) = (Peer::default(), Caller::system(), CallRecord::default());
        Self { deadline: None, peer, caller, record }
    }

    /// A call of a test, from a peer.
    #[cfg(test)]
    pub(crate) fn from_peer(peer: Peer) -> Self {
        Self { peer, ..Self::system() }
    }

    /// The time after which the caller no longer waits. Work that has not begun by then does not begin.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The client, to whose share of the budgets the work counts.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Who makes the call.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Records the paths of an rpc that names an operation or an upload session by its id.
    pub fn note_paths<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) {
        self.record.note_paths(paths.into_iter().map(ToString::to_string).collect());
    }

    /// Whether the caller may read, write or administer what is at a path, at this moment.
    pub fn may(&self, role: Role, path: &StorePath) -> bool {
        self.caller.may(role, path)
    }

    /// Checks that the caller has a role at a path.
    ///
    /// # Errors
    /// `Forbidden`; `Unauthenticated` for a caller without a credential.
    pub fn require(&self, role: Role, path: &StorePath) -> Result<()> {
        if self.may(role, path) {
            return Ok(());
        }
        let path = if path.is_root() { "/" } else { path.as_str() };
        let what = match role {
            Role::Monitor => "see the figures of the store".to_owned(),
            Role::Reader => format!("read '{path}'"),
            Role::Writer => format!("write '{path}'"),
            Role::Admin => format!("administer '{path}'"),
        };
        Err(self.caller.refused(&what))
    }

    /// Checks that the caller is an admin of every path of some rights.
    ///
    /// # Errors
    /// `Forbidden`; `Unauthenticated` for a caller without a credential.
    pub fn require_admin(&self, rights: &Rights) -> Result<()> {
        let own = self.caller.rights();
        for (_, pattern) in rights.iter() {
            if !Rights::new(vec![(Role::Admin, pattern.clone())]).is_within(&own) {
                return Err(self.caller.refused(&format!("administer '{pattern}'")));
            }
        }
        Ok(())
    }

    /// Awaits `work`, and drops it when the credential of the caller ends: for watches, which have no end.
    ///
    /// # Errors
    /// `Unauthenticated`, and those of the work.
    ///
    /// # Cancel safety
    /// That of the work.
    pub async fn while_valid<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            error = self.caller.expired() => Err(error),
            done = work => done,
        }
    }

    /// Whether the caller may see an operation: one that it started, or whose paths it may read.
    pub fn may_see(&self, operation: &Operation) -> bool {
        self.caller.has_started(&operation.credential)
            || operation.ends().into_iter().flatten().all(|path| self.may(Role::Reader, path))
    }

    /// The same call with a deadline after `time`, unless its own is earlier. A time that overflows [`Instant`]
    /// sets no deadline.
    #[must_use]
    pub fn within(&self, time: Option<Duration>) -> Self {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        Self { deadline: self.deadline.into_iter().chain(end).min(), ..self.clone() }
    }

    /// Checks the deadline.
    ///
    /// # Errors
    /// `Timeout` if the deadline has passed.
    pub fn check(&self) -> Result<()> {
        let is_over = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        if is_over { Err(Error::late()) } else { Ok(()) }
    }

    /// Awaits `work`, and drops it at the deadline: only for work that changes nothing when it is dropped. A
    /// large future should be boxed, since the returned future contains it.
    ///
    /// # Errors
    /// `Timeout`, and those of the work.
    ///
    /// # Cancel safety
    /// That of the work.
    pub async fn until<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        // Pinned here, since a move into `timeout_at` would make this future twice as large.
        let mut work = pin!(work);
        match self.deadline {
            None => work.await,
            Some(deadline) => {
                timeout_at(deadline, &mut work).await.unwrap_or_else(|_| Err(Error::late()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test(start_paused = true)]
    async fn the_earlier_end_counts() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let ends = |deadline: Option<Duration>, time| {
            let deadline = deadline.map(|deadline| now + deadline);
            let call = Call { deadline, ..Call::system() };
            call.within(time).deadline.map(|end| end - now)
        };
        assert_eq!(ends(None, None), None);
        assert_eq!(ends(None, Some(second)), Some(second));
        assert_eq!(ends(Some(second), None), Some(second));
        assert_eq!(ends(Some(second), Some(2 * second)), Some(second));
        assert_eq!(ends(Some(2 * second), Some(second)), Some(second));
        assert_eq!(ends(Some(second), Some(Duration::MAX)), Some(second));
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_at_the_deadline() {
        let call = &Call::system().within(Some(Duration::from_secs(1)));
        assert!(call.check().is_ok());
        let error = call.until(std::future::pending::<Result<()>>()).await.expect_err("late");
        assert_eq!(error.kind(), Kind::Timeout);
        assert_eq!(call.check().expect_err("late").kind(), Kind::Timeout);
        assert!(&Call::system().check().is_ok());
    }
}
