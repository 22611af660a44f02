//! Counts the rows that the store writes, by SQL triggers that exist only while rows are counted.

use std::{fmt::Write as _, path::Path};

use rusqlite::Connection;

use super::Result;

/// The triggers in a store's database. Triggers slow down writes, so nothing may be timed while they exist.
#[derive(Debug)]
pub(crate) struct Rows(Connection);

impl Rows {
    /// Creates the triggers.
    pub(crate) fn count(data: &Path) -> Result<Self> {
        let database = Connection::open(data.join("namespace.sqlite"))?;
        database.busy_timeout(std::time::Duration::from_secs(5))?;
        let mut sql = "BEGIN; CREATE TABLE bench_row (what TEXT);".to_owned();
        for (table, change) in triggers(&database)? {
            write!(
                sql,
                "CREATE TRIGGER bench_{table}_{change} AFTER {change} ON {table}
                 BEGIN INSERT INTO bench_row VALUES ('{table}'); END;"
            )?;
        }
        database.execute_batch(&format!("{sql} COMMIT;"))?;
        Ok(Self(database))
    }

    /// Rows that were inserted, updated or deleted since the last call.
    pub(crate) fn take(&self) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM bench_row";
        let rows: i64 = self.0.query_row(sql, [], |row| row.get(0))?;
        self.0.execute("DELETE FROM bench_row", [])?;
        Ok(rows.try_into()?)
    }

    /// Drops the triggers.
    pub(crate) fn end(self) -> Result<()> {
        let mut sql = "BEGIN; DROP TABLE bench_row;".to_owned();
        for (table, change) in triggers(&self.0)? {
            write!(sql, "DROP TRIGGER IF EXISTS bench_{table}_{change};")?;
        }
        Ok(self.0.execute_batch(&format!("{sql} COMMIT;"))?)
    }
}

/// All pairs of a table of the store and a kind of change.
fn triggers(database: &Connection) -> Result<Vec<(String, &'static str)>> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table'
               AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'bench_%'";
    let mut statement = database.prepare(sql)?;
    let tables = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for table in tables {
        let table = table?;
        found.extend(["INSERT", "UPDATE", "DELETE"].map(|change| (table.clone(), change)));
    }
    Ok(found)
}
