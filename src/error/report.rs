//! An error and its causes in the log.

use super::{Error, Kind};

impl Error {
    /// Writes the error into the log, with its causes, unless that was done or it is the caller's own
    /// affair. To be called where it leaves the server, or where nobody is left to be told: once.
    ///
    /// What is a fault of the server is an error, what is short or does not answer a warning, and what
    /// a transport says of a caller that left is for those who look for it.
    pub fn report(&self) {
        let cause = self.source.as_deref().map(|source| chain(source));
        let (reason, error) = (self.kind.reason(), self.message());
        // The hook of panics has logged it.
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
            (Kind::Busy | Kind::NoSpace, Some(cause)) => {
                tracing::warn!(reason, error, cause, "a call was refused");
            }
            (_, Some(cause)) => tracing::debug!(reason, error, cause, "a call was refused"),
            (_, None) => {}
        }
    }
}

/// An error and its causes, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors print their cause themselves.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ")
}

/// Whether a task ended by a panic.
fn is_panic(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<tokio::task::JoinError>().is_some_and(tokio::task::JoinError::is_panic)
}
