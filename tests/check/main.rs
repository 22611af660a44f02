//! The check of a store: every kind of damage is found, what is safe is repaired, and a store that is
//! well gives no finding however busy it is.

#[cfg(test)]
mod busy;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod verdict;
