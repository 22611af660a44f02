//! Patience with a server that is busy or restarts: a bounded number of repeats with growing pauses.

use crate::{
    client::error::{Error, Result},
    limits,
};

/// Counts the failures in a row of one piece of work, and pauses between its repeats.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// Pauses before a repeat, or gives the error back: where a repeat cannot help, and after
    /// [`limits::RETRIES`] failures in a row.
    ///
    /// # Cancel safety
    /// The failure counts at once; a pause that is dropped is merely shorter.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        if !error.retryable() || self.failures >= limits::RETRIES {
            return Err(error);
        }
        let pause = limits::RETRY_PAUSE.saturating_mul(1 << self.failures);
        self.failures += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Forgets the failures: the work has advanced.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn lost() -> Error {
        Error::Lost { server: "http://there".to_owned(), why: "reset".to_owned() }
    }

    #[tokio::test]
    async fn patience_ends() {
        let mut patience = Patience { failures: limits::RETRIES };
        assert!(patience.after(lost()).await.is_err());
        patience.renew();
        assert_eq!(patience.failures, 0);
    }

    #[tokio::test]
    async fn an_answer_is_final() {
        let refused = Error::Server { kind: Kind::FileNotFound, message: "gone".to_owned() };
        let mut patience = Patience::default();
        assert!(patience.after(refused).await.is_err());
        assert_eq!(patience.failures, 0);
    }
}
