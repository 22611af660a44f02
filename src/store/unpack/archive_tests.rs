//! Archives of each kind, well made, damaged and hostile.

use std::io::{Cursor, Write};

use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;

impl Source for Cursor<Vec<u8>> {
    fn size(&self) -> u64 {
        self.get_ref().len() as u64
    }

    fn allow(&mut self, _: u64) {}
}

/// Makes an archive of files; a name that ends in `/` is a folder.
fn pack(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        if name.ends_with('/') {
            zip.add_directory(*name, options).expect("a folder");
        } else {
            zip.start_file(*name, options).expect("a file");
            zip.write_all(bytes).expect("bytes");
        }
    }
    zip.finish().expect("an archive").into_inner()
}

fn open(bytes: Vec<u8>) -> Result<Archive<Cursor<Vec<u8>>>> {
    Archive::open(Cursor::new(bytes), &archive_path())
}

fn archive_path() -> StorePath {
    StorePath::parse("to", "path").expect("a path")
}

/// The paths and bytes of an archive.
fn read(bytes: Vec<u8>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut archive = open(bytes)?;
    let mut all = Vec::new();
    for file in std::mem::take(&mut archive.files) {
        let (path, mut bytes) = (file.path.to_string(), Vec::new());
        archive.unpack(file, |piece| {
            bytes.extend(piece);
            Ok(())
        })?;
        all.push((path, bytes));
    }
    Ok(all)
}

/// Replaces a text by another one of the same length, in all places.
fn patch(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let found = bytes.windows(from.len()).enumerate().filter(|(_, there)| *there == from);
    let places: Vec<_> = found.map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{from:?} is there");
    for at in places {
        bytes.splice(at..at + from.len(), to.iter().copied());
    }
    bytes
}

#[track_caller]
fn check(bytes: Vec<u8>, kind: Kind, says: &str) {
    let error = read(bytes).expect_err(says);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(says), "{} contains {says}", error.message());
}

const STORED: CompressionMethod = CompressionMethod::Stored;

#[test]
fn the_files_and_folders_of_an_archive_are_read() {
    let long = vec![b'x'; UNPACK_PIECE_BYTES * 2 + 1];
    for method in [STORED, CompressionMethod::Deflated] {
        let bytes = pack(&[("b/c.txt", b"hello"), ("ü", &long), ("b/d/", b""), ("e", b"")], method);
        let archive = open(bytes.clone()).expect("an archive");
        let mut folders: Vec<_> = archive.folders.iter().map(String::as_str).collect();
        folders.sort_unstable();
        assert_eq!(folders, ["b", "b/d"]);
        let mut marks: Vec<_> = archive
            .missing_marks(&archive_path())
            .expect("marks")
            .iter()
            .map(StorePath::to_string)
            .collect();
        marks.sort_unstable();
        assert_eq!(marks, ["_.dir", "b/_.dir", "b/d/_.dir"]);
        let files = read(bytes).expect("files");
        let expected = [("b/c.txt", b"hello".to_vec()), ("ü", long.clone()), ("e", Vec::new())];
        assert_eq!(files, expected.map(|(name, bytes)| (name.to_owned(), bytes)));
    }
}

#[test]
fn a_mark_file_of_the_archive_is_kept() {
    let archive = open(pack(&[("b/_.dir", b"1"), ("_.dir", b"")], STORED)).expect("an archive");
    assert_eq!(archive.missing_marks(&archive_path()).expect("marks"), []);
}

#[test]
fn the_separator_of_windows_is_one() {
    let files = read(pack(&[(r"b\c", b"1")], STORED)).expect("files");
    assert_eq!(files, [("b/c".to_owned(), b"1".to_vec())]);
}

#[test]
fn names_that_are_no_paths_below_the_folder_are_refused() {
    for (name, says) in [
        ("../abc", "\"..\""),
        ("a/../b", "\"..\""),
        ("./abcd", "\".\""),
        ("a/$/bc", "\"$\""),
        ("/abcde", "absolute"),
        (r"\abcde", "absolute"),
        ("C:/abc", "absolute"),
        (r"C:\abc", "absolute"),
        ("a//bcd", "no path as it is"),
        (" abcde", "no path as it is"),
        ("abcde ", "no path as it is"),
        ("a\nbcde", "character"),
        ("a\0bcde", "character"),
    ] {
        let bytes = patch(pack(&[("nnnnnn", b"1")], STORED), b"nnnnnn", name.as_bytes());
        check(bytes, Kind::InvalidArgument, says);
    }
    let (deep, long) = (format!("{}x", "a/".repeat(200)), "x".repeat(1100));
    for name in [deep, long] {
        check(pack(&[(&name, b"1")], STORED), Kind::PathTooLong, "at most");
    }
}

