//! The configuration file: what is read, what is refused, and how it is changed.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, thread};

use super::*;

/// A folder, and the path of a configuration file in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    (folder, file)
}

/// Writes the file as its owner does.
fn own(file: &Path, text: &[u8], mode: u32) {
    fs::write(file, text).expect("written");
    fs::set_permissions(file, Permissions::from_mode(mode)).expect("a mode");
}

fn at(address: &str) -> Store {
    Store { address: address.to_owned(), ..Store::default() }
}

/// Why a file is refused, without its path.
fn refused(file: &Path) -> String {
    let said = read(file).expect_err("refused").to_string();
    said.replace(file.to_str().expect("UTF-8"), "FILE")
}

#[test]
fn a_store_is_added_replaced_and_removed() {
    let (folder, _) = place();
    let file = folder.path().join("a/b/config.toml");
    assert_eq!(read(&file).expect("no file"), Stores::new());
    let all = Store {
        address: "https://there:1".to_owned(),
        ca: Some("/x/ca.pem".into()),
        cert: Some("/x/a \"b\".pem".into()),
        key: Some("/x/key.pem".into()),
        token_file: Some("/x/token".into()),
    };
    add(&file, "prod", &all, false).expect("added");
    add(&file, "4.a-b_c", &at("http://here"), false).expect("added");
    let stores = read(&file).expect("two stores");
    assert_eq!((&stores["prod"], &stores["4.a-b_c"]), (&all, &at("http://here")));

    let said = add(&file, "prod", &at("http://here"), false).expect_err("there").to_string();
    assert!(said.ends_with("has a store 'prod' already; --replace replaces it"), "{said}");
    add(&file, "prod", &at("http://here"), true).expect("replaced");
    assert_eq!(read(&file).expect("two stores")["prod"], at("http://here"));

    remove(&file, "prod").expect("removed");
    let said = remove(&file, "prod").expect_err("gone").to_string();
    assert!(said.starts_with("no store 'prod' is in the configuration file "), "{said}");
    assert!(said.contains("imagestore store add prod ADDRESS"), "{said}");
    assert_eq!(read(&file).expect("one store").len(), 1);
}

#[test]
fn only_the_owner_may_read_what_is_written() {
    let (folder, _) = place();
    let file = folder.path().join("a/config.toml");
    add(&file, "prod", &at("http://here"), false).expect("added");
    add(&file, "test", &at("http://here"), false).expect("added");
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    let names = fs::read_dir(file.parent().expect("a folder")).expect("a folder");
    let modes: BTreeMap<_, _> = names
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.file_name().into_string().expect("text"), mode(&entry.path())))
        .collect();
    let both = ["config.toml", "config.toml.lock"].map(|name| (name.to_owned(), 0o600));
    assert_eq!(modes, BTreeMap::from(both));
    assert_eq!(mode(file.parent().expect("a folder")), 0o700);
}

#[test]
fn comments_and_links_stay() {
    let (folder, file) = place();
    own(&file, b"# mine\n[store.prod] # first\naddress = 'http://here' # why\n", 0o600);
    let link = folder.path().join("link.toml");
    std::os::unix::fs::symlink("config.toml", &link).expect("a link");
    add(&link, "test", &at("http://there"), false).expect("added");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    let text = fs::read_to_string(&file).expect("text");
    assert!(text.starts_with("# mine\n[store.prod] # first\n"), "{text}");
    assert!(text.ends_with("[store.test]\naddress = \"http://there\"\n"), "{text}");
    remove(&file, "test").expect("removed");
    let text = fs::read_to_string(&file).expect("text");
    assert_eq!(text, "# mine\n[store.prod] # first\naddress = 'http://here' # why\n");
}

#[test]
fn a_file_of_others_is_refused() {
    let (_folder, file) = place();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o610] {
        own(&file, b"", mode);
        let said =
            "the configuration file FILE can be read or changed by others; run 'chmod 600 FILE'";
        assert_eq!(refused(&file), said, "{mode:o}");
        let said = add(&file, "a", &at("http://here"), false).expect_err("refused").to_string();
        assert!(said.contains("run 'chmod 600"), "{said}");
    }
    own(&file, b"", 0o400);
    assert_eq!(read(&file).expect("mine"), Stores::new());

    // Who is not root cannot give a file away, but everyone has this one of root.
    let file = if geteuid().is_root() {
        own(&file, b"", 0o600);
        std::os::unix::fs::chown(&file, Some(65534), None).expect("given away");
        file
    } else {
        PathBuf::from("/etc/passwd")
    };
    let said = "the configuration file FILE belongs to another user; --config names another one";
    assert_eq!(refused(&file), said);
}

