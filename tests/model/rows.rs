//! The cost of copies and deletes, counted in rows.

use std::collections::BTreeMap;

use crate::{
    database::postgres,
    harness::{Fixture, copy, copy_without},
};

/// The query for the last id of a table. Ids are never used again, so the difference counts rows that were
/// deleted since, too.
macro_rules! last_id {
    ($table:literal) => {
        if postgres().is_some() {
            concat!(
                "SELECT COALESCE(MAX(last_value), 0) FROM pg_sequences
                 WHERE schemaname = current_schema()
                   AND sequencename IN ('",
                $table,
                "_id_seq', '",
                $table,
                "_seq_seq')"
            )
        } else {
            concat!("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = '", $table, "'")
        }
    };
}

/// The last id, or the number of rows, of every table.
fn rows(fixture: &Fixture) -> BTreeMap<&'static str, i64> {
    [
        ("folder", last_id!("folder")),
        ("entry", "SELECT COUNT(*) FROM entry"),
        ("content", last_id!("content")),
        ("content_part", "SELECT COUNT(*) FROM content_part"),
        ("part", last_id!("part")),
        ("pin", last_id!("pin")),
        ("garbage", "SELECT COUNT(*) FROM garbage"),
        ("operation", last_id!("operation")),
    ]
    .into_iter()
    .map(|(table, sql)| (table, fixture.tables.number(sql)))
    .collect()
}

async fn written_by(
    fixture: &Fixture,
    request: imagestore::model::CopyRequest,
) -> BTreeMap<&'static str, i64> {
    let before = rows(fixture);
    fixture.copy(request).await.unwrap();
    rows(fixture).into_iter().map(|(table, rows)| (table, rows - before[table])).collect()
}

/// A store with a folder of this many files, a hundred to a sub-folder.
async fn with(files: usize) -> Fixture {
    // A long grace, so that background work does not change the counts.
    let memory = std::sync::Arc::new(object_store::memory::InMemory::new());
    let long = std::time::Duration::from_hours(1);
    let fixture = Fixture::with(|config| config.reclaim_grace = long, memory).await;
    let path = |number: usize| format!("source/{}/{number}", number / 100);
    fixture.fill_with("same bytes", (0..files).map(path).collect()).await;
    fixture
}

#[tokio::test]
async fn a_copy_writes_as_many_rows_for_a_thousand_files_as_for_one() {
    let (one, thousand) = (with(1).await, with(1_000).await);
    // To a new path, onto an existing folder, and below a shared folder.
    for (source, destination) in
        [("source", "a/b"), ("source", "a/b"), ("a", "c"), ("source/0", "c/b/new")]
    {
        let few = written_by(&one, copy(source, destination)).await;
        let many = written_by(&thousand, copy(source, destination)).await;
        // The clone of a shared folder on the path to the destination has all its entries, ten here.
        let cloned = if destination == "c/b/new" { 9 } else { 0 };
        assert_eq!(many["entry"], few["entry"] + cloned, "{source} to {destination}");
        for (table, rows) in few.iter().filter(|(table, _)| **table != "entry") {
            assert_eq!(many[table], *rows, "{table}, {source} to {destination}");
        }
        assert_eq!((many["content"], many["part"]), (0, 0), "a copy moves no bytes");
    }
}

#[tokio::test]
async fn a_delete_writes_as_many_rows_for_a_thousand_files_as_for_one() {
    let (one, thousand) = (with(1).await, with(1_000).await);
    let mut garbage = Vec::new();
    for fixture in [&one, &thousand] {
        let before = rows(fixture);
        fixture.delete("source").await.unwrap();
        let after = rows(fixture);
        assert_eq!(after["entry"], before["entry"] - 1);
        garbage.push(after["garbage"] - before["garbage"]);
    }
    assert_eq!(garbage, [1, 1]);
}

#[tokio::test]
async fn a_filtered_copy_writes_the_folders_that_have_a_skipped_file_and_no_others() {
    let fixture = with(1_000).await;
    fixture.upload("source/3/extra", "x").await.unwrap();
    let written = written_by(&fixture, copy_without("source", "copy", &["EXTRA"])).await;
    // The source itself and its folder "3".
    assert_eq!(written["folder"], 2);
    // Ten folders in one, a hundred files in the other, and the destination.
    assert_eq!(written["entry"], 10 + 100 + 1);
    let nothing = written_by(&fixture, copy_without("source", "other", &["absent"])).await;
    assert_eq!((nothing["folder"], nothing["entry"]), (0, 1));
}
