//! No copy makes a path that is deeper or longer than a path may be.

use imagestore::{
    error::Kind,
    limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX},
    model::{CopyRequest, IfExists},
    store::Call,
};

use crate::harness::{Fixture, copy, copy_without, kind, path};

/// The path of a name below nested folders.
fn nested(folders: usize, name: &str) -> String {
    "d/".repeat(folders) + name
}

/// A name of this many bytes.
fn long(bytes: usize) -> String {
    "n".repeat(bytes)
}

/// Copies `s` to a destination that just fits, and to one below which a path would be too deep or too long.
async fn check(files: &[String], (fits, too_far): (&str, &str)) {
    let fixture = Fixture::new().await;
    for file in files {
        fixture.upload(file, "bytes").await.unwrap();
    }
    fixture.fill(&["s/skipped"]).await;
    let before = fixture.files("").await;
    let verified = CopyRequest { verify: true, ..copy("s", too_far) };
    for request in [copy("s", too_far), verified, copy_without("s", too_far, &["skipped"])] {
        let what = format!("{request:?}");
        assert_eq!(kind(fixture.copy(request).await), Kind::PathTooLong, "{what}");
        assert_eq!(fixture.files("").await, before, "{what}");
    }
    fixture.copy(copy("s", fits)).await.unwrap();
    // Every copied path is valid.
    for file in fixture.files(fits).await {
        fixture.store.stat(&path(&file), &Call::system()).await.unwrap();
    }
    crate::audit::laws(&fixture.tables);
}

#[tokio::test]
async fn a_copy_goes_no_deeper_than_a_path_may() {
    let file = format!("s/{}", nested(9, "f"));
    let fits = nested(PATH_DEPTH_MAX - 11, "t");
    check(&[file], (&fits, &format!("{fits}/t"))).await;
}

#[tokio::test]
async fn a_copy_makes_no_path_longer_than_one_may_be() {
    let files = [format!("s/{}", long(NAME_BYTES_MAX)), format!("s/x/{}", long(NAME_BYTES_MAX))];
    // The longest path below the source has two bytes more than the longest name.
    let room = PATH_BYTES_MAX - 1 - (2 + NAME_BYTES_MAX);
    let above = format!("{}/{}/", long(NAME_BYTES_MAX), long(NAME_BYTES_MAX));
    let fits = above.clone() + &long(room - above.len());
    let too_far = above.clone() + &long(room - above.len() + 1);
    check(&files, (&fits, &too_far)).await;
}

#[tokio::test]
async fn copies_of_copies_end_where_paths_do() {
    let fixture = Fixture::new().await;
    fixture.fill(&["a/f", "b/f"]).await;
    let mut copies = 0;
    let refused = loop {
        let (from, to) = if copies % 2 == 0 { ("a", "b/x") } else { ("b", "a/x") };
        match fixture.copy(copy(from, to)).await {
            Ok(_) => copies += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), Kind::PathTooLong);
    // Each copy makes the deepest path one name deeper.
    assert_eq!(copies, PATH_DEPTH_MAX - 2);
    crate::audit::laws(&fixture.tables);
}

#[tokio::test]
async fn what_was_removed_or_is_left_out_makes_no_copy_fail() {
    let fixture = Fixture::new().await;
    let deep = format!("s/{}", nested(PATH_DEPTH_MAX - 2, "f"));
    fixture.fill(&[&deep, "s/g"]).await;
    let request = || copy("s", "t/u");
    assert_eq!(kind(fixture.copy(request()).await), Kind::PathTooLong);
    // Neither a kept destination nor a skipped file counts for the bounds.
    fixture.fill(&["kept/there"]).await;
    let keep = CopyRequest { if_exists: IfExists::Keep, ..copy("s", "kept/there") };
    fixture.copy(keep).await.unwrap();
    fixture.copy(copy_without("s", "t/v", &["f"])).await.unwrap();
    fixture.delete(&deep).await.unwrap();
    fixture.copy(request()).await.unwrap();
    crate::audit::laws(&fixture.tables);
}
