//! The check of the tables: every reference has its target, every row has a reason to exist, and every count
//! equals a recount.
//!
//! [`Scan`] reads the tables in pages and collects the rows that look wrong, the candidates.
//! [`judge`](fn@judge) looks at one candidate again, in one transaction, and returns what is wrong with it,
//! if anything. So writers between the pages of a scan cause no false finding, memory is bounded, and no
//! statement of the scan takes longer for a larger store. A verdict takes longer for a larger folder or file,
//! but blocks no writer: only [`repair`](fn@repair) writes, a few rows at a time. A folder is compared only with
//! its direct entries; if that holds for every folder, it holds for the tree.
//!
//! **Deliberately absent:** a search for cycles of folders, which would need the whole tree in memory. No
//! write can make a cycle: a copy whose paths overlap is refused, and a destination that leads into the
//! source by another path finds its folders shared and clones them.

mod contents;
mod folders;
mod judge;
mod places;
mod repair;
mod sessions;
mod sums;

use std::time::Instant;

pub use contents::stored_parts;
pub use judge::{Lost, Verdict, judge, judge_lost, judge_object};
pub use repair::{Repair, RepairResult, repair};
pub use sums::judge_sum;

use crate::{
    error::Result,
    limits::{CHECK_PAGE_ROWS, STEP},
    namespace::{
        check::{
            contents::{List, contents, lists, parts},
            folders::{Tally, entries, folders},
            sessions::{Run, chunks, sessions},
        },
        entries::Key,
        sql::{Row, Tx, params},
    },
};

/// A row that looks wrong in a scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// An entry, by its folder, folded name and name.
    Entry(i64, String, String),
    /// A folder, or the entries of a missing folder.
    Folder(i64),
    /// A content, or the list of parts of a missing content.
    Content(i64),
    /// A part.
    Part(i64),
    /// An upload session, or the chunks of a missing session.
    Session(String),
}

/// The result of a step of a scan.
#[derive(Debug, Default)]
pub struct ScanResult {
    /// The number of rows that were read.
    pub rows: u64,
    /// The rows that look wrong.
    pub candidates: Vec<Candidate>,
}

/// The state of a scan.
#[derive(Debug)]
pub struct Scan(At);

#[derive(Debug)]
enum At {
    Entries { after: (i64, Key), tally: Option<Tally> },
    Folders(i64),
    Lists { after: (i64, i64), list: Option<List> },
    Contents(i64),
    Chunks { after: (String, i64), run: Option<Run> },
    Sessions(String),
    Parts(i64),
    End,
}

impl Default for Scan {
    fn default() -> Self {
        Self(At::Entries { after: Default::default(), tally: None })
    }
}

impl Scan {
    /// Continues for about [`STEP`]. `None`: the scan has ended.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<Option<ScanResult>> {
        let started = Instant::now();
        let mut looked = ScanResult::default();
        if matches!(self.0, At::End) {
            return Ok(None);
        }
        let was_past = self.is_past_folders();
        loop {
            self.0 = match std::mem::replace(&mut self.0, At::End) {
                At::Entries { after, tally } => entries(tx, after, tally, &mut looked)?,
                At::Folders(after) => folders(tx, after, &mut looked)?,
                At::Lists { after, list } => lists(tx, after, list, &mut looked)?,
                At::Contents(after) => contents(tx, after, &mut looked)?,
                At::Chunks { after, run } => chunks(tx, after, run, &mut looked)?,
                At::Sessions(after) => sessions(tx, after, &mut looked)?,
                At::Parts(after) => parts(tx, after, &mut looked)?,
                At::End => return Ok(Some(looked)),
            };
            // A step never covers both folders and what follows them.
            if started.elapsed() >= STEP || self.is_past_folders() != was_past {
                return Ok(Some(looked));
            }
        }
    }

    /// Whether all entries and folders were scanned.
    pub fn is_past_folders(&self) -> bool {
        !matches!(self.0, At::Entries { .. } | At::Folders(_))
    }
}

fn is_last(rows: &[Row]) -> bool {
    (rows.len() as i64) < CHECK_PAGE_ROWS
}

/// The last id of the next page, and the number of its rows.
fn page(tx: &mut Tx<'_>, sql: &'static str, after: i64) -> Result<Option<(i64, u64)>> {
    let row = tx.one(sql, params![after, CHECK_PAGE_ROWS])?;
    let rows = row.int(1)? as u64;
    Ok(row.opt_int(0)?.map(|last| (last, rows)))
}

fn candidates(
    rows: &[Row],
    looked: &mut ScanResult,
    candidate: impl Fn(i64) -> Candidate,
) -> Result<()> {
    for row in rows {
        looked.candidates.push(candidate(row.int(0)?));
    }
    Ok(())
}
