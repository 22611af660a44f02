//! A command over several things: what is wrong with one does not keep the others from being done.

use crate::cli::{Failure, output::Output};

/// The failures of a command, of which the last one is not told yet.
#[derive(Debug, Default)]
pub(super) struct Failures(Option<Failure>);

impl Failures {
    /// Takes the outcome of one thing.
    ///
    /// # Errors
    /// A failure that concerns the others as well: the server is gone or does not answer, or somebody
    /// pressed Ctrl-C.
    pub(super) fn take(
        &mut self,
        outcome: Result<(), Failure>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let Err(failure) = outcome else { return Ok(()) };
        let goes_on = match &failure {
            Failure::Client(error) => !error.is_lost() && !error.is_late(),
            Failure::Refused(_) => true,
            Failure::Stream(_) | Failure::Said(_) => false,
        };
        if let Some(before) = self.0.take() {
            output.note(format_args!("imagestore: {before}"));
        }
        if !goes_on {
            return Err(failure);
        }
        self.0 = Some(failure);
        Ok(())
    }

    /// How the command ends.
    ///
    /// # Errors
    /// The last failure.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}
