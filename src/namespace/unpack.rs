//! The building of a folder from the files of an archive. No path leads to the folder until the last transaction.
//!
//! The folder is pinned by its owner. Its totals and reach match its entries after each transaction, since an
//! abandoned folder is reclaimed like any other.

use std::time::Instant;

use crate::{
    error::{Error, Kind, Result},
    limits::STEP,
    model::{Conditions, Digest, Replaces, StorePath, Totals},
    namespace::{
        assembly::{self, Assembled},
        condition,
        content::{self, Part, PartRow},
        garbage::Ref,
        pin::{self, Owner},
        reach::Reach,
        schema,
        sql::{Tx, params},
        tree::{self, File, Target},
    },
};

/// A file of an archive, whose bytes are stored.
#[derive(Clone, Debug)]
pub struct UnpackedFile {
    /// Its path in the folder that is built.
    pub path: StorePath,
    /// Its parts, in order; empty if its list is assembled.
    pub parts: Vec<Part>,
    /// Its list of parts, if that is long and so written already.
    pub list: Option<Assembled>,
    /// The BLAKE3 digest of its bytes.
    pub digest: Digest,
    /// The owner of the pins of its parts.
    pub owner: Owner,
    /// The number of these pins that it relies on.
    pub pins: usize,
}

/// The row of a stored part that the caller has pinned.
///
/// # Errors
/// `Busy` if the part is gone.
pub fn pinned_part(tx: &mut Tx<'_>, digest: &Digest) -> Result<PartRow> {
    let found = tx.first("SELECT id FROM part WHERE digest = $1", params![digest])?;
    let part = match found {
        Some(row) => content::part(tx, row.int(0)?)?,
        None => None,
    };
    part.ok_or_else(|| Error::new(Kind::Busy, "a part of the archive is gone; try again"))
}

/// Makes an empty folder, pinned by its owner.
pub fn begin(tx: &mut Tx<'_>, owner: &Owner) -> Result<i64> {
    let folder = tree::new_folder(tx, Totals::default(), Reach::default())?;
    pin::pin(tx, owner, Ref::folder(folder))?;
    Ok(folder)
}

/// Adds the first of these files to the folder that the owner builds, for about [`STEP`]. Returns how many.
///
/// # Errors
/// `Busy` if a pin is gone, or a part that was stored; `Internal` if a path is taken.
pub fn add(
    tx: &mut Tx<'_>,
    (folder, owner): (i64, &Owner),
    files: &[UnpackedFile],
) -> Result<usize> {
    let started = Instant::now();
    pin::check_one(tx, owner, Ref::folder(folder))?;
    for (number, file) in (1..).zip(files) {
        let (content, size) = if let Some(list) = &file.list {
            pin::check_one(tx, &file.owner, Ref::content(list.content))?;
            (assembly::adopt(tx, list, Some(&file.digest))?, list.size)
        } else {
            if file.pins > 0 {
                pin::check(tx, &file.owner.id, file.pins)?;
            }
            let mut parts = Vec::with_capacity(file.parts.len());
            for part in &file.parts {
                parts.push((content::find_or_insert_part(tx, part)?, part.size, part.digest));
            }
            content::find_or_insert_content(tx, &parts, Some(file.digest))?
        };
        let version = schema::next_version(tx)?;
        let made = File { content, size, version, modified: tx.now()? };
        tree::add(tx, folder, &file.path, &Target::File(made))?;
        if started.elapsed() >= STEP {
            return Ok(number);
        }
    }
    Ok(files.len())
}

/// Refuses a folder at a path where it would replace something that `replaces` does not allow, or where the
/// conditions do not hold.
///
/// # Errors
/// `AlreadyExists`, `PreconditionFailed`.
pub fn check(
    tx: &mut Tx<'_>,
    (path, replaces): (&StorePath, Replaces),
    conditions: &Conditions,
) -> Result<()> {
    if replaces == Replaces::File {
        tree::check_folder_fits(tx, path, "path")?;
    }
    condition::check(tx, path, conditions)
}

/// Makes the folder visible, and drops the owner's pin. The caller has called [`check`]. Returns how many files the
/// folder replaces.
///
/// # Errors
/// `Busy` if the pin is gone; those of [`tree::put`].
pub fn finish(
    tx: &mut Tx<'_>,
    (path, replaces): (&StorePath, Replaces),
    (folder, owner): (i64, &Owner),
) -> Result<i64> {
    pin::check_one(tx, owner, Ref::folder(folder))?;
    let above = match replaces {
        Replaces::File => Totals::default(),
        Replaces::Anything => tree::clear_above(tx, path)?,
    };
    let old = tree::put(tx, path, &Target::Folder(folder), "path")?;
    pin::transfer(tx, owner, Ref::folder(folder))?;
    Ok(above.files + old.files)
}
