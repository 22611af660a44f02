//! HTTP/2 connections without the retries and error mapping of a client, so that a test sees the server's responses.

use std::net::SocketAddr;

use http::{Request, Response};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use imagestore::wire::v1::image_store_client::ImageStoreClient;
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

use super::record::Recorded;

/// One HTTP/2 connection.
pub(crate) type Http2 = http2::SendRequest<Body>;

/// The generated client over one HTTP/2 connection.
pub(crate) type Plain =
    ImageStoreClient<BoxCloneSyncService<Request<Body>, Response<Body>, hyper::Error>>;

/// Opens an HTTP/2 connection.
pub(crate) async fn connect(address: SocketAddr) -> Http2 {
    let stream = TcpStream::connect(address).await.expect("connected");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Opens an HTTP/2 connection for the generated client.
pub(crate) async fn plain(address: SocketAddr) -> Plain {
    let sender = connect(address).await;
    let service = tower::service_fn(move |request: Request<Body>| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let origin = format!("http://{address}").parse().expect("a URI");
    ImageStoreClient::with_origin(BoxCloneSyncService::new(Recorded(service)), origin)
}
