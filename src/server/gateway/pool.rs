//! The backends of a gateway that are known at this moment, whether each serves, and which gets the next call.
//!
//! A call goes to the backend with the fewest calls among those that serve; of several with as few, each has its turn.
//! A backend has several connections, because a connection has a bound of streams; a call takes the one with the
//! fewest calls.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tonic::transport::Channel;

use super::backend::Connector;
use crate::limits::BACKEND_CONNECTIONS;

/// One address of a backend.
#[derive(Debug)]
pub(super) struct Member {
    /// What the log calls it.
    pub(super) name: String,
    connections: Vec<Connection>,
    serves: AtomicBool,
    /// Wakes who probes it.
    pub(super) doubt: Notify,
    /// How often a connection to it was made.
    connected: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    calls: AtomicUsize,
}

impl Member {
    /// A member that serves when [`Pool::note`] says so. Nothing is connected yet.
    pub(super) fn new(
        name: String,
        connector: &Connector,
        address: std::net::SocketAddr,
    ) -> Arc<Self> {
        let connected = Arc::<AtomicU64>::default();
        let connections = (0..BACKEND_CONNECTIONS).map(|_| {
            let connected = Arc::clone(&connected);
            let count = move || {
                connected.fetch_add(1, Relaxed);
            };
            Connection { channel: connector.channel(address, count), calls: AtomicUsize::new(0) }
        });
        let connections = connections.collect();
        let (serves, doubt) = (AtomicBool::new(false), Notify::new());
        Arc::new(Self { name, connections, serves, doubt, connected })
    }

    /// The connection by which the member is probed, which calls use too.
    pub(super) fn probed(&self) -> Option<Channel> {
        self.connections.first().map(|connection| connection.channel.clone())
    }

    /// How often a connection was made. Another number may mean another server.
    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Relaxed)
    }

    fn calls(&self) -> usize {
        self.connections.iter().map(|connection| connection.calls.load(Relaxed)).sum()
    }
}

/// A call on a connection of a member, until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) member: Arc<Member>,
    connection: usize,
}

impl Lease {
    fn take(member: &Arc<Member>) -> Option<Self> {
        let calls = |connection: &Connection| connection.calls.load(Relaxed);
        let numbered = member.connections.iter().enumerate();
        let (number, connection) = numbered.min_by_key(|(_, connection)| calls(connection))?;
        connection.calls.fetch_add(1, Relaxed);
        Some(Self { member: Arc::clone(member), connection: number })
    }

    /// The connection of the call.
    pub(super) fn channel(&self) -> Option<Channel> {
        self.member.connections.get(self.connection).map(|connection| connection.channel.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.member.connections.get(self.connection) {
            connection.calls.fetch_sub(1, Relaxed);
        }
    }
}

/// The members. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    members: RwLock<Vec<Arc<Member>>>,
    /// Whether some member serves.
    ready: watch::Sender<bool>,
    /// Whether the gateway stops, and is not ready whoever serves.
    is_closed: AtomicBool,
    turn: AtomicUsize,
}

impl Pool {
    /// A pool without members. `ready` is kept at whether some member serves.
    pub(super) fn new(ready: watch::Sender<bool>) -> Self {
        let (members, turn) = (RwLock::default(), AtomicUsize::new(0));
        Self(Arc::new(Shared { members, ready, is_closed: AtomicBool::new(false), turn }))
    }

    /// Makes the gateway unready. Calls go on.
    pub(super) fn close(&self) {
        self.0.is_closed.store(true, Relaxed);
        self.update();
    }

    /// Adds a member.
    pub(super) fn add(&self, member: Arc<Member>) {
        self.change(|members| members.push(member));
    }

    /// Removes a member, which gets no further calls.
    pub(super) fn remove(&self, member: &Arc<Member>) {
        self.change(|members| members.retain(|other| !Arc::ptr_eq(other, member)));
    }

