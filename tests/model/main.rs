//! The store, compared with a model, which is a plain map that copies every file, and tested rule by rule.
//!
//! `TEST_LONG=1` runs the long histories; `TEST_SEED=<number>` repeats a failed run.

#![allow(
    clippy::cast_possible_truncation,
    clippy::clone_on_ref_ptr,
    clippy::items_after_statements,
    clippy::match_same_arms,
    clippy::needless_pass_by_value,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm,
    reason = "what a test makes is small, and its text is its own"
)]

#[cfg(test)]
mod audit;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod concurrent;
#[cfg(test)]
#[path = "../support/database.rs"]
mod database;
#[cfg(test)]
mod decision;
#[cfg(test)]
#[path = "../support/dice.rs"]
mod dice;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod faulty;
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
mod reach;
#[cfg(test)]
#[path = "../support/reader.rs"]
mod reader;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod step;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod together;
