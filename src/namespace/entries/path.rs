//! The entry at the end of a path: the names are looked up some at a time, because each statement is a round trip.

use crate::{
    error::Result,
    model::folded,
    namespace::{
        entries::Target,
        sql::{Tx, params},
    },
};

/// The names of one statement, which has a join for each.
const NAMES_AT_ONCE: usize = 4;
/// The columns of one entry in the row.
const COLUMNS: usize = 5;

/// Follows names from a folder on, each in the folder that the name before leads to. `None` if one of them is not there,
/// or leads to a file and is not the last. A damaged row before the last, with no target, leads nowhere.
///
/// # Errors
/// Those of the engine.
pub fn follow<'a>(
    tx: &mut Tx<'_>,
    folder: i64,
    names: impl Iterator<Item = &'a str>,
) -> Result<Option<Target>> {
    let names: Vec<_> = names.collect();
    let mut target = Target::Folder(folder);
    for names in names.chunks(NAMES_AT_ONCE) {
        let Target::Folder(folder) = target else { return Ok(None) };
        match follow_some(tx, folder, names)? {
            Some(found) => target = found,
            None => return Ok(None),
        }
    }
    Ok(Some(target))
}

/// Follows up to [`NAMES_AT_ONCE`] names.
fn follow_some(tx: &mut Tx<'_>, folder: i64, names: &[&str]) -> Result<Option<Target>> {
    // No name is empty, so nothing is found at an empty one.
    let name = |at: usize| names.get(at).copied().unwrap_or_default();
    let folded = |at: usize| folded(name(at));
    let sql = "SELECT a.child, a.content, a.size, a.version, a.modified,
                 b.child, b.content, b.size, b.version, b.modified,
                 c.child, c.content, c.size, c.version, c.modified,
                 d.child, d.content, d.size, d.version, d.modified
               FROM entry a
               LEFT JOIN entry b ON b.folder = a.child AND b.folded = $4 AND b.name = $5
               LEFT JOIN entry c ON c.folder = b.child AND c.folded = $6 AND c.name = $7
               LEFT JOIN entry d ON d.folder = c.child AND d.folded = $8 AND d.name = $9
               WHERE a.folder = $1 AND a.folded = $2 AND a.name = $3";
    let found = tx.first(
        sql,
        params![
            folder,
            &folded(0),
            name(0),
            &folded(1),
            name(1),
            &folded(2),
            name(2),
            &folded(3),
            name(3)
        ],
    )?;
    let Some(row) = found else { return Ok(None) };
    let last = COLUMNS * names.len().saturating_sub(1);
    // An entry has a version.
    if row.opt_int(last + 3)?.is_none() {
        return Ok(None);
    }
    Target::from_row(&row, last).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{entries, metered, schema::ROOT};

    #[test]
    fn a_path_is_followed_in_a_statement_for_four_names() {
        let (mut store, _dir) = metered::store();
        let depth = 2 * NAMES_AT_ONCE + 1;
        let names: Vec<_> = (0..depth).map(|at| format!("N{at}")).collect();
        let (folders, _) = store.job(|tx| {
            let mut folders = vec![ROOT];
            for name in &names {
                let below = metered::folder(tx, &["f".to_owned()], &[]);
                entries::put(tx, folders[folders.len() - 1], name, &Target::Folder(below))?;
                folders.push(below);
            }
            Ok(folders)
        });
        for (at, folder) in folders.iter().enumerate() {
            let above = || names[..at].iter().map(String::as_str);
            let (found, counts) = store.job(|tx| follow(tx, ROOT, above()));
            assert_eq!(found, Some(Target::Folder(*folder)));
            assert_eq!(counts.statements, at.div_ceil(NAMES_AT_ONCE));
            // The case of a name counts, and nothing is at a name that is not there, nor below a file.
            for missing in [["n0", ""], ["x", ""], ["F", ""], ["f", "x"], ["x", "x"]] {
                let below = missing.into_iter().filter(|name| !name.is_empty());
                assert_eq!(store.job(|tx| follow(tx, ROOT, above().chain(below))).0, None);
            }
            if at > 0 {
                let file = |tx: &mut Tx<'_>| follow(tx, ROOT, above().chain(["f"]));
                assert!(matches!(store.job(file).0, Some(Target::File(_))), "{at}");
            }
        }
    }
}
