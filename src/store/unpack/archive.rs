//! The reading of a ZIP archive, on a thread that may block.
//!
//! The directory of an archive is not trusted. Entries, bytes and ratio are bounded by what it says, before anything is
//! unpacked; then each file has to have exactly the size and the CRC-32 that it says. Entries that overlap are refused,
//! since a few bytes could become any number of files.

use std::{
    collections::HashSet,
    io::{self, Read, Seek},
};

use zip::{
    CompressionMethod, ZipReadOptions,
    read::{ArchiveOffset, Config, ZipFileEntry},
    result::ZipError,
    unstable::read::ZipIterable,
};

use crate::{
    error::{Error, Kind, Result},
    limits::{
        UNPACK_BYTES_FREE, UNPACK_DIRECTORY_BYTES_MAX, UNPACK_ENTRIES_MAX, UNPACK_PIECE_BYTES,
        UNPACK_RATIO_MAX,
    },
    model::{MARK_FILE, StorePath},
};

/// The bytes of an archive.
pub(super) trait Source: Read + Seek {
    /// The size of the archive in bytes.
    fn size(&self) -> u64;
    /// Sets how many more bytes may be read; beyond them a read fails.
    fn allow(&mut self, bytes: u64);
}

/// The bytes of the fixed part of the header before each file.
const LOCAL_HEADER_BYTES: u64 = 30;

/// A file of an archive.
#[derive(Debug)]
pub(super) struct ArchiveFile {
    /// Its path in the archive.
    pub(super) path: StorePath,
    entry: ZipFileEntry<'static>,
}

impl ArchiveFile {
    /// Its size in bytes, as the directory says.
    pub(super) fn size(&self) -> u64 {
        self.entry.size()
    }

    fn range(&self) -> (u64, u64) {
        let head = LOCAL_HEADER_BYTES + self.entry.name_raw().len() as u64;
        let bytes = self.entry.compressed_size().saturating_add(head);
        (self.entry.header_start(), self.entry.header_start().saturating_add(bytes))
    }
}

/// The files and folders of an archive.
#[derive(Debug)]
pub(super) struct Archive<S> {
    zip: ZipIterable<S>,
    /// The files, in the order of their bytes.
    pub(super) files: Vec<ArchiveFile>,
    /// The folders, also those without files, except the one that the archive becomes.
    pub(super) folders: HashSet<String>,
}

impl<S: Source> Archive<S> {
    /// Reads the directory of an archive, whose folder will be at `to`.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no ZIP archive or a damaged one, for names that are no paths below the folder or
    /// occur twice, for links, for encrypted files, for other methods than stored and deflated, for entries that overlap,
    /// and for an archive without files; `TooLarge` beyond the bounds; `PathTooLong`; the errors of the source.
    pub(super) fn open(mut source: S, to: &StorePath) -> Result<Self> {
        let size = source.size();
        source.allow(UNPACK_DIRECTORY_BYTES_MAX);
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut zip = ZipIterable::try_new(source, config).map_err(damaged)?;
        if zip.len() > UNPACK_ENTRIES_MAX {
            return Err(too_many(zip.len()));
        }
        let (mut files, mut named) = (Vec::new(), Vec::new());
        for entry in zip.files().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let path = path(&entry, to)?;
            if entry.is_dir() {
                named.push(path);
            } else {
                files.push(ArchiveFile { path, entry });
            }
        }
        let folders = check_names(&files, named)?;
        check_sizes(&files, size)?;
        files.sort_by_key(ArchiveFile::range);
        check_overlap(&files)?;
        zip.files().map_err(damaged)?.reader_mut().allow(u64::MAX);
        Ok(Self { zip, files, folders })
    }

    /// The mark files that folders of the archive lack, also that of the folder that it becomes.
    pub(super) fn missing_marks(&self) -> Vec<StorePath> {
        let there: HashSet<_> = self.files.iter().map(|file| file.path.as_str()).collect();
        let inside = self.folders.iter().map(|folder| format!("{folder}/{MARK_FILE}"));
        let marks = inside.chain([MARK_FILE.to_owned()]);
        let missing = marks.filter(|mark| !there.contains(mark.as_str()));
        missing.filter_map(|mark| StorePath::parse(&mark, "archive").ok()).collect()
    }

    /// Unpacks a file of the archive in pieces.
    ///
    /// # Errors
    /// `InvalidArgument` if the file is damaged or has another size than its entry says; those of the source and of
    /// `sink`.
    pub(super) fn unpack(
        &mut self,
        file: ArchiveFile,
        mut sink: impl FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let ArchiveFile { path, entry } = file;
        let bad = |error| within(&path, damaged(error));
        let mut left = entry.size();
        let reader = self.zip.files().map_err(bad)?.reader_mut();
        let options = ZipReadOptions::new();
        let mut bytes = entry.with_reader(reader, options).map_err(bad)?;
        loop {
            let mut piece = Vec::with_capacity(UNPACK_PIECE_BYTES);
            // One byte more than the entry says shows that there are more.
            let most = left.saturating_add(1).min(UNPACK_PIECE_BYTES as u64);
            (&mut bytes).take(most).read_to_end(&mut piece).map_err(|error| bad(error.into()))?;
            let got = piece.len() as u64;
            if got > left || (got == 0 && left > 0) {
                let message = "it has another size than the directory says";
                return Err(within(&path, invalid(message)));
            }
            if got == 0 {
                return Ok(());
            }
            left -= got;
            sink(piece)?;
        }
    }
}

