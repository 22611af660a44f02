//! What only PostgreSQL can show: the claim of a server, lost connections, a database that does not answer,
//! names of every kind in its indexes, and how its faults are told. It needs the server that `IMAGESTORE_TEST_POSTGRES` names;
//! `tests/run` starts one.

#[cfg(test)]
#[path = "../support/database.rs"]
mod database;
#[cfg(test)]
mod driver;
#[cfg(test)]
#[path = "../support/reader.rs"]
mod reader;
#[cfg(test)]
mod silent;
#[cfg(test)]
mod store;
#[cfg(test)]
mod wire;
