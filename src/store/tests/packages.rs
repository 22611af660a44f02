//! Packages of folders that change meanwhile, and of callers that leave.

use super::*;
use crate::limits::{
    DOWNLOAD_MESSAGE_BYTES, PACKAGE_BASE_BYTES, PACKAGE_FILES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX,
};

impl Fixture {
    async fn package(&self, at: &str, compression: Compression) -> Result<Package> {
        self.store.package(&path(at), compression, &Call::system()).await
    }
}

/// All bytes of a package, which are as many as its header says.
async fn whole(mut package: Package) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = package.next().await {
        let piece = piece?;
        assert!(!piece.is_empty() && piece.len() <= DOWNLOAD_MESSAGE_BYTES);
        all.extend_from_slice(&piece);
    }
    assert!(package.header.size.is_none_or(|size| size == all.len() as u64), "{}", all.len());
    Ok(all)
}

const BOTH: [Compression; 2] = [Compression::None, Compression::Deflate];

#[tokio::test]
async fn a_package_is_of_one_snapshot_whatever_is_written() {
    let fixture = Fixture::new().await;
    let large: Bytes = (0..300_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for (name, bytes) in [("a/b/1", object(1)), ("a/b/2", large), ("a/c", object(2))] {
        fixture.upload(name, bytes).await.unwrap();
    }
    for compression in BOTH {
        let before = fixture.package("a", compression).await.unwrap();
        let etag = before.header.etag.clone();
        let before = whole(before).await.unwrap();
        let mut during = fixture.package("a", compression).await.unwrap();
        assert_eq!(during.header.etag, etag, "the same folder");
        let mut found = during.next().await.unwrap().unwrap().to_vec();
        fixture.upload("a/b/2", object(9)).await.unwrap();
        fixture.upload("a/b/new", object(8)).await.unwrap();
        fixture.store.delete(&path("a/c"), &Call::system()).await.unwrap();
        fixture.store.reclaim().await.unwrap();
        found.extend(whole_rest(&mut during).await);
        assert!(found == before, "{compression:?}");
        let after = fixture.package("a", compression).await.unwrap();
        assert_ne!(after.header.etag, etag, "another folder");
        assert!(whole(after).await.unwrap() != before);
        // As before, for the other compression.
        let large: Bytes = (0..300_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        fixture.upload("a/b/2", large).await.unwrap();
        fixture.upload("a/c", object(2)).await.unwrap();
    }
    until("the pins are dropped", async || fixture.number("SELECT COUNT(*) FROM pin").await == 0)
        .await;
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    fixture.expect_nothing_left().await;
}

async fn whole_rest(package: &mut Package) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = package.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

#[tokio::test]
async fn a_package_whose_caller_leaves_releases_all_it_has() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", vec![7; 1_000_000]).await.unwrap();
    let budgets = &fixture.store.0.budgets;
    let free =
        || (budgets.downloads.free(), budgets.package_pool.free(), budgets.download_pool.free());
    let before = free();
    for pieces in [0, 1, 3] {
        let mut package = fixture.package("a", Compression::None).await.unwrap();
        assert_ne!(free(), before);
        for _ in 0..pieces {
            package.next().await.unwrap().unwrap();
        }
        drop(package);
        until("all is free", async || free() == before).await;
        until("the pin is dropped", async || fixture.number("SELECT COUNT(*) FROM pin").await == 0)
            .await;
    }
    fixture.idle().await;
}

#[tokio::test]
async fn a_package_that_cannot_go_on_says_so() {
    for compression in BOTH {
        let fixture = Fixture::new().await;
        fixture.upload("a/f", vec![7; 1_000_000]).await.unwrap();
        let mut package = fixture.package("a", compression).await.unwrap();
        // Ends the task of the package, as a revoked permit does.
        fixture.store.close().await;
        let error = loop {
            match package.next().await.expect("no end that looks like a whole archive") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        assert!(package.next().await.is_none());
    }
}

#[tokio::test]
async fn a_damaged_file_ends_its_package_with_an_error() {
    let fixture = Fixture::new().await;
    fixture.log.expect("is corrupt");
    fixture.upload("a/1", object(1)).await.unwrap();
    fixture.upload("b/2", vec![2; 100_000]).await.unwrap();
    fixture.gate.spoil(&object(3)).await;
    for compression in BOTH {
        for (folder, file) in [("a", "a/1"), ("b", "b/2")] {
            let package = fixture.package(folder, compression).await.unwrap();
            let error = whole(package).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.message().contains(&format!("\"{file}\"")), "{error}");
        }
    }
}

#[tokio::test]
async fn only_a_folder_has_a_package() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    for (at, message) in [
        ("no", "there is no folder \"no\""),
        ("a/f/x", "there is no folder \"a/f/x\""),
        ("a/f", "\"a/f\" is a file, and a package is a folder; download the file"),
    ] {
        let error = fixture.package(at, Compression::None).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::FolderNotFound, message));
    }
    let most = PACKAGE_FILES_MAX + 1;
    let grow = move |tx: &mut Tx<'_>| tx.execute("UPDATE folder SET files = $1", params![most]);
    fixture.store.0.engine.write(None, grow).await.unwrap();
    let error = fixture.package("a", Compression::None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.message().contains("has 1000001 files"), "{error}");
    until("no pin is left", async || fixture.number("SELECT COUNT(*) FROM pin").await == 0).await;
}

#[tokio::test]
async fn a_package_takes_memory_for_the_files_that_it_has() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    // A folder keeps the reach of the files that it had.
    let raise = |tx: &mut Tx<'_>| {
        let reach = params![PATH_DEPTH_MAX as i64, PATH_BYTES_MAX as i64];
        tx.execute("UPDATE folder SET depth = $1, length = $2", reach)
    };
    fixture.store.0.engine.write(None, raise).await.unwrap();
    let pool = &fixture.store.0.budgets.package_pool;
    let before = pool.free();
    let package = fixture.package("a", Compression::None).await.unwrap();
    let taken = before - pool.free();
    assert!((PACKAGE_BASE_BYTES..2 * PACKAGE_BASE_BYTES).contains(&taken), "{taken}");
    whole(package).await.unwrap();
}
