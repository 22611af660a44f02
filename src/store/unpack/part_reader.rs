//! The bytes of a stored archive, for a thread that may block: it asks for a part and waits.

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::archive::Source;
use crate::{
    error::{Error, Kind, Result},
    model::StorePath,
    namespace::content::Part,
};

/// What the thread that reads an archive sends.
#[derive(Debug)]
pub(super) enum Event {
    /// It waits for a part of the archive.
    Part { number: usize, reply: oneshot::Sender<Result<Bytes>> },
    /// The directory is read: the bytes of all files, and the mark files that are to be made.
    Plan { bytes: u64, marks: Vec<StorePath> },
    /// A file begins, of this size.
    File { path: StorePath, size: u64 },
    /// The next bytes of the file.
    Piece(Vec<u8>),
    /// The file is complete.
    End,
}

/// Sends an event. Blocks.
///
/// # Errors
/// `Cancelled` if nobody receives it.
pub(super) fn send(events: &mpsc::Sender<Event>, event: Event) -> Result<()> {
    events.blocking_send(event).map_err(|_| gone())
}

fn gone() -> Error {
    Error::new(Kind::Cancelled, "the upload broke off; nothing is stored")
}

/// The bytes of an archive. Keeps the part of the last read.
pub(super) struct PartReader {
    /// Where each part begins.
    starts: Vec<u64>,
    size: u64,
    events: mpsc::Sender<Event>,
    at: u64,
    /// The number of a part and its bytes.
    part: Option<(usize, Bytes)>,
    /// How many more bytes may be read.
    allowed: u64,
}

impl PartReader {
    /// Begins before the first byte.
    pub(super) fn new(parts: &Arc<[Part]>, events: mpsc::Sender<Event>) -> Self {
        let mut size = 0;
        let starts = parts.iter().map(|part| {
            let start = size;
            size += part.size as u64;
            start
        });
        let starts = starts.collect();
        Self { starts, size, events, at: 0, part: None, allowed: 0 }
    }

    /// The bytes from the current position to the end of its part; empty at the end of the archive.
    fn rest(&mut self) -> Result<Bytes> {
        if self.at >= self.size {
            return Ok(Bytes::new());
        }
        let number = self.starts.partition_point(|start| *start <= self.at) - 1;
        let start = self.starts.get(number).copied().unwrap_or_default();
        let bytes = match &self.part {
            Some((kept, bytes)) if *kept == number => bytes.clone(),
            _ => {
                // Released first, so that one part is in memory.
                self.part = None;
                let (reply, answer) = oneshot::channel();
                send(&self.events, Event::Part { number, reply })?;
                let bytes = answer.blocking_recv().map_err(|_| gone())??;
                self.part = Some((number, bytes.clone()));
                bytes
            }
        };
        let from = usize::try_from(self.at - start).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.slice(from..))
    }
}

impl Source for PartReader {
    fn size(&self) -> u64 {
        self.size
    }

    fn allow(&mut self, bytes: u64) {
        self.allowed = bytes;
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.rest()?;
        let count = rest.as_ref().read(buffer)?;
        self.allowed = self.allowed.checked_sub(count as u64).ok_or_else(|| {
            let message = "the directory of the archive is too large; nothing is stored";
            io::Error::from(Error::new(Kind::TooLarge, message))
        })?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for PartReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
