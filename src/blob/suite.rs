//! The tests that every object store must pass.

#[path = "../../tests/support/blobs.rs"]
mod locations;

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};
use uuid::Uuid;

use super::{Blobs, Error, Location, ObjectInfo, Putter, is_key, new_key, putter};
use crate::model::BlobOwner;

/// The server whose keys these tests make.
const SERVER: Uuid = Uuid::from_u128(1 << 127);

/// Runs all tests on a store that is empty.
pub(super) async fn run(blobs: &Blobs) {
    assert_eq!(listed(blobs).await, []);
    a_part_comes_back(blobs).await;
    equal_bytes_get_two_keys(blobs).await;
    a_key_holds_no_text_of_a_user(blobs).await;
    a_missing_object_is_missing(blobs).await;
    other_bytes_are_corrupt(blobs).await;
    strangers_are_not_listed(blobs).await;
    more_than_a_page_is_listed(blobs).await;
    a_listing_begins_at_any_folder(blobs).await;
}

#[tokio::test]
async fn memory_passes() {
    run(&Blobs::new(Arc::new(InMemory::new()))).await;
}

/// A folder, or the buckets that tests/run has started.
#[tokio::test]
async fn the_blob_stores_of_this_run_pass() {
    let temp = tempfile::tempdir().expect("a folder");
    for location in locations::blobs(&temp.path().join("new")) {
        match &location {
            Location::Folder(folder) => run(&Blobs::local(folder).expect("opened")).await,
            Location::Memory => panic!("the run has no server of it"),
            Location::Bucket(bucket) => {
                let blobs = Blobs::bucket(bucket).await.expect("opened");
                run(&blobs).await;
                a_bucket_has_one_owner(&blobs).await;
            }
        }
    }
}

#[tokio::test]
async fn memory_has_one_owner() {
    a_bucket_has_one_owner(&Blobs::memory()).await;
}

async fn a_bucket_has_one_owner(blobs: &Blobs) {
    assert_eq!(blobs.owner().await.expect("listed"), BlobOwner::Nobody);
    assert_eq!(blobs.mark(7).await.expect("marked"), None);
    assert_eq!(blobs.owner().await.expect("listed"), BlobOwner::Store(7));
    assert_eq!(blobs.mark(7).await.expect("marked again"), None);
    assert_eq!(blobs.mark(8).await.expect("not marked"), Some(7));
    assert_eq!(blobs.owner().await.expect("listed"), BlobOwner::Store(7));
}

async fn a_part_comes_back(blobs: &Blobs) {
    for bytes in [Bytes::new(), Bytes::from_static(b"part"), Bytes::from(vec![7; 8 << 20])] {
        let digest = digest(&bytes);
        let size = bytes.len() as u64;
        let key = put(blobs, &digest, bytes.clone()).await;
        assert_eq!(blobs.get(&key, &digest, size).await.expect("read"), bytes);
        let [found] = &listed(blobs).await[..] else { panic!("not one object") };
        assert_eq!((&found.key, found.size), (&key, size));
        assert!(found.modified_micros > 1_700_000_000_000_000);
        blobs.delete(&key).await.expect("deleted");
        assert_eq!(listed(blobs).await, []);
    }
}

async fn equal_bytes_get_two_keys(blobs: &Blobs) {
    let bytes = Bytes::from_static(b"twice");
    let digest = digest(&bytes);
    let first = put(blobs, &digest, bytes.clone()).await;
    let second = put(blobs, &digest, bytes.clone()).await;
    assert_ne!(first, second);
    blobs.delete(&first).await.expect("deleted");
    assert_eq!(blobs.get(&second, &digest, 5).await.expect("still there"), bytes);
    blobs.delete(&second).await.expect("deleted");
}

async fn a_key_holds_no_text_of_a_user(blobs: &Blobs) {
    let bytes = Bytes::from_static(b"../secret");
    let digest = digest(&bytes);
    let key = put(blobs, &digest, bytes).await;
    let hex = blake3::Hash::from_bytes(digest).to_hex();
    assert!(is_key(&key), "{key}");
    let server = SERVER.simple().to_string();
    assert!(key.starts_with(&format!("{:02x}/{hex}-{server}-", digest[0])), "{key}");
    assert_eq!(putter(&key), Putter::Server(SERVER));
    // The keys of older programs name the run of the server, or nothing.
    for (old, by) in [
        (key.replace(&server, "8000000000000000"), Putter::Run),
        (key.replace(&format!("-{server}"), ""), Putter::Unknown),
    ] {
        assert!(is_key(&old), "{old}");
        assert_eq!(putter(&old), by, "{old}");
    }
    let short = key.replace(&server, server.get(1..).expect("digits"));
    for wrong in [short, key.replacen('-', "", 1), format!("{key}-0")] {
        assert!(!is_key(&wrong), "{wrong}");
    }
    blobs.delete(&key).await.expect("deleted");
}

