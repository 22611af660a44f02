//! The list of parts of the next content of a restore. A list of any length takes bounded memory and bounded
//! write jobs.
//!
//! A short list is kept in memory until its content comes. A longer one is written page by page to a new
//! content, which has no etag yet, so that no upload finds it.

use crate::{
    error::Result,
    limits::{RESTORE_STEP_ROWS, TOTAL_MAX, UPLOAD_PARTS_MAX},
    model::Digest,
    namespace::{
        content::{
            ListedPart, Summary, find_or_insert_content, insert_list, new_content, set_identity,
        },
        garbage::{Ref, enqueue_if_unreferenced},
        pin::{self, Owner},
        restore::{Made, damaged},
        sql::{Tx, params},
    },
};

/// A list whose content has not come yet.
#[derive(Debug, Default)]
pub(super) struct List {
    /// The numbers of the parts that were not written yet.
    numbers: Vec<usize>,
    long: Option<Box<Long>>,
}

/// The content that a long list is written to, the number of parts written, and their etag and size.
#[derive(Debug)]
struct Long {
    content: i64,
    count: usize,
    list: Summary,
}

impl List {
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.long.is_none()
    }

    /// Adds a part. Once there are many, they are written, and their pins are dropped. `made` are the parts
    /// of the restore, and the number of its pins.
    ///
    /// # Errors
    /// `InvalidArgument` for more than [`UPLOAD_PARTS_MAX`] parts, or more bytes than a store can hold.
    pub(super) fn add(
        &mut self,
        tx: &mut Tx<'_>,
        number: usize,
        made: (&mut [Made], &mut usize),
        owner: &Owner,
    ) -> Result<()> {
        self.numbers.push(number);
        if self.numbers.len() < RESTORE_STEP_ROWS {
            return Ok(());
        }
        self.write(tx, made, owner)
    }

    fn write(
        &mut self,
        tx: &mut Tx<'_>,
        (parts, pinned): (&mut [Made], &mut usize),
        owner: &Owner,
    ) -> Result<()> {
        let mut long = if let Some(long) = self.long.take() {
            long
        } else {
            *pinned += 1;
            Box::new(Long { content: new_content(tx, owner)?, count: 0, list: Summary::default() })
        };
        long.count += self.numbers.len();
        if long.count > UPLOAD_PARTS_MAX {
            return Err(damaged(&format!("a content has more than {UPLOAD_PARTS_MAX} parts")));
        }
        let page = listed(&self.numbers, parts)?;
        let start = long.list.size;
        long.list.add(&page);
        if long.list.size > TOTAL_MAX {
            return Err(damaged("a content is larger than a store can be"));
        }
        insert_list(tx, long.content, start, &page)?;
        let sql = "UPDATE content SET size = $1 WHERE id = $2";
        tx.execute(sql, params![long.list.size, long.content])?;
        self.long = Some(long);
        transfer(tx, self.numbers.drain(..), (parts, pinned), owner)
    }

    /// Finds or makes the content of the list, and pins it for the restore.
    ///
    /// # Errors
    /// `InvalidArgument` if the parts have another size in total.
    pub(super) fn end(
        mut self,
        tx: &mut Tx<'_>,
        (digest, size): (Option<Digest>, i64),
        (parts, pinned): (&mut [Made], &mut usize),
        owner: &Owner,
    ) -> Result<i64> {
        if self.long.is_some() {
            self.write(tx, (&mut *parts, &mut *pinned), owner)?;
        }
        let Some(long) = self.long else {
            return short(tx, &self.numbers, (digest, size), (parts, pinned), owner);
        };
        if long.list.size != size {
            return Err(other_size());
        }
        let etag = long.list.etag();
        let Some(found) = tx.first("SELECT id FROM content WHERE etag = $1", params![&etag])?
        else {
            set_identity(tx, long.content, &etag, digest.as_ref())?;
            return Ok(long.content);
        };
        // The store has a content with the same list, which may be damaged or waiting for reclamation.
        let content = found.int(0)?;
        if has_list_of(tx, content, (long.content, long.count))? {
            let sql = "UPDATE content SET size = $1, digest = COALESCE($2, digest) WHERE id = $3";
            tx.execute(sql, params![size, digest.as_ref(), content])?;
        } else {
            heal(tx, long.content, digest)?;
        }
        pin::pin(tx, owner, Ref::content(content))?;
        pin::transfer(tx, owner, Ref::content(long.content))?;
        enqueue_if_unreferenced(tx, Ref::content(long.content))?;
        Ok(content)
    }
}

/// Whether a content has the same list as `other`, which has `count` parts. Compares in the database, without
/// reading the lists into memory.
fn has_list_of(tx: &mut Tx<'_>, content: i64, (other, count): (i64, usize)) -> Result<bool> {
    let all = "SELECT COUNT(*) FROM content_part WHERE content = $1";
    let same = "SELECT COUNT(*) FROM content_part a
                JOIN content_part b ON b.content = $2 AND b.start = a.start AND b.part = a.part
                WHERE a.content = $1";
    let all = tx.one(all, params![content])?.count(0)?;
    let same = tx.one(same, params![content, other])?.count(0)?;
    Ok((all, same) == (count as i64, count as i64))
}

/// Repairs the damaged content that has the same etag from the list of another one. Reads both lists into
/// memory.
fn heal(tx: &mut Tx<'_>, from: i64, digest: Option<Digest>) -> Result<()> {
    let sql = "SELECT p.id, p.size, p.digest FROM content_part c JOIN part p ON p.id = c.part
               WHERE c.content = $1 ORDER BY c.start";
    let rows = tx.all(sql, params![from])?;
    let rows = rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.digest(2)?)));
    find_or_insert_content(tx, &rows.collect::<Result<Vec<_>>>()?, digest).map(drop)
}

/// Finds or makes a content of a few parts, and pins it.
fn short(
    tx: &mut Tx<'_>,
    numbers: &[usize],
    (digest, size): (Option<Digest>, i64),
    (parts, pinned): (&mut [Made], &mut usize),
    owner: &Owner,
) -> Result<i64> {
    let rows = listed(numbers, parts)?;
    let sum = rows.iter().try_fold(0_i64, |sum, (_, size, _)| sum.checked_add(*size));
    if sum != Some(size) || size > TOTAL_MAX {
        return Err(other_size());
    }
    let (content, _) = find_or_insert_content(tx, &rows, digest)?;
    pin::pin(tx, owner, Ref::content(content))?;
    *pinned += 1;
    transfer(tx, numbers.iter().copied(), (parts, pinned), owner)?;
    Ok(content)
}

/// The parts of these numbers, as items of a list.
fn listed(numbers: &[usize], parts: &[Made]) -> Result<Vec<ListedPart>> {
    let listed = |number: &usize| {
        let part = parts.get(*number)?;
        Some((part.id, part.size, part.digest?))
    };
    let rows: Option<_> = numbers.iter().map(listed).collect();
    rows.ok_or_else(|| damaged("a list has a part that did not come"))
}

/// Drops the pins of parts that a content refers to by now.
fn transfer(
    tx: &mut Tx<'_>,
    numbers: impl IntoIterator<Item = usize>,
    (parts, pinned): (&mut [Made], &mut usize),
    owner: &Owner,
) -> Result<()> {
    for number in numbers {
        if let Some(part) = parts.get_mut(number)
            && std::mem::take(&mut part.is_pinned)
        {
            *pinned -= 1;
            pin::transfer(tx, owner, Ref::part(part.id))?;
        }
    }
    Ok(())
}

fn other_size() -> crate::error::Error {
    damaged("the parts of a content have another size")
}
