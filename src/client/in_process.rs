//! Connections to a server in the same process: no other process can reach them.

use std::io;

use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

use crate::limits::IN_PROCESS_BUFFER_BYTES;

/// The client end: opens connections. Clones connect to the same server.
#[derive(Clone, Debug)]
pub struct Connector(mpsc::Sender<DuplexStream>);

/// The server end: accepts the connections of the [`Connector`]s.
#[derive(Debug)]
pub struct Connections(mpsc::Receiver<DuplexStream>);

/// Makes the two ends. At most one connection waits to be accepted; the next one waits to be opened.
pub fn pair() -> (Connector, Connections) {
    let (sender, receiver) = mpsc::channel(1);
    (Connector(sender), Connections(receiver))
}

impl Connector {
    /// Opens a connection, which buffers at most [`IN_PROCESS_BUFFER_BYTES`] in each direction.
    ///
    /// # Errors
    /// `ConnectionRefused` if the server has ended.
    ///
    /// # Cancel safety
    /// When the future is dropped, no connection is opened.
    pub(super) async fn connect(self) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(IN_PROCESS_BUFFER_BYTES);
        let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        self.0.send(theirs).await.map_err(refused)?;
        Ok(ours)
    }
}

impl Connections {
    /// Accepts a connection; `None` after every [`Connector`] has been dropped.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
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
