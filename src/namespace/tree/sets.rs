//! Folders that are made and changed together.

use crate::{
    error::Result,
    model::{FolderTag, Totals},
    namespace::{
        sql::{Param, Rows, Set, Tx, count, set},
        tree::reach::Reach,
    },
};

const LOOK_UP: Set = set!(
    "SELECT f.files, f.bytes FROM",
    ["$1" "asked" "BIGINT"],
    "JOIN folder f ON f.id = r.asked"
);

const LOOK_UP_TAGS: Set = set!(
    "SELECT f.id, f.changes FROM",
    ["$1" "asked" "BIGINT"],
    "JOIN folder f ON f.id = r.asked"
);

/// The change tags of folders, in no order.
///
/// # Errors
/// Those of the engine.
pub fn tags(tx: &mut Tx<'_>, folders: &[i64]) -> Result<Vec<FolderTag>> {
    let asked = Rows::new(LOOK_UP_TAGS, folders.iter().map(|id| [Param::from(*id)]));
    let [rows] = tx.run(&[asked])?;
    rows.iter().map(|row| Ok(FolderTag { id: row.int(0)?, changes: row.int(1)? })).collect()
}

/// Looks up the totals of folders: their files and bytes.
pub fn look_up_totals<'a>(folders: impl IntoIterator<Item = i64>) -> Rows<'a> {
    Rows::new(LOOK_UP, folders.into_iter().map(|folder| [Param::from(folder)]))
}

const NEW: Set = set!(
    "INSERT INTO folder (files, bytes, depth, length) SELECT r.none, r.none, r.none, r.none FROM",
    ["$1" "none" "BIGINT"],
    "WHERE 1 = 1 RETURNING id"
);

/// Makes empty folders that nothing refers to yet. The result has their ids.
pub fn new_folders<'a>(count: usize) -> Rows<'a> {
    Rows::new(NEW, std::iter::repeat_n([Param::from(0)], count))
}

/// What writes change in a folder of their paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What is added to its totals.
    pub delta: Totals,
    /// The number of the writes.
    pub writes: i64,
    /// The reach of what was written.
    pub reach: Reach,
}

impl Change {
    /// Adds a write that changes the totals by `delta` and reaches as far as `reach`.
    pub fn add(&mut self, delta: Totals, reach: Reach) {
        self.delta.files += delta.files;
        self.delta.bytes += delta.bytes;
        self.writes += 1;
        self.reach = self.reach.or(reach);
    }
}

const RECORD: Set = set!(
    concat!(
        "UPDATE folder SET files = ",
        count!("files"),
        " + r.more, bytes = ",
        count!("bytes"),
        " + r.longer, changes = changes + r.writes,
           depth = CASE WHEN depth < r.down THEN r.down ELSE depth END,
           length = CASE WHEN length < r.far THEN r.far ELSE length END
         FROM"
    ),
    ["$1" "written" "BIGINT", "$2" "more" "BIGINT", "$3" "longer" "BIGINT", "$4" "writes" "BIGINT",
     "$5" "down" "BIGINT", "$6" "far" "BIGINT"],
    "WHERE id = r.written"
);

/// Counts writes in the folders of their paths, each folder once, and raises the reach of these folders.
pub fn record_changes<'a>(changes: impl IntoIterator<Item = (i64, Change)>) -> Rows<'a> {
    let row = |(folder, Change { delta, writes, reach })| {
        let numbers = [folder, delta.files, delta.bytes, writes, reach.depth, reach.length];
        numbers.map(Param::from)
    };
    Rows::new(RECORD, changes.into_iter().map(row))
}
