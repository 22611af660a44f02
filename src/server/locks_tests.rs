//! Two servers cannot share a resource, by whatever path they name it.

use std::os::unix::fs::symlink;

use super::*;
use crate::blob::Location;

/// The settings of a server with the data folder `own` and the given database and blob folder.
fn config(temp: &Path, own: &str, database: &Path, blobs: &Path) -> Config {
    Config {
        database: Database::Sqlite(database.to_owned()),
        blobs: Location::Folder(blobs.to_owned()),
        ..Config::local(&temp.join(own))
    }
}

/// Asserts that the locks are refused, and that the error names the resource and its flag.
#[track_caller]
fn assert_locked(config: &Config, what: &str, path: &Path, flag: &str) {
    let error = Locks::take(config).expect_err("locked").to_string();
    let begin = format!("another server has the {what} {} open", path.display());
    assert!(error.starts_with(&begin), "{error}");
    assert!(error.ends_with(&format!("another {flag}")), "{error}");
}

#[test]
fn a_store_is_open_once() {
    let temp = tempfile::tempdir().expect("a folder");
    let config = Config::local(&temp.path().join("new/data"));
    let first = Locks::take(&config).expect("taken");
    assert_locked(&config, "data folder", &config.data, "--data");
    drop(first);
    Locks::take(&config).expect("taken again");
}

#[test]
fn parts_may_be_in_the_data_folder_itself() {
    let temp = tempfile::tempdir().expect("a folder");
    let data = temp.path().join("data");
    symlink("data", temp.path().join("link")).expect("a link");
    for blobs in [&data, &temp.path().join("link")] {
        let config = Config { blobs: Location::Folder(blobs.clone()), ..Config::local(&data) };
        let _first = Locks::take(&config).expect("taken");
        assert_locked(&config, "data folder", &data, "--data");
    }
}

#[test]
fn a_database_is_open_once_by_any_name() {
    let temp = tempfile::tempdir().expect("a folder");
    let (temp, blobs) = (temp.path(), |own: &str| temp.path().join(own).join("blobs"));
    // The link exists before its target does.
    fs::create_dir_all(temp.join("real")).expect("a folder");
    let (file, link) = (temp.join("real/names.db"), temp.join("link"));
    symlink("real/names.db", &link).expect("a link");
    symlink("real", temp.join("folder")).expect("a link");
    let _first = Locks::take(&config(temp, "a", &link, &blobs("a"))).expect("taken");
    assert!(file.is_file(), "what is locked is there");

    for name in ["real/names.db", "real/../real/./names.db", "folder/names.db", "link"] {
        let name = temp.join(name);
        let second = config(temp, "b", &name, &blobs("b"));
        assert_locked(&second, "database", &name, "--database");
    }
    Locks::take(&config(temp, "c", &temp.join("real/other.db"), &blobs("c"))).expect("another");
}

#[test]
fn the_database_of_another_data_folder_is_locked() {
    let temp = tempfile::tempdir().expect("a folder");
    let first = Config::local(&temp.path().join("a"));
    let _locks = Locks::take(&first).expect("taken");
    let file = temp.path().join("a/namespace.sqlite");
    let second = config(temp.path(), "b", &file, &temp.path().join("b/blobs"));
    assert_locked(&second, "database", &file, "--database");
}

#[test]
fn a_blob_folder_is_open_once_by_any_name() {
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let file = |own: &str| temp.join(format!("{own}.db"));
    let first = Config::local(&temp.join("a"));
    let _locks = Locks::take(&first).expect("taken");
    symlink("a", temp.join("folder")).expect("a link");
    symlink("a/blobs", temp.join("link")).expect("a link");
    for name in ["a/blobs", "a/../a/blobs", "folder/blobs", "link"] {
        let name = temp.join(name);
        let second = config(temp, "b", &file("b"), &name);
        assert_locked(&second, "blob folder", &name, "--blobs");
    }
    // A server without a blob folder needs no lock of it.
    Locks::without_blobs(&config(temp, "c", &file("c"), &temp.join("a/blobs"))).expect("taken");
}

