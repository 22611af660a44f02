//! The thread that writes the audit log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Instant,
};

use rustix::fs::OFlags;
use serde_json::Value;

use super::{Entry, Error, Losses, Target, repeats::Repeats};
use crate::limits::{AUDIT_BATCH_LINES, AUDIT_REPEAT_EVERY};

/// The permissions of the file.
const MODE: u32 = 0o600;

/// The log, as its thread has it.
pub(super) struct Writer {
    sink: Sink,
    repeats: Repeats,
    /// Whether the last write has failed, perhaps in the middle of a line.
    is_torn: bool,
}

enum Sink {
    Stderr,
    /// A file that is opened anew when its path names another file, as after a rotation of logs.
    File(PathBuf, File),
}

/// Opens the file. A named pipe that nobody reads is an error; it would block.
fn open(path: &Path) -> io::Result<File> {
    let no_wait = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(no_wait).open(path)
}

impl Writer {
    /// Opens the log; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub(super) fn open(target: &Target) -> Result<Option<Self>, Error> {
        let sink = match target {
            Target::Off => return Ok(None),
            Target::Stderr => Sink::Stderr,
            Target::File(path) => {
                let failed = |error| {
                    Error::new(format!("cannot open the audit log {}", path.display()))
                        .because(error)
                };
                Sink::File(path.clone(), open(path).map_err(failed)?)
            }
        };
        Ok(Some(Self { sink, repeats: Repeats::default(), is_torn: false }))
    }

    /// Writes until every sender is gone.
    pub(super) fn run(mut self, entries: &Receiver<Entry>, losses: &Losses) {
        loop {
            let first = match entries.recv_timeout(AUDIT_REPEAT_EVERY) {
                Ok(entry) => Some(entry),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let now = Instant::now();
            let mut lines = self.repeats.over(now);
            for entry in first.into_iter().chain(entries.try_iter()).take(AUDIT_BATCH_LINES) {
                match entry.refusal {
                    Some(key) => lines.extend(self.repeats.take(key, entry.line, now)),
                    None => lines.push(entry.line),
                }
            }
            self.write(&lines, losses);
        }
        let lines = self.repeats.all();
        self.write(&lines, losses);
    }

    fn write(&mut self, lines: &[Value], losses: &Losses) {
        if lines.is_empty() {
            return;
        }
        // A line that was written in part is ended, so that the next one is whole.
        let begin = if self.is_torn { "\n" } else { "" };
        let lines_text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let written = self.sink.write(format!("{begin}{lines_text}").as_bytes());
        self.is_torn = written.is_err();
        if let Err(error) = written {
            losses.add(lines.len() as u64, &error.to_string());
        }
    }
}

impl Sink {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().write_all(text),
            Self::File(path, file) => {
                let own = file.metadata()?;
                let is_own =
                    |found: fs::Metadata| (found.dev(), found.ino()) == (own.dev(), own.ino());
                // Where no new file can be made, the old one is still a log.
                if !fs::metadata(&*path).is_ok_and(is_own)
                    && let Ok(new) = open(path)
                {
                    *file = new;
                }
                file.write_all(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::mpsc::sync_channel};

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn entry(id: u64, is_refusal: bool) -> Entry {
        let refusal = is_refusal.then(|| "a".to_owned());
        Entry { line: json!({"id": id, "call": "Delete"}), refusal }
    }

    /// Writes entries to a file, and returns the number of lost lines.
    fn write(path: &Path, entries: Vec<Entry>) -> u64 {
        let losses = Losses::default();
        let writer = Writer::open(&Target::File(path.to_owned())).expect("opened").expect("a log");
        let (sender, receiver) = sync_channel(entries.len());
        for entry in entries {
            sender.send(entry).expect("room");
        }
        drop(sender);
        writer.run(&receiver, &losses);
        losses.count.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[test]
    fn lines_are_added_to_the_end() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("audit.log");
        assert_eq!(write(&path, vec![entry(1, false), entry(2, true), entry(3, true)]), 0);
        assert_eq!(write(&path, vec![entry(4, false)]), 0);
        let text = fs::read_to_string(&path).expect("a file");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let ids: Vec<_> = lines.iter().map(|line| line["id"].as_u64().expect("an id")).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
        assert_eq!(lines[2]["count"], 1, "the second refusal");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_moved_away_is_made_anew() {
        let folder = TempDir::new().expect("a folder");
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let target = Target::File(path.clone());
        let mut writer = Writer::open(&target).expect("opened").expect("a log");
        let losses = Losses::default();
        writer.write(&[json!(1)], &losses);
        fs::hard_link(&path, &old).expect("linked");
        fs::remove_file(&path).expect("removed");
        writer.write(&[json!(2)], &losses);
        let text = |path: &Path| fs::read_to_string(path).expect("a file");
        assert_eq!((text(&old).as_str(), text(&path).as_str()), ("1\n", "2\n"));
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        assert_eq!(write(Path::new("/dev/full"), vec![entry(1, false), entry(2, false)]), 2);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_refused() {
        let target = Target::File("/none/audit.log".into());
        let error = Writer::open(&target).err().expect("refused").explain();
        assert!(error.starts_with("cannot open the audit log /none/audit.log: "), "{error}");
        assert!(Writer::open(&Target::Off).expect("no log").is_none());
        let folder = TempDir::new().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("a pipe");
        Writer::open(&Target::File(pipe)).err().expect("nobody reads it");
    }
}
