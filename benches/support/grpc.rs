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
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::Result;

/// A client on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Grpc(pub(crate) ImageStoreClient<InterceptedService<Channel, Authorization>>);

/// How a client connects, and with which credential.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// The authority of the server's certificate in PEM; without one the connection is plain.
    pub(crate) authority: Option<String>,
    /// The token.
    pub(crate) token: Option<String>,
}

/// Adds the token to each call, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Authorization(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Grpc {
    /// Connects, with the flow-control windows of the project's Rust client.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        Self::connect_as(address, &Access::default()).await
    }

    /// As [`Grpc::connect`], with TLS or a token.
    pub(crate) async fn connect_as(address: SocketAddr, access: &Access) -> Result<Self> {
        let scheme = if access.authority.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .initial_stream_window_size(limits::CLIENT_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CLIENT_CONNECTION_WINDOW_BYTES);
        if let Some(authority) = &access.authority {
            let authority = Certificate::from_pem(authority);
            let tls = ClientTlsConfig::new().ca_certificate(authority).domain_name("localhost");
            endpoint = endpoint.tls_config(tls)?;
        }
        let token = access.token.as_ref().map(|token| format!("Bearer {token}").parse());
        let authorization = Authorization(token.transpose()?);
        Ok(Self(ImageStoreClient::with_interceptor(endpoint.connect().await?, authorization)))
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
