//! Many concurrent clients over sockets, over both interfaces, on the same paths: every read is whole, and at
//! the end every total equals a recount.
//!
//! There are four kinds of paths. Packages become visible only by copies, so every listing of a package is
//! of one version. All clients write to hot paths, so a read there returns what some client has sent. And a
//! client's own folder is exactly as the client left it, although the folders above it are shared and are
//! copied all the time. And the calls on a few files are judged in real time: a read that began after a write was
//! acknowledged sees that write or a later one, whichever server answers.
//!
//! `TEST_LONG=1` makes the histories longer; `TEST_SEED=<number>` repeats their choices, though not their
//! timing.

mod client;
mod content;
mod order;
mod record;

use std::{sync::Arc, time::Instant};

use imagestore::wire::v1::{CheckRequest, GetStoreInfoRequest, StatRequest};

use self::{
    client::{Client, Shared, files},
    content::Upload,
    record::Record,
};
use crate::{
    dice::{is_long, seed},
    harness::{Driver, Server, postgres},
};

const CLIENTS: usize = 16;
const CALLS: usize = 100;
/// The same number on PostgreSQL, where each statement crosses a socket.
const CALLS_POSTGRES: usize = 25;
const CALLS_LONG: usize = 1_000;

/// Drivers of both interfaces of a server, on separate connections.
async fn stores(server: &Server) -> [Shared; 2] {
    [Arc::new(server.grpc().await), Arc::new(server.rest())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_at_once_see_what_was_sent_and_whole_packages() {
    let seed = seed();
    let calls = match (is_long(), postgres()) {
        (true, _) => CALLS_LONG,
        (false, None) => CALLS,
        (false, Some(_)) => CALLS_POSTGRES,
    };
    println!("TEST_SEED={seed}");
    let server = Server::start().await;
    let record = Arc::new(Record::default());
    let mut running = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::new(number, stores(&server).await, Arc::clone(&record), seed);
        running.push(tokio::spawn(client.run(calls)));
    }
    let mut clients = Vec::new();
    for client in running {
        clients.push(client.await.expect("no panic"));
    }

    // Cancelled calls may still run; the stop of the server ends them.
    let server = server.restart().await;
    for mut client in clients {
        client.stores = stores(&server).await;
        client.see_own().await.expect("seen");
    }
    verify_all(&server, &record).await;
}

/// Checks that every file is what a client has sent, that every total equals a recount, and that a deep check
/// has no findings.
async fn verify_all(server: &Server, record: &Record) {
    let store = server.rest();
    let all = files(&store, "").await.expect("listings");
    for (path, size) in &all {
        let begun = Instant::now();
        let bytes = store.download(path).await.expect(path);
        assert_eq!(bytes.len() as u64, *size, "{path}");
        record.saw(path, &bytes, 0);
        if path.starts_with("order/") {
            record.order.read(path, Some(Upload::of(&bytes, 0)), begun);
        }
    }
    let (listings, sights) = record.verify();
    let (writes, reads) = record.order.verify();
    println!(
        "{listings} listings of packages, {sights} different downloads, {writes} writes and {reads} reads in order"
    );
    assert!(listings > 0 && sights > 0 && writes > 0 && reads > 0);

    let mut client = server.client().await;
    let root = client.stat(StatRequest::default()).await.expect("the root").into_inner();
    let root = root.entry.expect("an entry");
    let recount = (all.len() as u64, all.values().sum::<u64>());
    assert_eq!((root.file_count, root.size_bytes), recount);
    let info = client.get_store_info(GetStoreInfoRequest {}).await.expect("told").into_inner();
    let logical = info.logical.expect("what is visible");
    assert_eq!((logical.file_count, logical.used_bytes), recount);

    let request = CheckRequest { deep: true, repair: false };
    let mut check = client.check(request).await.expect("begun").into_inner();
    let mut is_done = false;
    while let Some(report) = check.message().await.expect("a report") {
        assert_eq!(report.findings, []);
        is_done = report.done;
    }
    assert!(is_done, "the check ended early");
}
