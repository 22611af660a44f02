//! Connections to a server in the same process: no other process can reach them.

use std::io;

use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

use crate::limits::IN_PROCESS_BUFFER_BYTES;

/// Opens connections. Clones open them to the same server.
#[derive(Clone, Debug)]
pub struct Connector(mpsc::Sender<DuplexStream>);

/// What the server accepts of them.
#[derive(Debug)]
pub struct Connections(mpsc::Receiver<DuplexStream>);

/// Makes the two ends. A connection waits until the server has accepted the one before.
pub fn pair() -> (Connector, Connections) {
    let (sender, receiver) = mpsc::channel(1);
    (Connector(sender), Connections(receiver))
}

impl Connector {
    /// Opens a connection, which keeps at most [`IN_PROCESS_BUFFER_BYTES`] each way.
    ///
    /// # Errors
    /// `ConnectionRefused` where the server has ended.
    ///
    /// # Cancel safety
    /// Can be dropped; no connection is opened then.
    pub(super) async fn connect(self) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(IN_PROCESS_BUFFER_BYTES);
        let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        self.0.send(theirs).await.map_err(refused)?;
        Ok(ours)
    }
}

impl Connections {
    /// Accepts a connection; `None` where every [`Connector`] is gone.
    ///
    /// # Cancel safety
    /// Can be dropped; no connection is lost.
    pub async fn accept(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_there_when_the_server_has_ended() {
        let (connector, mut connections) = pair();
        connector.clone().connect().await.expect("a connection");
        connections.accept().await.expect("the same");
        drop(connections);
        let error = connector.connect().await.expect_err("nobody accepts");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
