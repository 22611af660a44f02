//! The permissions of the files of a store: only the user of the server may read and write them, because they hold
//! the content of all packages.
//!
//! A process with a server has a file mode creation mask that gives others nothing. Files of a server without that
//! mask are found by the permissions of their folder, and corrected when a server has opened its store: a folder that
//! is none of a store stays as it is. The folder comes last, so that a start that is interrupted is repeated.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, setrlimit, umask},
};
use tracing::{info, warn};

use super::{
    config::Config,
    locks::{IN_FOLDER, database_files},
};
use crate::{blob, namespace::Database, store};

/// The permissions of the group and of others.
const OTHERS: u32 = 0o077;
/// The bit of folders in which everybody may create files, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Sets the file mode creation mask of the process, and forbids core dumps, which would hold what is in memory.
pub(super) fn restrict_process() {
    umask(Mode::from_raw_mode(OTHERS));
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        warn!(%error, "cannot forbid core dumps");
    }
}

/// Takes the permissions of the group and of others from the data folder, the database and the blob folder. Blocks,
/// once for a store with files of an earlier version as long as a walk through the blob folder takes.
pub(super) fn tighten(config: &Config) {
    let mut found = Tightened::default();
    if let Database::Sqlite(file) = &config.database {
        for file in database_files(file) {
            found.path(&file);
        }
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let data = real(&config.data);
    let blobs = config.blobs.folder().map(real);
    if let Some(blobs) = &blobs {
        found.blobs(blobs);
    }
    found.path(&data.join(store::ID_FILE));
    if blobs.as_ref() != Some(&data) {
        found.path(&data.join(IN_FOLDER));
        found.path(&data);
    }
    if found.count > 0 {
        info!(
            paths = found.count,
            "took the permissions of group and others from files of the store"
        );
    }
    if let Some((path, error)) = found.failed {
        let path = path.display();
        warn!(%path, %error, "other users may read files of the store");
    }
}

/// The paths whose permissions were changed.
#[derive(Default)]
struct Tightened {
    count: u64,
    /// The first path whose permissions could not be changed.
    failed: Option<(PathBuf, io::Error)>,
}

impl Tightened {
    /// Corrects a blob folder, and what the store keeps in it if others can enter the folder.
    fn blobs(&mut self, folder: &Path) {
        if is_open(folder) {
            for prefix in blob::prefixes() {
                let keys = folder.join(prefix);
                self.below(&keys, |_| true);
                self.path(&keys);
            }
            self.below(folder, |name| name == IN_FOLDER || name.starts_with(blob::MARK));
        }
        self.path(folder);
    }

    /// Corrects the entries of a folder with some names.
    fn below(&mut self, folder: &Path, is_own: impl Fn(&str) -> bool) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.fail(folder, error),
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_name().to_str().is_some_and(&is_own) => {
                    self.path(&entry.path());
                }
                Ok(_) => {}
                Err(error) => self.fail(folder, error),
            }
        }
    }

    /// Corrects one path. A missing one, a symbolic link, and a folder in which everybody may create files are left.
    fn path(&mut self, path: &Path) {
        let Ok(found) = fs::symlink_metadata(path) else { return };
        let mode = found.permissions().mode();
        let is_shared = found.is_dir() && mode & STICKY != 0;
        if found.is_symlink() || is_shared || mode & OTHERS == 0 {
            return;
        }
        match fs::set_permissions(path, fs::Permissions::from_mode(mode & !OTHERS)) {
            Ok(()) => self.count += 1,
            Err(error) => self.fail(path, error),
        }
    }

    fn fail(&mut self, path: &Path, error: io::Error) {
        self.failed.get_or_insert_with(|| (path.to_owned(), error));
    }
}

/// Whether the group or others have permissions of a path.
fn is_open(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }

    /// A store as an earlier version left it, beside a file that is not of the store.
    fn store(folder: &Path) -> Config {
        let config = Config::local(folder);
        let blobs = folder.join("blobs");
        fs::create_dir_all(blobs.join("0a")).expect("made");
        for file in ["lock", "namespace.sqlite", "namespace.sqlite-wal", "blobs/0a/b-1", "other"] {
            fs::write(folder.join(file), "").expect("written");
            set(&folder.join(file), 0o644);
        }
        for path in [folder, &blobs, &blobs.join("0a")] {
            set(path, 0o755);
        }
        config
    }

    #[test]
    fn files_of_earlier_versions_lose_the_permissions_of_others() {
        let folder = TempDir::new().expect("a folder");
        let folder = folder.path();
        let config = store(folder);
        symlink(folder.join("other"), folder.join("blobs").join("0a/link")).expect("made");
        fs::create_dir(folder.join("blobs").join("site")).expect("made");
        tighten(&config);
        for file in ["lock", "namespace.sqlite", "namespace.sqlite-wal", "blobs/0a/b-1"] {
            assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
        }
        for path in ["", "blobs", "blobs/0a"] {
            assert_eq!(mode(&folder.join(path)), 0o700, "{path}");
        }
        assert_eq!(mode(&folder.join("other")), 0o644, "not of the store");
        assert_ne!(mode(&folder.join("blobs").join("site")), 0o700, "not of the store");
    }

    #[test]
    fn folders_behind_symbolic_links_are_corrected() {
        let folder = TempDir::new().expect("a folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::create_dir(&real).expect("made");
        store(&real);
        symlink(&real, &link).expect("made");
        tighten(&Config::local(&link));
        for path in ["", "blobs", "blobs/0a"] {
            assert_eq!(mode(&real.join(path)), 0o700, "{path}");
        }
    }

    #[test]
    fn a_private_folder_is_not_walked_and_a_shared_one_keeps_its_permissions() {
        let folder = TempDir::new().expect("a folder");
        let folder = folder.path();
        let config = store(folder);
        set(&folder.join("blobs"), 0o700);
        set(folder, 0o1777);
        tighten(&config);
        assert_eq!(mode(&folder.join("blobs").join("0a/b-1")), 0o644);
        assert_eq!(mode(folder), 0o1777);
        assert_eq!(mode(&folder.join("namespace.sqlite")), 0o600);
    }
}
