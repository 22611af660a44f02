//! The check of a store: it finds every kind of damage, repairs what is safe to repair, and has no findings
//! in an undamaged store under load.

#[cfg(test)]
mod busy;
#[cfg(test)]
mod damage;
#[cfg(test)]
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../support/database.rs"]
mod database;
#[cfg(test)]
#[path = "../support/dice.rs"]
mod dice;
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
