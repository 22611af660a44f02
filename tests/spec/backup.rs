//! Backups and restores: the state of a restored store, the bytes that are transferred, and refusals.

use std::collections::BTreeMap;

use imagestore::{
    error::Kind,
    limits::MIB,
    wire::v1::{
        BackupRequest, BackupResponse, BackupStart, BackupWants, CheckRequest, Entry,
        GetStoreInfoRequest, ListRequest, RestoreRequest, StatRequest, backup_request,
        backup_response, restore_request,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{iter, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use crate::{
    grpc::{SESSION, all, assert_told, server},
    harness::{Client, Driver, Server, copy, fill, tree},
};

fn start(everything: bool) -> BackupRequest {
    let start = BackupStart { everything, copy: false };
    BackupRequest { payload: Some(backup_request::Payload::Start(start)) }
}

fn wants(parts: Vec<u32>) -> BackupRequest {
    let wants = BackupWants { parts, all_folders: false };
    BackupRequest { payload: Some(backup_request::Payload::Wants(wants)) }
}

/// The messages of a full backup, as the requests of a restore.
pub(crate) async fn backup(client: &mut Client) -> Vec<RestoreRequest> {
    let messages = all(client.backup(iter([start(true)])).await).await.expect("a backup");
    messages.into_iter().map(|message| forward(message.payload.expect("a payload"))).collect()
}

/// A message of a backup as a request of a restore.
fn forward(payload: backup_response::Payload) -> RestoreRequest {
    let payload = match payload {
        backup_response::Payload::Record(record) => restore_request::Payload::Record(record),
        backup_response::Payload::Data(data) => restore_request::Payload::Data(data),
        backup_response::Payload::Offer(_) => panic!("nothing is offered"),
    };
    RestoreRequest { payload: Some(payload) }
}

/// All entries down to a depth, with their details; copies of copies have too many paths to list them all.
async fn entries(client: &mut Client, depth: usize) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(path) = folders.pop() {
        let request = ListRequest { path: path.clone(), ..ListRequest::default() };
        for entry in client.list(request).await.expect("a page").into_inner().entries {
            let stat = StatRequest { path: entry.path.clone() };
            let stat = client.stat(stat).await.expect("found").into_inner();
            if entry.version.is_none() && entry.path.matches('/').count() + 1 < depth {
                folders.push(entry.path.clone());
            }
            found.insert(entry.path, stat.entry.expect("an entry"));
        }
    }
    found
}

pub(crate) async fn assert_clean(client: &mut Client) {
    let request = CheckRequest { deep: true, repair: false };
    let reports = all(client.check(request).await).await.expect("checked");
    assert_eq!(reports.last().expect("a report").findings_total, 0, "{reports:?}");
}

/// The numbers of distinct folders and parts of a store, and the bytes of the parts.
async fn space(client: &mut Client) -> (u64, u64, u64) {
    let info = client.get_store_info(GetStoreInfoRequest {}).await.expect("info").into_inner();
    let unique = info.unique.expect("a usage");
    (info.folder_count, unique.file_count, unique.used_bytes)
}

#[tokio::test]
async fn a_restored_store_is_the_same_and_as_small() {
    let (old, mut client) = server("a/small=1 a/empty a/B/x=2 a/b/x=3").await;
    let store = old.rest();
    let large: Vec<u8> = (0..9 * MIB).map(|at| (at / 1000) as u8).collect();
    store.upload("a/large", &large).await.expect("stored");
    store.copy(&copy("a", "c")).await.expect("copied");
    store.copy(&copy("a", "skipped").skip(&["small"])).await.expect("copied");
    for level in 0..30 {
        store.copy(&copy("c", &format!("d/{level}"))).await.expect("copied");
        store.copy(&copy("d", "c/d")).await.expect("copied");
        store.delete("d").await.expect("deleted");
    }
    store.chunk(SESSION, "s", (0, 2), b"s").await.expect("stored");
    let before = entries(&mut client, 4).await;

    let messages = backup(&mut client).await;
    assert!(messages.len() < 400, "{} messages", messages.len());
    let new = Server::start().await;
    let mut restored = new.client().await;
    let answer = restored.restore(iter(messages.clone())).await.expect("restored").into_inner();
    assert_eq!(
        answer.file_count,
        before
            .iter()
            .filter(|(path, _)| !path.contains('/'))
            .map(|(_, entry)| entry.file_count)
            .sum::<u64>()
    );

    assert_eq!(entries(&mut restored, 4).await, before);
    assert_eq!(new.rest().download("c/large").await.expect("the bytes"), large);
    assert_eq!(new.rest().download("c/empty").await.expect("the bytes"), b"");
    assert_clean(&mut restored).await;
    // Only the part of the upload session is missing in the restored store.
    let (there, here) = (space(&mut client).await, space(&mut restored).await);
    assert_eq!((here.1 + 1, here.2 + 1), (there.1, there.2));
    // A restored store can be backed up, and gives new files higher versions than all restored ones.
    let last = before.values().filter_map(|entry| entry.version).map(|v| v.version_number).max();
    new.rest().upload("new", b"4").await.expect("stored");
    let new = &entries(&mut restored, 1).await["new"];
    assert!(new.version.expect("a version").version_number > last.expect("a version"));
}

#[tokio::test]
async fn an_empty_store_and_its_versions_survive() {
    let (old, mut client) = server("a=1 b=2").await;
    old.rest().delete("a").await.expect("deleted");
    old.rest().delete("b").await.expect("deleted");
    let messages = backup(&mut client).await;
    let new = Server::start().await;
    let mut restored = new.client().await;
    restored.restore(iter(messages)).await.expect("restored");
    assert_eq!(tree(&new.rest()).await, "");
    new.rest().upload("c", b"3").await.expect("stored");
    old.rest().upload("c", b"3").await.expect("stored");
    let (old, new) = (entries(&mut client, 1).await, entries(&mut restored, 1).await);
    assert_eq!(old["c"].version, new["c"].version, "the third write of one and the same epoch");
}

/// A running backup: the sender of its requests, and its responses.
struct Asked {
    requests: mpsc::Sender<BackupRequest>,
    messages: Streaming<BackupResponse>,
}

impl Asked {
    async fn start(client: &mut Client) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        requests.send(start(false)).await.expect("taken");
        let messages = client.backup(ReceiverStream::new(receiver)).await.expect("begun");
        Self { requests, messages: messages.into_inner() }
    }

    async fn next(&mut self) -> Result<Option<backup_response::Payload>, Status> {
        Ok(self.messages.message().await?.map(|message| message.payload.expect("a payload")))
    }

    /// Reads to the end, and answers each offer of parts. Returns the sizes of the offered parts, the number
    /// of bytes received, and the messages as the requests of a restore.
    async fn rest(
        &mut self,
        answer: impl Fn(&[u64]) -> Vec<u32>,
    ) -> (Vec<u64>, usize, Vec<RestoreRequest>) {
        let (mut offered, mut bytes, mut messages) = (Vec::new(), 0, Vec::new());
        while let Some(payload) = self.next().await.expect("a message") {
            match payload {
                backup_response::Payload::Offer(offer) => {
                    let sizes: Vec<u64> = offer.parts.iter().map(|part| part.size_bytes).collect();
                    self.requests.send(wants(answer(&sizes))).await.expect("taken");
                    offered.extend(sizes);
                }
                payload => {
                    if let backup_response::Payload::Data(data) = &payload {
                        bytes += data.len();
                    }
                    messages.push(forward(payload));
                }
            }
        }
        (offered, bytes, messages)
    }
}

#[tokio::test]
async fn only_the_parts_that_are_wanted_move() {
    let (old, mut client) = server("a/f=1 a/g=22 a/h=333 b/f=1").await;
    old.rest().copy(&copy("a", "c")).await.expect("copied");
    let none = |_: &[u64]| Vec::new();
    let (mut offered, bytes, _) = Asked::start(&mut client).await.rest(none).await;
    offered.sort_unstable();
    assert_eq!((offered, bytes), (vec![1, 2, 3], 0), "each part is offered once");
    let large =
        |sizes: &[u64]| (0..).zip(sizes).filter(|(_, s)| **s > 1).map(|(at, _)| at).collect();
    let (_, bytes, _) = Asked::start(&mut client).await.rest(large).await;
    assert_eq!(bytes, 5);
}

#[tokio::test]
async fn a_backup_shows_the_moment_at_which_it_began() {
    let (old, mut client) = server("a/f=1 a/g=2 b/f=3").await;
    let mut asked = Asked::start(&mut client).await;
    let header = asked.next().await.expect("a message").expect("the header");
    // The backup now waits for the answer to its first offer.
    fill(&old.rest(), "a/f=other a/new=4 c=5").await;
    old.rest().copy(&copy("b", "a/g")).await.expect("copied");
    old.rest().delete("b").await.expect("deleted");
    let every = |sizes: &[u64]| (0..).zip(sizes).map(|(at, _)| at).collect();
    let (offered, _, messages) = asked.rest(every).await;
    assert_eq!(offered.len(), 3);
    let whole = iter([forward(header)].into_iter().chain(messages));
    let new = Server::start().await;
    new.client().await.restore(whole).await.expect("restored");
    assert_eq!(tree(&new.rest()).await, "a/f=1 a/g=2 b/f=3");
    assert_eq!(tree(&old.rest()).await, "a/f=other a/g/f=3 a/new=4 c=5");
}

#[tokio::test]
async fn a_backup_is_asked_in_its_order() {
    let (_old, mut client) = server("a=1").await;
    let nothing = client.backup(iter([])).await;
    assert_told(nothing, Kind::InvalidArgument, Some("start"));
    let early = client.backup(iter([wants(vec![])])).await;
    assert_told(early, Kind::InvalidArgument, Some("start"));
    for (answer, field) in [
        (vec![], "wants"),
        (vec![start(false)], "wants"),
        (vec![wants(vec![1])], "wants"),
        (vec![wants(vec![0, 0])], "wants"),
    ] {
        let requests = [start(false)].into_iter().chain(answer);
        let ended = all(client.backup(iter(requests.collect::<Vec<_>>())).await).await;
        assert_told(ended, Kind::InvalidArgument, Some(field));
    }
}
