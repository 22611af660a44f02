//! The engine, proven against a plain map that copies everything the slow way, and rule by rule.
//!
//! `TEST_LONG=1` runs the long histories; `TEST_SEED=<number>` repeats a failed run.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod concurrent;
#[path = "../support/database.rs"]
mod database;
#[cfg(test)]
mod decision;
#[cfg(test)]
mod filter;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod random;
#[cfg(test)]
#[path = "../support/reader.rs"]
mod reader;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod sessions;
