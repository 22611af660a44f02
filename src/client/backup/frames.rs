//! The file of a backup: length-delimited [`RestoreRequest`] messages. The footer has a digest over all records before
//! it.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message as _;

use crate::{
    client::{
        error::{Error, Result},
        target::{Existing, Register, Target, TempFile},
    },
    limits::{BACKUP_FORMAT, MESSAGE_BYTES_MAX},
    wire::v1::{BackupRecord, RestoreRequest, backup_record::Record, restore_request::Payload},
};

/// The maximum number of bytes of a length prefix, which is a varint.
const LENGTH_BYTES_MAX: usize = 5;
/// The size of the read and write buffers.
const BUFFER_BYTES: usize = 256 * 1024;

/// The running digest over the records, and whether they are complete.
#[derive(Debug, Default)]
pub(super) struct Digest {
    hasher: blake3::Hasher,
    has_begun: bool,
    is_whole: bool,
}

impl Digest {
    /// Adds the next record; checks the digest when the record is the footer.
    ///
    /// # Errors
    /// Why the record cannot be the next one, as text.
    pub(super) fn add(&mut self, record: &BackupRecord) -> Result<(), String> {
        if self.is_whole {
            return Err("it is damaged: something comes after its end".to_owned());
        }
        match &record.record {
            Some(Record::Header(header)) if header.format > BACKUP_FORMAT => {
                return Err(format!(
                    "it has format {} and this program knows {BACKUP_FORMAT}; use a newer imagestore",
                    header.format
                ));
            }
            Some(Record::Header(_)) => self.has_begun = true,
            Some(_) if !self.has_begun => return Err("it is no backup".to_owned()),
            Some(Record::Footer(footer)) => {
                if footer.digest != self.hasher.finalize().as_bytes().as_slice() {
                    return Err("it is damaged: its records are not those of its digest".to_owned());
                }
                self.is_whole = true;
            }
            Some(_) => {}
            None => return Err("it is damaged: a record is of no known kind".to_owned()),
        }
        self.hasher.update(&record.encode_length_delimited_to_vec());
        Ok(())
    }

    /// Whether the footer was added.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// Writes the file of a backup under a temporary name beside its target.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<TempFile>,
}

impl Writer {
    /// Creates the temporary file. Blocks.
    pub(super) fn create(path: &Path, existing: Existing, register: Arc<Register>) -> Result<Self> {
        let file = register.create(Target::of(path)?, existing)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes a message. Blocks.
    pub(super) fn write(&mut self, payload: Payload) -> Result<()> {
        let message = RestoreRequest { payload: Some(payload) };
        let bytes = message.encode_length_delimited_to_vec();
        self.file.write_all(&bytes).map_err(Error::local("write", &self.path))
    }

    /// Renames the file to its target, and makes the file and its name durable. Blocks.
    pub(super) fn finish(self, existing: Existing) -> Result<()> {
        let failed = Error::local("write", &self.path);
        match self.file.into_inner() {
            Ok(file) => file.keep(existing),
            Err(error) => Err(failed(error.into_error())),
        }
    }
}

/// Reads the file of a backup.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    digest: Digest,
}

