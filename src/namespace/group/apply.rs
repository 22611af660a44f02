//! Writes a plan.

use crate::{
    error::{Error, Result},
    model::{Entry, EntryKind, FileVersion, Stat, Totals},
    namespace::{
        content::Place,
        counted::Counted,
        entries::{self, File, Target},
        garbage::{self, counted_part},
        group::{
            Placed,
            contents::{ids, insert_contents, insert_lists, insert_parts},
            plan::{Plan, Put},
        },
        schema,
        sql::Tx,
        tree,
    },
};

/// The ids of the rows that a plan makes, the first one for -1.
struct Made {
    folders: Vec<i64>,
    contents: Vec<i64>,
}

/// The id of a row: its own, or that of the row that was made for a negative one.
fn real(id: i64, made: &[i64]) -> Result<i64> {
    let Ok(at) = usize::try_from(-1 - id) else { return Ok(id) };
    made.get(at).copied().ok_or_else(|| Error::internal("a row of a plan was not made"))
}

impl Plan<'_> {
    /// Writes the plan. Returns what its files have become.
    pub(super) fn apply(&self, tx: &mut Tx<'_>) -> Result<Vec<Option<Placed>>> {
        let count = self.puts.iter().flatten().count();
        if count == 0 {
            return Ok(vec![None; self.puts.len()]);
        }
        let now = tx.now()?;
        let news = self.contents.iter().map(|new| (new.file.size(), &new.file.etag));
        let digests: Vec<_> = self.contents.iter().map(|new| new.file.digest()).collect();
        let contents = news.zip(&digests).map(|((size, etag), digest)| (size, etag, digest));
        let [versions, folders, parts, contents] = tx.run(&[
            schema::next_versions(count),
            tree::new_folders(self.folders),
            insert_parts(self.parts.iter().copied()),
            insert_contents(contents),
        ])?;
        let made = Made {
            folders: folders.iter().map(|row| row.int(0)).collect::<Result<_>>()?,
            contents: ids(&contents, self.contents.iter().map(|new| &new.file.etag))?,
        };
        let parts = ids(&parts, self.parts.iter().map(|part| &part.digest))?;
        let mut last = schema::last_version(&versions)?;
        last.number -= count as i64;
        let lists = self.lists(&made, &parts)?;
        let targets = self.targets(&made, &last, now)?;
        let entries = self.entries.keys().zip(targets);
        let changes =
            self.changes.iter().map(|(id, change)| Ok((real(*id, &made.folders)?, *change)));
        let replaced = self.replaced.iter().map(|id| real(*id, &made.contents));
        let [_, _, _, replaced] = tx.run(&[
            insert_lists(lists),
            entries::write(entries.map(|((_, folded, name), (folder, target))| {
                (folder, folded.as_str(), *name, target)
            })),
            tree::record_changes(changes.collect::<Result<Vec<_>>>()?),
            garbage::look_up_contents(replaced.collect::<Result<Vec<_>>>()?),
        ])?;
        garbage::enqueue_contents(tx, &replaced)?;
        self.count(tx);
        Ok(self.placed(last, now))
    }

    /// The new contents that have a part, and the parts.
    fn lists(&self, made: &Made, parts: &[i64]) -> Result<Vec<(i64, i64)>> {
        let mut parts = parts.iter().copied();
        let mut lists = Vec::with_capacity(self.contents.len());
        for (new, content) in self.contents.iter().zip(&made.contents) {
            if new.file.part.is_none() {
                continue;
            }
            let part = new.part.or_else(|| parts.next());
            lists.push((*content, part.ok_or_else(|| Error::internal("a part was not made"))?));
        }
        Ok(lists)
    }

    /// The folders and targets of the entries. `before` is the version before that of the first file.
    fn targets(&self, made: &Made, before: &FileVersion, now: i64) -> Result<Vec<(i64, Target)>> {
        let real = |((folder, ..), target): (&(i64, String, &str), &Target)| {
            let target = match target {
                Target::Folder(id) => Target::Folder(real(*id, &made.folders)?),
                Target::File(file) => Target::File(File {
                    content: real(file.content, &made.contents)?,
                    version: before.number + file.version,
                    modified: now,
                    ..*file
                }),
            };
            Ok((real(*folder, &made.folders)?, target))
        };
        self.entries.iter().map(real).collect()
    }

    /// Counts the new rows.
    fn count(&self, tx: &mut Tx<'_>) {
        tx.count(Counted::Folders, self.folders as i64, 0);
        tx.count(Counted::Contents, self.contents.len() as i64, 0);
        for part in &self.parts {
            let has_object = matches!(part.place, Place::Object(_));
            tx.count(counted_part(has_object), 1, part.size);
        }
    }

    /// What the files have become. `version` is the one before that of the first file.
    fn placed(&self, mut version: FileVersion, modified: i64) -> Vec<Option<Placed>> {
        let mut placed = |Put { file, files_replaced }: Put<'_>| {
            version.number += 1;
            let entry = Entry {
                path: file.path.clone(),
                kind: EntryKind::File { version, modified },
                totals: Totals { files: 1, bytes: file.size() },
            };
            let stat = Stat {
                entry,
                digest: Some(file.digest()),
                etag: Some(file.etag),
                has_mark_file: false,
                change_tag: None,
            };
            Placed { stat, files_replaced }
        };
        self.puts.iter().map(|put| put.map(&mut placed)).collect()
    }
}
