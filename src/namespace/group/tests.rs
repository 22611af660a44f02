//! Tests of groups: what they write is what is written one by one, and what needs more is left out.

use bytes::Bytes;

use super::*;
use crate::{
    limits::{NAME_CACHE_MAX, TOTAL_MAX},
    model::{Replaces, Tags, Usage},
    namespace::{
        content::{self, NewFile, Place},
        counted::{Counted, Sums},
        entries,
        garbage::{Ref, tombstone_object},
        metered::{Metered, store},
        pin::{self, Owner},
        schema::ROOT,
        sql::{Row, Value},
        tree,
    },
};

/// What the tables hold, without times.
const TABLES: [&str; 8] = [
    "SELECT folder, folded, name, child, content, size, version FROM entry ORDER BY 1, 2, 3",
    "SELECT id, files, bytes, depth, length, changes FROM folder ORDER BY id",
    "SELECT id, size, etag, digest FROM content ORDER BY id",
    "SELECT content, start, part FROM content_part ORDER BY 1, 2",
    "SELECT id, digest, size, bytes, object FROM part ORDER BY id",
    "SELECT kind, id, bytes FROM garbage ORDER BY 1, 2",
    "SELECT object, size, claimed FROM dead_object ORDER BY 1",
    "SELECT name, value FROM meta WHERE name IN ('version', 'change')",
];

fn path(text: &str) -> StorePath {
    StorePath::parse(text, "path").unwrap()
}

fn inline(bytes: &'static str) -> Vec<Part> {
    let (digest, size) = (Digest::of(bytes.as_bytes()), bytes.len() as i64);
    vec![Part { digest, size, place: Place::Inline(Bytes::from_static(bytes.as_bytes())) }]
}

fn object(key: &str) -> Vec<Part> {
    vec![Part { digest: Digest::of(b"far"), size: 3, place: Place::Object(key.to_owned()) }]
}

fn plain(at: &str, parts: &[Part]) -> PlainFile {
    PlainFile::new(path(at), Conditions::default(), parts).unwrap()
}

fn put_one(tx: &mut Tx<'_>, at: &str, parts: &[Part]) -> Result<i64> {
    let new =
        NewFile { path: path(at), replaces: Replaces::File, parts: parts.to_vec(), digest: None };
    content::put_file(tx, &new).map(|(_, replaced)| replaced)
}

fn put_group(tx: &mut Tx<'_>, files: &[(&str, Vec<Part>)]) -> Result<Vec<Option<Placed>>> {
    let files: Vec<_> = files.iter().map(|(at, parts)| plain(at, parts)).collect();
    put(tx, &files.iter().collect::<Vec<_>>(), &mut NameCache::default())
}

fn tables(store: &mut Metered) -> Vec<Vec<Row>> {
    store.job(|tx| TABLES.iter().map(|sql| tx.all(sql, &[])).collect()).0
}

/// A store with a file at `a/old` and the object `far` at `a/far`.
fn fixture() -> (Metered, tempfile::TempDir) {
    let (mut store, dir) = store();
    store.job(|tx| {
        put_one(tx, "a/old", &inline("old"))?;
        put_one(tx, "a/far", &object("far"))
    });
    (store, dir)
}

/// Puts files in one store one by one and in another one in groups of `size`, and returns both: the tables, the
/// changes of the sums, and the replaced files.
fn both(files: &[(&str, Vec<Part>)], size: usize) -> [(Vec<Vec<Row>>, Sums, Vec<i64>); 2] {
    let (mut one, _dir) = fixture();
    let ((replaced, sums), _) = one.job(|tx| {
        let replaced = files.iter().map(|(at, parts)| put_one(tx, at, parts));
        Ok((replaced.collect::<Result<Vec<_>>>()?, tx.counted()))
    });
    let (mut many, _dir) = fixture();
    let ((placed, counted), _) = many.job(|tx| {
        let mut all = Vec::new();
        for group in files.chunks(size) {
            all.extend(put_group(tx, group)?);
        }
        Ok((all, tx.counted()))
    });
    let placed = placed.into_iter().map(|placed| placed.expect("placed").files_replaced);
    [(tables(&mut one), sums, replaced), (tables(&mut many), counted, placed.collect())]
}

#[test]
fn a_group_writes_what_its_files_write_one_by_one() {
    let files = [
        ("new", inline("new")),
        ("a/old", inline("younger")),
        ("a/b/C/x", inline("x")),
        ("a/b/C/y", inline("x")),
        ("a/b/c/x", Vec::new()),
        ("a/empty", Vec::new()),
        ("a/new", object("far")),
        ("b", inline("one")),
        ("b", inline("two")),
        ("a/far", inline("near")),
        ("a/known", inline("new")),
    ];
    for size in 1..=files.len() {
        let [one, many] = both(&files, size);
        assert_eq!(many, one, "in groups of {size}");
    }
}

