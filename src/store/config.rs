//! The settings of a store.

use std::{path::PathBuf, time::Duration};

use crate::{
    limits::{
        OPERATION_LIFE_DEFAULT, RECLAIM_GRACE_DEFAULT, RESERVE_BYTES_DEFAULT, SESSION_LIFE,
        SWEEP_EVERY,
    },
    namespace::{Database, Purpose},
};

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of all local data. It must exist and be locked.
    pub data: PathBuf,
    /// The database of the namespace.
    pub database: Database,
    /// The bytes that uploads leave free on the disk.
    pub reserve_bytes: u64,
    /// How long released content stays readable.
    pub reclaim_grace: Duration,
    /// How long finished operations are kept.
    pub operation_life: Duration,
    /// How long an upload session lives after its last chunk.
    pub session_life: Duration,
    /// How long an object waits for its deletion after its row was removed: longer than the database can lose commits.
    pub object_hold: Duration,
    /// The time between two sweeps of the blob store.
    pub sweep_every: Duration,
    /// How long this server may be silent before the other servers on the store declare it dead. `None`: no other one
    /// may use the store.
    pub lease: Option<Duration>,
    /// What the store is opened for.
    pub purpose: Purpose,
}

impl Config {
    /// The default settings of a store in `data`, with an SQLite database.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            database: Database::Sqlite(data.join("namespace.sqlite")),
            data,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            reclaim_grace: RECLAIM_GRACE_DEFAULT,
            operation_life: OPERATION_LIFE_DEFAULT,
            session_life: SESSION_LIFE,
            object_hold: Duration::ZERO,
            sweep_every: SWEEP_EVERY,
            lease: None,
            purpose: Purpose::default(),
        }
    }
}
