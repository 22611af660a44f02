//! The generated gRPC client over a TCP connection.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::stream;
use imagestore::{
    limits,
    wire::v1::{
        CopyRequest, DownloadRequest, Operation, OperationState, UploadHeader, UploadRequest,
        image_store_client::ImageStoreClient, upload_request::Payload,
    },
};
use tonic::transport::{Channel, Endpoint};

use super::Result;

/// A client on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Grpc(pub(crate) ImageStoreClient<Channel>);

impl Grpc {
    /// Connects, with the flow-control windows of the project's Rust client.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(limits::CLIENT_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CLIENT_CONNECTION_WINDOW_BYTES);
        Ok(Self(ImageStoreClient::new(endpoint.connect().await?)))
    }

    /// Copies, and reads the states until the copy ends. Returns the last state.
    pub(crate) async fn copy(&mut self, request: CopyRequest) -> Result<Operation> {
        let mut states = self.0.copy(request).await?.into_inner();
        let mut last = None;
        while let Some(state) = states.message().await? {
            last = Some(state);
        }
        last.filter(|last| last.state() == OperationState::Succeeded)
            .ok_or_else(|| "the copy ended without success".into())
    }

    /// Uploads a file in messages of the size that the project's Rust client uses.
    pub(crate) async fn upload(&mut self, path: &str, mut body: Bytes) -> Result<()> {
        let header = Payload::Header(UploadHeader {
            path: path.to_owned(),
            size_bytes: Some(body.len() as u64),
            ..UploadHeader::default()
        });
        let mut payloads = vec![header];
        while !body.is_empty() {
            let next = body.split_to(body.len().min(limits::STREAM_MESSAGE_BYTES));
            payloads.push(Payload::Data(next));
        }
        let messages = payloads.into_iter().map(|payload| UploadRequest { payload: Some(payload) });
        self.0.upload(stream::iter(messages)).await?;
        Ok(())
    }

    /// Downloads a file and returns its length; the bytes are dropped.
    pub(crate) async fn download(&mut self, path: &str) -> Result<u64> {
        let request = DownloadRequest { path: path.to_owned(), ..DownloadRequest::default() };
        let mut messages = self.0.download(request).await?.into_inner();
        let mut length = 0;
        while let Some(message) = messages.message().await? {
            length += message.data.len() as u64;
        }
        Ok(length)
    }
}
