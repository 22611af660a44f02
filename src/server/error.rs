//! Why a server cannot start, for the operator.

use std::fmt;

use crate::error::{Source, chain};

/// Why a server cannot start or has ended. `Display` does not print the causes;
/// [`Error::explain`] does.
#[derive(Debug)]
pub struct Error {
    message: String,
    source: Option<Source>,
}

impl Error {
    /// Creates an error; `message` is for the operator.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The message and all its causes, on one line.
    pub fn explain(&self) -> String {
        chain(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
