//! A walk through a local folder, for an upload.
//!
//! A symbolic link below the folder is an error: to follow links can loop or store a file twice, and to skip them
//! stores a package without some of its files. Pipes, sockets and devices are errors too. Temporary files of a killed
//! download are left out. Memory: the walk holds one open folder per level, never the list of all files.

use std::{
    fs::{self, ReadDir},
    path::{Path, PathBuf},
};

use crate::{
    client::{
        error::{Error, Result},
        path::{self, MARK, join, validate_name},
        target::is_partial,
    },
    limits,
};

/// An entry that the walk has found; the root of the walk is not among them.
#[derive(Debug)]
pub(super) struct Found {
    /// The local path.
    pub(super) local: PathBuf,
    /// The path relative to the root of the walk, separated by `/`.
    pub(super) relative: String,
    /// The kind of the entry.
    pub(super) kind: FoundKind,
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundKind {
    /// A file and its size in bytes.
    File(u64),
    /// The mark file of a folder and its size in bytes.
    Mark(u64),
    /// A temporary file of a download that was killed.
    Partial,
    /// A folder; its entries come next.
    Folder,
}

/// Walks through a folder, depth first, in the order of the file system.
#[derive(Debug)]
pub(super) struct Walk {
    open: Vec<Level>,
}

/// A folder that is being read.
#[derive(Debug)]
struct Level {
    entries: ReadDir,
    local: PathBuf,
    relative: String,
}

impl Walk {
    /// Begins a walk. It blocks, and ends after the first error.
    pub(super) fn open(root: &Path) -> Result<Self> {
        Ok(Self { open: vec![Level::open(root.to_owned(), String::new())?] })
    }

    fn step(&mut self) -> Result<Option<Found>> {
        while let Some(level) = self.open.last_mut() {
            let Some(entry) = level.entries.next() else {
                self.open.pop();
                continue;
            };
            let entry = entry.map_err(Error::local("list", &level.local))?;
            let local = entry.path();
            let relative = join(&level.relative, validate_name(&local)?);
            let metadata = fs::symlink_metadata(&local).map_err(Error::local("read", &local))?;
            let kind = if metadata.is_dir() {
                FoundKind::Folder
            } else {
                regular(&local, &metadata)?;
                if entry.file_name() == MARK {
                    FoundKind::Mark(metadata.len())
                } else if is_partial(path::name(&relative)) {
                    FoundKind::Partial
                } else {
                    FoundKind::File(metadata.len())
                }
            };
            if kind == FoundKind::Folder {
                if self.open.len() >= limits::PATH_DEPTH_MAX {
                    let why = format!("it lies deeper than {} folders", limits::PATH_DEPTH_MAX);
                    return Err(Error::NotUploadable { path: local, why });
                }
                self.open.push(Level::open(local.clone(), relative.clone())?);
            }
            return Ok(Some(Found { local, relative, kind }));
        }
        Ok(None)
    }
}

impl Level {
    fn open(local: PathBuf, relative: String) -> Result<Self> {
        let entries = fs::read_dir(&local).map_err(Error::local("list", &local))?;
        Ok(Self { entries, local, relative })
    }
}

impl Iterator for Walk {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.step().transpose();
        if matches!(found, Some(Err(_))) {
            self.open.clear();
        }
        found
    }
}

/// Checks that a local path is a regular file.
///
/// # Errors
/// [`Error::NotUploadable`] for a symbolic link, a device, a pipe or a socket.
pub(super) fn regular(local: &Path, metadata: &fs::Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let why = if metadata.is_symlink() {
        "it is a symbolic link; put the file it points to in its place, or remove it"
    } else {
        "it is neither a file nor a folder"
    };
    Err(Error::NotUploadable { path: local.to_owned(), why: why.to_owned() })
}

/// Which folders get their mark file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// The folders that have a local mark file.
    Existing,
    /// Every folder, also an empty one, which without a mark file does not exist in the store.
    Every,
}

/// What an upload of a folder leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// The number of folders without a file below them: without a mark file they do not exist in the store.
    pub empty_folders: u64,
    /// The temporary files of a download that was killed.
    pub partials: Vec<PathBuf>,
}

/// What an upload of a folder has to transfer, as a first walk finds it.
#[derive(Debug, Default)]
pub(super) struct UploadPlan {
    /// The number of files, including mark files.
    pub(super) files: u64,
    /// The bytes of those files.
    pub(super) bytes: u64,
    /// The mark files to write, those of deeper folders first and that of the root last.
    pub(super) marks: Vec<Mark>,
    /// What is left out.
    pub(super) omitted: Omitted,
}

/// A counter of the folders without a file below them, for one walk.
#[derive(Debug, Default)]
struct Empty {
    /// For the root and each open folder below it, whether a file was found at any depth.
    open: Vec<bool>,
    count: u64,
}

impl Empty {
    fn see(&mut self, found: &Found) {
        let above = found.relative.matches('/').count() + 1;
        self.close(above);
        // The walk does not report the root, so its level is added here.
        self.open.resize(above, false);
        match found.kind {
            FoundKind::Folder => self.open.push(false),
            FoundKind::File(_) | FoundKind::Mark(_) => self.open.fill(true),
            FoundKind::Partial => {}
        }
    }

    /// Closes all but the outermost `left` folders, and counts those without a file.
    fn close(&mut self, left: usize) {
        let closed = self.open.drain(left.min(self.open.len())..);
        self.count += closed.filter(|has_file| !has_file).count() as u64;
    }

