//! The Rust client: calls with retries, transfers with an end-to-end checksum, and watches that reconnect.
//!
//! Reads, uploads, downloads, watches and copies are retried a bounded number of times ([`limits::RETRIES`]) when the
//! connection is lost or the server is busy. A copy is safe to retry because the client gives it an operation id.
//! `delete` and `cancel` are not retried, because their response says what *this* call did; neither are changes of
//! tokens, checks, backups, restores and uploads from a stream.
//!
//! Every wait is bounded: a call by [`limits::CALL_TIME`], a transfer by [`limits::TRANSFER_SILENCE`] without progress.
//! A stream also ends when the server does not respond to a probe; a watch and a copy have no other bound. All work of
//! a client ends at the client's deadline, if it has one.
//!
//! **Invariant:** a file counts as transferred only when the BLAKE3 digest of the bytes read equals that of the bytes
//! written.

mod address;
pub mod backup;
mod bearer;
pub mod check;
pub mod download;
pub mod error;
pub mod in_process;
mod link;
mod package;
pub mod path;
mod piped;
mod retry;
mod target;
mod tls;
pub mod token;
pub mod transfer;
mod tree;
pub mod upload;
mod wait;
pub mod watch;

use std::{collections::VecDeque, time::Duration};

use futures::{Stream, TryFutureExt, stream};
use http::HeaderValue;
use hyper_util::rt::TokioIo;
use tonic::{
    Response, Status,
    codec::CompressionEncoding,
    transport::{self, Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    client::{
        bearer::{Bearer, ExpiryListener},
        error::{Error, Result, root_cause},
        in_process::Connector,
        retry::{Backoff, Listener},
        wait::{Deadline, Timeout},
    },
    limits,
    secret::Secret,
    wire::v1::{self, image_store_client::ImageStoreClient},
};

/// The generated client over a connection.
type Stub = ImageStoreClient<Bearer<Channel>>;

/// The certificate of a client, in PEM, and its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and those that lead to its authority.
    pub certificate: Vec<u8>,
    /// The key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: Secret,
}

/// How a client connects.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The time from now after which all calls end; `None`: no deadline.
    pub time: Option<Duration>,
    /// The authorities that the certificate of the server is checked against, in PEM; `None`: those of the system.
    pub authorities: Option<Vec<u8>>,
    /// The certificate that the client shows.
    pub identity: Option<Identity>,
    /// The token that says who the caller is; `None`: calls are anonymous.
    pub token: Option<Secret>,
}

/// A connection to a server. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    stub: Stub,
    server: String,
    listener: Listener,
    expiry: ExpiryListener,
    deadline: Option<Deadline>,
}

impl Client {
    /// Connects to `http://HOST:PORT` or `https://HOST:PORT`; without a scheme, to the former.
    ///
    /// # Errors
    /// [`Error::Address`] if `address` is malformed or has another scheme, [`Error::Lost`] if the connection fails,
    /// [`Error::Waited`] if it is not made within [`limits::CLIENT_CONNECT_TIME`].
    pub async fn connect(address: &str) -> Result<Self> {
        Self::connect_with(address, Options::default()).await
    }

    /// Connects with some options.
    ///
    /// # Errors
    /// Those of [`Client::connect`]; [`Error::Address`] for an address without a scheme and not of this machine, if there
    /// is a token; [`Error::Authorities`] if [`Options::authorities`] are not PEM, or the address is
    /// without TLS; [`Error::Token`] if the token is malformed. After the deadline every call fails with
    /// [`Error::Waited`]; the server cancels a running copy at the deadline.
    pub async fn connect_with(address: &str, options: Options) -> Result<Self> {
        let deadline = options.time.and_then(Deadline::after);
        let token = options.token.as_ref().map(bearer::authorization).transpose()?;
        let (server, endpoint) = address::endpoint(address, &options)?;
        Self::over(tuned(endpoint).connect(), token, server, deadline).await
    }

    /// Checks an address and options as [`Client::connect_with`] does, and connects to nothing. Returns the address with
    /// its scheme.
    ///
    /// # Errors
    /// Those of [`Client::connect_with`], except [`Error::Lost`] and [`Error::Waited`].
    pub fn check_address(address: &str, options: &Options) -> Result<String> {
        options.token.as_ref().map(bearer::authorization).transpose()?;
        Ok(address::endpoint(address, options)?.0)
    }

    /// Connects to a server in the same process; `time` is as in [`Options`].
    ///
    /// # Errors
    /// Those of [`Client::connect`], except [`Error::Address`].
    pub async fn connect_in_process(connector: Connector, time: Option<Duration>) -> Result<Self> {
        let connect = service_fn(move |_| connector.clone().connect().map_ok(TokioIo::new));
        // The connector ignores this address.
        let endpoint = tuned(Endpoint::from_static("http://localhost"));
        let server = "the server in this process".to_owned();
        let connected = endpoint.connect_with_connector(connect);
        Self::over(connected, None, server, time.and_then(Deadline::after)).await
    }

