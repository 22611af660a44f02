//! The reading of a ZIP archive, on a thread that may block.
//!
//! The directory of an archive is not trusted. Entries, bytes and ratio are bounded by what it says, before anything is
//! unpacked; then each file has to have exactly the size and the CRC-32 that it says. Entries that overlap are refused,
//! since a few bytes could become any number of files.

use std::{
    collections::HashSet,
    io::{self, Read, Seek, SeekFrom},
};

use zip::{
    CompressionMethod, ZipReadOptions,
    read::{ArchiveOffset, Config, OwnedZipFileEntry, ZipFileEntry},
    result::ZipError,
    unstable::read::ZipIterable,
};

use crate::{
    error::{Error, Kind, Result},
    limits::{
        UNPACK_BYTES_FREE, UNPACK_DIRECTORY_BYTES_MAX, UNPACK_ENTRIES_MAX, UNPACK_EXTRA_BYTES_MAX,
        UNPACK_PIECE_BYTES, UNPACK_RATIO_MAX,
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
/// The bytes of the fixed part of a header in the directory.
const CENTRAL_HEADER_BYTES: u64 = 46;
/// The bytes of the end of the directory: without its comment, the longest comment, and the locator of ZIP64 before it.
const END_BYTES: u64 = 22;
const COMMENT_BYTES_MAX: u64 = 65_535;
const LOCATOR_BYTES: usize = 20;
/// The most bytes between the end of the directory in ZIP64 and its locator. The library allocates them.
const ZIP64_END_BYTES_MAX: u64 = 65_536;

/// A file of an archive.
#[derive(Debug)]
pub(super) struct ArchiveFile {
    /// Its path in the archive.
    pub(super) path: StorePath,
    // Of an entry that it owns itself, the library would read the rest when it is dropped.
    entry: OwnedZipFileEntry,
    /// Where the next file begins.
    end: u64,
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
        check_end(&mut source, size)?;
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut zip = ZipIterable::try_new(source, config).map_err(damaged)?;
        if zip.len() > UNPACK_ENTRIES_MAX {
            return Err(too_many(zip.len()));
        }
        let (mut files, mut named) = (Vec::new(), Vec::new());
        let mut extra = Extra::default();
        for entry in zip.files().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            extra.add(&entry)?;
            let path = path(&entry, to)?;
            if entry.is_dir() {
                named.push(path);
            } else {
                files.push(ArchiveFile { path, entry: entry.into(), end: size });
            }
        }
        let folders = check_names(&files, &named)?;
        check_sizes(&files, size)?;
        files.sort_by_key(ArchiveFile::range);
        check_overlap(&mut files)?;
        zip.files().map_err(damaged)?.reader_mut().allow(u64::MAX);
        Ok(Self { zip, files, folders })
    }

    /// The mark files that folders of the archive lack, also that of the folder that it becomes.
    ///
    /// # Errors
    /// `InvalidArgument` for a folder with the name of a mark file, `PathTooLong`.
    pub(super) fn missing_marks(&self, to: &StorePath) -> Result<Vec<StorePath>> {
        let there: HashSet<_> = self.files.iter().map(|file| file.path.as_str()).collect();
        let inside = self.folders.iter().map(|folder| format!("{folder}/{MARK_FILE}"));
        let marks = inside.chain([MARK_FILE.to_owned()]);
        let missing = marks.filter(|mark| !there.contains(mark.as_str()));
        let checked = missing.map(|mark| {
            if self.folders.contains(&mark) {
                return Err(invalid(&format!("the archive has the folder \"{mark}\"")));
            }
            in_place(to, &mark)?;
            StorePath::parse(&mark, "path").map_err(|error| of_archive(&error))
        });
        checked.collect()
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
        let ArchiveFile { path, entry, end } = file;
        let bad = |error| within(&path, damaged(error));
        let mut left = entry.size();
        let reader = self.zip.files().map_err(bad)?.reader_mut();
        let options = ZipReadOptions::new();
        let mut bytes = entry.as_ref().with_reader(reader, options).map_err(bad)?;
        let start = bytes.data_start().unwrap_or(u64::MAX);
        if start.saturating_add(entry.compressed_size()) > end {
            return Err(within(&path, invalid("its bytes are in the same bytes as another file")));
        }
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
    if entry.is_dir() && entry.size() > 0 {
        let message = format!("the archive has a folder with bytes, \"{shown}\"");
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
    in_place(to, path.as_str())?;
    Ok(path)
}

/// Checks the whole path of what is at `path` in the folder that the archive becomes.
fn in_place(to: &StorePath, path: &str) -> Result<()> {
    let whole = StorePath::parse(&format!("{to}/{path}"), "path");
    whole.map(drop).map_err(|error| of_archive(&error))
}

/// The bytes of the extra fields and comments of a directory. The library parses them into several times their size.
#[derive(Debug, Default)]
struct Extra {
    /// Where the extra fields of the last entry begin.
    start: Option<u64>,
    bytes: u64,
}

impl Extra {
    fn add(&mut self, entry: &ZipFileEntry<'_>) -> Result<()> {
        let header = entry.central_header_start();
        let before = self.start.map_or(0, |start| header.saturating_sub(start));
        self.bytes = self.bytes.saturating_add(before);
        self.start = Some(header + CENTRAL_HEADER_BYTES + entry.name_raw().len() as u64);
        if self.bytes > UNPACK_EXTRA_BYTES_MAX {
            let message = format!(
                "the archive has more than {UNPACK_EXTRA_BYTES_MAX} bytes of extra fields and comments in its \
                 directory; nothing is stored"
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(())
    }
}

/// Refuses an archive whose end in ZIP64 claims so many bytes that the library would allocate them.
fn check_end(source: &mut (impl Read + Seek), size: u64) -> Result<()> {
    let most = END_BYTES + COMMENT_BYTES_MAX + LOCATOR_BYTES as u64;
    let start = size.saturating_sub(most);
    let mut tail = Vec::new();
    let read =
        source.seek(SeekFrom::Start(start)).and_then(|_| source.take(most).read_to_end(&mut tail));
    read.map_err(|error| damaged(error.into()))?;
    for (at, there) in tail.windows(LOCATOR_BYTES + 4).enumerate() {
        let [b'P', b'K', 6, 7, _, _, _, _, offset @ .., _, _, _, _, b'P', b'K', 5, 6] = there
        else {
            continue;
        };
        let offset = <[u8; 8]>::try_from(offset).map_or(0, u64::from_le_bytes);
        if (start + at as u64).saturating_sub(offset) > ZIP64_END_BYTES_MAX {
            return Err(invalid("the archive is damaged: the end of its directory is too long"));
        }
    }
    Ok(())
}

/// The error for a name or path of an entry.
fn of_archive(error: &Error) -> Error {
    let message = format!("an entry of the archive: {}; nothing is stored", error.message());
    Error::new(error.kind(), message).field("archive")
}

/// Refuses names that occur twice, files below files, and too many folders. Returns all folders, also those that only
/// the paths of files name, without the one that the archive becomes.
fn check_names(files: &[ArchiveFile], named: &[StorePath]) -> Result<HashSet<String>> {
    if files.is_empty() {
        return Err(invalid("the archive has no files"));
    }
    let mut names = HashSet::with_capacity(files.len());
    for file in files {
        if !names.insert(file.path.as_str()) {
            return Err(invalid(&format!("the archive has \"{}\" twice", file.path)));
        }
    }
    let mut folders = HashSet::new();
    let above_files = files.iter().filter_map(|file| Some(file.path.as_str().rsplit_once('/')?.0));
    for folder in named.iter().map(StorePath::as_str).chain(above_files) {
        // From the deepest folder up: what is above a known folder is known.
        let mut next = Some(folder);
        while let Some(path) = next.filter(|path| !folders.contains(*path)) {
            folders.insert(path.to_owned());
            next = path.rsplit_once('/').map(|(above, _)| above);
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

/// Refuses entries that share bytes, and notes where each one has to end: the header before a file, which has a length of
/// its own, is read with the file. The files are in the order of their bytes.
fn check_overlap(files: &mut [ArchiveFile]) -> Result<()> {
    let starts: Vec<u64> = files.iter().skip(1).map(|file| file.range().0).collect();
    for (file, next) in files.iter_mut().zip(starts) {
        if file.range().1 > next {
            let message =
                format!("the archive has \"{}\" in the same bytes as another file", file.path);
            return Err(invalid(&message));
        }
        file.end = next;
    }
    Ok(())
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
