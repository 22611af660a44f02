//! The parameters of a copy.

use std::sync::Arc;

use crate::{
    error::{Error, Kind, Result},
    limits::{SKIP_FILES_BYTES_MAX, SKIP_FILES_MAX, SKIP_UNMATCHED_BYTES, SKIP_UNMATCHED_MAX},
    model::{Conditions, Digest, OperationId, StorePath, folded},
};

/// The memory of a name in a skip list beside its bytes: its slot, the slot of its match, and the overhead of the
/// allocator for three strings.
const SKIP_BYTES: usize = 160;

/// What to do where the destination exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// Replaces it.
    #[default]
    Overwrite,
    /// Keeps it.
    Keep,
    /// Replaces a file by a file and a folder by a folder, and refuses the rest.
    ReplaceSameKind,
}

/// What an uploaded file may replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replaces {
    /// A file.
    #[default]
    File,
    /// Also a folder with everything below it, and a file that is a parent of the path and becomes a folder.
    Anything,
}

/// A skip list: the names of files to leave out of a copy, compared with the last name of a path without case.
/// Clones share the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkipFiles(Arc<[Skip]>);

/// A name of a skip list.
#[derive(Debug, PartialEq, Eq)]
struct Skip {
    /// The folded name, by which the list is sorted.
    name: Box<str>,
    /// The name as it was given, where that differs.
    spelling: Option<Box<str>>,
}

impl SkipFiles {
    /// Makes a skip list: folds and sorts the names, and drops duplicates.
    ///
    /// # Errors
    /// `TooLarge` above [`SKIP_FILES_MAX`] names or [`SKIP_FILES_BYTES_MAX`] bytes of names.
    pub fn new<T: AsRef<str>>(names: &[T]) -> Result<Self> {
        let refused = |message| Err(Error::new(Kind::TooLarge, message).field("skip_files"));
        if names.len() > SKIP_FILES_MAX {
            return refused(format!(
                "skip_files has {} names; a copy has at most {SKIP_FILES_MAX}",
                names.len()
            ));
        }
        let names = names.iter().map(AsRef::as_ref);
        let bytes: usize = names.clone().map(str::len).sum();
        if bytes > SKIP_FILES_BYTES_MAX {
            return refused(format!(
                "the names of skip_files have {bytes} bytes; a copy has at most {SKIP_FILES_BYTES_MAX}"
            ));
        }
        let skip = |name: &str| {
            let folded = folded(name);
            let spelling = (folded != name).then(|| name.into());
            Skip { name: folded.into(), spelling }
        };
        let mut skips: Vec<Skip> = names.map(skip).collect();
        // The sort is stable, so of names that differ only in case the first one stays.
        skips.sort_by(|a, b| a.name.cmp(&b.name));
        skips.dedup_by(|later, first| later.name == first.name);
        Ok(Self(skips.into()))
    }

    /// Whether the list has no names.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An upper bound of its memory while a copy runs, in bytes: the names, and once more those that have
    /// matched a file.
    pub fn bytes_held(&self) -> usize {
        let one = |skip: &Skip| {
            let spelling = skip.spelling.as_deref().map_or(0, str::len);
            2 * skip.name.len() + spelling + SKIP_BYTES
        };
        self.0.iter().map(one).sum()
    }

    /// The folded names that a file can have (without control characters), sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|skip| &*skip.name).filter(|name| !name.contains(char::is_control))
    }

    /// The first of these names that is equal to or greater than `from`.
    pub fn first_from(&self, from: &str) -> Option<&str> {
        let below = self.0.partition_point(|skip| &*skip.name < from);
        let mut names = self.0.iter().skip(below).map(|skip| &*skip.name);
        names.find(|name| !name.contains(char::is_control))
    }

    /// Whether the list has a folded name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|skip| (*skip.name).cmp(name)).is_ok()
    }

    /// The names for whose folded form `is_matched` is false, sorted by that form, as they were given except
    /// that control characters are replaced. At most [`SKIP_UNMATCHED_MAX`] names of together at most
    /// [`SKIP_UNMATCHED_BYTES`].
    pub fn unmatched(&self, is_matched: impl Fn(&str) -> bool) -> Vec<String> {
        let left = self.0.iter().filter(|skip| !is_matched(&skip.name));
        let names = left.map(|skip| skip.spelling.as_deref().unwrap_or(&skip.name));
        let mut bytes = 0;
        let fitting = names.take(SKIP_UNMATCHED_MAX).take_while(|name| {
            bytes += name.len();
            bytes <= SKIP_UNMATCHED_BYTES
        });
        let tame = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        fitting.map(|name| name.chars().map(tame).collect()).collect()
    }
}

/// A request for a copy, with parsed arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// The file or folder to copy.
    pub source: StorePath,
    /// The path of the copy.
    pub destination: StorePath,
    /// The files to leave out.
    pub skip_files: SkipFiles,
    /// Whether a source folder must have its mark file.
    pub check_mark_file: bool,
    /// What to do where the destination exists.
    pub if_exists: IfExists,
    /// The conditions on the destination.
    pub conditions: Conditions,
    /// Whether every part is read and verified before the copy becomes visible.
    pub verify: bool,
    /// The id of the operation, from the caller or new.
    pub id: OperationId,
}