#[test]
fn a_name_is_one_file_or_one_folder() {
    let twice = patch(pack(&[("aaaa", b"1"), ("bbbb", b"2")], STORED), b"bbbb", b"aaaa");
    check(twice, Kind::InvalidArgument, "\"aaaa\" twice");
    let slash = patch(pack(&[("a/b", b"1"), ("axb", b"2")], STORED), b"axb", br"a\b");
    check(slash, Kind::InvalidArgument, "\"a/b\" twice");
    for files in [&[("a", b"1"), ("a/b", b"2")], &[("a/b/c", b"1"), ("a/b", b"2")]] {
        check(
            pack(&files.map(|(name, bytes)| (name, bytes.as_slice())), STORED),
            Kind::InvalidArgument,
            "as a file and as a folder",
        );
    }
    check(pack(&[("a/", b""), ("a", b"1")], STORED), Kind::InvalidArgument, "as a file and as");
    read(pack(&[("a", b"1"), ("A", b"2")], STORED)).expect("names have a case");
}

#[test]
fn every_folder_on_the_way_to_a_named_one_is_known() {
    let archive = open(pack(&[("x/y/z/", b""), ("f", b"1")], STORED)).expect("an archive");
    let marks = archive.missing_marks(&archive_path()).expect("marks");
    let mut marks: Vec<_> = marks.iter().map(StorePath::to_string).collect();
    marks.sort_unstable();
    assert_eq!(marks, ["_.dir", "x/_.dir", "x/y/_.dir", "x/y/z/_.dir"]);
    check(
        pack(&[("a/b/", b""), ("a/b/f", b"1"), ("a", b"2")], STORED),
        Kind::InvalidArgument,
        "\"a\" as a",
    );
    let folder = open(pack(&[("a/_.dir/x", b"1")], STORED)).expect("an archive");
    let error = folder.missing_marks(&archive_path()).expect_err("a folder");
    assert!(error.message().contains("the folder \"a/_.dir\""), "{error}");
    let deep = format!("{}f", "a/".repeat(126));
    let deep = open(pack(&[(&deep, b"1")], STORED)).expect("an archive");
    deep.missing_marks(&archive_path()).expect("128 names");
    let deep = format!("{}/", ["a"; 127].join("/"));
    let deep = open(pack(&[(&deep, b""), ("f", b"1")], STORED)).expect("an archive");
    let error = deep.missing_marks(&archive_path()).expect_err("129 names");
    assert_eq!(error.kind(), Kind::PathTooLong);
}

#[test]
fn what_the_directory_claims_is_bounded() {
    // Extra fields without bytes: four bytes each in the archive, and ten times as much in memory.
    let whole = pack(&[("a", b"1")], STORED);
    let start = whole.windows(4).position(|it| it == b"PK\x01\x02").expect("a directory");
    let (files, directory) = whole.split_at(start);
    let (header, end) = directory.split_at(47);
    let extra = 0x9999_u32.to_le_bytes().repeat(16_000);
    let entries = 140_u16;
    let mut bytes = files.to_vec();
    for _ in 0..entries {
        let mut header = header.to_vec();
        header.splice(30..32, u16::to_le_bytes(64_000));
        bytes.extend(header);
        bytes.extend(&extra);
    }
    let size = u32::try_from(bytes.len() - start).expect("a size");
    let mut end = end.to_vec();
    end.splice(
        8..16,
        [entries.to_le_bytes(), entries.to_le_bytes()]
            .concat()
            .into_iter()
            .chain(size.to_le_bytes()),
    );
    bytes.extend(end);
    check(bytes, Kind::TooLarge, "extra fields");
    // An end in ZIP64 that begins far before its locator.
    let mut bytes = vec![0; 100_000];
    bytes.extend(b"PK\x06\x07\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0");
    bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff");
    bytes.extend([0xff; 8]);
    bytes.extend([0; 2]);
    check(bytes, Kind::InvalidArgument, "the end of its directory is too long");
}

#[test]
fn the_header_before_a_file_cannot_move_its_bytes() {
    let whole = pack(&[("a", b"hello"), ("b", b"world")], STORED);
    let start = whole.windows(4).position(|it| it == b"PK\x03\x04").expect("a header");
    let mut bytes = whole;
    // The length of the extra fields in the header before the first file.
    bytes.splice(start + 28..start + 30, 36_u16.to_le_bytes());
    check(bytes, Kind::InvalidArgument, "in the same bytes");
}

