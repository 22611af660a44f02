//! The check of a store: every kind of damage is found, what is safe is repaired, and a store that is
//! well gives no finding however busy it is.

#[cfg(test)]
mod busy;
#[cfg(test)]
mod damage;
#[cfg(test)]
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../support/database.rs"]
mod database;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod heal;
#[cfg(test)]
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../support/reader.rs"]
mod reader;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sums;
#[cfg(test)]
mod tags;
#[cfg(test)]
mod verdict;
#[cfg(test)]
mod wary;
