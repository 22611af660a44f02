//! Backups for a copy of a store: the messages as they come, for a target that answers the offers.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    client::{
        Client,
        error::{Error, Result},
    },
    limits,
    wire::v1::{
        BackupRequest, BackupResponse, BackupStart, BackupWants, backup_request, backup_response,
    },
};

/// A backup that a server sends for a copy of its store.
#[derive(Debug)]
pub struct BackupStream {
    client: Client,
    requests: mpsc::Sender<BackupRequest>,
    messages: Streaming<BackupResponse>,
}

impl Client {
    /// Begins a backup for a copy of the store.
    ///
    /// # Errors
    /// Those of the server.
    ///
    /// # Cancel safety
    /// Can be dropped; the server releases its snapshot then.
    pub async fn backup_for_copy(&self) -> Result<BackupStream> {
        let (requests, receiver) = mpsc::channel(1);
        let start = backup_request::Payload::Start(BackupStart { everything: false, copy: true });
        // This send cannot fail, because this function holds the receiver.
        requests.send(BackupRequest { payload: Some(start) }).await.ok();
        let wait = self.wait("begin the backup".to_owned(), limits::TRANSFER_SILENCE);
        let begin = async {
            let call = self.stub.clone().backup(ReceiverStream::new(receiver)).await;
            self.answer(call)
        };
        let messages = self.attended(&wait, begin).await?;
        Ok(BackupStream { client: self.clone(), requests, messages })
    }
}

impl BackupStream {
    /// The next message; `None` after the last one. Waits for [`limits::TRANSFER_SILENCE`] at most.
    ///
    /// # Errors
    /// Those of the server; [`Error::Lost`], [`Error::Waited`]. The stream is over then.
    ///
    /// # Cancel safety
    /// The stream cannot continue when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<backup_response::Payload>> {
        let wait = self.client.wait("go on with the backup".to_owned(), limits::TRANSFER_SILENCE);
        let (client, messages) = (&self.client, &mut self.messages);
        let next = async {
            let message = messages.message().await.map_err(|status| client.error(&status))?;
            let empty = || Error::Answer("a message of a backup is empty".to_owned());
            message.map(|message| message.payload.ok_or_else(empty)).transpose()
        };
        client.attended(&wait, next).await
    }

    /// Answers an offer.
    pub async fn want(&self, wants: BackupWants) {
        // If the backup has ended, its next message is the error.
        let payload = Some(backup_request::Payload::Wants(wants));
        self.requests.send(BackupRequest { payload }).await.ok();
    }
}
