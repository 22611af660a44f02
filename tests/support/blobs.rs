//! The blob stores of a test: a folder or, if `IMAGESTORE_TEST_BLOBS` has the URLs of buckets, a new prefix of each.

use std::path::Path;

use imagestore::blob::Location;
use uuid::Uuid;

/// New, empty places for objects; a folder is in `folder`. Tests of one blob store take the first one.
#[expect(clippy::disallowed_methods, reason = "tests/run tells the tests what it started")]
pub(crate) fn blobs(folder: &Path) -> Vec<Location> {
    let Ok(urls) = std::env::var("IMAGESTORE_TEST_BLOBS") else {
        return vec![Location::Folder(folder.join("blobs"))];
    };
    let new = |url| Location::parse(&format!("{url}/{}", Uuid::new_v4())).expect("a URL");
    urls.split_whitespace().map(new).collect()
}