async fn a_missing_object_is_missing(blobs: &Blobs) {
    let bytes = Bytes::from_static(b"gone");
    let digest = digest(&bytes);
    let key = put(blobs, &digest, bytes).await;
    blobs.delete(&key).await.expect("deleted");
    blobs.delete(&key).await.expect("deleted already");
    for key in [key.as_str(), "no such key", "00/a#1", "../x"] {
        let error = blobs.get(key, &digest, 4).await.expect_err("missing");
        assert!(matches!(&error, Error::Missing { key: told } if told == key), "{error:?}");
    }
}

async fn other_bytes_are_corrupt(blobs: &Blobs) {
    let digest = digest(b"sound");
    let key = put(blobs, &digest, Bytes::from_static(b"sound")).await;
    for bytes in [&b"sounD"[..], b"soun", b"", b"sounds"] {
        overwrite(blobs, &key, bytes).await;
        let error = blobs.get(&key, &digest, 5).await.expect_err("corrupt");
        assert!(matches!(&error, Error::Corrupt { key: told } if *told == key), "{error:?}");
    }
    overwrite(blobs, &key, b"sound").await;
    assert!(matches!(blobs.get(&key, &digest, 4).await, Err(Error::Corrupt { .. })));
    blobs.get(&key, &digest, 5).await.expect("sound again");
    blobs.delete(&key).await.expect("deleted");
}

async fn strangers_are_not_listed(blobs: &Blobs) {
    for key in ["letter.txt", "ab/letter.txt", "ab/cd/ef"] {
        overwrite(blobs, key, b"dear").await;
    }
    assert_eq!(listed(blobs).await, []);
}

/// Buckets list a page of at most 1,000 or 5,000 objects at a time.
async fn more_than_a_page_is_listed(blobs: &Blobs) {
    let digest = digest(b"");
    let put = stream::iter(0..1_005).map(async |_| put(blobs, &digest, Bytes::new()).await);
    let mut keys: Vec<_> = put.buffer_unordered(16).collect().await;
    let mut found: Vec<_> = listed(blobs).await.into_iter().map(|object| object.key).collect();
    keys.sort();
    found.sort();
    assert_eq!(found, keys);
    let deleted = stream::iter(keys).map(async |key| blobs.delete(&key).await.expect("deleted"));
    deleted.buffer_unordered(16).collect::<Vec<_>>().await;
}

async fn a_listing_begins_at_any_folder(blobs: &Blobs) {
    let digests = [0, 7, 255].map(|first| [first; 32]);
    let mut keys = Vec::new();
    for digest in &digests {
        keys.push(put(blobs, digest, Bytes::new()).await);
    }
    for (first, order) in [(0, [0, 1, 2]), (7, [1, 2, 0]), (8, [2, 0, 1]), (255, [2, 0, 1])] {
        let found: Vec<_> =
            blobs.list_from(first).map(|it| it.expect("listed").key).collect().await;
        assert_eq!(found, order.map(|at| keys[at].clone()), "{first}");
    }
    for key in keys {
        blobs.delete(&key).await.expect("deleted");
    }
}

/// Puts a part under a new key.
async fn put(blobs: &Blobs, digest: &[u8; 32], bytes: Bytes) -> String {
    let key = new_key(digest, SERVER);
    blobs.put(&key, bytes).await.expect("put");
    key
}

/// Writes to the object store directly, as a failing disk or a foreign program would.
async fn overwrite(blobs: &Blobs, key: &str, bytes: &'static [u8]) {
    let store: &Arc<dyn ObjectStore> = &blobs.store;
    store.put(&Key::from(key), bytes.into()).await.expect("overwritten");
}

async fn listed(blobs: &Blobs) -> Vec<ObjectInfo> {
    blobs.list().map(|found| found.expect("a listing")).collect().await
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}
