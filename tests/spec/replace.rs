//! What a copy replaces: only an entry of the same kind, if the request says so; and the number of replaced
//! files.

use imagestore::{error::Kind, wire::v1::CopyRequest};

use crate::{
    copy::{check, check_refused},
    harness::{Driver, Fault, Gate, Pair, Server, both, copy, fill, of, tree},
};

const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";

#[tokio::test]
async fn what_is_of_the_same_kind_is_replaced() {
    let pair = Pair::start().await;
    for ask in [copy("a", "b"), copy("a", "b").verify(), copy("a", "b").skip(&["no"])] {
        let ask = ask.same_kind();
        check(&pair, "a=1", ask.clone(), Ok(()), "a=1 b=1").await;
        check(&pair, "a=1 b=2", ask.clone(), Ok(()), "a=1 b=1").await;
        check(&pair, "a/f=1", ask.clone(), Ok(()), "a/f=1 b/f=1").await;
        check(&pair, "a/f=1 b/old=2", ask, Ok(()), "a/f=1 b/f=1").await;
    }
    check(&pair, "a/f=1", copy("a", "a").same_kind(), Ok(()), "a/f=1").await;
    check(&pair, "a=1", copy("a", "a").same_kind(), Ok(()), "a=1").await;
}

#[tokio::test]
async fn what_is_of_the_other_kind_stays() {
    let pair = Pair::start().await;
    for ask in [copy("a", "b"), copy("a", "b").verify(), copy("a", "b").skip(&["no"])] {
        let ask = ask.same_kind();
        let folder = "a=1 b/x=2 b/s/y=3";
        check_refused(&pair, folder, ask.clone(), Kind::AlreadyExists, "folder of 2 files").await;
        check_refused(&pair, "a/f=1 b=2", ask, Kind::AlreadyExists, "\"b\" is a file").await;
    }
    // With or without this flag, nothing is copied below a file.
    let below = copy("a", "b/c").same_kind();
    check_refused(&pair, "a=1 b=2", below, Kind::AlreadyExists, "\"b\" is a file").await;
}

#[tokio::test]
async fn the_kind_is_judged_when_the_copy_becomes_visible() {
    for (source, before, after) in [("a", "b/x", "b"), ("a/f", "b", "b/x")] {
        let gate = Gate::new();
        let server = Server::start_behind(&gate).await;
        let store = server.rest();
        store.upload("a/f", &b"0123456789".repeat(5_000)).await.expect("stored");
        store.upload(before, b"old").await.expect("stored");
        gate.close();
        let ask = copy(source, "b").verify().same_kind();
        let mut stream =
            server.client().await.copy(CopyRequest::from(&ask)).await.expect("begun").into_inner();
        stream.message().await.expect("a message").expect("it runs");
        store.delete("b").await.expect("deleted");
        store.upload(after, b"new").await.expect("stored");

        gate.open();
        let refused = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it succeeded"),
                Err(status) => break Fault::from(status),
            }
        };

        assert_eq!(refused.kind, Kind::AlreadyExists, "{refused:?}");
        assert_eq!(store.download(after).await.expect("it is there"), b"new");
    }
}

#[tokio::test]
async fn the_replaced_files_are_counted() {
    let (told, left) = both(async |store| {
        fill(store, "a/f=1 a/x=2 b/1 b/s/2 b/s/3 c=4 d/5").await;
        let mut told = Vec::new();
        let mut done = async |ask: crate::harness::Copy| {
            let id = format!("0190a9f0-1234-7abc-8def-{:012x}", told.len());
            store.copy(&ask.id(&id)).await.expect("copied");
            told.push(store.copy_result(&id).await.expect("an operation").files_replaced);
        };
        done(copy("a", "b")).await;
        done(copy("a", "b").verify()).await;
        done(copy("a", "b").skip(&["x"])).await;
        done(copy("a", "b").skip(&["x"]).verify()).await;
        done(copy("a/f", "c")).await;
        done(copy("a/f", "b")).await;
        done(copy("a", "c").same_kind().keep()).await;
        done(copy("a", "a")).await;
        done(copy("a", "new")).await;
        told
    })
    .await;
    assert_eq!(told, [3, 2, 2, 1, 1, 1, 0, 0, 0]);
    assert_eq!(left, "a/f=1 a/x=2 b=1 c=1 d/5 new/f=1 new/x=2");
}

#[tokio::test]
async fn the_kinds_that_may_be_replaced_are_a_part_of_the_request() {
    let (told, left) = both(async |store| {
        fill(store, "a=1").await;
        store.copy(&copy("a", "b").same_kind().id(ID)).await.expect("copied");
        [
            of(store.copy(&copy("a", "b").same_kind().id(ID)).await),
            of(store.copy(&copy("a", "b").id(ID)).await),
        ]
    })
    .await;
    assert_eq!(told, [Ok(()), Err(Kind::WriteConflict)]);
    assert_eq!(left, "a=1 b=1");
}

#[tokio::test]
async fn what_is_of_the_other_kind_is_refused_before_the_copy_runs() {
    let server = Server::start().await;
    let store = server.rest();
    fill(&store, "a/f=1 a/x=2 b=3").await;
    let ask = copy("a", "b").skip(&["x"]).same_kind().id(ID);
    assert_eq!(of(store.copy(&ask).await), Err(Kind::AlreadyExists));
    // The copy is refused before it becomes an operation.
    assert_eq!(of(store.operation(ID).await), Err(Kind::OperationNotFound));
    assert_eq!(tree(&store).await, "a/f=1 a/x=2 b=3");
}
