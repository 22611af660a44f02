//! Copy: its decision table, row by row, over both interfaces.

use imagestore::error::Kind;

use crate::harness::{Copy, Pair, both, copy, fill, sorted};

/// Checks one row over both interfaces: the given files, the copy, its result, and the files afterwards.
pub(crate) async fn check(
    pair: &Pair,
    given: &str,
    copy: Copy,
    outcome: Result<(), Kind>,
    then: &str,
) {
    let (told, left) = pair
        .run(async |store| {
            fill(store, given).await;
            store.copy(&copy).await
        })
        .await;
    assert_eq!(told.map_err(|fault| fault.kind), outcome, "{copy:?}");
    assert_eq!(left, sorted(then), "{copy:?}");
}

/// Checks a row whose copy is refused: nothing changes, and the message contains `names`.
pub(crate) async fn check_refused(pair: &Pair, given: &str, copy: Copy, kind: Kind, names: &str) {
    let (told, left) = pair
        .run(async |store| {
            fill(store, given).await;
            store.copy(&copy).await
        })
        .await;
    let fault = told.expect_err(given);
    assert_eq!(fault.kind, kind, "{copy:?}");
    assert!(fault.message.contains(names), "{fault:?} does not name {names}");
    assert_eq!(left, sorted(given), "{copy:?}");
}

#[tokio::test]
async fn a_file_is_copied_to_where_nothing_is() {
    let pair = Pair::start().await;
    for ask in [copy("a", "b"), copy("a", "b").keep(), copy("a", "b").checked()] {
        check(&pair, "a=1", ask, Ok(()), "a=1 b=1").await;
    }
    check(&pair, "a=1", copy("a", "x/y/b"), Ok(()), "a=1 x/y/b=1").await;
    check(&pair, "s/a=1", copy("s/a", "s/b"), Ok(()), "s/a=1 s/b=1").await;
}

#[tokio::test]
async fn a_file_replaces_a_file_or_is_kept_from_it() {
    let pair = Pair::start().await;
    check(&pair, "a=1 b=2", copy("a", "b"), Ok(()), "a=1 b=1").await;
    check(&pair, "a=1 b=2", copy("a", "b").keep(), Ok(()), "a=1 b=2").await;
    check(&pair, "a=1 b=2", copy("a", "b").keep().checked(), Ok(()), "a=1 b=2").await;
}

#[tokio::test]
async fn a_file_replaces_a_folder_or_is_kept_from_it() {
    let pair = Pair::start().await;
    check(&pair, "a=1 b/x=2 b/_.dir", copy("a", "b"), Ok(()), "a=1 b=1").await;
    check(&pair, "a=1 b/x=2", copy("a", "b").keep(), Ok(()), "a=1 b/x=2").await;
    check(&pair, "a=1 b/_.dir", copy("a", "b").keep().checked(), Ok(()), "a=1 b/_.dir").await;
    // Where marks are checked, a folder without its mark is incomplete and is not kept.
    check(&pair, "a=1 b/x=2", copy("a", "b").keep().checked(), Ok(()), "a=1 b=1").await;
}

const MARKED: &str = "a/_.dir a/f=1 a/s/g=2 a/s/_.dir";
const UNMARKED: &str = "a/f=1 a/s/g=2 a/s/_.dir";

#[tokio::test]
async fn a_folder_is_copied_to_where_nothing_is() {
    let pair = Pair::start().await;
    for ask in [
        copy("a", "b"),
        copy("a", "b").keep(),
        copy("a", "b").checked(),
        copy("a", "b").checked().keep(),
        copy("a", "b").verify(),
    ] {
        let then = format!("{MARKED} b/_.dir b/f=1 b/s/g=2 b/s/_.dir");
        check(&pair, MARKED, ask, Ok(()), &then).await;
    }
}

#[tokio::test]
async fn a_folder_without_its_mark_is_copied_unless_marks_are_looked_at() {
    let pair = Pair::start().await;
    let then = format!("{UNMARKED} b/f=1 b/s/g=2 b/s/_.dir");
    check(&pair, UNMARKED, copy("a", "b"), Ok(()), &then).await;
    check_refused(&pair, UNMARKED, copy("a", "b").checked(), Kind::FileNotFound, "a/_.dir").await;
    // A refused copy leaves its destination unchanged.
    let given = format!("{UNMARKED} b/old=3 b/_.dir");
    check_refused(&pair, &given, copy("a", "b").checked(), Kind::FileNotFound, "a/_.dir").await;
    check_refused(&pair, &given, copy("a", "b").checked().keep(), Kind::FileNotFound, "a/_.dir")
        .await;
    // Only a file with the exact name is a mark file.
    check_refused(&pair, "a/_.DIR", copy("a", "b").checked(), Kind::FileNotFound, "a/_.dir").await;
}