#[test]
fn a_content_that_regains_an_entry_in_its_group_frees_nothing() {
    let (mut store, _dir) = fixture();
    let files = [("a/old", inline("younger")), ("a/known", inline("old"))];
    let (counted, _) = store.job(|tx| {
        put_group(tx, &files)?;
        Ok(tx.counted())
    });
    assert_eq!(counted.of(Counted::Waiting), Usage::default());
    let (rows, _) = store.job(|tx| tx.all("SELECT bytes FROM garbage WHERE kind = 2", &[]));
    assert_eq!(rows, [Row(vec![Value::Null])]);
}

#[test]
fn a_placed_file_is_described_as_a_stat_describes_it() {
    let (mut store, _dir) = fixture();
    let files = [("a/b/x", inline("x")), ("empty", Vec::new()), ("a/old", inline("younger"))];
    let (placed, _) = store.job(|tx| put_group(tx, &files));
    for (placed, (at, _)) in placed.into_iter().zip(&files) {
        let (stat, _) = store.job(|tx| crate::namespace::list::stat(tx, &path(at)));
        assert_eq!(placed.unwrap().stat, stat);
    }
}

/// The round trips of a group of files in a folder, new ones.
fn round_trips(store: &mut Metered, folder: &str, cache: &mut NameCache) -> usize {
    let of_this_call = uuid::Uuid::new_v4();
    let files: Vec<_> = (0..20).map(|number| format!("{folder}/{of_this_call}{number}")).collect();
    let files: Vec<_> = files.iter().map(|at| plain(at, &inline("x"))).collect();
    let (placed, counts) = store.job(|tx| put(tx, &files.iter().collect::<Vec<_>>(), &mut *cache));
    assert!(placed.iter().all(Option::is_some), "{folder}");
    counts.round_trips
}

#[test]
fn the_names_of_a_known_folder_are_looked_up_in_one_round_trip() {
    let (mut store, _dir) = fixture();
    let mut cache = NameCache::default();
    // After the names: the rows; the entries. The clock is no statement.
    assert_eq!(round_trips(&mut store, "a/b/c", &mut cache), 2 + 2, "a; b, which is not there");
    assert_eq!(round_trips(&mut store, "a/b/c", &mut cache), 3 + 2, "a and b; c; the files");
    assert_eq!(round_trips(&mut store, "a/b/c", &mut cache), 1 + 2, "all of them");
    assert_eq!(round_trips(&mut store, "a/b/d", &mut cache), 1 + 2, "d is not there");
}

#[test]
fn a_name_that_leads_elsewhere_is_followed_there() {
    let (mut store, _dir) = fixture();
    let mut cache = NameCache::default();
    for _ in 0..3 {
        round_trips(&mut store, "a/b/c", &mut cache);
    }
    // The path is removed, and made again with other folders; c is a file then.
    store.job(|tx| tree::remove(tx, &path("a/b")));
    store.job(|tx| put_one(tx, "a/b/e/x", &inline("x")));
    assert_eq!(round_trips(&mut store, "a/b/c", &mut cache), 2 + 2, "a and the old b; the new b");
    store.job(|tx| tree::remove(tx, &path("a/b/c")));
    store.job(|tx| put_one(tx, "a/b/c", &inline("x")));
    let files = [plain("a/b/c/x", &inline("x"))];
    let (placed, _) = store.job(|tx| put(tx, &[&files[0]], &mut cache));
    assert_eq!(placed, [None], "nothing is put below a file");
    // The file below the root is there nevertheless.
    assert_eq!(round_trips(&mut store, "a/b/e", &mut cache), 2 + 2);
}

#[test]
fn a_full_cache_starts_anew() {
    let mut cache = NameCache::default();
    for number in 0..NAME_CACHE_MAX as i64 {
        cache.keep(ROOT, &format!("{number}"), number + 2);
    }
    let deep = path("7/x");
    assert_eq!(cache.follow(&deep), [(ROOT, "7"), (9, "x")]);
    cache.keep(ROOT, "7", 8);
    assert_eq!(cache.follow(&deep), [(ROOT, "7"), (8, "x")], "no new name");
    cache.keep(ROOT, "new", 5);
    assert_eq!(cache.follow(&deep), [(ROOT, "7")]);
    assert_eq!(cache.follow(&path("new/x")), [(ROOT, "new"), (5, "x")]);
}

/// Puts one group, and returns whether each of its files was put.
fn is_put(store: &mut Metered, files: &[PlainFile]) -> Vec<bool> {
    let before = tables(store);
    let (placed, _) =
        store.job(|tx| put(tx, &files.iter().collect::<Vec<_>>(), &mut NameCache::default()));
    if placed.iter().all(Option::is_none) {
        assert_eq!(tables(store), before, "what is left out writes nothing");
    }
    placed.iter().map(Option::is_some).collect()
}

