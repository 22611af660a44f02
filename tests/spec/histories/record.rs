//! The record of what all clients have sent and read, and the check that the reads are possible.
//!
//! Every request is recorded before it is sent, so that requests in flight count as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use super::{
    content::{Class, Upload},
    order::Order,
};
use crate::{
    dice::Dice,
    harness::{Copy, Item},
};

/// The name that copies of packages leave out, in any case.
pub(super) const SKIPPED: &str = "extra";

/// The serial numbers of uploads of bytes that no other upload has are above this one.
const UNIQUE: usize = 1 << 32;

/// A version of a package: the uploads of its files by their paths below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Package {
    pub(super) files: BTreeMap<String, Upload>,
}

/// The record that all clients share.
#[derive(Default)]
pub(super) struct Record {
    inner: Mutex<Inner>,
    /// The calls on the files that are judged in real time.
    pub(super) order: Order,
}

#[derive(Default)]
struct Inner {
    uploads: usize,
    /// The uploads of bytes that no other one has.
    unique: usize,
    /// The paths that each upload was sent to.
    sent: BTreeMap<Upload, BTreeSet<String>>,
    /// The destinations to which each source was copied.
    copied: BTreeMap<String, BTreeSet<String>>,
    /// The downloads: the upload that was read, and its path.
    seen: BTreeSet<(Upload, String)>,
    packages: Vec<Package>,
    listings: usize,
}

impl Record {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    /// Records an upload to a path, of new bytes or of bytes that were sent before, perhaps to another path.
    pub(super) fn upload(&self, path: &str, class: Class, dice: &mut Dice) -> Upload {
        let mut inner = self.inner();
        let some = Upload::new(dice.roll(inner.uploads + 1), Class::Inline);
        let known = inner.sent.range(some..).next().filter(|_| dice.roll(4) == 0);
        let upload = known.map_or(Upload::new(inner.uploads, class), |(upload, _)| *upload);
        inner.uploads += 1;
        inner.sent.entry(upload).or_default().insert(path.to_owned());
        upload
    }

    /// Records an upload to a path, of bytes that no other upload has or will have.
    pub(super) fn unique(&self, path: &str, class: Class) -> Upload {
        let mut inner = self.inner();
        inner.unique += 1;
        let upload = Upload::new(UNIQUE + inner.unique, class);
        inner.sent.entry(upload).or_default().insert(path.to_owned());
        upload
    }

    /// Records a copy.
    pub(super) fn copy(&self, copy: &Copy) {
        let mut inner = self.inner();
        let targets = inner.copied.entry(copy.source.clone()).or_default();
        targets.insert(copy.destination.clone());
    }

    /// Creates a version of a package, at a path that only its own uploads use. Returns that path and the
    /// version.
    pub(super) fn package(&self, dice: &mut Dice) -> (String, Package) {
        let version = {
            let mut inner = self.inner();
            inner.packages.push(Package::default());
            inner.packages.len() - 1
        };
        let path = format!("staging/v{version}");
        let mut package = Package::default();
        for folder in ["", "sub/"] {
            // Versions differ in their numbers of files.
            let mut names = vec![format!("manifest-{version}"), SKIPPED.to_owned()];
            names.extend((0..=dice.roll(3)).map(|n| format!("f{n}")));
            for name in names {
                let name = format!("{folder}{name}");
                let class = if dice.roll(4) == 0 { Class::Object } else { Class::Inline };
                let upload = self.upload(&format!("{path}/{name}"), class, dice);
                package.files.insert(name, upload);
            }
        }
        self.inner().packages[version] = package.clone();
        (path, package)
    }

    /// Checks that the listing of a folder, which only copies have made, is that of one version of a package,
    /// whole except for the file that copies leave out.
    pub(super) fn listed(&self, folder: &str, items: &[Item]) {
        let mut inner = self.inner();
        inner.listings += 1;
        let found: BTreeMap<&str, u64> = items
            .iter()
            .map(|item| {
                let name = item.path.strip_prefix(folder).and_then(|name| name.strip_prefix('/'));
                (name.expect("a name below"), if item.is_folder { item.files } else { item.size })
            })
            .collect();
        let version = found.keys().find_map(|name| name.strip_prefix("manifest-"));
        let version: usize = version.expect("a manifest").parse().expect("a number");
        let whole = inner.packages[version].level(folder.ends_with("/sub"));
        let mut rest = whole.clone();
        rest.remove(SKIPPED);
        // The sub-folder then has one file less.
        rest.entry("sub").and_modify(|files| *files -= 1);
        assert!(found == whole || found == rest, "{folder} shows {found:?} and not {whole:?}");
    }

    /// Records the bytes that were downloaded from a path, from `offset` on.
    pub(super) fn saw(&self, path: &str, bytes: &[u8], offset: usize) {
        let upload = Upload::of(bytes, offset);
        self.inner().seen.insert((upload, path.to_owned()));
    }

    /// Checks that every upload that was read at a path was sent there, or to a path from which copies lead
    /// there. Returns the numbers of listings and of different downloads.
    pub(super) fn verify(&self) -> (usize, usize) {
        let inner = self.inner();
        for (upload, path) in &inner.seen {
            let sent = inner.sent.get(upload).expect("an upload");
            let mut led = sent.clone();
            let mut new: Vec<String> = sent.iter().cloned().collect();
            while let Some(from) = new.pop() {
                for to in inner.leads(&from) {
                    if led.insert(to.clone()) {
                        new.push(to);
                    }
                }
            }
            assert!(led.contains(path), "{upload:?} was seen at {path} and sent to {sent:?}");
        }
        (inner.listings, inner.seen.len())
    }
}

impl Inner {
    /// The paths to which copies of a path, or of a folder above it, lead.
    fn leads(&self, from: &str) -> Vec<String> {
        let ends = from.match_indices('/').map(|(at, _)| at).chain([from.len()]);
        ends.flat_map(|end| {
            let (above, below) = from.split_at(end);
            self.copied.get(above).into_iter().flatten().map(move |to| format!("{to}{below}"))
        })
        .collect()
    }
}

impl Package {
    /// The expected listing of the package's folder or of its sub-folder: sizes of files, and file counts of
    /// folders.
    fn level(&self, is_sub: bool) -> BTreeMap<&str, u64> {
        let mut level = BTreeMap::new();
        for (name, upload) in &self.files {
            match (name.strip_prefix("sub/"), is_sub) {
                (Some(name), true) => _ = level.insert(name, upload.size() as u64),
                (Some(_), false) => *level.entry("sub").or_default() += 1,
                (None, false) => _ = level.insert(name.as_str(), upload.size() as u64),
                (None, true) => {}
            }
        }
        level
    }
}
