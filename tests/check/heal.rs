//! Damaged content is reported by its path, and an upload of the same bytes to any path repairs it.

use std::{fs, time::Duration};

use imagestore::{
    error::{Error, Kind, Result},
    limits::{INLINE_BYTES_MAX, PART_BYTES_MAX},
    model::{
        ChunkRange, Conditions, CopyRequest, FindingKind, IfExists, OperationId, SessionId,
        SkipFiles,
    },
    store::{Call, Store},
};

use crate::harness::{
    BIG, DEEP, FOR_EVER, Folder, LAST, RUN, SESSION, check, fill, kinds, noise, path, put,
};

/// A damage to the small store; the damaged file; and the kinds of the findings of a deep check.
struct Case {
    name: &'static str,
    damage: fn(&Folder),
    file: &'static str,
    found: &'static [FindingKind],
}

const CASES: [Case; 9] = [
    Case {
        name: "an object with a flipped bit",
        damage: |store| flip(store, RUN),
        file: "app/bin/run",
        found: &[FindingKind::PartDamaged],
    },
    Case {
        name: "an object that is gone",
        damage: |store| fs::remove_file(store.object(RUN)).unwrap(),
        file: "app/bin/run",
        found: &[FindingKind::PartMissing],
    },
    Case {
        name: "an object that is too short",
        damage: |store| fs::write(store.object(RUN), "short").unwrap(),
        file: "app/bin/run",
        found: &[FindingKind::PartDamaged],
    },
    Case {
        name: "the first of two parts",
        damage: |store| flip(store, PART_BYTES_MAX),
        file: "app/big",
        found: &[FindingKind::PartDamaged],
    },
    Case {
        name: "the second of two parts",
        damage: |store| fs::remove_file(store.object(LAST)).unwrap(),
        file: "app/big",
        found: &[FindingKind::PartMissing],
    },
    Case {
        name: "bytes in the database",
        damage: |store| store.sql("UPDATE part SET bytes = zeroblob(10) WHERE size = 10"),
        file: "app/conf",
        found: &[FindingKind::PartDamaged],
    },
    Case {
        name: "bytes that are nowhere",
        damage: |store| store.sql("UPDATE part SET bytes = NULL, object = NULL WHERE size = 10"),
        file: "app/conf",
        found: &[FindingKind::PartPlace],
    },
    Case {
        name: "a list of parts",
        damage: |store| store.sql("DELETE FROM content_part WHERE start > 0"),
        file: "app/big",
        found: &[FindingKind::ContentParts, FindingKind::Unreferenced],
    },
    Case {
        name: "the size and digest of a content",
        damage: |store| {
            store.sql(
                "UPDATE content SET size = size + 1, digest = zeroblob(32) WHERE id =
                   (SELECT content FROM entry WHERE name = 'conf')",
            );
        },
        file: "app/conf",
        found: &[FindingKind::ContentParts, FindingKind::EntrySize],
    },
];

/// Flips a bit in the object of a part of this size.
fn flip(folder: &Folder, size: usize) {
    let object = folder.object(size);
    let mut bytes = fs::read(&object).unwrap();
    bytes[size / 2] ^= 1;
    fs::write(&object, bytes).unwrap();
}

/// The bytes that [`fill`] gave a file.
fn bytes_of(file: &str) -> Vec<u8> {
    let sizes = [("app/bin/run", RUN), ("app/big", BIG), ("app/conf", 10)];
    noise(file, sizes.iter().find(|(name, _)| *name == file).unwrap().1)
}

