//! The invariants ("laws") of the tables, checked on a separate connection: every row is referenced or queued
//! as garbage, and every row that another one needs exists.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use imagestore::namespace::sql::Row;
use object_store::{ObjectStore, memory::InMemory};

use crate::{harness::Fixture, plain::Entry, reader::Reader};

/// A query on `live`, the ids of the folders reachable from the root.
macro_rules! live {
    ($sql:literal) => {
        concat!(
            "WITH RECURSIVE live (id) AS (
               SELECT id FROM folder WHERE id = 1
               UNION SELECT e.child FROM entry e JOIN live ON e.folder = live.id
               WHERE e.child IS NOT NULL) ",
            $sql
        )
    };
}

/// The invariants, each with a query that must return no row.
const LAWS: [(&str, &str); 15] = [
    (
        "totals of a folder are the sums of its entries",
        live!("SELECT f.id FROM live JOIN folder f ON f.id = live.id
         LEFT JOIN entry e ON e.folder = f.id LEFT JOIN folder c ON c.id = e.child
         GROUP BY f.id
         HAVING f.files <> COALESCE(SUM(CASE WHEN e.child IS NOT NULL THEN c.files
                                             WHEN e.name IS NOT NULL THEN 1 ELSE 0 END), 0)
             OR f.bytes <> COALESCE(SUM(CASE WHEN e.child IS NULL THEN e.size ELSE c.bytes END), 0)"),
    ),
    (
        "the reach of a folder is that of what it holds, or more",
        "SELECT f.id FROM folder f JOIN entry e ON e.folder = f.id
         LEFT JOIN folder c ON c.id = e.child
         WHERE f.depth < 1 + COALESCE(c.depth, 0)
            OR f.length < OCTET_LENGTH(e.name) + COALESCE(1 + c.length, 0)",
    ),
    (
        "every folder below the root holds a file",
        live!("SELECT f.id FROM live JOIN folder f ON f.id = live.id WHERE f.files <= 0 AND f.id <> 1"),
    ),
    (
        "every folder of the tree has its row",
        live!("SELECT id FROM live WHERE id NOT IN (SELECT id FROM folder)"),
    ),
    (
        "every file of the tree has its whole content",
        live!("SELECT e.content FROM live JOIN entry e ON e.folder = live.id
         LEFT JOIN content c ON c.id = e.content
         WHERE e.content IS NOT NULL AND (c.id IS NULL OR c.etag IS NULL OR c.size <> e.size)"),
    ),
    (
        "a living content has its parts without a gap",
        "SELECT c.id FROM content c LEFT JOIN content_part cp ON cp.content = c.id
         LEFT JOIN part p ON p.id = cp.part WHERE c.etag IS NOT NULL
         GROUP BY c.id HAVING COALESCE(SUM(p.size), 0) <> c.size OR COUNT(cp.part) <> COUNT(p.id)",
    ),
    (
        "a living part has no dead object",
        "SELECT p.id FROM part p JOIN dead_object d ON d.object = p.object",
    ),
    (
        "a folder that nothing refers to waits for reclamation",
        "SELECT id FROM folder f WHERE id <> 1
         AND NOT EXISTS (SELECT 1 FROM entry WHERE child = f.id)
         AND NOT EXISTS (SELECT 1 FROM pin WHERE kind = 1 AND target = f.id)
         AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.kind = 1 AND g.id = f.id)",
    ),
    (
        "a content that nothing refers to waits for reclamation",
        "SELECT id FROM content c WHERE NOT EXISTS (SELECT 1 FROM entry WHERE content = c.id)
         AND NOT EXISTS (SELECT 1 FROM pin WHERE kind = 2 AND target = c.id)
         AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.kind = 2 AND g.id = c.id)",
    ),
    (
        "a part that nothing refers to waits for reclamation",
        "SELECT id FROM part p WHERE NOT EXISTS (SELECT 1 FROM content_part WHERE part = p.id)
         AND NOT EXISTS (SELECT 1 FROM upload_chunk WHERE part = p.id)
         AND NOT EXISTS (SELECT 1 FROM pin WHERE kind = 3 AND target = p.id)
         AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.kind = 3 AND g.id = p.id)",
    ),
    (
        "an entry is in a folder",
        "SELECT folder FROM entry WHERE folder NOT IN (SELECT id FROM folder)",
    ),
    (
        "a session has received what its chunks hold",
        "SELECT s.id FROM upload_session s LEFT JOIN upload_chunk c ON c.session = s.id
         LEFT JOIN part p ON p.id = c.part
         GROUP BY s.id HAVING (s.committed = 0 AND s.received <> COALESCE(SUM(p.size), 0))
                           OR s.pieces <> COUNT(c.part)
                           OR COUNT(c.part) <> COUNT(p.id)",
    ),
    (
        "the sums that are kept are those of a recount",
        "SELECT r.kind, r.number, r.bytes, s.number, s.bytes FROM (
           SELECT 1 AS kind, COUNT(*) AS number, 0 AS bytes FROM folder
           UNION ALL SELECT 2, COUNT(*), 0 FROM content
           UNION ALL SELECT 3, COUNT(*), COALESCE(SUM(size), 0) FROM part WHERE object IS NULL
           UNION ALL SELECT 4, COUNT(*), COALESCE(SUM(size), 0) FROM part WHERE object IS NOT NULL
           UNION ALL SELECT 5, COUNT(*), COALESCE(SUM(size), 0) FROM dead_object
           UNION ALL SELECT 6, COUNT(bytes), COALESCE(SUM(bytes), 0) FROM garbage
           UNION ALL SELECT 7, COUNT(*), COALESCE(SUM(received), 0) FROM upload_session
             WHERE committed = 0) AS r
         LEFT JOIN sums s ON s.kind = r.kind
         WHERE r.number <> COALESCE(s.number, 0) OR r.bytes <> COALESCE(s.bytes, 0)",
    ),
    (
        "garbage without a path frees what it has",
        "SELECT g.kind, g.id FROM garbage g LEFT JOIN part p ON g.kind = 3 AND p.id = g.id
         LEFT JOIN content c ON g.kind = 2 AND c.id = g.id
         LEFT JOIN folder f ON g.kind = 1 AND f.id = g.id
         WHERE g.bytes <> COALESCE(p.size, c.size, f.bytes)
         AND NOT EXISTS (SELECT 1 FROM entry e WHERE g.kind = 1 AND e.child = g.id)
         AND NOT EXISTS (SELECT 1 FROM pin h WHERE h.kind = g.kind AND h.target = g.id)",
    ),
    ("no operation runs", "SELECT seq FROM operation WHERE state = 1"),
];

