//! The verdict on one row, in one snapshot: what is wrong with it, and how it can be repaired if that is
//! safe.

use crate::{
    error::Result,
    limits::CHECK_PAGE_ROWS,
    model::{Digest, Finding, FindingKind, folded},
    namespace::{
        check::{Candidate, List, Repair, Run, folders, places::Places},
        content as stored, entries,
        garbage::{self, Kind, Ref, is_garbage, is_referenced},
        reach::Reach,
        schema::ROOT,
        sql::{Tx, params},
    },
};

/// A finding and its repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The finding, for the client.
    pub finding: Finding,
    /// The repair, if there is a safe one.
    pub repair: Option<Repair>,
}

impl Verdict {
    /// A verdict on what cannot be repaired.
    fn without_repair(finding: Finding) -> Self {
        Self { finding, repair: None }
    }
}

/// What is wrong with the bytes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// They are missing.
    Missing,
    /// They are not those that were stored.
    Damaged,
    /// They cannot be read.
    Unreadable,
}

/// Looks at a candidate again, and returns what is wrong with it; empty if nothing is.
///
/// # Errors
/// Those of the engine.
pub fn judge(tx: &mut Tx<'_>, candidate: &Candidate) -> Result<Vec<Verdict>> {
    match candidate {
        Candidate::Entry(folder, folded, name) => entry(tx, (*folder, folded, name)),
        Candidate::Folder(id) => folder(tx, *id),
        Candidate::Content(id) => content(tx, *id),
        Candidate::Part(id) => part(tx, *id),
        Candidate::Session(id) => session(tx, id),
    }
}

fn finding(kind: FindingKind, places: &Places, text: &str) -> Finding {
    let message = format!("{places}: {text}");
    let paths = places.paths.clone();
    Finding { kind, message, paths, more_paths: places.more, repaired: false }
}

/// A finding about a row that no path leads to.
pub(super) fn finding_aside(kind: FindingKind, message: String) -> Finding {
    Finding { kind, message, paths: Vec::new(), more_paths: false, repaired: false }
}

/// A verdict on a target that nothing refers to and that is not queued for reclamation; else `None`.
fn unreferenced(
    tx: &mut Tx<'_>,
    target: Ref,
    kind: FindingKind,
    message: String,
) -> Result<Option<Verdict>> {
    if is_referenced(tx, target)? || is_garbage(tx, target)? {
        return Ok(None);
    }
    let finding = finding_aside(kind, message);
    Ok(Some(Verdict { finding, repair: Some(Repair::Release(target)) }))
}

fn check_unreferenced(tx: &mut Tx<'_>, target: Ref) -> Result<Option<Verdict>> {
    let what = match target.kind {
        Kind::Folder => "folder",
        Kind::Content => "content",
        Kind::Part => "part",
    };
    let message = format!("a {what} that nothing refers to takes up space");
    unreferenced(tx, target, FindingKind::Unreferenced, message)
}

fn entry(tx: &mut Tx<'_>, (folder, filed, name): (i64, &str, &str)) -> Result<Vec<Verdict>> {
    let Some(found) = entries::get_checked(tx, folder, filed, name)? else {
        return Ok(Vec::new());
    };
    let mut wrong = Vec::new();
    let target = match (found.link.child, found.link.content) {
        (Some(_), None) if found.below.is_none() => {
            Some("the record of this folder is missing; restore it from a backup, or delete it")
        }
        (None, Some(_)) if !matches!(found.content, Some((_, Some(_)))) => {
            Some("the content of this file is missing; upload it again, or delete it")
        }
        (Some(_), None) | (None, Some(_)) => None,
        (None, None) | (Some(_), Some(_)) => {
            Some("this is neither a file nor a folder; delete it and upload it again")
        }
    };
    if let Some(text) = target {
        wrong.push((FindingKind::EntryTarget, text.to_owned(), None));
    } else if let Some((stored, _)) = found.content
        && stored != found.size
    {
        let size = found.size;
        let text = format!("the file has {size} bytes and its content {stored}; upload it again");
        wrong.push((FindingKind::EntrySize, text, None));
    }
    if folded(name) != filed {
        let text = "the name is filed under another one, so that it is not found".to_owned();
        let rekey = Repair::Rekey(folder, filed.to_owned(), name.to_owned());
        wrong.push((FindingKind::EntryFolded, text, Some(rekey)));
    }
    if wrong.is_empty() {
        return Ok(Vec::new());
    }
    let places = Places::of_entry(tx, folder, name)?;
    if !places.is_live() {
        return Ok(Vec::new());
    }
    let verdict = |(kind, text, repair): (FindingKind, String, Option<Repair>)| Verdict {
        finding: finding(kind, &places, &text),
        repair,
    };
    Ok(wrong.into_iter().map(verdict).collect())
}