#[test]
fn what_is_no_file_is_refused() {
    let (folder, file) = place();
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    );
    made.expect("a pipe");
    for path in [file.as_path(), folder.path()] {
        let said = "the configuration file FILE is no regular file; --config names another one";
        assert_eq!(refused(path), said);
    }
    let said = read(&folder.path().join("config.toml/x")).expect_err("no folder").to_string();
    assert!(said.starts_with("cannot read "), "{said}");
    let below = folder.path().join("config.toml/x");
    let said = add(&below, "a", &at("http://here"), false).expect_err("no folder").to_string();
    assert!(said.starts_with("cannot write "), "{said}");
}

#[test]
fn a_wrong_file_is_refused_with_the_place() {
    let (_folder, file) = place();
    let known = "[store.a]\naddress = 'x'\n";
    for (text, says) in [
        ("[stores.a]\n".to_owned(), "at line 1, column 2: unknown field `stores`"),
        (format!("{known}token = 'x'\n"), "at line 3, column 1: unknown field `token`"),
        (format!("{known}{known}"), "at line 3, column 8: duplicate key"),
        ("[store.a]\nca = '/x'\n".to_owned(), "at line 1, column 1: missing field `address`"),
        (format!("{known}ca = 'x'\n"), "at line 3, column 6: a path begins with / in this file"),
        (format!("{known}key = 7\n"), "at line 3, column 7: invalid type"),
        ("\n[store.'a b']\naddress = 'x'\n".to_owned(), "at line 2, column 8: a name has letters"),
        ("[store.http]\naddress = 'x'\n".to_owned(), "at line 1, column 8: an address begins"),
        ("store = 'x'\n".to_owned(), "at line 1, column 9: invalid type"),
        ("# ä\n[store\n".to_owned(), "at line 2, column 7: "),
    ] {
        own(&file, text.as_bytes(), 0o600);
        let said = refused(&file);
        let start = format!("the configuration file FILE is wrong {says}");
        assert!(said.starts_with(&start) && !said.contains('\n'), "{said}");
        add(&file, "b", &at("http://here"), false).expect_err("wrong");
        assert_eq!(fs::read_to_string(&file).expect("text"), text, "the old file stays");
    }
    own(&file, b"\xff", 0o600);
    assert_eq!(refused(&file), "the configuration file FILE is not UTF-8");
}

#[test]
fn the_size_and_the_number_of_stores_have_bounds() {
    let (_folder, file) = place();
    let bytes = usize::try_from(CONFIG_BYTES_MAX).expect("fits");
    own(&file, "#".repeat(bytes).as_bytes(), 0o600);
    assert_eq!(read(&file).expect("the largest"), Stores::new());
    add(&file, "a", &at("http://here"), false).expect_err("too large");
    own(&file, "#".repeat(bytes + 1).as_bytes(), 0o600);
    assert!(refused(&file).ends_with("the file has more than 65536 bytes"), "{}", refused(&file));

    let tables = |count| -> String {
        (0..count).map(|n| format!("[store.s{n:03}]\naddress = 'x'\n")).collect()
    };
    own(&file, tables(STORES_MAX).as_bytes(), 0o600);
    assert_eq!(read(&file).expect("the most").len(), STORES_MAX);
    let said = add(&file, "x", &at("http://here"), false).expect_err("too many").to_string();
    assert!(said.contains("more than 100 stores"), "{said}");
    assert_eq!(read(&file).expect("as before").len(), STORES_MAX);
}

#[test]
fn stores_that_are_added_at_once_are_all_there() {
    let (_folder, file) = place();
    thread::scope(|scope| {
        for thread in 0..4 {
            let file = &file;
            scope.spawn(move || {
                for n in 0..5 {
                    let name = format!("s{thread}-{n}");
                    add(file, &name, &at("http://here"), false).expect("added");
                }
            });
        }
    });
    assert_eq!(read(&file).expect("stores").len(), 20);
}