/// The path of an entry below the folder that the archive becomes.
fn path(entry: &ZipFileEntry<'_>, to: &StorePath) -> Result<StorePath> {
    let name = entry.name().map_err(damaged)?;
    // Some archives of Windows have the other separator.
    let plain = name.replace('\\', "/");
    let plain = if entry.is_dir() { plain.trim_end_matches('/') } else { &plain };
    let path = StorePath::parse(plain, "name").map_err(|error| of_archive(&error))?;
    let shown = path.as_str();
    let is_absolute = plain.starts_with('/')
        || matches!(plain.as_bytes(), [drive, b':', b'/', ..] if drive.is_ascii_alphabetic());
    if is_absolute {
        return Err(invalid(&format!("the archive has the absolute name \"/{shown}\"")));
    }
    if path.as_str() != plain {
        let message = format!("the archive has a name that is no path as it is: \"{shown}\"");
        return Err(invalid(&message));
    }
    if entry.is_symlink() {
        return Err(invalid(&format!("the archive has a link, \"{shown}\"")));
    }
    if entry.encrypted() {
        return Err(invalid(&format!("the archive has an encrypted file, \"{shown}\"")));
    }
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        let message = format!(
            "the archive has \"{shown}\" compressed by the method {}; pack it stored or deflated",
            entry.compression()
        );
        return Err(invalid(&message));
    }
    // A path that is too long is refused before anything is unpacked.
    StorePath::parse(&format!("{to}/{path}"), "path").map_err(|error| of_archive(&error))?;
    Ok(path)
}

/// The error for a name or path of an entry.
fn of_archive(error: &Error) -> Error {
    let message = format!("an entry of the archive: {}; nothing is stored", error.message());
    Error::new(error.kind(), message).field("archive")
}

/// Refuses names that occur twice, files below files, and too many folders. Returns all folders, also those that only
/// the paths of files name, without the one that the archive becomes.
fn check_names(files: &[ArchiveFile], named: Vec<StorePath>) -> Result<HashSet<String>> {
    if files.is_empty() {
        return Err(invalid("the archive has no files"));
    }
    let mut names = HashSet::with_capacity(files.len());
    for file in files {
        if !names.insert(file.path.as_str()) {
            return Err(invalid(&format!("the archive has \"{}\" twice", file.path)));
        }
    }
    let mut folders: HashSet<String> = named.into_iter().map(|path| path.to_string()).collect();
    for file in files {
        // From the deepest folder up: what is above a known folder is known.
        let mut path = file.path.as_str();
        while let Some((above, _)) = path.rsplit_once('/') {
            if !folders.insert(above.to_owned()) {
                break;
            }
            path = above;
        }
        if files.len() + folders.len() > UNPACK_ENTRIES_MAX {
            return Err(too_many(files.len() + folders.len()));
        }
    }
    match names.iter().find(|name| folders.contains(**name)) {
        None => Ok(folders),
        Some(name) => {
            Err(invalid(&format!("the archive has \"{name}\" as a file and as a folder")))
        }
    }
}

fn too_many(entries: usize) -> Error {
    let message = format!(
        "the archive has {entries} files and folders or more; one that is unpacked has at most \
         {UNPACK_ENTRIES_MAX}"
    );
    Error::new(Kind::TooLarge, message)
}

/// Refuses an archive that would become far larger than it is.
fn check_sizes(files: &[ArchiveFile], size: u64) -> Result<()> {
    let sizes = files.iter().map(ArchiveFile::size);
    let bytes = sizes.fold(0, u64::saturating_add);
    if bytes > UNPACK_BYTES_FREE.max(size.saturating_mul(UNPACK_RATIO_MAX)) {
        let message = format!(
            "the archive of {size} bytes would become {bytes}; beyond {UNPACK_BYTES_FREE} it may \
             become {UNPACK_RATIO_MAX} times its size; upload the folder instead"
        );
        return Err(Error::new(Kind::TooLarge, message));
    }
    Ok(())
}

/// Refuses entries that share bytes. The files are in the order of their bytes.
fn check_overlap(files: &[ArchiveFile]) -> Result<()> {
    let mut pairs = files.iter().zip(files.iter().skip(1));
    match pairs.find(|(one, next)| one.range().1 > next.range().0) {
        None => Ok(()),
        Some((one, next)) => {
            let message =
                format!("the archive has \"{}\" and \"{}\" in the same bytes", one.path, next.path);
            Err(invalid(&message))
        }
    }
}

fn invalid(message: &str) -> Error {
    Error::invalid("archive", format!("{message}; nothing is stored"))
}

/// An error of the library. One of the source is inside it, as it was.
fn damaged(error: ZipError) -> Error {
    let ZipError::Io(error) = error else {
        return invalid(&format!("this is no ZIP archive that can be unpacked: {error}"));
    };
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => invalid(&format!("the archive is damaged: {error}")),
    }
}

/// Names the file in an error about its bytes.
fn within(path: &StorePath, error: Error) -> Error {
    if error.kind() != Kind::InvalidArgument {
        return error;
    }
    Error::invalid("archive", format!("\"{path}\": {}", error.message()))
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