#[test]
fn a_database_with_two_names_is_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let (one, two) = (temp.join("one.db"), temp.join("two.db"));
    fs::write(&one, b"").expect("a file");
    fs::hard_link(&one, &two).expect("a second name");
    for name in [&one, &two] {
        let error =
            Locks::take(&config(temp, "a", name, &temp.join("blobs"))).expect_err("refused");
        let error = error.to_string();
        assert!(
            error.contains("2 names") && error.contains(name.to_str().expect("text")),
            "{error}"
        );
    }
    fs::remove_file(&two).expect("removed");
    Locks::take(&config(temp, "a", &one, &temp.join("blobs"))).expect("taken");
}

#[test]
fn what_is_no_folder_or_has_none_is_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let file = temp.join("file");
    fs::write(&file, b"").expect("a file");
    let refused = |config: &Config| Locks::take(config).expect_err("refused").to_string();
    let begins = |error: &str, begin: &str| assert!(error.starts_with(begin), "{error}");

    begins(&refused(&Config::local(&file)), "cannot open the data folder");
    let lost = temp.join("missing/names.db");
    begins(&refused(&config(temp, "a", &lost, &temp.join("blobs"))), "cannot open the database");
    let database = temp.join("a.db");
    begins(&refused(&config(temp, "a", &database, &file)), "cannot open the blob folder");
}

#[test]
fn a_file_system_without_locks_is_refused() {
    let place = Place::data(Path::new("/net/data"));
    for error in [Errno::NOLCK, Errno::OPNOTSUPP] {
        let error = place.refused(Path::new("/net/data/lock"), TryLockError::Error(error.into()));
        let text = error.explain();
        for word in ["file system", "/net/data/lock", "--data"] {
            assert!(text.contains(word), "{text}");
        }
    }
    let error = place.refused(Path::new("/net/data/lock"), TryLockError::Error(Errno::IO.into()));
    assert!(error.explain().starts_with("cannot open the data folder /net/data"), "{error}");
}

/// The paths of everything in a folder, sorted.
fn found(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(folder).expect("read").map(|e| e.expect("read").path()).collect();
    found.sort();
    found
}

#[test]
fn what_a_failed_start_has_made_is_gone() {
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let config = config(temp, "a/b", &temp.join("names.db"), &temp.join("parts/c"));
    let locks = Locks::take(&config).expect("taken");
    // SQLite and the blob store make such files.
    fs::write(temp.join("names.db"), b"rows").expect("written");
    fs::write(temp.join("names.db-wal"), b"log").expect("written");
    fs::create_dir(temp.join("parts/c/00")).expect("made");
    drop(locks);
    assert_eq!(found(temp), Vec::<PathBuf>::new());
}

#[test]
fn what_a_failed_start_has_committed_stays() {
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let file = temp.join("names.db");
    let config = config(temp, "a", &file, &temp.join("parts"));
    fs::write(&file, b"rows").expect("written");
    let beside = ["names.db-shm", "names.db-wal"].map(|name| temp.join(name));
    for (log, left) in [(b"".as_slice(), 0), (b"commits", 2)] {
        let locks = Locks::take(&config).expect("taken");
        fs::write(&beside[0], b"index").expect("written");
        fs::write(&beside[1], log).expect("written");
        drop(locks);
        assert!(file.exists());
        assert_eq!(beside.iter().filter(|path| path.exists()).count(), left, "{log:?}");
    }
}

#[test]
fn what_was_there_before_stays_and_what_a_start_has_made_as_well() {
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let config = config(temp, "a", &temp.join("names.db"), &temp.join("parts"));
    fs::create_dir_all(temp.join("parts/00")).expect("made");
    fs::write(temp.join("names.db"), b"").expect("written");
    drop(Locks::take(&config).expect("taken"));
    assert_eq!(found(temp), ["names.db", "parts"].map(|name| temp.join(name)));
    assert_eq!(found(&temp.join("parts")), [temp.join("parts/00")]);

    let mut locks = Locks::take(&config).expect("taken");
    locks.keep();
    drop(locks);
    let all = ["a", "names.db", "names.db.lock", "parts"];
    assert_eq!(found(temp), all.map(|name| temp.join(name)));
    drop(Locks::take(&config).expect("taken again"));
    assert_eq!(found(temp), all.map(|name| temp.join(name)));
}
