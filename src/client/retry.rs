//! Patience with a server that is busy or restarts: a bounded number of repeats with growing pauses.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    client::error::{Error, Result},
    limits,
};

/// Who is told, once, that a connection was lost and the server is asked again. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Told>>);

struct Told {
    once: AtomicBool,
    tell: Box<dyn Fn(&Error) + Send + Sync>,
}

impl Listener {
    pub(super) fn new(tell: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Told { once: AtomicBool::new(false), tell: Box::new(tell) })))
    }

    fn hear(&self, error: &Error) {
        if let Some(told) = self.0.as_ref().filter(|_| error.is_lost())
            && !told.once.swap(true, Relaxed)
        {
            (told.tell)(error);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.0.is_some()).finish()
    }
}

/// Counts the failures in a row of one piece of work, and pauses between its repeats.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
    listener: Listener,
}

impl Patience {
    /// Begins a piece of work; `listener` hears of its repeats.
    pub(super) fn new(listener: &Listener) -> Self {
        Self { failures: 0, listener: listener.clone() }
    }

    /// Pauses before a repeat, or gives the error back: where a repeat cannot help, and after
    /// [`limits::RETRIES`] failures in a row.
    ///
    /// # Cancel safety
    /// The failure counts at once; a pause that is dropped is merely shorter.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        if !error.retryable() || self.failures >= limits::RETRIES {
            return Err(error);
        }
        self.listener.hear(&error);
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
        let mut patience = Patience { failures: limits::RETRIES, ..Patience::default() };
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
