//! Refused restores: nothing of them is visible, and the store is as empty as before.

use imagestore::{
    error::Kind,
    limits::BACKUP_FORMAT,
    wire::{
        status,
        v1::{
            BackupRecord, RestoreRequest, backup_entry::Target, backup_record::Record,
            restore_request,
        },
    },
};
use prost::Message as _;
use tokio_stream::iter;

use crate::{
    backup::{assert_clean, backup},
    grpc::{assert_told, server},
    harness::{Driver, Server, tree},
};

fn record(message: &mut RestoreRequest) -> Option<&mut Record> {
    match message.payload.as_mut()? {
        restore_request::Payload::Record(record) => record.record.as_mut(),
        restore_request::Payload::Data(_) => None,
    }
}

/// Recomputes the digest of the changed records, so that only their contents are wrong.
fn sign(mut messages: Vec<RestoreRequest>) -> Vec<RestoreRequest> {
    let mut hasher = blake3::Hasher::new();
    for message in &mut messages {
        match record(message) {
            Some(Record::Footer(footer)) => {
                footer.digest = hasher.finalize().as_bytes().to_vec().into();
            }
            Some(found) => {
                let record = BackupRecord { record: Some(found.clone()) };
                hasher.update(&record.encode_length_delimited_to_vec());
            }
            None => {}
        }
    }
    messages
}

#[tokio::test]
async fn a_store_that_holds_something_is_not_restored_over() {
    let (_old, mut client) = server("a=1").await;
    let messages = backup(&mut client).await;
    let (new, mut other) = server("b=2").await;
    assert_told(other.restore(iter(messages)).await, Kind::AlreadyExists, None);
    assert_eq!(tree(&new.rest()).await, "b=2");
}

/// Checks that a changed backup is refused, and that nothing of it is visible.
async fn assert_refused(
    new: &Server,
    messages: &[RestoreRequest],
    what: &str,
    change: impl FnOnce(&mut Vec<RestoreRequest>),
) {
    let mut messages = messages.to_vec();
    change(&mut messages);
    let answer = new.client().await.restore(iter(messages)).await;
    let status = answer.expect_err(what);
    assert_eq!(status::kind(&status), Kind::InvalidArgument, "{what}: {status:?}");
    assert!(status.message().starts_with("the backup "), "{what}: {status:?}");
    assert_eq!(tree(&new.rest()).await, "", "{what}");
}

/// The index of the first message whose record matches.
fn find(messages: &mut [RestoreRequest], is: impl Fn(&Record) -> bool) -> usize {
    let found = messages.iter_mut().position(|message| record(message).is_some_and(|r| is(r)));
    found.expect("a record")
}

#[tokio::test]
async fn a_torn_or_damaged_backup_is_refused_as_a_whole() {
    let (old, mut client) = server("a/f=1 a/g=22 b/f=1").await;
    old.rest().upload("b/large", &vec![7; 100_000]).await.expect("stored");
    let good = backup(&mut client).await;
    let new = Server::start().await;
    for length in 0..good.len() {
        assert_refused(&new, &good, "torn", |messages| messages.truncate(length)).await;
        assert_refused(&new, &good, "one is missing", |messages| {
            messages.remove(length);
        })
        .await;
    }
    assert_refused(&new, &good, "twice", |messages| messages.extend(messages.clone())).await;
    assert_refused(&new, &good, "a flipped byte", |messages| {
        for message in messages {
            if let Some(restore_request::Payload::Data(data)) = &mut message.payload {
                let mut flipped = data.to_vec();
                flipped[0] ^= 1;
                *data = flipped.into();
            }
        }
    })
    .await;
    assert_refused(&new, &good, "another time, which only the digest knows", |messages| {
        for record in messages.iter_mut().filter_map(record) {
            if let Record::Entries(entries) = record {
                for time in entries.entries.iter_mut().filter_map(|it| it.modified_at.as_mut()) {
                    time.seconds += 1;
                }
            }
        }
    })
    .await;
    let changed = sign(good.clone());
    assert_eq!(changed, good, "the digest is over what the proto says");
    assert_refused(&new, &good, "a newer format", |messages| {
        let Some(Record::Header(header)) = record(&mut messages[0]) else { panic!("a header") };
        header.format = BACKUP_FORMAT + 1;
    })
    .await;
    // After all refusals the store is still empty and can be restored.
    let mut client = new.client().await;
    client.restore(iter(good)).await.expect("restored");
    assert_eq!(new.rest().list("").await.expect("a listing").len(), 2);
    assert_clean(&mut client).await;
}

#[tokio::test]
async fn a_backup_that_no_store_can_have_written_is_refused() {
    let (_old, mut client) = server("a/f=1 a/g=22 b/f=1").await;
    let good = backup(&mut client).await;
    let new = Server::start().await;
    for name in ["", ".", "a/b", "a\\b", "a\u{1}", "F", "z", &"n".repeat(2000)] {
        assert_refused(&new, &good, name, |messages| {
            let at = find(messages, |record| matches!(record, Record::Entries(_)));
            let Some(Record::Entries(entries)) = record(&mut messages[at]) else { unreachable!() };
            // A name out of order, or one that no path can have.
            let entry = entries.entries.last_mut().expect("an entry");
            name.clone_into(&mut entry.name);
            if name == "z" {
                entries.entries.reverse();
            }
            *messages = sign(messages.clone());
        })
        .await;
    }
}

#[tokio::test]
async fn records_that_contradict_each_other_are_refused() {
    let (_old, mut client) = server("a/f=1 a/g=22 b/f=1").await;
    let good = backup(&mut client).await;
    let new = Server::start().await;
    let change = async |what: &str, change: &dyn Fn(&mut Record)| {
        assert_refused(&new, &good, what, |messages| {
            messages.iter_mut().filter_map(record).for_each(change);
            assert_ne!(*messages, good, "{what}");
            *messages = sign(messages.clone());
        })
        .await;
    };
    change("a later part", &|record| {
        if let Record::List(list) = record {
            list.parts[0] = 99;
        }
    })
    .await;
    change("other totals", &|record| {
        if let Record::Folder(folder) = record {
            folder.size_bytes += 1;
        }
    })
    .await;
    change("another size", &|record| {
        if let Record::Content(content) = record {
            content.size_bytes += 1;
        }
    })
    .await;
    change("a file of the future", &|record| {
        if let Record::Entries(entries) = record {
            for entry in &mut entries.entries {
                entry.version_number += 1000;
            }
        }
    })
    .await;
    change("another root", &|record| {
        if let Record::Header(header) = record {
            header.file_count += 1;
        }
    })
    .await;
    change("a part of no bytes", &|record| {
        if let Record::Part(part) = record {
            part.size_bytes = 0;
        }
    })
    .await;
    change("a folder above itself", &|record| {
        if let Record::Entries(entries) = record {
            for entry in &mut entries.entries {
                entry.target = Some(Target::Folder(2));
            }
        }
    })
    .await;
}