#[test]
fn a_file_that_would_be_refused_is_left_out() {
    let (mut store, _dir) = fixture();
    let tag = Conditions { if_none_match: Some(Tags::Any), ..Conditions::default() };
    let with = |at: &str, conditions: &Conditions| {
        PlainFile::new(path(at), conditions.clone(), &inline("x")).unwrap()
    };
    let files = [
        plain("a", &inline("x")),
        plain("a/old/x", &inline("x")),
        with("a/far", &tag),
        with("b", &tag),
        plain("c", &inline("x")),
    ];
    // The first file is left out, and so is all below it.
    assert_eq!(is_put(&mut store, &files), [false, false, false, true, true]);
    assert_eq!(is_put(&mut store, &files[1..2]), [false]);
    assert_eq!(is_put(&mut store, &files[2..4]), [false, false]);
}

#[test]
fn a_file_on_the_path_of_one_that_is_left_out_is_left_out_too() {
    let (mut store, _dir) = fixture();
    let left_out = plain("a/old/x", &inline("x"));
    let files = [left_out, plain("a/old", &inline("y")), plain("a/old/x", &inline("z"))];
    assert_eq!(is_put(&mut store, &files), [false; 3]);
    assert_eq!(is_put(&mut store, &[files[1].clone(), plain("a/oldest", &[])]), [true; 2]);
}

#[test]
fn a_file_below_a_shared_folder_is_left_out() {
    let (mut store, _dir) = fixture();
    let (folder, _) = store.job(|tx| {
        let target = tree::resolve(tx, &path("a"))?.expect("a folder");
        tree::put(tx, &path("copy"), &target, "path")?;
        let entries::Target::Folder(folder) = target else { panic!("a file") };
        Ok(folder)
    });
    assert_eq!(is_put(&mut store, &[plain("a/x", &[]), plain("copy/b/x", &[])]), [false; 2]);
    store.job(|tx| tree::remove(tx, &path("copy")));
    assert_eq!(is_put(&mut store, &[plain("a/x", &[])]), [true]);
    let owner = Owner::new("test");
    store.job(|tx| pin::pin(tx, &owner, Ref::folder(folder)));
    assert_eq!(is_put(&mut store, &[plain("a/x", &[])]), [false]);
}

#[test]
fn what_is_stored_in_another_way_is_left_out() {
    let (mut store, _dir) = fixture();
    // Another object of a part that is stored, and inline bytes of a part that has an object.
    let near = inline("far");
    let other = object("other");
    assert_eq!(is_put(&mut store, &[plain("x", &other), plain("y", &near)]), [false; 2]);
    // A part that is believed to be stored.
    let mut gone = inline("gone");
    gone[0].place = Place::Stored;
    assert_eq!(is_put(&mut store, &[plain("x", &gone)]), [false]);
    gone[0] = Part { place: Place::Stored, ..inline("old")[0].clone() };
    assert_eq!(is_put(&mut store, &[plain("x", &gone)]), [true]);
    // Two objects of one new part.
    let two = ["one", "two"].map(|key| {
        let part = Part { digest: Digest::of(b"two"), size: 3, place: Place::Object(key.into()) };
        plain(key, &[part])
    });
    assert_eq!(is_put(&mut store, &two), [true, false]);
    // An object that is marked for deletion.
    store.job(|tx| tombstone_object(tx, "dead", 4));
    let dead = Part { digest: Digest::of(b"dead"), size: 4, place: Place::Object("dead".into()) };
    assert_eq!(is_put(&mut store, &[plain("dead", &[dead])]), [false]);
}

#[test]
fn a_damaged_content_is_left_out() {
    let damages = [
        "UPDATE part SET bytes = CAST('odd' AS BLOB) WHERE bytes IS NOT NULL",
        "UPDATE content SET size = size + 1",
        "UPDATE content SET digest = NULL",
        "DELETE FROM content_part",
        "UPDATE content_part SET part = part + 1",
        "INSERT INTO content_part (content, start, part) SELECT content, 3, part FROM content_part",
        "DELETE FROM part",
    ];
    for damage in damages {
        let (mut store, _dir) = fixture();
        store.job(|tx| tx.execute(damage, &[]));
        assert_eq!(is_put(&mut store, &[plain("x", &inline("old"))]), [false], "{damage}");
    }
}

#[test]
fn a_file_above_the_bound_of_the_store_is_left_out() {
    let (mut store, _dir) = fixture();
    let full = "UPDATE folder SET bytes = 9007199254740992 - 1 WHERE id = 1";
    assert_eq!(TOTAL_MAX, 9_007_199_254_740_992);
    assert_eq!(ROOT, 1);
    store.job(|tx| tx.execute(full, &[]));
    let files = [plain("x", &inline("1")), plain("y", &inline("2")), plain("z", &[])];
    assert_eq!(is_put(&mut store, &files), [true, false, true]);
}

#[test]
fn only_a_file_of_at_most_one_part_is_plain() {
    let parts = [inline("one"), inline("two")].concat();
    let two = PlainFile::new(path("x"), Conditions::default(), &parts);
    assert!(two.is_none());
}
