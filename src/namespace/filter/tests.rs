//! Tests of how much a filter reads: the number of queries depends neither on the length of the list alone
//! nor on the size of a folder alone.

use super::*;
use crate::{
    limits::FILTER_PAGE_ROWS,
    model::{Progress, SkipFiles},
    namespace::{
        metered::{Counts, Metered, all, folder, names, store},
        pin::Owner,
        reach::Reach,
        tree::{self, Target},
    },
};

fn search(store: &mut Metered, root: i64, skip: &[String]) -> (Search, Counts) {
    let mut search = Search::new(root, SkipFiles::new(skip).unwrap());
    let ((), counts) = all(store, |tx| Ok(search.step(tx)?.then_some(())));
    (search, counts)
}

#[test]
fn a_list_costs_no_look_up_of_each_name_in_each_folder() {
    let (mut store, _dir) = store();
    let (root, _) = store.job(|tx| {
        let folders: Vec<i64> = (0..300).map(|_| folder(tx, &["x".to_owned()], &[])).collect();
        Ok(folder(tx, &[], &folders))
    });
    let (search, counts) = search(&mut store, root, &names(300));
    assert!(search.plan().unwrap().is_none());
    // One query for the files and one for the sub-folders of each folder, and some pages of the root.
    assert!(counts.statements < 2 * 300 + 50, "{counts:?}");
    assert!(counts.rows_at_once <= FILTER_PAGE_ROWS, "{counts:?}");
}

#[test]
fn a_large_folder_costs_no_more_look_ups_than_the_list_has_names() {
    let (mut store, _dir) = store();
    let (root, _) = store.job(|tx| Ok(folder(tx, &names(5_000), &[])));
    let skip = ["f000100", "f000101", "f004999", "g"].map(str::to_owned);
    let (search, counts) = search(&mut store, root, &skip);
    assert_eq!(search.unmatched(), ["g"]);
    assert!(counts.statements <= skip.len() + 2, "{counts:?}");
    assert!(counts.rows_at_once <= FILTER_PAGE_ROWS, "{counts:?}");
}

#[test]
fn what_changes_is_built_in_pages() {
    let (mut store, _dir) = store();
    let files = names(2 * FILTER_PAGE_ROWS + 1);
    let (root, _) = store.job(|tx| {
        let plain = folder(tx, &["x".to_owned()], &[]);
        let changed = folder(tx, &files, &[]);
        let folders: Vec<i64> =
            (0..200).map(|number| if number % 3 == 0 { changed } else { plain }).collect();
        let root = folder(tx, &[], &folders);
        let totals = Totals { files: 133 + 67 * files.len() as i64, bytes: 0 };
        tree::set_sums(tx, root, totals, Reach::default())?;
        Ok(root)
    });
    // All files but the first are skipped.
    let skip: Vec<String> = files[1..].to_vec();
    let (search, counts) = search(&mut store, root, &skip);
    assert!(counts.rows_at_once <= FILTER_PAGE_ROWS, "{counts:?}");
    let mut build = search.plan().unwrap().unwrap();
    let owner = Owner::new("test");
    store.job(|tx| crate::namespace::pin::pin(tx, &owner, Target::Folder(root).as_ref()));
    let mut progress = Progress::default();
    let (made, counts) = all(&mut store, |tx| build.step(tx, &owner, &mut progress));
    assert!(counts.rows_at_once <= FILTER_PAGE_ROWS, "{counts:?}");
    assert_eq!(progress.files_done, 133 + 67);
    assert_eq!(progress.files_skipped, 67 * skip.len() as i64);
    let (entries, _) = store.job(|tx| {
        let sql = "SELECT COUNT(*) FROM entry WHERE folder >= $1";
        tx.one(sql, crate::namespace::sql::params![made])?.int(0)
    });
    assert_eq!(entries, 200 + 1);
}