#[tokio::test]
async fn a_folder_replaces_a_folder_and_never_merges() {
    let pair = Pair::start().await;
    for old in ["b/old=3 b/_.dir", "b/old=3", "b/f=9 b/s/g=9 b/s/deep/h=9"] {
        for ask in [copy("a", "b"), copy("a", "b").checked(), copy("a", "b").verify()] {
            let then = format!("{MARKED} b/_.dir b/f=1 b/s/g=2 b/s/_.dir");
            check(&pair, &format!("{MARKED} {old}"), ask, Ok(()), &then).await;
        }
    }
}

#[tokio::test]
async fn keep_leaves_a_folder_as_it_is_unless_it_is_incomplete_and_marks_are_looked_at() {
    let pair = Pair::start().await;
    let complete = format!("{MARKED} b/old=3 b/_.dir");
    check(&pair, &complete, copy("a", "b").keep(), Ok(()), &complete).await;
    check(&pair, &complete, copy("a", "b").keep().checked(), Ok(()), &complete).await;
    let incomplete = format!("{MARKED} b/old=3");
    check(&pair, &incomplete, copy("a", "b").keep(), Ok(()), &incomplete).await;
    let then = format!("{MARKED} b/_.dir b/f=1 b/s/g=2 b/s/_.dir");
    check(&pair, &incomplete, copy("a", "b").keep().checked(), Ok(()), &then).await;
}

#[tokio::test]
async fn a_folder_replaces_a_file_or_is_kept_from_it() {
    let pair = Pair::start().await;
    let given = format!("{MARKED} b=3");
    let then = format!("{MARKED} b/_.dir b/f=1 b/s/g=2 b/s/_.dir");
    check(&pair, &given, copy("a", "b"), Ok(()), &then).await;
    check(&pair, &given, copy("a", "b").checked(), Ok(()), &then).await;
    check(&pair, &given, copy("a", "b").keep(), Ok(()), &given).await;
    check(&pair, &given, copy("a", "b").keep().checked(), Ok(()), &given).await;
}

#[tokio::test]
async fn a_missing_source_is_not_found_and_leaves_the_destination() {
    let pair = Pair::start().await;
    for ask in [copy("a", "b"), copy("a", "b").keep(), copy("a", "b").checked()] {
        check_refused(&pair, "b/old=3", ask.clone(), Kind::FileNotFound, "\"a\"").await;
        check_refused(&pair, "b=3", ask.clone(), Kind::FileNotFound, "\"a\"").await;
        check_refused(&pair, "c=3", ask, Kind::FileNotFound, "\"a\"").await;
    }
    check_refused(&pair, "a=1", copy("a/b", "c"), Kind::FileNotFound, "\"a/b\"").await;
    check_refused(&pair, "a/B=1", copy("a/b", "c"), Kind::FileNotFound, "\"a/b\"").await;
    check_refused(&pair, "ab/x=1", copy("a", "c"), Kind::FileNotFound, "\"a\"").await;
}

#[tokio::test]
async fn a_copy_onto_itself_changes_nothing_but_needs_its_source() {
    let pair = Pair::start().await;
    for ask in [copy("a", "a"), copy("a", "/a\\"), copy("a", "a").keep(), copy("a", "a").checked()]
    {
        check(&pair, MARKED, ask, Ok(()), MARKED).await;
    }
    check(&pair, "a=1", copy("a", "a"), Ok(()), "a=1").await;
    check(&pair, MARKED, copy("a", "a").skip(&["f"]), Ok(()), MARKED).await;
    check_refused(&pair, "b=1", copy("a", "a"), Kind::FileNotFound, "\"a\"").await;
    check_refused(&pair, "a/f=1", copy("a", "a").checked(), Kind::FileNotFound, "a/_.dir").await;
}

#[tokio::test]
async fn a_copy_onto_its_own_parent_or_child_is_refused_before_anything_else() {
    let pair = Pair::start().await;
    for ask in [copy("a/s", "a"), copy("a", "a/s"), copy("a", "a/new/deep"), copy("a/s", "\\a/")] {
        check_refused(&pair, MARKED, ask.clone(), Kind::InvalidArgument, "overlap").await;
        check_refused(&pair, MARKED, ask.clone().keep(), Kind::InvalidArgument, "overlap").await;
        // The paths alone decide this: no file has to exist.
        check_refused(&pair, "z=1", ask.checked(), Kind::InvalidArgument, "overlap").await;
    }
    check_refused(&pair, "a=1", copy("a", "a/b"), Kind::InvalidArgument, "overlap").await;
}

#[tokio::test]
async fn siblings_of_one_prefix_do_not_overlap() {
    let pair = Pair::start().await;
    check(&pair, "a/x=1", copy("a", "ab"), Ok(()), "a/x=1 ab/x=1").await;
    check(&pair, "ab/x=1 a/y=2", copy("ab", "a"), Ok(()), "ab/x=1 a/x=1").await;
    check(&pair, "a/x=1 ab/y=2", copy("a", "c"), Ok(()), "a/x=1 ab/y=2 c/x=1").await;
    check(&pair, "a/b/x=1 a/bc=2", copy("a/b", "a/bd"), Ok(()), "a/b/x=1 a/bc=2 a/bd/x=1").await;
}

