//! Readiness: whether the database answers.

use crate::{error::Result, limits::READY_TIME, namespace::schema, store::Store};

impl Store {
    /// Checks that the database answers within [`READY_TIME`].
    ///
    /// # Errors
    /// The error of the database, or that it did not answer in time.
    ///
    /// # Cancel safety
    /// Can be dropped.
    pub async fn check_ready(&self) -> Result<()> {
        self.0.engine.check_ready(READY_TIME, |tx| schema::meta(tx, "format").map(drop)).await
    }
}
