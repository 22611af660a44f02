//! The plain store: a map from paths to files that copies every file. It is the model of the real store.
//!
//! Its methods return the expected result of each call. It has no folders: a folder exists while a file is
//! below its path.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use imagestore::{
    error::Kind,
    model::{CopyRequest, Digest, IfExists, MARK_FILE, folded},
};

/// A file: its bytes, and the fields that a copy of its entry keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    pub(crate) version: i64,
    pub(crate) modified: i64,
}

/// An upload session: pieces that do not overlap.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) path: String,
    pub(crate) total: usize,
    pub(crate) pieces: BTreeMap<usize, Bytes>,
    pub(crate) committed: bool,
}

/// The counters of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) files: i64,
    pub(crate) bytes: i64,
    pub(crate) files_skipped: i64,
    pub(crate) bytes_skipped: i64,
}

/// The error of a copy, and whether its operation had begun.
pub(crate) type Refused = (Kind, bool);

/// The plain store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain {
    pub(crate) files: BTreeMap<String, File>,
}

impl Plain {
    /// The files below a folder, with their paths relative to it.
    pub(crate) fn below<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a File)> {
        self.files.iter().filter_map(move |(path, file)| {
            if folder.is_empty() {
                return Some((path.as_str(), file));
            }
            let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
            Some((rest, file))
        })
    }

    pub(crate) fn is_folder(&self, path: &str) -> bool {
        path.is_empty() || self.below(path).next().is_some()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.is_folder(path)
    }

    /// Files and bytes of a file or folder.
    pub(crate) fn totals(&self, path: &str) -> (i64, i64) {
        let size = |file: &File| file.bytes.len() as i64;
        if let Some(file) = self.files.get(path) {
            return (1, size(file));
        }
        self.below(path).fold((0, 0), |(files, bytes), (_, file)| (files + 1, bytes + size(file)))
    }

    fn is_file_above(&self, path: &str) -> bool {
        above(path).any(|folder| self.files.contains_key(folder))
    }

    /// Whether a file can be put at a path.
    pub(crate) fn check_put(&self, path: &str) -> Result<(), Kind> {
        if self.is_file_above(path) || self.is_folder(path) {
            return Err(Kind::AlreadyExists);
        }
        Ok(())
    }

    /// Removes a file or folder. Returns its files and bytes.
    pub(crate) fn remove(&mut self, path: &str) -> (i64, i64) {
        let gone = self.totals(path);
        let below: BTreeSet<String> = self.below(path).map(|(rest, _)| join(path, rest)).collect();
        self.files.retain(|at, _| at != path && !below.contains(at));
        gone
    }

    /// Copies, or returns the error and changes nothing.
    pub(crate) fn copy(&mut self, request: &CopyRequest) -> Result<Copied, Refused> {
        let (source, destination) = (request.source.as_str(), request.destination.as_str());
        let is_below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|r| r.starts_with('/'));
        if is_below(source, destination) || is_below(destination, source) {
            return Err((Kind::InvalidArgument, false));
        }
        let has_mark = |folder: &str| self.files.contains_key(&join(folder, MARK_FILE));
        let is_file = self.files.contains_key(source);
        if !self.exists(source) || (!is_file && request.check_mark_file && !has_mark(source)) {
            return Err((Kind::FileNotFound, false));
        }
        let (files, bytes) = self.totals(source);
        let all = Copied { files, bytes, ..Copied::default() };
        let is_kept = request.if_exists == IfExists::Keep
            && self.exists(destination)
            && (self.files.contains_key(destination)
                || !request.check_mark_file
                || has_mark(destination));
        if source == destination {
            return Ok(all);
        }
        if is_kept {
            let (files_skipped, bytes_skipped) = (files, bytes);
            return Ok(Copied { files_skipped, bytes_skipped, ..Copied::default() });
        }
        if self.is_file_above(destination) {
            return Err((Kind::AlreadyExists, false));
        }
        let skip: BTreeSet<&str> = request.skip_files.names().collect();
        let is_skipped = |rest: &str| {
            let name = rest.rsplit('/').next().unwrap_or(rest);
            rest != MARK_FILE && skip.contains(folded(name).as_str())
        };
        let mut copied = Copied::default();
        let mut new = Vec::new();
        if let Some(file) = self.files.get(source) {
            new.push((destination.to_owned(), file.clone()));
            copied = all;
        }
        for (rest, file) in self.below(source) {
            let size = file.bytes.len() as i64;
            if is_skipped(rest) {
                copied.files_skipped += 1;
                copied.bytes_skipped += size;
            } else {
                copied.files += 1;
                copied.bytes += size;
                new.push((join(destination, rest), file.clone()));
            }
        }
        if new.is_empty() {
            return Err((Kind::FileNotFound, true));
        }
        self.remove(destination);
        self.files.extend(new);
        Ok(copied)
    }

    /// The expected listing of a folder, in order.
    pub(crate) fn list(&self, folder: &str) -> Vec<Listed> {
        let mut names: BTreeMap<(String, String), Listed> = BTreeMap::new();
        for (rest, file) in self.below(folder) {
            let (name, below) = rest.split_once('/').map_or((rest, None), |(n, b)| (n, Some(b)));
            let listed = names.entry((folded(name), name.to_owned())).or_insert_with(|| Listed {
                path: join(folder, name),
                file: below.is_none().then_some((file.version, file.modified)),
                files: 0,
                bytes: 0,
            });
            listed.files += 1;
            listed.bytes += file.bytes.len() as i64;
        }
        names.into_values().collect()
    }

    /// Every path with its version and totals.
    pub(crate) fn tree(&self) -> BTreeMap<String, Entry> {
        let mut tree: BTreeMap<&str, Entry> = BTreeMap::from([("", Entry::default())]);
        for (path, file) in &self.files {
            let bytes = file.bytes.len() as i64;
            let (version, digest) = (Some(file.version), Some(file.digest));
            tree.insert(path, Entry { version, digest, files: 1, bytes });
            for folder in above(path).chain([""]) {
                let folder = tree.entry(folder).or_default();
                folder.files += 1;
                folder.bytes += bytes;
            }
        }
        tree.into_iter().map(|(path, entry)| (path.to_owned(), entry)).collect()
    }

    /// All folders, the root first.
    pub(crate) fn folders(&self) -> BTreeSet<&str> {
        self.files.keys().flat_map(|path| above(path)).chain([""]).collect()
    }
}