fn folder(tx: &mut Tx<'_>, id: i64) -> Result<Vec<Verdict>> {
    let Some((stored, reach)) = folders::sums(tx, id)? else {
        if entries::is_empty(tx, id)? {
            return Ok(Vec::new());
        }
        let message = "a folder is gone and its entries are not".to_owned();
        let orphan = FindingKind::EntryOrphan;
        return Ok(unreferenced(tx, Ref::folder(id), orphan, message)?.into_iter().collect());
    };
    if let Some(verdict) = check_unreferenced(tx, Ref::folder(id))? {
        return Ok(vec![verdict]);
    }
    let held = entries::recount(tx, id)?;
    let counted = held.totals;
    let far = Reach { depth: held.depth, length: held.length };
    let is_empty = held.entries == 0 && id != ROOT;
    // If the row of a sub-folder is missing, a recount lacks its files; the entry of that sub-folder is a
    // finding itself.
    let is_far = reach != reach.or(far) || !folders::is_possible(reach);
    let is_wrong = (counted != stored || is_far) && held.lost == 0;
    let mut verdicts = Vec::new();
    if !is_wrong && !is_empty {
        return Ok(verdicts);
    }
    let places = Places::of_folder(tx, id)?;
    if is_wrong && places.is_live() {
        let text = if counted == stored && folders::is_possible(reach) {
            "paths below the folder are deeper or longer than it says".to_owned()
        } else if counted == stored {
            "no path can be as deep or long as the folder says".to_owned()
        } else {
            format!(
                "the folder says {} files of {} bytes and holds {} of {}",
                stored.files, stored.bytes, counted.files, counted.bytes
            )
        };
        let finding = finding(FindingKind::FolderTotals, &places, &text);
        let repair = Some(Repair::Recount(id, (stored, reach), (counted, far)));
        verdicts.push(Verdict { finding, repair });
    }
    if is_empty && places.is_live() {
        let text = "the folder holds nothing; delete it";
        verdicts.push(Verdict::without_repair(finding(FindingKind::FolderEmpty, &places, text)));
    }
    Ok(verdicts)
}

fn content(tx: &mut Tx<'_>, id: i64) -> Result<Vec<Verdict>> {
    let target = Ref::content(id);
    let sql = "SELECT size, etag, digest FROM content WHERE id = $1";
    let Some(row) = tx.first(sql, params![id])? else {
        if !tx.exists("SELECT 1 FROM content_part WHERE content = $1 LIMIT 1", params![id])? {
            return Ok(Vec::new());
        }
        let message = "a content is gone and its list of parts is not".to_owned();
        let orphan = FindingKind::ContentOrphan;
        return Ok(unreferenced(tx, target, orphan, message)?.into_iter().collect());
    };
    let mut verdicts: Vec<Verdict> = check_unreferenced(tx, target)?.into_iter().collect();
    let mut list = List::new(id);
    let mut after = -1;
    loop {
        let rows = tx.all(
            "SELECT cp.start, p.size, p.digest
             FROM content_part cp LEFT JOIN part p ON p.id = cp.part
             WHERE cp.content = $1 AND cp.start > $2 ORDER BY cp.start LIMIT $3",
            params![id, after, CHECK_PAGE_ROWS],
        )?;
        for row in &rows {
            after = row.int(0)?;
            list.add(row, 0)?;
        }
        if (rows.len() as i64) < CHECK_PAGE_ROWS {
            break;
        }
    }
    if !list.is_of(&row, 0)? {
        let text = "parts of the content are missing or are not its own; upload it again";
        let places = Places::of_content(tx, id)?;
        verdicts.push(Verdict::without_repair(finding(FindingKind::ContentParts, &places, text)));
    }
    Ok(verdicts)
}