#[tokio::test]
async fn nothing_is_copied_below_a_file() {
    let pair = Pair::start().await;
    for ask in [copy("a", "f/b"), copy("a", "f/b/c"), copy("a", "f/b").verify()] {
        check_refused(&pair, "a=1 f=2", ask, Kind::AlreadyExists, "\"f\"").await;
    }
    check_refused(&pair, &format!("{MARKED} c=1"), copy("a", "c/d"), Kind::AlreadyExists, "\"c\"")
        .await;
    let skip = copy("a", "c/d").skip(&["f"]);
    check_refused(&pair, &format!("{MARKED} c=1"), skip, Kind::AlreadyExists, "\"c\"").await;
}

#[tokio::test]
async fn reserved_folders_are_no_destinations() {
    let pair = Pair::start().await;
    for name in ["Store", "store", "/STORE/", "WindowsFabricStore", "windowsfabricstore\\"] {
        for given in ["a/_.dir", "a=1"] {
            check_refused(&pair, given, copy("a", name), Kind::Reserved, "reserved").await;
        }
    }
    check(&pair, "a=1", copy("a", "Store/x"), Ok(()), "a=1 Store/x=1").await;
    check(&pair, "a=1", copy("a", "x/Store"), Ok(()), "a=1 x/Store=1").await;
    check(&pair, "Store/x=1", copy("Store", "b"), Ok(()), "Store/x=1 b/x=1").await;
    check(&pair, "a=1", copy("a", "Stores"), Ok(()), "a=1 Stores=1").await;
}

#[tokio::test]
async fn both_separators_separate_and_surplus_ones_are_dropped() {
    let pair = Pair::start().await;
    let given = "a/b/f=1";
    let then = "a/b/f=1 c/d/f=1";
    for (source, destination) in
        [(r"a\b", r"c\d"), (r"\a\b\", "/c/d/"), ("a//b", r"c\\d"), ("  a/b ", " c/d  ")]
    {
        check(&pair, given, copy(source, destination), Ok(()), then).await;
    }
}

#[tokio::test]
async fn paths_that_no_file_can_have_are_refused() {
    let pair = Pair::start().await;
    let long = "n".repeat(1025);
    let deep = vec!["d"; 129].join("/");
    let (told, left) = pair
        .run(async |store| {
            fill(store, "a=1").await;
            let mut told = Vec::new();
            for path in [
                " ", "/", "\\", "..", "a/../b", "a/./b", ".", "$", "x/$/y", "a\u{1}b", "a\"b",
                "a<b", "a>b", "a|b", "a\u{7f}",
            ] {
                for ask in [copy(path, "b"), copy("a", path), copy(path, path)] {
                    told.push((path, store.copy(&ask).await.expect_err(path)));
                }
            }
            told
        })
        .await;
    assert_eq!(left, "a=1");
    for (path, fault) in told {
        assert_eq!(fault.kind, Kind::InvalidArgument, "{path}");
    }
    for path in [long.as_str(), &deep] {
        for ask in [copy(path, "b"), copy("a", path)] {
            check_refused(&pair, "a=1", ask, Kind::PathTooLong, "at most").await;
        }
    }
    check(&pair, "a=1", copy("a", "a:*?ü$"), Ok(()), "a=1 a:*?ü$=1").await;
}

#[tokio::test]
async fn a_copy_carries_the_versions_and_dates_of_its_source() {
    let (told, _) = both(async |store| {
        fill(store, "a/f=1 a/s/g=2 b/f=9").await;
        store.copy(&copy("a", "b")).await.expect("copied");
        store.copy(&copy("a/f", "c")).await.expect("copied");
        let stamps = async |folder: &str, name: &str| {
            let items = store.list(folder).await.expect("a listing");
            let item = items.into_iter().find(|item| item.path.ends_with(name)).expect(name);
            (item.version, item.modified)
        };
        let source = stamps("a", "f").await;
        assert_eq!(stamps("b", "f").await, source);
        assert_eq!(stamps("c", "c").await, source);
        assert_eq!(stamps("b/s", "g").await, stamps("a/s", "g").await);
        // The next upload has a higher version than all earlier ones.
        store.upload("d", b"").await.expect("stored");
        let new = stamps("d", "d").await.0;
        (new > source.0, new > stamps("a/s", "g").await.0)
    })
    .await;
    assert_eq!(told, (true, true));
}

#[tokio::test]
async fn a_copy_is_a_snapshot() {
    let pair = Pair::start().await;
    check(&pair, "a/f=1 b/f=0", copy("a", "b"), Ok(()), "a/f=1 b/f=1").await;
    let ((), left) = pair
        .run(async |store| {
            fill(store, "a/f=1 a/s/g=2").await;
            store.copy(&copy("a", "b")).await.expect("copied");
            fill(store, "a/f=3 a/s/h=4 b/s/g=5").await;
            store.delete("a/s/g").await.expect("deleted");
        })
        .await;
    assert_eq!(left, "a/f=3 a/s/h=4 b/f=1 b/s/g=5");
}