    async fn over(
        connected: impl Future<Output = std::result::Result<Channel, transport::Error>>,
        token: Option<HeaderValue>,
        server: String,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        let what = "accept a connection".to_owned();
        let wait = Timeout::begin((&server, what), deadline, limits::CLIENT_CONNECT_TIME);
        let lost = |error| Error::Lost { server: server.clone(), why: root_cause(&error) };
        let channel = wait.over(connected.map_err(lost)).await?;
        let expiry = ExpiryListener::default();
        let stub = ImageStoreClient::new(Bearer::new(channel, token, &expiry))
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        Ok(Self { stub, server, listener: Listener::default(), expiry, deadline })
    }

    /// Calls `tell` once, before the first retry after a lost connection, of this client and its clones.
    #[must_use]
    pub fn on_retry(self, tell: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        Self { listener: Listener::new(tell), ..self }
    }

    /// Describes the file or folder at a path; the empty path is the root.
    pub async fn stat(&self, path: &str) -> Result<v1::StatResponse> {
        self.with_retry(format!("describe {path:?}"), |mut stub| async move {
            stub.stat(v1::StatRequest { path: path.to_owned() }).await
        })
        .await
    }

    /// Returns a page of a folder; the empty token selects the first page.
    pub async fn list(&self, path: &str, page_token: &str) -> Result<v1::ListResponse> {
        self.with_retry(format!("list {path:?}"), |mut stub| async move {
            let (path, page_token) = (path.to_owned(), page_token.to_owned());
            stub.list(v1::ListRequest { path, page_size: 0, page_token }).await
        })
        .await
    }

    /// Finds all files below a folder, at every depth, in no particular order. `folder` must be the path of a
    /// [`v1::Entry`], because every path in a response must begin with it.
    ///
    /// Each page of a folder is a separate snapshot: the results may mix the states before and after a concurrent
    /// change.
    pub fn files(&self, folder: &str) -> impl Stream<Item = Result<v1::Entry>> + Send + use<> {
        let first = (folder.to_owned(), String::new());
        let search = Search { client: self.clone(), pages: vec![first], ready: VecDeque::new() };
        stream::try_unfold(search, |mut search| async move {
            Ok(search.next().await?.map(|entry| (entry, search)))
        })
    }

    /// Deletes a file, or a folder with everything in it. The call is not retried when the connection is lost.
    pub async fn delete(&self, path: &str) -> Result<v1::DeleteResponse> {
        let request = v1::DeleteRequest { path: path.to_owned(), ..v1::DeleteRequest::default() };
        let mut stub = self.stub.clone();
        self.once(format!("delete {path:?}"), stub.delete(request)).await
    }

    /// Returns a page of operations, the newest first; the empty token selects the first page.
    pub async fn operations(
        &self,
        state: v1::OperationState,
        page_token: &str,
    ) -> Result<v1::ListOperationsResponse> {
        self.with_retry("list its operations".to_owned(), |mut stub| async move {
            let page_token = page_token.to_owned();
            let (page_size, state) = (0, state.into());
            stub.list_operations(v1::ListOperationsRequest { page_size, page_token, state }).await
        })
        .await
    }

    /// Returns one operation.
    pub async fn operation(&self, id: &str) -> Result<v1::Operation> {
        self.with_retry(format!("describe operation {id}"), |mut stub| async move {
            stub.get_operation(v1::GetOperationRequest { id: id.to_owned() }).await
        })
        .await
    }

    /// Cancels an operation and returns it when it is cancelled. The call is not retried when the connection is lost.
    ///
    /// # Errors
    /// [`Kind::Finished`](crate::error::Kind::Finished) if the operation ended first.
    pub async fn cancel(&self, id: &str) -> Result<v1::Operation> {
        let request = v1::CancelOperationRequest { id: id.to_owned() };
        let mut stub = self.stub.clone();
        self.once(format!("cancel operation {id}"), stub.cancel_operation(request)).await
    }

    /// Returns the space that the store uses.
    pub async fn info(&self) -> Result<v1::GetStoreInfoResponse> {
        self.with_retry("tell the space that it uses".to_owned(), |mut stub| async move {
            stub.get_store_info(v1::GetStoreInfoRequest {}).await
        })
        .await
    }

