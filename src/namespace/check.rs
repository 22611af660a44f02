//! The check of the tables: every reference leads somewhere, every row has a reason to be there, and
//! every count is that of a recount.
//!
//! [`Scan`] goes through the tables in pages and collects what looks wrong; [`judge`](fn@judge) looks at
//! one such row again, in one transaction, and says what is wrong, or nothing. So a scan may be
//! confused by writers between its pages without a false word, memory is bounded, and no statement of
//! the scan takes longer for a larger store; a verdict takes longer for a larger folder or file, and holds
//! up no writer: [`mend`](fn@mend) alone writes, a few rows at a time. Folders
//! are compared with their direct entries only; what is true of every folder is then true of the tree.
//!
//! **Deliberately absent:** a search for circles of folders, which would need the whole tree in
//! memory. No write can make one: a copy onto or below its own source is refused or finds the source
//! cloned.

mod contents;
mod folders;
mod judge;
mod mend;
mod places;
mod sessions;
mod sums;

use std::time::Instant;

pub use contents::stored_parts;
pub use judge::{Lost, Verdict, judge, judge_lost, judge_object};
pub use mend::{Mend, Mended, mend};
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

/// A row that looks wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// An entry: its folder, folded name and name.
    Entry(i64, String, String),
    /// A folder, or the entries of one that is gone.
    Folder(i64),
    /// A content, or a list of parts without one.
    Content(i64),
    /// A part.
    Part(i64),
    /// An upload session, or the chunks of one that is gone.
    Session(String),
}

/// What a step of a scan has looked at.
#[derive(Debug, Default)]
pub struct ScanResult {
    /// Rows.
    pub rows: u64,
    /// Those that look wrong.
    pub candidates: Vec<Candidate>,
}

/// Where a scan stands.
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
    /// Goes on for about [`STEP`]. `None`: it has seen everything.
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
            // A step never reaches from the folders into what comes after them.
            if started.elapsed() >= STEP || self.is_past_folders() != was_past {
                return Ok(Some(looked));
            }
        }
    }

    /// Whether all entries and folders are behind it.
    pub fn is_past_folders(&self) -> bool {
        !matches!(self.0, At::Entries { .. } | At::Folders(_))
    }
}

fn is_last(rows: &[Row]) -> bool {
    (rows.len() as i64) < CHECK_PAGE_ROWS
}

/// The end of the next page of ids, and how many rows it has.
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