#[test]
fn a_folder_has_no_bytes() {
    let mut bytes = pack(&[("a/", b""), ("b", b"1")], STORED);
    let start = bytes.windows(4).position(|it| it == b"PK\x01\x02").expect("a directory");
    bytes.splice(start + 24..=start + 24, [1]);
    check(bytes, Kind::InvalidArgument, "a folder with bytes");
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("a", "/etc/passwd", SimpleFileOptions::default()).expect("a link");
    let link = zip.finish().expect("an archive").into_inner();
    check(link, Kind::InvalidArgument, "a link, \"a\"");
    check(pack(&[], STORED), Kind::InvalidArgument, "no files");
    check(pack(&[("a/", b"")], STORED), Kind::InvalidArgument, "no files");
    // The flags of the local header and of the directory.
    let plain = pack(&[("a", b"1")], STORED);
    let at = |magic: &[u8], offset: usize| {
        let start = plain.windows(4).position(|there| there == magic).expect("a header");
        start + offset
    };
    let (local, central) = (at(b"PK\x03\x04", 6), at(b"PK\x01\x02", 8));
    let with = |places: [usize; 2], value: u8| {
        let mut bytes = plain.clone();
        for place in places {
            bytes.splice(place..=place, [value]);
        }
        bytes
    };
    check(with([local, central], 1), Kind::InvalidArgument, "encrypted");
    check(with([local + 2, central + 2], 12), Kind::InvalidArgument, "the method");
}

#[test]
fn bytes_that_are_no_archive_or_a_damaged_one_are_refused() {
    let whole = pack(&[("a", b"hello"), ("b", b"world")], STORED);
    for bytes in [Vec::new(), b"hello".to_vec(), vec![0; 70_000]] {
        check(bytes, Kind::InvalidArgument, "archive");
    }
    for end in 0..whole.len() {
        let cut = whole.get(..end).expect("a part").to_vec();
        check(cut, Kind::InvalidArgument, "archive");
    }
    let other = patch(whole.clone(), b"hello", b"jello");
    check(other, Kind::InvalidArgument, "\"a\": the archive is damaged");
    // Whatever byte is another one, nothing panics and nothing loops.
    for at in 0..whole.len() {
        for value in [0, 0xff] {
            let mut bytes = whole.clone();
            bytes.splice(at..=at, [value]);
            drop(read(bytes));
        }
    }
}

#[test]
fn a_file_has_the_size_that_it_says() {
    for method in [STORED, CompressionMethod::Deflated] {
        let whole = pack(&[("a", b"hello")], method);
        let start = whole.windows(4).position(|it| it == b"PK\x01\x02").expect("a directory");
        for (size, is_fine) in [(4_u8, false), (5, true), (6, false)] {
            let mut bytes = whole.clone();
            bytes.splice(start + 24..=start + 24, [size]);
            assert_eq!(read(bytes).is_ok(), is_fine, "{method} {size}");
        }
    }
}

#[test]
fn an_archive_may_not_explode() {
    let zeros = vec![0; 1 << 20];
    let bytes = pack(&[("a", &zeros)], CompressionMethod::Deflated);
    assert!(bytes.len() < 8192);
    read(bytes.clone()).expect("below the bytes that are free");
    // The directory says more than there is.
    let start = bytes.windows(4).position(|it| it == b"PK\x01\x02").expect("a directory");
    let mut lies = bytes;
    lies.splice(start + 24..start + 28, u32::to_le_bytes(100 << 20));
    check(lies, Kind::TooLarge, "100 times its size");
}

#[test]
fn entries_that_share_bytes_are_refused() {
    let whole = pack(&[("a", b"hello"), ("b", b"hello")], STORED);
    let start = whole.windows(4).rposition(|it| it == b"PK\x01\x02").expect("a directory");
    let mut bytes = whole;
    // The second file begins where the first one does.
    bytes.splice(start + 42..start + 46, [0; 4]);
    check(bytes, Kind::InvalidArgument, "in the same bytes");
}

#[test]
fn the_number_of_entries_is_bounded() {
    // The end of the directory says more than the bound.
    let mut bytes = pack(&[("a", b"1")], STORED);
    let most = u32::try_from(UNPACK_ENTRIES_MAX).expect("a number") + 1;
    let names: Vec<_> = (0..most).map(|number| format!("{number}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    check(pack(&files, STORED), Kind::TooLarge, "at most 100000");
    // Folders that only the names of files have count, too.
    let names: Vec<_> = (0..2000).map(|n| format!("{n}/{}x", "a/".repeat(60))).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    check(pack(&files, STORED), Kind::TooLarge, "at most 100000");
    // A number without entries allocates nothing.
    let end = bytes.len() - 22;
    bytes.splice(end + 8..end + 12, [0xfe, 0xff, 0xfe, 0xff]);
    check(bytes, Kind::InvalidArgument, "archive");
}