    /// Notes whether a member serves. Returns whether some member serves now, if that has changed.
    pub(super) fn note(&self, member: &Member, serves: bool) -> Option<bool> {
        member.serves.store(serves, Relaxed);
        self.update()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Member>>)) {
        change(&mut self.0.members.write().unwrap_or_else(PoisonError::into_inner));
        self.update();
    }

    fn update(&self) -> Option<bool> {
        let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
        let mut now = false;
        let has_changed = self.0.ready.send_if_modified(|ready| {
            now = members.iter().any(|member| member.serves.load(Relaxed))
                && !self.0.is_closed.load(Relaxed);
            std::mem::replace(ready, now) != now
        });
        has_changed.then_some(now)
    }

    /// A call on a member that serves and is none of `tried`; `None` if there is none.
    pub(super) fn pick(&self, tried: &[Arc<Member>]) -> Option<Lease> {
        let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.0.turn.fetch_add(1, Relaxed).checked_rem(members.len())?;
        let (before, after) = members.split_at_checked(turn)?;
        let free = after.iter().chain(before).filter(|member| {
            member.serves.load(Relaxed) && !tried.iter().any(|other| Arc::ptr_eq(other, member))
        });
        free.min_by_key(|member| member.calls()).and_then(Lease::take)
    }

    /// A call on a member that serves; `None` if there is none within `time`.
    pub(super) async fn wait(&self, time: Duration) -> Option<Lease> {
        let mut ready = self.0.ready.subscribe();
        let picked = async {
            loop {
                if let Some(lease) = self.pick(&[]) {
                    return Some(lease);
                }
                ready.changed().await.ok()?;
            }
        };
        timeout(time, picked).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::backend::BackendUrl, *};

    fn pool(serving: &[bool]) -> (Pool, Vec<Arc<Member>>, watch::Receiver<bool>) {
        let (ready, is_ready) = watch::channel(false);
        let pool = Pool::new(ready);
        let url = BackendUrl::parse("http://127.0.0.1:1").expect("an address");
        let connector = Connector::new(&url, None).expect("a connector");
        let members: Vec<_> = serving
            .iter()
            .map(|&serves| {
                let address = ([127, 0, 0, 1], 1).into();
                let member = Member::new(url.to_string(), &connector, address);
                pool.add(Arc::clone(&member));
                pool.note(&member, serves);
                member
            })
            .collect();
        (pool, members, is_ready)
    }

    fn number(members: &[Arc<Member>], lease: &Lease) -> usize {
        let found = members.iter().position(|member| Arc::ptr_eq(member, &lease.member));
        found.expect("a member")
    }

    #[tokio::test]
    async fn the_member_with_the_fewest_calls_gets_the_next() {
        let (pool, members, _) = pool(&[true, false, true]);
        let mut held = Vec::new();
        let mut counts = [0; 3];
        for _ in 0..10 {
            let lease = pool.pick(&[]).expect("a member");
            counts[number(&members, &lease)] += 1;
            held.push(lease);
        }
        assert_eq!(counts, [5, 0, 5]);
        held.retain(|lease| number(&members, lease) == 0);
        for _ in 0..5 {
            let lease = pool.pick(&[]).expect("a member");
            assert_eq!(number(&members, &lease), 2);
            held.push(lease);
        }
        // The calls of a member are spread over its connections.
        let calls = |connection: &Connection| connection.calls.load(Relaxed);
        assert!(members[2].connections.iter().all(|connection| calls(connection) == 1));
        drop(held);
        assert!(members.iter().all(|member| member.calls() == 0));
    }

    #[tokio::test]
    async fn idle_members_take_turns() {
        let (pool, members, _) = pool(&[true, true]);
        let turns = || number(&members, &pool.pick(&[]).expect("a member"));
        let seen = [turns(), turns(), turns(), turns()];
        assert!(seen == [0, 1, 0, 1] || seen == [1, 0, 1, 0], "{seen:?}");
    }

    #[tokio::test]
    async fn a_member_that_was_tried_is_not_picked_again() {
        let (pool, members, _) = pool(&[true, true]);
        let first = pool.pick(&[]).expect("a member");
        let tried = [Arc::clone(&first.member)];
        let second = pool.pick(&tried).expect("the other one");
        assert_ne!(number(&members, &first), number(&members, &second));
        assert!(pool.pick(&members).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_until_some_member_serves() {
        let (pool, members, ready) = pool(&[false]);
        let second = Duration::from_secs(1);
        assert!(!*ready.borrow() && pool.wait(second).await.is_none());
        let (lease, changed) = tokio::join!(pool.wait(second), async {
            tokio::task::yield_now().await;
            pool.note(&members[0], true)
        });
        assert!(lease.is_some() && changed == Some(true) && *ready.borrow());
        assert_eq!(pool.note(&members[0], true), None);
        pool.remove(&members[0]);
        assert!(!*ready.borrow() && pool.pick(&[]).is_none());
    }
}