/// Checks the invariants, and that the object of every part exists.
pub(crate) async fn check(fixture: &Fixture, objects: &InMemory) {
    laws(&fixture.tables);
    let named = objects_named(&fixture.tables);
    let stored: Vec<_> = objects.list(None).try_collect().await.unwrap();
    let stored: BTreeSet<String> =
        stored.into_iter().map(|meta| meta.location.to_string()).collect();
    // A part may have been reclaimed between the query and the listing.
    let lost: Vec<_> = named.difference(&stored).collect();
    if !lost.is_empty() {
        let named = objects_named(&fixture.tables);
        assert!(lost.iter().all(|object| !named.contains(*object)), "objects are lost: {lost:?}");
    }
}

/// Checks the invariants of the tables.
pub(crate) fn laws(tables: &Reader) {
    for (law, sql) in LAWS {
        let broken = tables.rows(sql);
        assert!(broken.is_empty(), "{law}, but not {broken:?}");
    }
}

/// The keys of the objects that parts refer to.
pub(crate) fn objects_named(tables: &Reader) -> BTreeSet<String> {
    let rows = tables.rows("SELECT object FROM part WHERE object IS NOT NULL");
    rows.iter().map(|row| row.text(0).unwrap()).collect()
}

/// All paths of the tree with their entries, read from the tables.
pub(crate) fn tree(tables: &Reader) -> BTreeMap<String, Entry> {
    let root = tables.rows("SELECT files, bytes FROM folder WHERE id = 1");
    let entries = tables.rows(live!(
        "SELECT e.folder, e.name, e.child, e.version, e.size, f.files, f.bytes, c.digest
         FROM live JOIN entry e ON e.folder = live.id LEFT JOIN folder f ON f.id = e.child
         LEFT JOIN content c ON c.id = e.content"
    ));
    let mut children: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    for row in &entries {
        children.entry(row.int(0).unwrap()).or_default().push(row);
    }
    let totals = |row: &Row, column| (row.int(column).unwrap(), row.int(column + 1).unwrap());
    let (files, bytes) = totals(root.first().unwrap(), 0);
    let root = Entry { files, bytes, ..Entry::default() };
    let mut tree = BTreeMap::from([(String::new(), root)]);
    let mut folders = vec![(String::new(), 1)];
    while let Some((above, folder)) = folders.pop() {
        for row in children.get(&folder).into_iter().flatten() {
            let separator = if above.is_empty() { "" } else { "/" };
            let path = format!("{above}{separator}{}", row.text(1).unwrap());
            let child = row.opt_int(2).unwrap();
            let entry = if let Some(child) = child {
                folders.push((path.clone(), child));
                let (files, bytes) = totals(row, 5);
                Entry { files, bytes, ..Entry::default() }
            } else {
                let (version, bytes) = totals(row, 3);
                Entry {
                    version: Some(version),
                    digest: row.opt_digest(7).unwrap(),
                    files: 1,
                    bytes,
                }
            };
            tree.insert(path, entry);
        }
    }
    tree
}
