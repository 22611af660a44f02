//! The order of the writes and reads of single files in real time.
//!
//! Each write of a file has bytes of its own, so a read tells which write it has seen. The history of a file is right if
//! its calls can be put in an order in which each read returns the last write before it, and a call that began after
//! another had ended comes after that one. For such histories this is so if (P. Gibbons, E. Korach: Testing shared
//! memories, 1997), with the *zone* of a write between the first end and the last begin of it and its reads:
//!
//! - no read ended before its write began;
//! - no two zones overlap in which an end comes before a begin: each is a time in which its bytes certainly were there;
//! - no other zone, in which its bytes may have been there for a moment only, is inside such a zone.
//!
//! A write without an answer may happen at any time after its begin, or never.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use super::content::Upload;

/// A write and its reads. The first state of a file, in which it is missing, is a write, too.
struct Write {
    begun: Instant,
    /// `None`: it has had no answer.
    ended: Option<Instant>,
    /// The begin and the end of each read.
    reads: Vec<(Instant, Instant)>,
}

/// The times of a write and its reads.
#[derive(Clone, Copy, Debug)]
struct Zone {
    first_end: Instant,
    last_begin: Instant,
}

/// The writes of one file, by their bytes.
struct File(BTreeMap<Option<Upload>, Write>);

/// The history of all files.
pub(super) struct Order {
    start: Instant,
    files: Mutex<BTreeMap<String, File>>,
}

impl Default for Order {
    fn default() -> Self {
        Self { start: Instant::now(), files: Mutex::default() }
    }
}

impl Order {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.files.lock().expect("no panic")
    }

    fn with(&self, path: &str, job: impl FnOnce(&mut File)) {
        job(self.files().entry(path.to_owned()).or_insert_with(|| File::new(self.start)));
    }

    /// Records a write that begins now.
    pub(super) fn begin(&self, path: &str, upload: Upload) {
        let now = Instant::now();
        self.with(path, |file| file.begin(upload, now));
    }

    /// Records that a write was acknowledged now.
    pub(super) fn end(&self, path: &str, upload: Upload) {
        let now = Instant::now();
        self.with(path, |file| file.end(upload, now));
    }

    /// Records a read that has ended now.
    pub(super) fn read(&self, path: &str, upload: Option<Upload>, begun: Instant) {
        let now = Instant::now();
        self.with(path, |file| file.read(upload, (begun, now)));
    }

    /// Checks the history of every file. Returns the numbers of acknowledged writes and of reads.
    pub(super) fn verify(&self) -> (usize, usize) {
        let (mut writes, mut reads) = (0, 0);
        for (path, file) in &*self.files() {
            if let Err(fault) = file.judge() {
                panic!("{path}: {fault}");
            }
            writes += file.0.values().filter(|write| write.ended.is_some()).count();
            reads += file.0.values().map(|write| write.reads.len()).sum::<usize>();
        }
        (writes, reads)
    }
}

impl File {
    fn new(now: Instant) -> Self {
        Self([(None, Write { begun: now, ended: Some(now), reads: Vec::new() })].into())
    }

    fn begin(&mut self, upload: Upload, now: Instant) {
        let write = Write { begun: now, ended: None, reads: Vec::new() };
        assert!(self.0.insert(Some(upload), write).is_none(), "{upload:?} is written twice");
    }

    fn end(&mut self, upload: Upload, now: Instant) {
        self.0.get_mut(&Some(upload)).expect("begun").ended = Some(now);
    }

    fn read(&mut self, upload: Option<Upload>, times: (Instant, Instant)) {
        let write = self.0.get_mut(&upload);
        write.unwrap_or_else(|| panic!("{upload:?} was never written")).reads.push(times);
    }

    /// Says what is impossible in the history.
    fn judge(&self) -> Result<(), String> {
        let mut zones = Vec::new();
        for (upload, write) in &self.0 {
            if write.reads.iter().any(|(_, ended)| *ended < write.begun) {
                return Err(format!("{upload:?} was read before it was written"));
            }
            let ends = write.reads.iter().map(|(_, ended)| *ended).chain(write.ended);
            // A write that nobody has seen and that has no answer never happened.
            let Some(first_end) = ends.min() else { continue };
            let begins = write.reads.iter().map(|(begun, _)| *begun);
            let last_begin = begins.fold(write.begun, Instant::max);
            zones.push((*upload, Zone { first_end, last_begin }));
        }
        let (certain, brief): (Vec<_>, Vec<_>) =
            zones.into_iter().partition(|(_, zone)| zone.first_end < zone.last_begin);
        for (number, (upload, zone)) in certain.iter().enumerate() {
            // Of another such zone: whether they overlap; of one of the others: whether it is inside.
            let is_wrong = |(_, other): &&(Option<Upload>, Zone)| {
                zone.first_end < other.last_begin && other.first_end < zone.last_begin
            };
            let found = certain[number + 1..].iter().chain(&brief).find(is_wrong);
            if let Some((other, times)) = found {
                return Err(format!(
                    "{upload:?} was there during {zone:?}, and {other:?} at some time in {times:?}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::histories::content::Class;

    fn upload(serial: usize) -> Upload {
        Upload::new(serial, Class::Inline)
    }

    /// The verdict on a history. A write has a number, the times of its begin, and that of its end if it has one; a read
    /// has the number that it saw, 0 for none, and its times.
    fn is_right(writes: &[(usize, u64, Option<u64>)], reads: &[(usize, u64, u64)]) -> bool {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut file = File::new(start);
        for (number, begun, ended) in writes {
            file.begin(upload(*number), at(*begun));
            if let Some(ended) = ended {
                file.end(upload(*number), at(*ended));
            }
        }
        for (number, begun, ended) in reads {
            let seen = (*number > 0).then(|| upload(*number));
            file.read(seen, (at(*begun), at(*ended)));
        }
        file.judge().is_ok()
    }

    #[test]
    fn a_read_sees_the_last_acknowledged_write_or_one_that_runs() {
        let writes = [(1, 1, Some(2)), (2, 5, Some(9))];
        assert!(is_right(&writes, &[(1, 3, 4), (2, 6, 7), (1, 6, 8), (2, 10, 11)]));
        assert!(is_right(&writes, &[(0, 0, 1), (1, 7, 8), (2, 8, 9)]));
        assert!(!is_right(&writes, &[(0, 3, 4)]), "an acknowledged write is missing");
        assert!(!is_right(&writes, &[(1, 10, 11)]), "an old write is seen");
        assert!(!is_right(&writes, &[(2, 3, 4)]), "a write is seen before it began");
        assert!(!is_right(&writes, &[(2, 6, 7), (1, 8, 9)]), "a read goes back");
    }

    #[test]
    fn writes_at_once_have_one_order() {
        let writes = [(1, 1, Some(9)), (2, 2, Some(8))];
        assert!(is_right(&writes, &[(1, 3, 4), (2, 5, 6), (2, 10, 11)]));
        assert!(!is_right(&writes, &[(1, 3, 4), (2, 5, 6), (1, 7, 8)]));
    }

    #[test]
    fn a_write_without_an_answer_may_happen_later_once_or_never() {
        let writes = [(1, 1, None), (2, 3, Some(4))];
        assert!(is_right(&writes, &[(2, 5, 6), (1, 7, 8)]), "later");
        assert!(is_right(&writes, &[(2, 5, 6), (2, 7, 8)]), "never");
        assert!(!is_right(&writes, &[(1, 5, 6), (2, 7, 8)]), "the other one has ended before");
        assert!(!is_right(&writes, &[(2, 5, 6), (1, 7, 8), (2, 9, 10)]), "not twice");
    }
}
