//! Tests of atomically written files, on a real file system.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use super::*;

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// A temporary file for a target.
fn begun(partials: &TempFiles, target: &Path) -> TempFile {
    let target = Target::of(target).expect("a target");
    let mut partial = partials.register().create(target, Existing::Overwrite).expect("begun");
    partial.write_all(b"new").expect("written");
    partial
}

#[test]
fn what_is_not_kept_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let partials = TempFiles::default();
    let dropped = begun(&partials, &folder.path().join("a"));
    let under_way = begun(&partials, &folder.path().join("b"));
    assert_eq!(names(folder.path()).len(), 2);
    drop(dropped);
    assert_eq!(names(folder.path()).len(), 1);
    // The work is over, but a blocking task of it still has the register.
    let register = partials.register();
    drop(partials);
    assert_eq!(names(folder.path()).len(), 0);
    under_way.keep(Existing::Refuse).expect_err("removed");
    let target = Target::of(&folder.path().join("c")).expect("a target");
    register.create(target, Existing::Refuse).expect_err("over");
    assert_eq!(names(folder.path()).len(), 0);
}

#[test]
fn only_force_overwrites_also_what_came_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("a");
    let partials = TempFiles::default();
    for (existing, content) in [(Existing::Refuse, "old"), (Existing::Overwrite, "new")] {
        let partial = begun(&partials, &target);
        fs::write(&target, "old").expect("a file");
        assert_eq!(partial.keep(existing).is_ok(), content == "new");
        assert_eq!(fs::read_to_string(&target).expect("a file"), content);
        assert_eq!(names(folder.path()), ["a"]);
    }
}

#[test]
fn a_name_that_came_at_the_last_moment_is_kept() {
    // A target that is created after the check is detected by the system call itself.
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("a");
    let partials = TempFiles::default();
    let partial = begun(&partials, &target);
    partial.link().expect("nothing is there");
    assert_eq!(fs::read_to_string(&target).expect("a file"), "new");
    let other = begun(&partials, &target);
    assert_eq!(other.link(), Err(Errno::EXIST));
    let flags = RenameFlags::NOREPLACE;
    let dir = &other.target.folder.file;
    assert_eq!(renameat_with(dir, &other.name, dir, "a", flags), Err(Errno::EXIST));
    drop((partial, other));
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn the_rights_of_what_is_replaced_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("a");
    for (mode, kept) in [(0o600, 0o600), (0o754, 0o754), (0o444, 0o444), (0o4755, 0o755)] {
        fs::write(&target, "old").expect("a file");
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).expect("a mode");
        let before = fs::metadata(&target).expect("a file");
        let partials = TempFiles::default();
        let partial = begun(&partials, &target);
        let filled = fstat(&partial.file).expect("a file").st_mode & 0o777;
        assert_eq!(filled & 0o077, 0, "nobody else reads it meanwhile: {filled:o}");
        partial.keep(Existing::Overwrite).expect("kept");
        let after = fs::metadata(&target).expect("a file");
        assert_eq!(after.mode() & 0o7777, kept, "{mode:o}");
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_eq!(fs::read_to_string(&target).expect("a file"), "new");
        fs::remove_file(&target).expect("removed");
    }
}

#[test]
fn what_is_no_file_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let [file, link, socket] = ["file", "link", "socket"].map(|name| folder.path().join(name));
    fs::write(&file, "old").expect("a file");
    symlink(&file, &link).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    for (place, what) in [
        (link.as_path(), "is a symbolic link"),
        (&socket, "is a device"),
        (folder.path(), "is a folder"),
    ] {
        for existing in [Existing::Refuse, Existing::Overwrite] {
            let error = Target::of(place).expect("a target").refuse(existing).expect_err(what);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}

#[test]
fn no_link_below_a_folder_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let [root, outside] = ["root", "outside"].map(|name| folder.path().join(name));
    fs::create_dir(&outside).expect("a folder");
    fs::create_dir(&root).expect("a folder");
    symlink("../outside", root.join("link")).expect("a link");
    fs::write(root.join("file"), "").expect("a file");
    let open = Folder::make(&root).expect("a folder");
    for (path, what) in [
        ("link/a", "is a symbolic link"),
        ("link/b/a", "is a symbolic link"),
        ("file/a", "is a file"),
    ] {
        let error = Target::below(&open, Path::new(path)).expect_err(path).to_string();
        assert!(error.contains(what) && error.contains(root.to_str().expect("UTF-8")), "{error}");
    }
    assert_eq!(names(&outside).len(), 0);
    // An open folder stays the same one after its path is replaced.
    let target = Target::below(&open, Path::new("b/c/d")).expect("made");
    let moved = folder.path().join("moved");
    renameat(rustix::fs::CWD, root.join("b"), rustix::fs::CWD, &moved).expect("moved");
    symlink("../outside", root.join("b")).expect("a link");
    let partials = TempFiles::default();
    let partial = partials.register().create(target, Existing::Refuse).expect("begun");
    partial.keep(Existing::Refuse).expect("kept");
    assert_eq!(names(&moved.join("c")), ["d"]);
    assert_eq!(names(&outside).len(), 0);
}

#[test]
fn folders_are_made_and_their_links_followed_on_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("real")).expect("a folder");
    symlink("real", folder.path().join("link")).expect("a link");
    Folder::make(&folder.path().join("link/a/b")).expect("made");
    Folder::make(&folder.path().join("link/a/b/")).expect("there already");
    assert!(folder.path().join("real/a/b").is_dir());
    fs::write(folder.path().join("file"), "").expect("a file");
    Folder::make(&folder.path().join("file/a")).expect_err("a file");
    Target::of(&folder.path().join("none/a")).expect_err("no folder");
}
