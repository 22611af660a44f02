//! Writes errors and their causes to the log.

use super::{Error, Kind};

impl Error {
    /// Logs the error and its causes. Call it once for each error: where the error leaves the server, or
    /// where no caller is left to receive it.
    ///
    /// Server faults are logged as errors. With a cause, a lack of space or capacity is logged as a warning,
    /// and any other kind, such as the transport error of a client that left, at level debug. Not logged:
    /// other errors without a cause, and errors already logged.
    pub fn report(&self) {
        let cause = self.source.as_deref().map(|source| chain(source));
        let (reason, error) = (self.kind.reason(), self.message());
        // The panic hook has logged a panic.
        if self.is_logged || self.source.as_deref().is_some_and(is_panic) {
            return;
        }
        match (self.kind, cause) {
            (Kind::Internal | Kind::Corrupt, Some(cause)) => {
                tracing::error!(reason, error, cause, "a call failed");
            }
            (Kind::Internal | Kind::Corrupt, None) => {
                tracing::error!(reason, error, "a call failed");
            }
            (Kind::Busy | Kind::VerdictUnknown | Kind::NoSpace, Some(cause)) => {
                tracing::warn!(reason, error, cause, "a call was refused");
            }
            (_, Some(cause)) => tracing::debug!(reason, error, cause, "a call was refused"),
            (_, None) => {}
        }
    }
}

/// The messages of an error and of its causes, separated by `: `, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors include the message of their cause.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ")
}

/// Whether the source is the join error of a task that panicked.
fn is_panic(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<tokio::task::JoinError>().is_some_and(tokio::task::JoinError::is_panic)
}
