//! Tests of what a walk visits, and how many rows it reads at once.

use super::*;
use crate::namespace::{
    entries,
    files::{Files, WalkedFile},
    metered::{Counts, Metered, all, folder, names, store},
    tree::Target,
};

/// All visits of a walk, each with the path of the current folder.
fn visits(store: &mut Metered, root: i64, rows: usize) -> (Vec<(Visit, String)>, Counts) {
    let mut walk = Walk::new(root, rows);
    let mut visits = Vec::new();
    let ((), counts) = all(store, |tx| {
        let visit = walk.next(tx)?;
        visits.extend(visit.map(|visit| (visit, walk.path().as_str().to_owned())));
        assert!(visit.is_none() || walk.is_over() == (visit == Some(Visit::Leave(root))));
        Ok(visit.is_none().then_some(()))
    });
    (visits, counts)
}

#[test]
fn each_distinct_folder_is_visited_once_and_after_what_is_below_it() {
    let (mut store, _dir) = store();
    let ((deep, one, root), _) = store.job(|tx| {
        let deep = folder(tx, &names(1), &[]);
        let one = folder(tx, &names(2), &[deep, deep]);
        Ok((deep, one, folder(tx, &[], &[one, deep, one])))
    });
    let (visits, _) = visits(&mut store, root, 1);
    let visits: Vec<(Visit, &str)> = visits.iter().map(|(v, path)| (*v, path.as_str())).collect();
    let is = [
        (Visit::Enter(root), ""),
        (Visit::Enter(one), "d000000"),
        (Visit::Enter(deep), "d000000/d000000"),
        (Visit::Leave(deep), "d000000/d000000"),
        (Visit::Again(deep), "d000000"),
        (Visit::Leave(one), "d000000"),
        (Visit::Again(deep), ""),
        (Visit::Again(one), ""),
        (Visit::Leave(root), ""),
    ];
    assert_eq!(visits, is);
}

#[test]
fn what_is_passed_over_is_not_entered() {
    let (mut store, _dir) = store();
    let ((deep, one, two, root), _) = store.job(|tx| {
        let deep = folder(tx, &names(1), &[]);
        let one = folder(tx, &names(2), &[deep]);
        let two = folder(tx, &names(1), &[one]);
        Ok((deep, one, two, folder(tx, &[], &[one, two, one])))
    });
    for passed in [one, two] {
        // Each page is told once, before its folders are entered, without those that were visited.
        let (mut walk, mut told, mut entered) = (Walk::new(root, 2), Vec::new(), Vec::new());
        let ((), _) = all(&mut store, |tx| {
            let ahead = walk.ahead(tx)?;
            if ahead.contains(&passed) {
                walk.pass_over(passed);
            }
            told.extend(ahead);
            let visit = walk.next(tx)?;
            entered.extend(visit.and_then(|visit| match visit {
                Visit::Enter(id) => Some(id),
                Visit::Again(_) | Visit::Leave(_) => None,
            }));
            Ok(visit.is_none().then_some(()))
        });
        let (tells, enters) = if passed == one {
            (vec![one, two], vec![root, two])
        } else {
            (vec![one, two, deep], vec![root, one, deep])
        };
        assert_eq!((told, entered), (tells, enters));
        assert!(walk.is_over());
    }
}

#[test]
fn a_circle_of_folders_is_left_again() {
    let (mut store, _dir) = store();
    let ((below, root), _) = store.job(|tx| {
        let below = folder(tx, &[], &[]);
        let root = folder(tx, &[], &[below]);
        entries::put(tx, below, "up", &Target::Folder(root))?;
        Ok((below, root))
    });
    let (visits, _) = visits(&mut store, root, 8);
    let visits: Vec<Visit> = visits.into_iter().map(|(visit, _)| visit).collect();
    let leave = [Visit::Leave(below), Visit::Leave(root)];
    assert_eq!(visits[..3], [Visit::Enter(root), Visit::Enter(below), Visit::Again(root)]);
    assert_eq!(visits[3..], leave);
}

#[test]
fn a_wide_folder_is_read_in_pages() {
    let (mut store, _dir) = store();
    let (root, _) = store.job(|tx| {
        let below = folder(tx, &names(1), &[]);
        Ok(folder(tx, &names(100), &vec![below; 100]))
    });
    let (visits, counts) = visits(&mut store, root, 16);
    assert_eq!(visits.len(), 2 + 2 + 99);
    assert!(counts.rows_at_once <= 16, "{counts:?}");
    // Seven pages of the root, and one of the folder below.
    assert!(counts.statements <= 7 + 1, "{counts:?}");
}

#[test]
fn the_files_of_a_folder_count_as_often_as_it_occurs_and_are_read_in_pages() {
    use crate::limits::VERIFY_PAGE_ROWS as PAGE;
    let (mut store, _dir) = store();
    let (root, _) = store.job(|tx| {
        let below = folder(tx, &names(PAGE + 1), &[]);
        let twice = folder(tx, &names(1), &[below, below]);
        let mut folders = vec![below; PAGE];
        folders.extend([twice, twice, twice]);
        Ok(folder(tx, &names(1), &folders))
    });
    let mut files = Files::new(root, StorePath::root().child("at"));
    let mut found: Vec<WalkedFile> = Vec::new();
    let ((), counts) = all(&mut store, |tx| {
        let step = files.step(tx)?;
        let is_over = step.is_none();
        found.extend(step.into_iter().flatten());
        Ok(is_over.then_some(()))
    });
    assert!(counts.rows_at_once <= PAGE, "{counts:?}");
    // In each of both passes: two pages of the root, two of `below`, one of `twice`.
    assert!(counts.statements <= 2 * 5, "{counts:?}");
    let times = |path: &str| {
        let all: Vec<i64> =
            found.iter().filter(|file| file.path.as_str() == path).map(|file| file.times).collect();
        all
    };
    let occurs = PAGE as i64 + 3 * 2;
    assert_eq!(times("at/f000000"), [1]);
    assert_eq!(times(&format!("at/d{PAGE:06}/f000000")), [3]);
    assert_eq!(times("at/d000000/f000000"), [occurs]);
    assert_eq!(times(&format!("at/d000000/f{PAGE:06}")), [occurs]);
    assert_eq!(found.len(), 1 + 1 + PAGE + 1);
}
