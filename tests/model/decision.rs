//! The decision table of a copy: a test for each row.
//!
//! Every file holds the path that it was uploaded to, so a tree shows the origin of its files.

use std::collections::BTreeMap;

use imagestore::{
    error::Kind,
    limits::TOTAL_MAX,
    model::{CopyRequest, IfExists, OperationState},
    store::Call,
};

use crate::harness::{Fixture, copy, copy_without, kind, path};

/// A store with these files.
async fn with(files: &[&str]) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.fill(files).await;
    fixture
}

fn keep(source: &str, destination: &str) -> CopyRequest {
    CopyRequest { if_exists: IfExists::Keep, ..copy(source, destination) }
}

fn checked(request: CopyRequest) -> CopyRequest {
    CopyRequest { check_mark_file: true, ..request }
}

/// All files of the store, each with the path that it was uploaded to.
async fn tree(fixture: &Fixture) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    for file in fixture.files("").await {
        let bytes = fixture.read(&file).await.unwrap();
        tree.insert(file, String::from_utf8(bytes).unwrap());
    }
    tree
}

/// Copies, and expects these files outside the source, each with the path that it was uploaded to.
async fn becomes(fixture: &Fixture, request: CopyRequest, expected: &[(&str, &str)]) {
    let source = request.source.as_str().to_owned();
    let before = tree(fixture).await;
    let operation = fixture.copy(request).await.unwrap();
    assert_eq!(operation.state, OperationState::Succeeded);
    let is_source = |at: &str| at == source || at.starts_with(&format!("{source}/"));
    let (kept, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
        tree(fixture).await.into_iter().partition(|(at, _)| is_source(at));
    let source_before: BTreeMap<_, _> =
        before.into_iter().filter(|(at, _)| is_source(at)).collect();
    assert_eq!(kept, source_before, "the source has changed");
    let rest: Vec<_> = rest.iter().map(|(at, from)| (at.as_str(), from.as_str())).collect();
    assert_eq!(rest, expected);
}

/// Copies, and expects this error and that nothing has changed.
async fn refused(fixture: &Fixture, request: CopyRequest, expected: Kind) {
    let before = tree(fixture).await;
    assert_eq!(kind(fixture.copy(request).await), expected);
    assert_eq!(tree(fixture).await, before);
}

#[tokio::test]
async fn a_file_is_copied_to_a_new_place() {
    let fixture = with(&["s/f"]).await;
    becomes(&fixture, copy("s/f", "d/x/g"), &[("d/x/g", "s/f")]).await;
    let fixture = with(&["s/f"]).await;
    becomes(&fixture, keep("s/f", "d"), &[("d", "s/f")]).await;
}

#[tokio::test]
async fn a_copy_carries_version_and_time_of_its_source() {
    let fixture = with(&["s/f"]).await;
    fixture.copy(copy("s", "d")).await.unwrap();
    fixture.copy(copy("s/f", "e")).await.unwrap();
    let stat = async |at: &str| fixture.store.stat(&path(at), &Call::system()).await.unwrap();
    assert_eq!(stat("s/f").await.entry.kind, stat("d/f").await.entry.kind);
    assert_eq!(stat("s/f").await.entry.kind, stat("e").await.entry.kind);
}

#[tokio::test]
async fn a_file_replaces_a_file() {
    let fixture = with(&["s", "d"]).await;
    becomes(&fixture, copy("s", "d"), &[("d", "s")]).await;
}

#[tokio::test]
async fn a_file_that_is_there_is_kept_when_asked() {
    let fixture = with(&["s", "d"]).await;
    becomes(&fixture, keep("s", "d"), &[("d", "d")]).await;
    becomes(&fixture, checked(keep("s", "d")), &[("d", "d")]).await;
}

#[tokio::test]
async fn a_file_replaces_a_folder_whole() {
    let fixture = with(&["s", "d/f", "d/g/h"]).await;
    becomes(&fixture, copy("s", "d"), &[("d", "s")]).await;
}

#[tokio::test]
async fn a_folder_is_kept_from_a_file_when_asked() {
    let fixture = with(&["s", "d/f"]).await;
    becomes(&fixture, keep("s", "d"), &[("d/f", "d/f")]).await;
}

#[tokio::test]
async fn a_marked_folder_is_copied_to_a_new_place() {
    for request in [copy("s", "d/e"), keep("s", "d/e"), checked(copy("s", "d/e"))] {
        let fixture = with(&["s/_.dir", "s/f", "s/g/h"]).await;
        let expected = [("d/e/_.dir", "s/_.dir"), ("d/e/f", "s/f"), ("d/e/g/h", "s/g/h")];
        becomes(&fixture, request, &expected).await;
    }
}

#[tokio::test]
async fn a_folder_replaces_a_folder_and_never_merges() {
    let fixture = with(&["s/_.dir", "s/f", "d/_.dir", "d/f", "d/old", "d/g/old"]).await;
    becomes(&fixture, copy("s", "d"), &[("d/_.dir", "s/_.dir"), ("d/f", "s/f")]).await;
}

#[tokio::test]
async fn a_marked_folder_that_is_there_is_kept_when_asked() {
    let fixture = with(&["s/_.dir", "s/f", "d/_.dir", "d/f"]).await;
    let expected = [("d/_.dir", "d/_.dir"), ("d/f", "d/f")];
    becomes(&fixture, keep("s", "d"), &expected).await;
    becomes(&fixture, checked(keep("s", "d")), &expected).await;
}

#[tokio::test]
async fn a_folder_without_its_mark_is_replaced() {
    let fixture = with(&["s/_.dir", "s/f", "d/f", "d/old"]).await;
    becomes(&fixture, copy("s", "d"), &[("d/_.dir", "s/_.dir"), ("d/f", "s/f")]).await;
}

#[tokio::test]
async fn a_folder_without_its_mark_is_kept_unless_marks_are_checked() {
    let fixture = with(&["s/_.dir", "s/f", "d/f"]).await;
    becomes(&fixture, keep("s", "d"), &[("d/f", "d/f")]).await;
    let expected = [("d/_.dir", "s/_.dir"), ("d/f", "s/f")];
    becomes(&fixture, checked(keep("s", "d")), &expected).await;
}

#[tokio::test]
async fn a_folder_replaces_a_file() {
    let fixture = with(&["s/_.dir", "s/f", "d"]).await;
    becomes(&fixture, copy("s", "d"), &[("d/_.dir", "s/_.dir"), ("d/f", "s/f")]).await;
}

#[tokio::test]
async fn a_file_is_kept_from_a_folder_when_asked() {
    let fixture = with(&["s/_.dir", "s/f", "d"]).await;
    becomes(&fixture, keep("s", "d"), &[("d", "d")]).await;
    becomes(&fixture, checked(keep("s", "d")), &[("d", "d")]).await;
}

#[tokio::test]
async fn a_folder_without_a_mark_is_copied_unless_marks_are_checked() {
    let fixture = with(&["s/f", "d/old"]).await;
    refused(&fixture, checked(copy("s", "d")), Kind::FileNotFound).await;
    refused(&fixture, checked(keep("s", "d")), Kind::FileNotFound).await;
    becomes(&fixture, copy("s", "d"), &[("d/f", "s/f")]).await;
}

#[tokio::test]
async fn only_a_file_of_exactly_that_name_is_a_mark() {
    for not_a_mark in ["s/_.DIR", "s/_.dir/f", "s/g/_.dir", "_.dir"] {
        let fixture = with(&["s/f", not_a_mark]).await;
        refused(&fixture, checked(copy("s", "d")), Kind::FileNotFound).await;
    }
}

#[tokio::test]
async fn marks_are_not_asked_of_files() {
    let fixture = with(&["s"]).await;
    becomes(&fixture, checked(copy("s", "d")), &[("d", "s")]).await;
}

#[tokio::test]
async fn a_source_that_is_not_there_leaves_the_destination() {
    let fixture = with(&["d/f", "s2/f"]).await;
    for source in ["s", "d/g", "d/f/g", "D", "s2/F"] {
        refused(&fixture, copy(source, "x"), Kind::FileNotFound).await;
    }
    refused(&fixture, copy("s", "d"), Kind::FileNotFound).await;
    refused(&fixture, keep("s", "d"), Kind::FileNotFound).await;
}

#[tokio::test]
async fn nothing_is_copied_below_a_file() {
    let fixture = with(&["s/f", "t", "d"]).await;
    for source in ["s", "t"] {
        refused(&fixture, copy(source, "d/e"), Kind::AlreadyExists).await;
        refused(&fixture, keep(source, "d/e/g"), Kind::AlreadyExists).await;
        refused(&fixture, copy_without(source, "d/e", &["x"]), Kind::AlreadyExists).await;
    }
}

#[tokio::test]
async fn a_copy_onto_itself_does_nothing() {
    let fixture = with(&["s/_.dir", "s/f", "t"]).await;
    let before = tree(&fixture).await;
    for request in [copy("s", "s"), keep("s", "s"), copy_without("s", "s", &["f"]), copy("t", "t")]
    {
        let files = if request.source.as_str() == "t" { 1 } else { 2 };
        let operation = fixture.copy(request).await.unwrap();
        assert_eq!(operation.state, OperationState::Succeeded);
        assert_eq!(operation.progress.files_done, files);
        assert_eq!(tree(&fixture).await, before);
    }
    refused(&fixture, copy("x", "x"), Kind::FileNotFound).await;
}

#[tokio::test]
async fn an_overlap_is_refused_before_anything_else() {
    let fixture = with(&["s/_.dir", "s/t/f", "f"]).await;
    for (source, destination) in
        [("s", "s/new"), ("s", "s/t"), ("s/t", "s"), ("s/t/f", "s"), ("f", "f/g"), ("x/y", "x")]
    {
        refused(&fixture, copy(source, destination), Kind::InvalidArgument).await;
        refused(&fixture, keep(source, destination), Kind::InvalidArgument).await;
        let filtered = copy_without(source, destination, &["f"]);
        refused(&fixture, filtered, Kind::InvalidArgument).await;
    }
}

#[tokio::test]
async fn names_that_only_begin_alike_do_not_overlap() {
    let fixture = with(&["app/f", "app2/g"]).await;
    becomes(&fixture, copy("app", "app3"), &[("app2/g", "app2/g"), ("app3/f", "app/f")]).await;
    becomes(&fixture, copy("app", "app2"), &[("app2/f", "app/f"), ("app3/f", "app/f")]).await;
}

#[tokio::test]
async fn case_tells_paths_apart() {
    let fixture = with(&["s/f", "S/F"]).await;
    let expected = [("S/F", "S/F"), ("d/f", "s/f")];
    becomes(&fixture, copy("s", "d"), &expected).await;
    becomes(&fixture, copy("s", "S"), &[("S/f", "s/f"), ("d/f", "s/f")]).await;
}

#[tokio::test]
async fn the_reserved_folders_cannot_be_replaced() {
    let fixture = with(&["s/f", "Store/f"]).await;
    for destination in ["Store", "store", "WindowsFabricStore"] {
        refused(&fixture, copy("s", destination), Kind::Reserved).await;
    }
    becomes(&fixture, copy("s", "Store/x"), &[("Store/f", "Store/f"), ("Store/x/f", "s/f")]).await;
    becomes(&fixture, copy("Store", "Store"), &[("s/f", "s/f")]).await;
}

#[tokio::test]
async fn a_copy_is_a_snapshot() {
    let fixture = with(&["s/f", "s/g/h"]).await;
    fixture.copy(copy("s", "d")).await.unwrap();
    fixture.upload("s/g/h", "new").await.unwrap();
    fixture.upload("d/g/i", "mine").await.unwrap();
    fixture.delete("s/f").await.unwrap();
    let expected = [("d/f", "s/f"), ("d/g/h", "s/g/h"), ("d/g/i", "mine"), ("s/g/h", "new")];
    let found = tree(&fixture).await;
    let found: Vec<_> = found.iter().map(|(at, from)| (at.as_str(), from.as_str())).collect();
    assert_eq!(found, expected);
}

/// Each step doubles the number of files, so that a hundred steps would exceed the bound of the totals.
#[tokio::test]
async fn copies_of_copies_end_at_the_bound_of_the_totals() {
    let fixture = with(&["v0/f"]).await;
    let mut refusal = None;
    for step in 0..100 {
        let from = format!("v{step}");
        for half in ["x", "y"] {
            let result = fixture.copy(copy(&from, &format!("v{}/{half}", step + 1))).await;
            refusal = refusal.or(result.err());
        }
        if refusal.is_some() {
            break;
        }
    }
    assert_eq!(refusal.unwrap().kind(), Kind::TooLarge);
    let root = fixture.store.stat(&path(""), &Call::system()).await.unwrap().entry.totals;
    assert!(root.bytes <= TOTAL_MAX && root.bytes > TOTAL_MAX / 4, "{root:?}");
    crate::audit::laws(&fixture.tables);
    fixture.empty().await;
}