async fn read(store: &Store, at: &str) -> Result<Vec<u8>> {
    let mut download = store.download(&path(at), (0, None), None, &Call::system()).await?;
    let mut all = Vec::new();
    while let Some(piece) = download.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

/// Checks that an error names the damaged path and the remedy, and no internals.
fn assert_told(error: &Error, at: &str) {
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
    let expected = format!("the content of \"{at}\" is corrupt; upload it again");
    assert_eq!(error.message(), expected);
}

/// A small store with a copy, after a function has damaged it while it was closed.
async fn damaged(damage: fn(&Folder)) -> (Folder, Store) {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    store.close().await;
    drop(store);
    damage(&folder);
    let store = folder.open(FOR_EVER).await;
    (folder, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_the_same_bytes_heals_a_file_and_its_copies() {
    for case in CASES {
        let (folder, store) = damaged(case.damage).await;
        let report = check(&store, DEEP).await;
        assert_eq!(kinds(&report), case.found, "{}: {:?}", case.name, report.findings);

        // An upload to another path repairs the content that the files share.
        put(&store, "elsewhere", &bytes_of(case.file)).await.unwrap();
        let copy = case.file.replacen("app", "app2", 1);
        for file in ["elsewhere", case.file, &copy] {
            let healed = read(&store, file).await;
            assert!(healed.is_ok_and(|b| b == bytes_of(case.file)), "{}: {file}", case.name);
        }
        let mut left = kinds(&check(&store, DEEP).await);
        // Unreferenced targets are ignored here: an upload need not repair them.
        left.retain(|kind| *kind != FindingKind::Unreferenced);
        assert_eq!(left, [], "{}", case.name);
        store.close().await;
        drop(store);

        // The damaged object is deleted, and no other object is.
        let store = folder.open(Duration::ZERO).await;
        store.reclaim().await.unwrap();
        assert_eq!(check(&store, DEEP).await.findings, [], "{} reclaimed", case.name);
        assert_eq!(folder.objects(), 3, "{}", case.name);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_heals_as_an_upload_does() {
    let (_folder, store) = damaged(|folder| flip(folder, RUN)).await;
    let id = SessionId::parse(&SESSION.replace('1', "2")).unwrap();
    let range = ChunkRange::new(0, RUN as u64, RUN as u64).unwrap();
    let mut chunk = store.chunk(id, path("new"), range, &Call::system()).await.unwrap();
    chunk.write(bytes_of("app/bin/run").into()).await.unwrap();
    chunk.finish().await.unwrap();
    store.commit_session(id, &Call::system()).await.unwrap();
    for file in ["new", "app/bin/run", "app2/bin/run"] {
        assert_eq!(read(&store, file).await.unwrap(), bytes_of("app/bin/run"), "{file}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_once_heal_a_part_once() {
    let (folder, store) = damaged(|folder| flip(folder, RUN)).await;
    let uploads = (0..8).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            put(&store, &format!("at-once/{number}"), &bytes_of("app/bin/run")).await
        })
    });
    for upload in uploads.collect::<Vec<_>>() {
        upload.await.unwrap().unwrap();
    }
    for number in 0..8 {
        let file = format!("at-once/{number}");
        assert_eq!(read(&store, &file).await.unwrap(), bytes_of("app/bin/run"));
    }
    store.close().await;
    drop(store);
    // The objects of the later uploads are deleted, and so is the damaged object.
    let store = folder.open(Duration::ZERO).await;
    store.reclaim().await.unwrap();
    assert_eq!(check(&store, DEEP).await.findings, []);
    assert_eq!(folder.objects(), 3);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_by_the_path_and_healed_by_what_it_says() {
    let (_folder, store) = damaged(|folder| flip(folder, RUN)).await;
    assert_told(&read(&store, "app2/bin/run").await.unwrap_err(), "app2/bin/run");
    let request = || CopyRequest {
        source: path("app"),
        destination: path("app3"),
        skip_files: SkipFiles::new(&["conf"]).unwrap(),
        check_mark_file: false,
        if_exists: IfExists::Overwrite,
        conditions: Conditions::default(),
        verify: true,
        id: OperationId::new(),
    };
    let copy = async || {
        let mut copying = store.copy(request(), false, &Call::system()).await?;
        while copying.next().await?.is_some() {}
        Ok::<_, Error>(())
    };
    assert_told(&copy().await.unwrap_err(), "app/bin/run");
    assert!(store.stat(&path("app3"), &Call::system()).await.is_err(), "nothing is visible");
    // An upload of other bytes repairs nothing.
    put(&store, "app/other", &noise("other", INLINE_BYTES_MAX * 2)).await.unwrap();
    assert_told(&read(&store, "app/bin/run").await.unwrap_err(), "app/bin/run");

    put(&store, "app/bin/run", &bytes_of("app/bin/run")).await.unwrap();
    assert_eq!(read(&store, "app2/bin/run").await.unwrap(), bytes_of("app/bin/run"));
    copy().await.unwrap();
    store.close().await;
}
