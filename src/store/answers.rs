//! Readiness: whether the database answers.

use crate::{error::Result, limits::READY_TIME, namespace::schema, store::Store};

impl Store {
    /// Sees whether the database answers in [`READY_TIME`].
    ///
    /// # Errors
    /// Why it does not.
    ///
    /// # Cancel safety
    /// Can be dropped.
    pub async fn answers(&self) -> Result<()> {
        self.0.engine.answers(READY_TIME, |tx| schema::meta(tx, "format").map(drop)).await
    }
}