impl Reader {
    /// Opens the file of a backup. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::local("read", path))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path: path.to_owned(), file, digest: Digest::default() })
    }

    /// The next message; `None` after the last. Blocks.
    ///
    /// # Errors
    /// [`Error::Backup`] where the file is truncated or damaged.
    pub(super) fn next(&mut self) -> Result<Option<Payload>> {
        let Some(length) = self.length()? else {
            if self.digest.is_whole() {
                return Ok(None);
            }
            return Err(self.unfit("it is truncated: its footer is missing"));
        };
        let mut message = vec![0; length];
        self.fill(&mut message)?;
        let payload = RestoreRequest::decode(message.as_slice()).ok().and_then(|it| it.payload);
        match &payload {
            Some(Payload::Record(record)) => {
                self.digest.add(record).map_err(|why| self.unfit(&why))?;
            }
            Some(Payload::Data(_)) if self.digest.has_begun => {}
            None if self.digest.has_begun => return Err(self.unfit("it is damaged")),
            Some(Payload::Data(_)) | None => return Err(self.unfit("it is no backup")),
        }
        Ok(payload)
    }

    /// The length of the next message; `None` at the end of the file.
    fn length(&mut self) -> Result<Option<usize>> {
        let mut bytes = Vec::with_capacity(LENGTH_BYTES_MAX);
        loop {
            let mut byte = [0];
            let read = self.file.read(&mut byte).map_err(Error::local("read", &self.path))?;
            if read == 0 && bytes.is_empty() {
                return Ok(None);
            }
            let [byte] = byte;
            bytes.push(byte);
            if byte < 0x80 || bytes.len() == LENGTH_BYTES_MAX {
                break;
            }
        }
        let length = prost::decode_length_delimiter(bytes.as_slice()).ok();
        match length.filter(|length| *length <= MESSAGE_BYTES_MAX) {
            Some(length) => Ok(Some(length)),
            None if self.digest.has_begun => Err(self.unfit("it is damaged")),
            None => Err(self.unfit("it is no backup")),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let why = if self.digest.has_begun { "it is truncated" } else { "it is no backup" };
                Err(self.unfit(why))
            }
            Err(error) => Err(Error::local("read", &self.path)(error)),
        }
    }

    fn unfit(&self, why: &str) -> Error {
        Error::Backup { path: self.path.clone(), why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::target::TempFiles;
    use crate::wire::v1::{BackupFooter, BackupHeader, BackupList};

    fn record(record: Record) -> Payload {
        Payload::Record(BackupRecord { record: Some(record) })
    }

    /// The messages of a small backup.
    fn backup() -> Vec<Payload> {
        let header = BackupHeader { format: BACKUP_FORMAT, ..BackupHeader::default() };
        let list = BackupList { parts: vec![1, 200, 70_000] };
        let mut hasher = blake3::Hasher::new();
        for it in [Record::Header(header), Record::List(list.clone())] {
            hasher.update(&BackupRecord { record: Some(it) }.encode_length_delimited_to_vec());
        }
        let digest = hasher.finalize().as_bytes().to_vec().into();
        vec![
            record(Record::Header(header)),
            record(Record::List(list)),
            Payload::Data("bytes".into()),
            record(Record::Footer(BackupFooter { digest, ..BackupFooter::default() })),
        ]
    }

    fn write(path: &Path, payloads: Vec<Payload>) {
        let partials = TempFiles::default();
        let writer = Writer::create(path, Existing::Overwrite, partials.register());
        let mut writer = writer.expect("a file");
        for payload in payloads {
            writer.write(payload).expect("written");
        }
        writer.finish(Existing::Overwrite).expect("finished");
    }

    fn read(path: &Path) -> Result<Vec<Payload>> {
        let mut reader = Reader::open(path)?;
        let mut payloads = Vec::new();
        while let Some(payload) = reader.next()? {
            payloads.push(payload);
        }
        Ok(payloads)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        write(&path, backup());
        assert_eq!(read(&path).expect("read"), backup());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        let create = |existing| Writer::create(&path, existing, TempFiles::default().register());
        assert!(matches!(create(Existing::Refuse), Err(Error::Exists(_))));
        drop(create(Existing::Overwrite).expect("a file"));
        assert_eq!(read(&path).expect("as before"), backup());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_torn_or_flipped_file_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        write(&path, backup());
        let good = fs::read(&path).expect("read");
        let data = good.windows(5).position(|window| window == b"bytes").expect("the bytes");
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).expect("written");
            let error = read(&path).expect_err(what);
            assert!(matches!(error, Error::Backup { .. }), "{what}: {error:?}");
        };
        for at in 0..good.len() {
            refused(&good[..at], &format!("truncated at {at}"));
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // The digest of the records does not cover the bytes of parts, which have their own digests.
                if !(data..data + 5).contains(&at) {
                    refused(&bad, &format!("bit {bit} of byte {at}"));
                }
            }
        }
        let mut longer = good.clone();
        longer.extend(&good);
        refused(&longer, "twice");
        refused(b"no backup at all, but a text that somebody wrote", "a text");
    }

    #[test]
    fn a_newer_format_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let header = BackupHeader { format: BACKUP_FORMAT + 1, ..BackupHeader::default() };
        write(&path, vec![record(Record::Header(header))]);
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains("use a newer imagestore"), "{error}");
    }
}
