//! SIGINT (Ctrl-C) and SIGTERM, for commands that clean up or report before they end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Failure;

/// A receiver of both signals. While one exists, a signal does not end the process by itself.
#[derive(Debug)]
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Installs the handlers of both signals.
    pub(super) fn listen() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Awaits `work`, unless a signal arrives first.
    ///
    /// # Errors
    /// [`Failure::Said`] if a signal arrives first; `work` is dropped then.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = work => Ok(done),
            () = self.recv() => Err(Failure::Said("stopped".to_owned())),
        }
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for the next SIGINT. A caller that has received a signal waits here for the request to end at once:
    /// `timeout` and supervisors send SIGTERM twice, to the process and to its group.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(super) async fn recv_interrupt(&mut self) {
        self.interrupt.recv().await;
    }
}
