//! Operations: the records that a copy, a folder's delete and a commit leave, and ids that make a copy safe
//! to repeat.

use imagestore::error::Kind;

use crate::harness::{both, copy, fill, of};

const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
const OTHER: &str = "0190a9f0-1234-7abc-8def-0123456789ac";

#[tokio::test]
async fn a_repeated_copy_reports_the_first_and_copies_nothing() {
    let (told, left) = both(async |store| {
        fill(store, "a/f=1 a/x=2").await;
        let ask = copy("a", "b").skip(&["X"]).id(ID);
        let mut told = vec![of(store.copy(&ask).await)];
        fill(store, "a/g=3").await;
        store.delete("b").await.expect("deleted");
        told.push(of(store.copy(&ask).await));
        // An id in upper case is the same id, and other spellings of the paths and the skip list are the same
        // request.
        told.push(of(store.copy(&copy("/a/", "b\\").skip(&["x"]).id(&ID.to_uppercase())).await));
        told.push(
            store
                .operation(ID)
                .await
                .map(|line| assert_eq!(line, "Copy Succeeded 1+1/2 1+1/2"))
                .map_err(|fault| fault.kind),
        );
        told
    })
    .await;
    assert_eq!(told, vec![Ok(()); 4]);
    assert_eq!(left, "a/f=1 a/g=3 a/x=2");
}

#[tokio::test]
async fn an_id_with_other_arguments_is_a_conflict() {
    let (told, left) = both(async |store| {
        fill(store, "a=1 c=2").await;
        store.copy(&copy("a", "b").id(ID)).await.expect("copied");
        let mut told = Vec::new();
        for ask in [
            copy("a", "d"),
            copy("c", "b"),
            copy("a", "b").skip(&["x"]),
            copy("a", "b").checked(),
            copy("a", "b").keep(),
            copy("a", "b").verify(),
        ] {
            let fault = store.copy(&ask.id(ID)).await.expect_err("a conflict");
            assert!(fault.message.contains(ID), "{fault:?}");
            told.push(fault.kind);
        }
        told
    })
    .await;
    assert_eq!(told, [Kind::WriteConflict; 6]);
    assert_eq!(left, "a=1 b=1 c=2");
}

#[tokio::test]
async fn a_copy_that_is_refused_uses_no_id() {
    let (told, left) = both(async |store| {
        fill(store, "a=1").await;
        let told = vec![
            of(store.copy(&copy("no", "b").id(ID)).await),
            of(store.operation(ID).await),
            of(store.copy(&copy("a", "c").id(ID)).await),
            of(store.operation(ID).await),
        ];
        told
    })
    .await;
    let missing = [Err(Kind::FileNotFound), Err(Kind::OperationNotFound), Ok(()), Ok(())];
    assert_eq!(told, missing);
    assert_eq!(left, "a=1 c=1");
}

#[tokio::test]
async fn ids_are_uuids() {
    let (told, left) = both(async |store| {
        fill(store, "a=1").await;
        let mut told = Vec::new();
        for id in [
            "x",
            "0190a9f0",
            "0190a9f0-1234-7abc-8def-0123456789ag",
            "0190a9f0-1234-7abc-8def-0123456789a",
        ] {
            told.push(of(store.copy(&copy("a", "b").id(id)).await));
            told.push(of(store.operation(id).await));
            told.push(of(store.cancel(id).await));
        }
        told
    })
    .await;
    assert_eq!(told, [Err(Kind::InvalidArgument); 12]);
    assert_eq!(left, "a=1");
}

#[tokio::test]
async fn unknown_and_finished_operations_cannot_be_cancelled() {
    let (told, left) = both(async |store| {
        fill(store, "a=1").await;
        store.copy(&copy("a", "b").id(ID)).await.expect("copied");
        vec![
            of(store.cancel(OTHER).await),
            of(store.operation(OTHER).await),
            of(store.cancel(ID).await),
            of(store.operation(ID).await),
        ]
    })
    .await;
    let unknown = Err(Kind::OperationNotFound);
    assert_eq!(told, [unknown, unknown, Err(Kind::Finished), Ok(())]);
    assert_eq!(left, "a=1 b=1");
}

#[tokio::test]
async fn counters_add_up() {
    let (told, _) = both(async |store| {
        fill(store, "a/f=123 a/x=45 a/s/x=6 a/s/_.dir b/y=1").await;
        let mut told = Vec::new();
        let mut done = async |ask: crate::harness::Copy| {
            let id = format!("0190a9f0-1234-7abc-8def-{:012x}", told.len());
            store.copy(&ask.id(&id)).await.expect("copied");
            told.push(store.operation(&id).await.expect("an operation"));
        };
        done(copy("a", "c1")).await;
        done(copy("a", "c2").verify()).await;
        done(copy("a", "c3").skip(&["x"])).await;
        done(copy("a", "c4").skip(&["x"]).verify()).await;
        done(copy("a", "a")).await;
        done(copy("a", "b").keep()).await;
        done(copy("a/f", "c5").skip(&["f"])).await;
        done(copy("a/s/_.dir", "c6").verify()).await;
        told
    })
    .await;
    let expected = [
        "Copy Succeeded 4+0/4 6+0/6",
        "Copy Succeeded 4+0/4 6+0/6",
        "Copy Succeeded 2+2/4 3+3/6",
        "Copy Succeeded 2+2/4 3+3/6",
        "Copy Succeeded 4+0/4 6+0/6",
        "Copy Succeeded 0+4/4 0+6/6",
        "Copy Succeeded 1+0/1 3+0/3",
        "Copy Succeeded 1+0/1 0+0/0",
    ];
    assert_eq!(told, expected);
}