/// The folders above a path, except for the root.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

/// An entry of the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The version of a file; `None` for a folder.
    pub(crate) version: Option<i64>,
    /// The digest of a file, once it is known.
    pub(crate) digest: Option<Digest>,
    pub(crate) files: i64,
    pub(crate) bytes: i64,
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) path: String,
    /// The version and the upload time of a file; `None` for a folder.
    pub(crate) file: Option<(i64, i64)>,
    pub(crate) files: i64,
    pub(crate) bytes: i64,
}

impl Session {
    /// Whether a chunk has to be stored (`Ok(true)`) or is stored already (`Ok(false)`). `file` is the file
    /// at the session's path.
    pub(crate) fn check_chunk(
        &self,
        file: Option<&File>,
        path: &str,
        (start, bytes, total): (usize, &[u8], usize),
    ) -> Result<bool, Kind> {
        if self.path != path {
            return Err(Kind::SessionConflict);
        }
        if self.total != total {
            return Err(Kind::InvalidArgument);
        }
        let end = start + bytes.len();
        let committed = file.map(|file| BTreeMap::from([(0, file.bytes.clone())]));
        let pieces = if self.committed {
            committed.filter(|pieces| pieces[&0].len() == total).ok_or(Kind::SessionConflict)?
        } else {
            self.pieces.clone()
        };
        let (mut covered, mut is_same) = (0, true);
        for (at, piece) in &pieces {
            let (from, to) = (start.max(*at), end.min(at + piece.len()));
            if from < to {
                covered += to - from;
                is_same &= bytes[from - start..to - start] == piece[from - at..to - at];
            }
        }
        match covered {
            covered if covered == bytes.len() && is_same => Ok(false),
            covered if covered == bytes.len() => Err(Kind::SessionConflict),
            0 => Ok(true),
            _ => Err(Kind::BadRange),
        }
    }

    /// The bytes of the file, if none are missing.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        let all: Vec<u8> = self.pieces.values().flatten().copied().collect();
        (all.len() == self.total).then(|| all.into())
    }

    /// The missing ranges, both ends included.
    pub(crate) fn gaps(&self) -> Vec<(i64, i64)> {
        let (mut next, mut gaps) = (0, Vec::new());
        for (at, piece) in &self.pieces {
            if *at > next {
                gaps.push((next as i64, *at as i64 - 1));
            }
            next = at + piece.len();
        }
        if next < self.total && !self.committed {
            gaps.push((next as i64, self.total as i64 - 1));
        }
        if self.committed { Vec::new() } else { gaps }
    }
}

/// Joins a folder and a relative path below it.
pub(crate) fn join(folder: &str, rest: &str) -> String {
    if folder.is_empty() { rest.to_owned() } else { format!("{folder}/{rest}") }
}
