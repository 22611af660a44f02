//! An issuer of JWTs: a real HTTP server on a loopback port, which a test can stop, or let answer anything.

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::signer::Signer;

/// The path of the keys.
const KEYS: &str = "/keys";

/// How an issuer answers.
#[derive(Clone)]
pub(crate) enum Reply {
    Json(Value),
    /// A redirect to an address.
    Redirect(String),
    /// So many bytes.
    Bytes(usize),
    Status(StatusCode),
    /// Nothing at all.
    Silence,
}

struct Shared {
    metadata: Reply,
    keys: Reply,
    /// The paths of the requests.
    seen: Vec<String>,
}

/// An issuer.
pub(crate) struct Issuer {
    pub(crate) url: String,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<()>,
}

impl Issuer {
    /// Starts an issuer with the keys of these signers.
    pub(crate) async fn start(signers: &[&Signer]) -> Self {
        Self::start_with(signers, None).await
    }

    /// Starts an issuer with TLS, for the name `localhost`.
    pub(crate) async fn start_with(signers: &[&Signer], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{port}/team/");
        let jwks_uri = format!("{scheme}://localhost:{port}{KEYS}");
        let metadata = Reply::Json(json!({ "issuer": url, "jwks_uri": jwks_uri }));
        let shared = Shared { metadata, keys: keys(signers), seen: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let serving = tokio::spawn(serve(listener, tls, Arc::clone(&shared)));
        Self { url, shared, serving }
    }

    /// Ends the issuer: nobody listens on its port.
    pub(crate) async fn stop(&mut self) {
        self.serving.abort();
        (&mut self.serving).await.expect_err("aborted");
    }

    /// Changes the keys.
    pub(crate) fn has(&self, signers: &[&Signer]) {
        self.keys_are(keys(signers));
    }

    /// Changes the answer about the keys.
    pub(crate) fn keys_are(&self, reply: Reply) {
        self.shared.lock().expect("no panic").keys = reply;
    }

    /// Changes the metadata.
    pub(crate) fn metadata_are(&self, reply: Reply) {
        self.shared.lock().expect("no panic").metadata = reply;
    }

    /// The paths of the requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.lock().expect("no panic").seen.clone()
    }

    /// The table of the issuer in a grants file.
    pub(crate) fn table(&self, name: &str) -> String {
        let url = &self.url;
        format!("[[issuer]]\nname = '{name}'\nurl = '{url}'\naudience = 'store'\n")
    }

    /// Claims of a JWT of a user that ends in many years.
    pub(crate) fn claims(&self, user: &str) -> Value {
        json!({ "iss": self.url, "aud": "store", "sub": user, "exp": 4_000_000_000_u32 })
    }
}

fn keys(signers: &[&Signer]) -> Reply {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    Reply::Json(json!({ "keys": keys }))
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Mutex<Shared>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            match tls {
                Some(tls) => {
                    // A client that does not trust the certificate leaves.
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(stream, shared).await;
                    }
                }
                None => connection(stream, shared).await,
            }
        });
    }
}

async fn connection<S>(stream: S, shared: Arc<Mutex<Shared>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let path = request.uri().path().to_owned();
        let reply = {
            let mut shared = shared.lock().expect("no panic");
            let is_keys = path == KEYS;
            shared.seen.push(path);
            if is_keys { shared.keys.clone() } else { shared.metadata.clone() }
        };
        async move { Ok::<_, Infallible>(answer(reply).await) }
    });
    // A client that has read enough leaves.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(reply: Reply) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    match reply {
        Reply::Json(json) => *answer.body_mut() = Full::from(json.to_string()),
        Reply::Bytes(count) => *answer.body_mut() = Full::from(vec![b' '; count]),
        Reply::Status(status) => *answer.status_mut() = status,
        Reply::Redirect(to) => {
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert(header::LOCATION, to.parse().expect("a value"));
        }
        Reply::Silence => pending().await,
    }
    answer
}
