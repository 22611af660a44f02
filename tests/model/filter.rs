//! Copies with a skip list.

use imagestore::{error::Kind, limits::FILTER_STEP_ROWS, model::Operation};

use crate::harness::{Fixture, copy, copy_without, kind};

async fn with(files: &[&str]) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.fill(files).await;
    fixture
}

/// The counts of copied and skipped files; checks that they add up to the totals.
fn counts(operation: &Operation) -> (i64, i64) {
    let progress = &operation.progress;
    assert_eq!(progress.files_done + progress.files_skipped, progress.files_total);
    assert_eq!(progress.bytes_done + progress.bytes_skipped, progress.bytes_total);
    (progress.files_done, progress.files_skipped)
}

#[tokio::test]
async fn a_name_is_left_out_at_every_depth_and_in_every_case() {
    let fixture =
        with(&["s/a.txt", "s/b", "s/x/A.TXT", "s/x/y/a.Txt", "s/x/y/b", "s/a.txt.x"]).await;
    let operation = fixture.copy(copy_without("s", "d", &["A.txt"])).await.unwrap();
    assert_eq!(counts(&operation), (3, 3));
    assert_eq!(fixture.files("d").await, ["d/a.txt.x", "d/b", "d/x/y/b"]);
    assert_eq!(fixture.files("s").await.len(), 6);
}

#[tokio::test]
async fn a_name_beyond_ascii_is_folded_too() {
    let fixture = with(&["s/ÄPFEL", "s/äpfel", "s/Σ", "s/apfel"]).await;
    let operation = fixture.copy(copy_without("s", "d", &["Äpfel", "σ"])).await.unwrap();
    assert_eq!(counts(&operation), (1, 3));
    assert_eq!(fixture.files("d").await, ["d/apfel"]);
}

#[tokio::test]
async fn a_skip_list_names_files_and_neither_paths_nor_folders() {
    let fixture = with(&["s/x/f", "s/f/g"]).await;
    let operation = fixture.copy(copy_without("s", "d", &["x/f", "x", r"x\f", ""])).await.unwrap();
    assert_eq!(counts(&operation), (2, 0));
    // The list skips the file of this name, not the folder.
    let operation = fixture.copy(copy_without("s", "e", &["f"])).await.unwrap();
    assert_eq!(counts(&operation), (1, 1));
    assert_eq!(fixture.files("e").await, ["e/f/g"]);
}

#[tokio::test]
async fn the_mark_of_the_source_always_goes_along_and_those_below_do_not() {
    let fixture = with(&["s/_.dir", "s/_.DIR", "s/x/_.dir", "s/x/f"]).await;
    let operation = fixture.copy(copy_without("s", "d", &["_.dir"])).await.unwrap();
    assert_eq!(counts(&operation), (2, 2));
    assert_eq!(fixture.files("d").await, ["d/_.dir", "d/x/f"]);
}

#[tokio::test]
async fn a_folder_that_loses_all_its_files_is_left_out() {
    let fixture = with(&["s/keep", "s/x/y/f", "s/x/z/f", "s/w/f", "s/w/keep"]).await;
    let operation = fixture.copy(copy_without("s", "d", &["f"])).await.unwrap();
    assert_eq!(counts(&operation), (2, 3));
    assert_eq!(fixture.files("d").await, ["d/keep", "d/w/keep"]);
    let names: Vec<_> = fixture.list("d", 0).await.unwrap();
    let names: Vec<_> = names.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["d/keep", "d/w"]);
    crate::audit::laws(&fixture.tables);
}

#[tokio::test]
async fn nothing_left_to_copy_is_not_found_and_the_destination_stays() {
    let fixture = with(&["s/f", "s/x/F", "d/old"]).await;
    assert_eq!(kind(fixture.copy(copy_without("s", "d", &["f"])).await), Kind::FileNotFound);
    assert_eq!(fixture.files("d").await, ["d/old"]);
    assert_eq!(fixture.tables.number("SELECT COUNT(*) FROM pin"), 0);
    // A retry with the same id is allowed, and fails again.
    let request = copy_without("s", "e", &["f"]);
    for _ in 0..2 {
        assert_eq!(kind(fixture.copy(request.clone()).await), Kind::FileNotFound);
    }
    fixture.upload("s/g", "new").await.unwrap();
    assert_eq!(counts(&fixture.copy(request).await.unwrap()), (1, 2));
}

