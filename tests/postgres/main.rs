//! Tests that only PostgreSQL can run: the claim of a server, lost connections, a database that does not
//! answer, the longest names and paths in the indexes, and the kinds of its errors. They need the PostgreSQL
//! server of `IMAGESTORE_TEST_POSTGRES`; `tests/run` starts one.

#[cfg(test)]
#[path = "../support/database.rs"]
mod database;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod fence;
#[cfg(test)]
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../support/gate.rs"]
mod gate;
#[cfg(test)]
mod pooler;
#[cfg(test)]
mod process;
#[cfg(test)]
#[path = "../support/reader.rs"]
mod reader;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod sets;
#[cfg(test)]
mod silent;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod verdict;
#[cfg(test)]
mod wire;