    /// Ends the count and returns it.
    fn count(mut self) -> u64 {
        if self.open.is_empty() {
            self.open.push(false);
        }
        self.close(0);
        self.count
    }
}

/// A mark file to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The depth of its folder below the root; 0 for the root.
    pub(super) depth: usize,
    /// The path relative to the root.
    pub(super) relative: String,
    /// The local file to upload; `None`: an empty file is stored.
    pub(super) local: Option<PathBuf>,
}

impl UploadPlan {
    /// Walks through a folder, so that the totals are known and unfit entries are refused before the first byte is
    /// sent. Blocks.
    pub(super) fn take(root: &Path, marks: Marks) -> Result<Self> {
        let mut survey = Self::default();
        let mut folders = vec![String::new()];
        let mut empty = Empty::default();
        for found in Walk::open(root)? {
            let found = found?;
            empty.see(&found);
            match found.kind {
                FoundKind::Partial => survey.omitted.partials.push(found.local),
                FoundKind::File(bytes) => {
                    survey.files += 1;
                    survey.bytes += bytes;
                }
                FoundKind::Mark(bytes) => {
                    survey.bytes += bytes;
                    survey.marks.push(Mark::new(found.relative, Some(found.local)));
                }
                FoundKind::Folder => folders.push(found.relative),
            }
        }
        if marks == Marks::Every {
            survey.marks.extend(folders.iter().map(|folder| Mark::new(join(folder, MARK), None)));
        } else {
            survey.omitted.empty_folders = empty.count();
        }
        // An existing mark file sorts before the empty one of the same folder, which the dedup then removes.
        survey.marks.sort_by(|a, b| {
            b.depth
                .cmp(&a.depth)
                .then_with(|| a.relative.cmp(&b.relative))
                .then_with(|| a.local.is_none().cmp(&b.local.is_none()))
        });
        survey.marks.dedup_by(|later, earlier| later.relative == earlier.relative);
        survey.files += survey.marks.len() as u64;
        Ok(survey)
    }
}

impl Mark {
    fn new(relative: String, local: Option<PathBuf>) -> Self {
        Self { depth: relative.matches('/').count(), relative, local }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("Code/bin")).expect("folders");
        fs::create_dir(root.path().join("Empty")).expect("a folder");
        fs::write(root.path().join("Manifest.xml"), "<a/>").expect("a file");
        fs::write(root.path().join("Code/_.dir"), "kept").expect("a mark");
        fs::write(root.path().join("Code/bin/run"), "12345").expect("a file");
        root
    }

    fn marks(survey: &UploadPlan) -> Vec<(&str, bool)> {
        survey.marks.iter().map(|mark| (mark.relative.as_str(), mark.local.is_some())).collect()
    }

    #[test]
    fn a_survey_counts_all_and_marks_the_root_last() {
        let root = package();
        let survey = UploadPlan::take(root.path(), Marks::Every).expect("fit");
        assert_eq!((survey.files, survey.bytes), (6, 13));
        assert_eq!(
            marks(&survey),
            [
                ("Code/bin/_.dir", false),
                ("Code/_.dir", true),
                ("Empty/_.dir", false),
                ("_.dir", false)
            ]
        );
    }

    #[test]
    fn without_asking_only_marks_that_exist_are_uploaded() {
        let root = package();
        let survey = UploadPlan::take(root.path(), Marks::Existing).expect("fit");
        assert_eq!((survey.files, survey.bytes), (3, 13));
        assert_eq!(marks(&survey), [("Code/_.dir", true)]);
    }

    #[test]
    fn folders_without_files_are_counted_unless_they_are_marked() {
        let root = package();
        let count =
            |marks| UploadPlan::take(root.path(), marks).expect("fit").omitted.empty_folders;
        assert_eq!(count(Marks::Existing), 1);
        fs::create_dir_all(root.path().join("a/b/c")).expect("folders");
        fs::create_dir_all(root.path().join("Code/bin/empty")).expect("folders");
        assert_eq!(count(Marks::Existing), 5);
        fs::write(root.path().join("a/b/file"), "").expect("a file");
        assert_eq!(count(Marks::Existing), 3);
        assert_eq!(count(Marks::Every), 0);
        let empty = tempfile::tempdir().expect("a folder");
        let survey = UploadPlan::take(empty.path(), Marks::Existing).expect("fit");
        assert_eq!(survey.omitted.empty_folders, 1);
    }

    #[test]
    fn what_a_killed_download_left_is_left_out() {
        let root = package();
        let partial = root.path().join("Empty/.imagestore-0123456789abcdef.part");
        fs::write(&partial, "half").expect("a file");
        fs::write(root.path().join(".imagestore-notes"), "mine").expect("a file");
        let survey = UploadPlan::take(root.path(), Marks::Existing).expect("fit");
        assert_eq!((survey.files, survey.bytes), (4, 17));
        assert_eq!(survey.omitted, Omitted { empty_folders: 1, partials: vec![partial] });
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_refused() {
        let root = package();
        std::os::unix::fs::symlink("Manifest.xml", root.path().join("link")).expect("a link");
        let error = UploadPlan::take(root.path(), Marks::Existing).expect_err("a link").to_string();
        assert!(error.contains("link: it is a symbolic link"), "{error}");
    }
}
