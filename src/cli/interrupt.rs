//! Ctrl-C and the signal that asks to end, for commands that have something to undo.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Failure;

/// Receives the signals from now on; they no longer end the process by themselves.
#[derive(Debug)]
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Begins to listen.
    pub(super) fn listen() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Works, unless a signal comes first.
    ///
    /// # Errors
    /// [`Failure::Said`] where one does.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = work => Ok(done),
            () = self.recv() => Err(Failure::Said("stopped".to_owned())),
        }
    }

    /// Waits for the next signal. Dropping the future loses none.
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