fn part(tx: &mut Tx<'_>, id: i64) -> Result<Vec<Verdict>> {
    let sql = "SELECT size, CAST(LENGTH(bytes) AS BIGINT), object FROM part WHERE id = $1";
    let Some(row) = tx.first(sql, params![id])? else { return Ok(Vec::new()) };
    let mut verdicts: Vec<Verdict> = check_unreferenced(tx, Ref::part(id))?.into_iter().collect();
    let wrong = match (row.opt_int(1)?, row.opt_text(2)?) {
        (None, None) => Some((FindingKind::PartPlace, "bytes of it are nowhere; upload it again")),
        (Some(_), Some(_)) => Some((FindingKind::PartPlace, "bytes of it are in two places")),
        (Some(length), None) if length != row.int(0)? => {
            Some((FindingKind::PartDamaged, "bytes of it are damaged; upload it again"))
        }
        (Some(_), None) | (None, Some(_)) => None,
    };
    if let Some((kind, text)) = wrong {
        let places = Places::of_part(tx, id)?;
        verdicts.push(Verdict::without_repair(finding(kind, &places, text)));
    }
    Ok(verdicts)
}

/// The finding for the lost bytes of a part; `None` if the part is gone by now or has another place.
///
/// # Errors
/// Those of the engine.
pub fn judge_lost(
    tx: &mut Tx<'_>,
    id: i64,
    object: Option<&str>,
    lost: Lost,
) -> Result<Option<Finding>> {
    let Some(part) = stored::part(tx, id)? else { return Ok(None) };
    if part.object.as_deref() != object
        || part.bytes.is_some_and(|bytes| Digest::of(&bytes) == part.digest)
    {
        return Ok(None);
    }
    let (kind, text) = match lost {
        Lost::Missing => (FindingKind::PartMissing, "bytes of it are lost"),
        Lost::Damaged => (FindingKind::PartDamaged, "bytes of it are damaged"),
        Lost::Unreadable => (FindingKind::PartDamaged, "bytes of it cannot be read"),
    };
    let text = format!("{text}; upload it again, or restore the blob store from a backup");
    Ok(Some(finding(kind, &Places::of_part(tx, id)?, &text)))
}

/// The finding for an object that no row names; `None` if one does. With `repair`, marks the object for
/// deletion.
///
/// # Errors
/// Those of the engine; nothing is marked then.
pub fn judge_object(
    tx: &mut Tx<'_>,
    object: &str,
    size: u64,
    repair: bool,
) -> Result<Option<Finding>> {
    if garbage::is_known_object(tx, object)? {
        return Ok(None);
    }
    let message = format!("an object of {size} bytes in the blob store belongs to nothing");
    let mut finding = finding_aside(FindingKind::ObjectUnknown, message);
    if repair {
        garbage::tombstone_object(tx, object, size as i64)?;
        finding.repaired = true;
    }
    Ok(Some(finding))
}

fn session(tx: &mut Tx<'_>, id: &str) -> Result<Vec<Verdict>> {
    let mut run = Run::new(id.to_owned());
    let mut after = -1;
    loop {
        let rows = tx.all(
            "SELECT c.start, c.size, p.size FROM upload_chunk c LEFT JOIN part p ON p.id = c.part
             WHERE c.session = $1 AND c.start > $2 ORDER BY c.start LIMIT $3",
            params![id, after, CHECK_PAGE_ROWS],
        )?;
        for row in &rows {
            after = row.int(0)?;
            run.add(row, 0)?;
        }
        if (rows.len() as i64) < CHECK_PAGE_ROWS {
            break;
        }
    }
    let sql = "SELECT total, received, committed, path, pieces FROM upload_session WHERE id = $1";
    let Some(row) = tx.first(sql, params![id])? else {
        if after < 0 {
            return Ok(Vec::new());
        }
        let message = "an upload session is gone and its chunks are not".to_owned();
        let finding = finding_aside(FindingKind::ChunkOrphan, message);
        return Ok(vec![Verdict { finding, repair: Some(Repair::Chunks(id.to_owned())) }]);
    };
    let (received, is_committed) = (row.int(1)?, row.int(2)? != 0);
    let name = format!("the upload session {id} of \"{}\"", row.text(3)?);
    if !run.is_good
        || run.end > row.int(0)?
        || (is_committed && run.count != 0 && run.count != row.int(4)?)
    {
        let message = format!("{name} has chunks that are damaged or not its own; delete it");
        return Ok(vec![Verdict::without_repair(finding_aside(
            FindingKind::SessionChunks,
            message,
        ))]);
    }
    if is_committed || received == run.sum {
        return Ok(Vec::new());
    }
    let message = format!("{name} says that it has {received} bytes and has {}", run.sum);
    let finding = finding_aside(FindingKind::SessionReceived, message);
    let repair = Some(Repair::Received(id.to_owned(), received, run.sum));
    Ok(vec![Verdict { finding, repair }])
}