impl CopyRequest {
    /// Refuses a destination that is a parent of the source or below it. Compares the paths only.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        let (source, destination) = (&self.source, &self.destination);
        if destination.is_below(source) || source.is_below(destination) {
            let message = format!(
                "source \"{source}\" and destination \"{destination}\" overlap; copy to a path \
                 beside the source"
            );
            return Err(Error::invalid("destination", message)
                .with("source", source.as_str())
                .with("destination", destination.as_str()));
        }
        Ok(())
    }

    /// A digest of all fields but the id: requests with the same id and fingerprint are the same request.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut field = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        field("copy");
        field(self.source.as_str());
        field(self.destination.as_str());
        for skip in &*self.skip_files.0 {
            field(&skip.name);
        }
        hasher.update(&[
            u8::from(self.check_mark_file),
            match self.if_exists {
                IfExists::Overwrite => 0,
                IfExists::Keep => 1,
                IfExists::ReplaceSameKind => 2,
            },
            u8::from(self.verify),
        ]);
        // Without conditions this adds nothing, so that fingerprints in rows of earlier versions stay valid.
        hasher.update(&self.conditions.fingerprint());
        hasher.finalize().into()
    }
}

/// The error for a write to a reserved top-level folder.
pub fn reserved(path: &StorePath, field: &'static str) -> Error {
    let message = format!("\"{path}\" is reserved; name a path below it or another one");
    Error::new(Kind::Reserved, message).field(field).with("path", path.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tags;

    fn request(source: &str, destination: &str) -> CopyRequest {
        CopyRequest {
            source: StorePath::parse(source, "source").unwrap(),
            destination: StorePath::parse(destination, "destination").unwrap(),
            skip_files: SkipFiles::default(),
            check_mark_file: false,
            if_exists: IfExists::Overwrite,
            conditions: Conditions::default(),
            verify: false,
            id: OperationId::new(),
        }
    }

    #[test]
    fn overlap_is_refused_and_the_same_path_is_not() {
        let kind = |source, destination| request(source, destination).check().map_err(|e| e.kind());
        assert_eq!(kind("a/b", "a"), Err(Kind::InvalidArgument));
        assert_eq!(kind("a", "a/b"), Err(Kind::InvalidArgument));
        assert_eq!(kind("a", "a"), Ok(()));
        assert_eq!(kind("a", "ab"), Ok(()));
    }

    #[test]
    fn a_fingerprint_tells_requests_apart() {
        let a = request("a", "b");
        let mut b = a.clone();
        b.id = OperationId::new();
        assert_eq!(a.fingerprint(), b.fingerprint());
        b.skip_files = SkipFiles::new(&["X"]).unwrap();
        assert_ne!(a.fingerprint(), b.fingerprint());
        let mut c = b.clone();
        c.skip_files = SkipFiles::new(&["x"]).unwrap();
        assert_eq!(b.fingerprint(), c.fingerprint());
        let kinds = [IfExists::Overwrite, IfExists::Keep, IfExists::ReplaceSameKind];
        let mut digests = kinds.map(|if_exists| {
            c.if_exists = if_exists;
            c.fingerprint().to_string()
        });
        digests.sort();
        assert!(digests.windows(2).all(|pair| pair[0] != pair[1]), "{digests:?}");
        c.conditions.if_match = Some(Tags::Any);
        assert_ne!(b.fingerprint(), c.fingerprint());
    }

    #[test]
    fn names_without_a_match_are_told_as_they_were_given() {
        let skip = SkipFiles::new(&["Notes.TX", "b", "*.dll", "B", "notes.tx"]).unwrap();
        assert_eq!(skip.unmatched(|name| name == "b"), ["*.dll", "Notes.TX"]);
        assert_eq!(skip.unmatched(|_| true), Vec::<String>::new());
        let many: Vec<_> = (0..SKIP_UNMATCHED_MAX + 9).map(|number| number.to_string()).collect();
        let told = SkipFiles::new(&many).unwrap().unmatched(|_| false);
        assert_eq!(told.len(), SKIP_UNMATCHED_MAX);
        let long = SkipFiles::new(&["a", &"b".repeat(SKIP_UNMATCHED_BYTES)]).unwrap();
        assert_eq!(long.unmatched(|_| false), ["a"]);
        let odd = SkipFiles::new(&["a\n\0"]).unwrap();
        assert_eq!(odd.unmatched(|_| false), ["a\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn a_skip_list_is_bounded() {
        let names = vec!["n"; SKIP_FILES_MAX + 1];
        assert!(SkipFiles::new(&names[1..]).is_ok());
        assert_eq!(SkipFiles::new(&names).unwrap_err().kind(), Kind::TooLarge);
        assert_eq!(SkipFiles::default().bytes_held(), 0);
        assert_eq!(SkipFiles::new(&["Nn", "x"]).unwrap().bytes_held(), 2 * SKIP_BYTES + 8);
        let half = "n".repeat(SKIP_FILES_BYTES_MAX / 2);
        assert!(SkipFiles::new(&[&half, &half]).is_ok());
        let error = SkipFiles::new(&[&*half, &half, "n"]).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge);
        assert!(error.message().contains("have 1048577 bytes"), "{error}");
    }
}