#[tokio::test]
async fn a_single_file_is_copied_whatever_the_list_says() {
    let fixture = with(&["s/f"]).await;
    let operation = fixture.copy(copy_without("s/f", "d", &["f", ""])).await.unwrap();
    assert_eq!(counts(&operation), (1, 0));
    assert_eq!(fixture.files("").await, ["d", "s/f"]);
}

/// A shared folder is filtered once, and counts once for each path to it.
#[tokio::test]
async fn a_folder_that_occurs_many_times_counts_as_often() {
    for verify in [false, true] {
        let fixture = with(&["v0/f", "v0/g", "v0/x/f"]).await;
        for step in 0..16 {
            for half in ["x", "y"] {
                let to = format!("v{}/{half}", step + 1);
                fixture.copy(copy(&format!("v{step}"), &to)).await.unwrap();
            }
        }
        let folders = fixture.tables.number("SELECT COUNT(*) FROM folder");
        let mut request = copy_without("v16", "d", &["F"]);
        request.verify = verify;
        let operation = fixture.copy(request).await.unwrap();
        assert_eq!(counts(&operation), (1 << 16, 2 << 16));
        // One new folder for each of `v0` to `v16`; the folder "x" of `v0` is emptied and left out.
        assert_eq!(fixture.tables.number("SELECT COUNT(*) FROM folder"), folders + 17);
        crate::audit::laws(&fixture.tables);
        fixture.empty().await;
    }
}

#[tokio::test]
async fn a_folder_of_more_entries_than_a_step_takes_is_copied_whole() {
    let fixture = Fixture::new().await;
    let count = 2 * FILTER_STEP_ROWS + FILTER_STEP_ROWS / 2;
    fixture.fill_with("same", (0..count).map(|number| format!("s/{number:06}")).collect()).await;
    // Skipped files at both ends, adjacent ones, and some at the bound of a step.
    let skipped = [0, 1, FILTER_STEP_ROWS - 1, FILTER_STEP_ROWS, FILTER_STEP_ROWS + 1, count - 1];
    let names: Vec<String> = skipped.iter().map(|number| format!("{number:06}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let operation = fixture.copy(copy_without("s", "d", &names)).await.unwrap();
    assert_eq!(counts(&operation), ((count - skipped.len()) as i64, skipped.len() as i64));
    let expected: Vec<String> = (0..count)
        .filter(|number| !skipped.contains(number))
        .map(|number| format!("d/{number:06}"))
        .collect();
    assert_eq!(fixture.files("d").await, expected);
    crate::audit::laws(&fixture.tables);
}

#[tokio::test]
async fn the_source_may_change_while_it_is_copied() {
    let fixture = with(&["s/f", "s/x/g", "s/x/h"]).await;
    let (copied, uploaded, deleted) = tokio::join!(
        fixture.copy(copy_without("s", "d", &["h"])),
        fixture.upload("s/x/i", "new"),
        fixture.delete("s/f"),
    );
    uploaded.unwrap();
    deleted.unwrap();
    let (done, skipped) = counts(&copied.unwrap());
    assert_eq!(skipped, 1);
    assert_eq!(fixture.files("d").await.len() as i64, done);
    assert_eq!(fixture.files("s").await, ["s/x/g", "s/x/h", "s/x/i"]);
    crate::audit::laws(&fixture.tables);
    fixture.empty().await;
}

/// Control characters, which no file name has and not every database accepts.
#[tokio::test]
async fn names_and_tokens_that_no_file_can_have_are_no_fault_of_the_database() {
    let fixture = Fixture::new().await;
    fixture.fill(&["s/f"]).await;
    let request = copy_without("s", "t", &["a\0b", "\u{1}"]);
    fixture.copy(request).await.unwrap();
    let path = imagestore::model::StorePath::root();
    let call = &imagestore::store::Call::system();
    for token in ["a\0b", "\u{7f}"] {
        let listed = fixture.store.list(&path, 0, token.to_owned(), call).await;
        assert_eq!(listed.unwrap_err().kind(), Kind::InvalidArgument);
        let sessions = fixture.store.sessions(None, 0, token.to_owned(), call).await;
        assert_eq!(sessions.unwrap_err().kind(), Kind::InvalidArgument);
    }
}
