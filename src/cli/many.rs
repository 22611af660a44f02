//! Failures of a command with several arguments: the failure of one argument does not stop the work on the others.

use crate::cli::{Failure, output::Output};

/// The latest failure of a command, not printed yet; earlier ones are printed when the next one occurs.
#[derive(Debug, Default)]
pub(super) struct Failures(Option<Failure>);

impl Failures {
    /// Records the outcome of one argument.
    ///
    /// # Errors
    /// A failure that ends the whole command: the server cannot be reached or does not answer in time, a local stream
    /// failed, or a signal arrived.
    pub(super) fn take(
        &mut self,
        outcome: Result<(), Failure>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let Err(failure) = outcome else { return Ok(()) };
        let goes_on = match &failure {
            Failure::Client(error) => !error.is_lost() && !error.is_late(),
            Failure::Refused(_) => true,
            Failure::Stream(_) | Failure::Said(_) | Failure::No => false,
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

    /// The result of the whole command.
    ///
    /// # Errors
    /// The last failure.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}
