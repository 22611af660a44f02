//! Connections over TLS that stall.

use futures::{future::select_all, stream};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{shares::connect_from, *};
use crate::{server::identity::TlsFiles, tls};

/// A fixture whose port has TLS, and a connector that trusts it.
async fn start(rest: Router, bounds: Bounds) -> (Fixture, TlsConnector) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = TempDir::new().expect("a folder");
    let files = TlsFiles {
        certificate: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
        asks_clients: false,
    };
    std::fs::write(&files.certificate, cert.pem()).expect("written");
    std::fs::write(&files.key, signing_key.serialize_pem()).expect("written");
    let (port_tls, _) = Tls::open(files).await.map_err(|error| error.explain()).expect("opened");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, stop) = (listener.local_addr().expect("an address"), CancellationToken::new());
    let grpc = Router::new().fallback(panics);
    let app = door(grpc, rest, guards(Hosts::new(&[], true)), bounds).expect("a door");
    let ended = tokio::spawn(listen::serve(listener, Some(port_tls), app, stop.clone(), bounds));
    (Fixture { address, stop, ended }, TlsConnector::from(Arc::new(config)))
}

/// Makes a handshake from the loopback address 127.0.0.`host`.
async fn handshake(fixture: &Fixture, connector: &TlsConnector, host: u8) -> TlsStream<TcpStream> {
    let stream = connect_from(fixture, host).await;
    let name = ServerName::try_from("localhost").expect("a name");
    connector.connect(name, stream).await.expect("a handshake")
}

#[tokio::test]
async fn half_a_handshake_ends_in_time() {
    let bounds = Bounds { header_time: Duration::from_millis(100), ..Bounds::default() };
    let (fixture, _) = start(hello(), bounds).await;
    let mut silent = fixture.connect().await;
    let mut half = fixture.connect().await;
    half.write_all(&[22, 3, 1]).await.expect("sent");
    for stream in [&mut silent, &mut half] {
        assert_eq!(timeout(SOON, read_to_end(stream)).await.expect("ended"), "");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn handshakes_that_stall_give_way_to_others() {
    let bounds = Bounds { connections: 8, header_time: FOREVER, ..Bounds::default() };
    let (fixture, connector) = start(hello(), bounds).await;
    let mut halves = Vec::new();
    for _ in 0..7 {
        let mut half = fixture.connect().await;
        half.write_all(&[22, 3, 1]).await.expect("sent");
        halves.push(half);
    }
    // One is in the reserve, and one more is served when one that stalls is closed.
    let second = timeout(SOON, handshake(&fixture, &connector, 2)).await.expect("soon");
    let served = async {
        loop {
            let mut third = handshake(&fixture, &connector, 3).await;
            third.write_all(GET.as_bytes()).await.expect("sent");
            let mut answer = [0; 12];
            third.read_exact(&mut answer).await.expect("an answer");
            if answer == *b"HTTP/1.1 200" {
                return;
            }
        }
    };
    timeout(SOON, served).await.expect("soon");
    drop(second);
    let closed = select_all(halves.iter_mut().map(|half| Box::pin(read_to_end(half))));
    assert_eq!(timeout(SOON, closed).await.expect("one is closed").0, "");
    fixture.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let bounds = Bounds { stall: Duration::from_millis(100), ..Bounds::default() };
    let (left, mut is_left) = oneshot::channel::<()>();
    let left = Arc::new(std::sync::Mutex::new(Some(left)));
    let rest = Router::new().fallback(async move || {
        let left = left.lock().expect("no panic").take().expect("one call");
        let pieces = stream::repeat_with(move || {
            // The sender is dropped with the body.
            let _ = &left;
            Ok::<_, Infallible>(Bytes::from_static(&[7; 16 << 10]))
        });
        Body::from_stream(pieces)
    });
    let (fixture, connector) = start(rest, bounds).await;
    let mut client = handshake(&fixture, &connector, 1).await;
    client.write_all(GET.as_bytes()).await.expect("sent");
    timeout(SOON, &mut is_left).await.expect("cut").expect_err("dropped");
    fixture.stop().await;
}
