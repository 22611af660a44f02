//! A store of the first format is brought up to date when it is opened.

use imagestore::error::Kind;

use crate::harness::{DEEP, FOR_EVER, Folder, check, copy, fill, put};

/// The pieces of every upload session.
const PIECES: &str = "SELECT id, pieces FROM upload_session ORDER BY id";
/// The depth and the length of every folder.
const REACH: &str = "SELECT id, depth, length FROM folder ORDER BY id";
/// What is counted.
const SUMS: &str =
    "SELECT kind, number, bytes FROM sums WHERE number > 0 OR bytes > 0 ORDER BY kind";
/// What garbage frees.
const WAITING: &str = "SELECT kind, id, bytes FROM garbage ORDER BY kind, id";

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_format_is_brought_up_to_date() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    copy(&store, "app", "app/none", &[]).await.expect_err("below itself");
    copy(&store, "app/deep", "app2/again", &["absent"]).await.unwrap();
    let deep = "d/".repeat(120);
    put(&store, &format!("{deep}f"), b"f").await.unwrap();
    store.close().await;
    drop(store);
    let (reach, pieces) = (folder.reader().rows(REACH), folder.reader().rows(PIECES));
    let (sums, waiting) = (folder.reader().rows(SUMS), folder.reader().rows(WAITING));
    assert!(sums.len() >= 6 && !waiting.is_empty(), "{sums:?}, {waiting:?}");
    folder.unmark();
    folder.sql(
        "DROP TABLE sums; ALTER TABLE garbage DROP COLUMN bytes; DROP INDEX pin_server;
         ALTER TABLE pin ADD COLUMN expires BIGINT NOT NULL DEFAULT 0;
         CREATE INDEX pin_expires ON pin (expires);
         CREATE INDEX part_inline_size ON part (size) WHERE object IS NULL;
         CREATE INDEX part_object_size ON part (size) WHERE object IS NOT NULL;
         DROP INDEX operation_change; ALTER TABLE operation DROP COLUMN change;
         ALTER TABLE operation DROP COLUMN files_replaced;
         ALTER TABLE operation DROP COLUMN skip_files_unmatched;
         ALTER TABLE folder DROP COLUMN changes; ALTER TABLE dead_object DROP COLUMN claimed; DELETE FROM meta WHERE name IN ('change', 'change_forgotten');
         ALTER TABLE folder DROP COLUMN depth; ALTER TABLE folder DROP COLUMN length;
         ALTER TABLE upload_session DROP COLUMN pieces; DELETE FROM meta WHERE name = 'store';
         UPDATE meta SET value = 1 WHERE name = 'format'",
    );

    let store = folder.open(FOR_EVER).await;
    assert_eq!(folder.reader().rows(REACH), reach);
    assert_eq!(folder.reader().rows(PIECES), pieces);
    assert_eq!(folder.reader().number("SELECT value FROM meta WHERE name = 'format'"), 4);
    assert_eq!(folder.reader().rows(SUMS), sums);
    assert_eq!(folder.reader().rows(WAITING), waiting);
    assert_eq!(check(&store, DEEP).await.findings, []);
    let error = copy(&store, "d", "a/b/c/d/e/f/g/h/i", &[]).await.expect_err("too deep");
    assert_eq!(error.kind(), Kind::PathTooLong);
    copy(&store, "d", "a/b/c/d/e/f/g", &[]).await.unwrap();
    store.close().await;
}