    /// Makes a call, with retries. `what` says in errors what the server was to do: a verb and its object.
    async fn with_retry<T, F>(&self, what: String, call: impl Fn(Stub) -> F + Sync) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        self.repeat(&self.wait(what, limits::CALL_TIME), call).await
    }

    async fn repeat<T, F>(&self, wait: &Timeout, call: impl Fn(Stub) -> F + Sync) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let mut backoff = self.backoff();
        let answered = async {
            loop {
                match self.answer(call(self.stub.clone()).await) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => backoff.after(error, wait).await?,
                }
            }
        };
        wait.over(answered).await
    }

    /// Makes a call without retries; `what` is as in [`Self::with_retry`].
    async fn once<T>(
        &self,
        what: String,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        let wait = self.wait(what, limits::CALL_TIME);
        wait.over(async { self.answer(call.await) }).await
    }

    /// Begins a wait that ends at the client's deadline, or after `silence_max` without progress of the server.
    fn wait(&self, what: String, silence_max: Duration) -> Timeout {
        Timeout::begin((&self.server, what), self.deadline, silence_max)
    }

    /// Awaits work over a stream until the wait is over. A server that is silent for [`limits::ASK_AFTER`] is probed,
    /// see [`Self::absent`].
    fn attended<T>(
        &self,
        wait: &Timeout,
        work: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        // Boxed, because both futures are large and callers nest this one.
        let (work, absent) = (Box::pin(work), Box::pin(self.absent(wait)));
        wait.over(async {
            tokio::select! {
                biased;
                result = work => result,
                error = absent => Err(error),
            }
        })
    }

    /// Waits until the server is silent and does not respond to a probe within [`limits::ASK_TIME`].
    async fn absent(&self, wait: &Timeout) -> Error {
        loop {
            wait.silent_for(limits::ASK_AFTER).await;
            let ask = self.wait("say that it is there".to_owned(), limits::ASK_TIME);
            let asked = self.repeat(&ask, |mut stub| async move {
                stub.stat(v1::StatRequest { path: String::new() }).await
            });
            // Any response of the server, also an error, shows that it is there.
            if asked.await.is_err_and(|error| error.kind().is_none()) {
                return wait.error("");
            }
            tokio::time::sleep(limits::ASK_AFTER).await;
        }
    }

    /// A backoff for one piece of work.
    fn backoff(&self) -> Backoff {
        Backoff::new(&self.listener)
    }

    /// The message of a response, or the error of its status.
    fn answer<T>(&self, answer: Result<Response<T>, Status>) -> Result<T> {
        answer.map(Response::into_inner).map_err(|status| self.error(&status))
    }

    /// The error of a status.
    fn error(&self, status: &Status) -> Error {
        Error::from_status(&self.server, status)
    }
}

/// Sets the timeouts and the flow control windows of a connection.
fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(limits::CLIENT_CONNECT_TIME)
        .http2_keep_alive_interval(limits::CLIENT_KEEP_ALIVE)
        .keep_alive_timeout(limits::CLIENT_KEEP_ALIVE)
        .initial_stream_window_size(limits::CLIENT_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CLIENT_CONNECTION_WINDOW_BYTES)
}

/// The state of [`Client::files`].
#[derive(Debug)]
struct Search {
    client: Client,
    /// A stack of pages to request: folder and page token; the next page is on top.
    pages: Vec<(String, String)>,
    /// The remaining entries of the last page, each with the folder of the page.
    ready: VecDeque<(String, v1::Entry)>,
}

impl Search {
    async fn next(&mut self) -> Result<Option<v1::Entry>> {
        loop {
            while let Some((folder, entry)) = self.ready.pop_front() {
                let name = path::relative(&folder, &entry.path)?;
                if name.contains('/') || name.len() > limits::NAME_BYTES_MAX {
                    return Err(Error::Answer(format!("{:?} is not in {folder:?}", entry.path)));
                }
                if entry.kind() != v1::EntryKind::Folder {
                    return Ok(Some(entry));
                }
                if entry.path.matches('/').count() >= limits::PATH_DEPTH_MAX {
                    return Err(Error::Answer(format!("{:?} is too deep", entry.path)));
                }
                self.pages.push((entry.path, String::new()));
            }
            let Some((folder, token)) = self.pages.pop() else { return Ok(None) };
            let page = self.client.list(&folder, &token).await?;
            if !page.next_page_token.is_empty() {
                self.pages.push((folder.clone(), page.next_page_token));
            }
            self.ready = page.entries.into_iter().map(|entry| (folder.clone(), entry)).collect();
        }
    }
}

/// The entry of a response that must have one.
fn present(entry: Option<v1::Entry>) -> Result<v1::Entry> {
    entry.ok_or_else(|| Error::Answer("it describes no file".to_owned()))
}

/// Waits for a task of the blocking pool; a panic of the task continues here.
async fn joined<T>(work: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    match work.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down and drops this future.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
pub(crate) mod tests;
