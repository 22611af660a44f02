//! A scripted server: it keeps files in a map, and injects faults that a test has queued.

mod content;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, stream};
use prost_types::Timestamp;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use crate::{
    client::Client,
    error::{Error, Kind},
    limits,
    wire::{
        TOKEN_EXPIRES,
        status::from_error,
        v1::{image_store_server::ImageStore, image_store_server::ImageStoreServer, *},
    },
};

/// The result of a unary call.
type Answer<T> = Result<Response<T>, Status>;

/// A response stream.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A fault of one transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The call fails as if the connection were lost, after this number of messages.
    Break(usize),
    /// One byte of the content changes.
    Flip,
}

/// The server.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// The files by path.
    pub(crate) files: Mutex<BTreeMap<String, Bytes>>,
    /// Paths in the order of their uploads, and offsets of downloads.
    pub(crate) log: Mutex<Vec<String>>,
    /// The number of `Stat` responses that will have no digest.
    pub(crate) undigested: Mutex<usize>,
    /// The faults of the next transfers, one for each.
    pub(crate) faults: Mutex<VecDeque<Fault>>,
    /// The response streams of the next calls of copy and watch.
    pub(crate) streams: Mutex<VecDeque<Vec<Result<Operation, Status>>>>,
    /// The copy requests received.
    pub(crate) copies: Mutex<Vec<CopyRequest>>,
    /// The requests for new tokens received.
    pub(crate) created: Mutex<Vec<CreateTokenRequest>>,
    /// The tokens, by page.
    pub(crate) tokens: Mutex<Vec<Token>>,
}

/// Locks a mutex, also if it is poisoned.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status of a lost connection: without the error details that the service adds.
pub(crate) fn broken() -> Status {
    Status::unavailable("the connection broke")
}

/// Starts a server and connects to it.
pub(super) async fn start() -> (Arc<Script>, Client) {
    let (script, address) = listen().await;
    (script, Client::connect(&address).await.expect("a connection"))
}

/// Starts a server and returns its address.
pub(crate) async fn listen() -> (Arc<Script>, String) {
    let script = Arc::new(Script::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let service = ImageStoreServer::from_arc(Arc::clone(&script))
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    (script, address)
}

fn unscripted<T>() -> Answer<T> {
    Err(Status::unimplemented("not in the script"))
}

#[tonic::async_trait]
impl ImageStore for Script {
    type CopyStream = Answers<Operation>;
    type WatchOperationStream = Answers<Operation>;
    type WatchOperationsStream = Answers<Operation>;
    type DownloadStream = Answers<DownloadResponse>;
    type DownloadPackageStream = Answers<DownloadPackageResponse>;
    type CheckStream = Answers<CheckResponse>;
    type BackupStream = Answers<BackupResponse>;

    async fn copy(&self, request: Request<CopyRequest>) -> Answer<Self::CopyStream> {
        lock(&self.copies).push(request.into_inner());
        Ok(self.next_stream())
    }

    async fn watch_operation(
        &self,
        _: Request<WatchOperationRequest>,
    ) -> Answer<Self::WatchOperationStream> {
        Ok(self.next_stream())
    }

    async fn watch_operations(
        &self,
        _: Request<WatchOperationsRequest>,
    ) -> Answer<Self::WatchOperationsStream> {
        Ok(self.next_stream())
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        // One entry per page, so that every listing needs several pages.
        let ListRequest { path, page_token, .. } = request.into_inner();
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let paths: Vec<String> = lock(&self.files).keys().cloned().collect();
        let children: BTreeSet<String> = paths
            .iter()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(|rest| format!("{prefix}{}", rest.split('/').next().unwrap_or(rest)))
            .collect();
        let mut rest = children.into_iter().filter(|child| *child > page_token);
        let entries: Vec<Entry> =
            rest.next().and_then(|path| self.entry(&path)).into_iter().collect();
        let more = rest.next().is_some();
        let last = entries.first().map(|entry| entry.path.clone());
        let next_page_token = last.filter(|_| more).unwrap_or_default();
        Ok(Response::new(ListResponse { entries, next_page_token, ..ListResponse::default() }))
    }

    async fn stat(&self, request: Request<StatRequest>) -> Answer<StatResponse> {
        let mut entry = self.entry(&request.into_inner().path);
        let mut undigested = lock(&self.undigested);
        if let (Some(entry), 1..) = (&mut entry, *undigested) {
            entry.digest.clear();
            *undigested -= 1;
        }
        Ok(Response::new(StatResponse { entry, ..StatResponse::default() }))
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Answer<UploadResponse> {
        let mut messages = request.into_inner();
        let (mut header, mut bytes) = (UploadHeader::default(), Vec::new());
        let fault = lock(&self.faults).pop_front();
        let (mut count, mut end) = (0, None);
        while let Some(message) = messages.message().await? {
            count += 1;
            if matches!(fault, Some(Fault::Break(after)) if count > after) {
                return Err(broken());
            }
            assert_eq!(end, None, "nothing comes after the end");
            match message.payload.expect("a payload") {
                upload_request::Payload::Header(first) if first.path == "refused" => {
                    let error = Error::new(Kind::AlreadyExists, "refused is a folder");
                    return Err(from_error(&error));
                }
                upload_request::Payload::Header(first) => header = first,
                upload_request::Payload::Data(data) => bytes.extend_from_slice(&data),
                upload_request::Payload::Finish(finish) => end = Some(finish),
            }
        }
        assert!(header.ends_with_finish);
        let size_bytes = Some(bytes.len() as u64);
        let finish = UploadFinish { size_bytes, blake3: blake3::hash(&bytes).to_string() };
        assert_eq!(end, Some(finish), "the end says what came");
        if header.size_bytes.is_some_and(|size| size != bytes.len() as u64) {
            return Err(from_error(&Error::invalid("size_bytes", "too short or too long")));
        }
        if let (Some(Fault::Flip), Some(byte)) = (fault, bytes.first_mut()) {
            *byte ^= 1;
        }
        lock(&self.log).push(header.path.clone());
        let old = lock(&self.files).insert(header.path.clone(), bytes.into());
        let files_replaced = old.map_or(0, |_| 1);
        Ok(Response::new(UploadResponse { entry: self.entry(&header.path), files_replaced }))
    }

    async fn download(&self, request: Request<DownloadRequest>) -> Answer<Self::DownloadStream> {
        let request = request.into_inner();
        lock(&self.log).push(format!("{} {}", request.path, request.offset));
        let bytes = lock(&self.files).get(&request.path).expect("a file").clone();
        assert_eq!(request.etag, blake3::hash(&bytes).to_hex().as_str());
        let offset = usize::try_from(request.offset).expect("an offset");
        let mut bytes = bytes[offset..].to_vec();
        let fault = lock(&self.faults).pop_front();
        if let (Some(Fault::Flip), Some(byte)) = (fault, bytes.first_mut()) {
            *byte ^= 1;
        }
        let mut messages: Vec<Result<DownloadResponse, Status>> = bytes
            .chunks(limits::STREAM_MESSAGE_BYTES)
            .map(|data| Ok(DownloadResponse { data: Bytes::copy_from_slice(data), entry: None }))
            .collect();
        if let Some(Fault::Break(after)) = fault {
            messages.truncate(after);
            messages.push(Err(broken()));
        }
        Ok(Response::new(Box::pin(stream::iter(messages))))
    }

    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Answer<ListOperationsResponse> {
        unscripted()
    }

    async fn get_operation(&self, _: Request<GetOperationRequest>) -> Answer<Operation> {
        unscripted()
    }

    async fn cancel_operation(&self, _: Request<CancelOperationRequest>) -> Answer<Operation> {
        unscripted()
    }

    async fn download_package(
        &self,
        request: Request<DownloadPackageRequest>,
    ) -> Answer<Self::DownloadPackageStream> {
        Ok(self.package(&request.into_inner().path))
    }

    async fn create_link(&self, _: Request<CreateLinkRequest>) -> Answer<CreateLinkResponse> {
        unscripted()
    }

    async fn rotate_link_key(
        &self,
        _: Request<RotateLinkKeyRequest>,
    ) -> Answer<RotateLinkKeyResponse> {
        unscripted()
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        unscripted()
    }

    async fn upload_chunk(
        &self,
        _: Request<Streaming<UploadChunkRequest>>,
    ) -> Answer<UploadChunkResponse> {
        unscripted()
    }

    async fn get_upload_session(
        &self,
        _: Request<GetUploadSessionRequest>,
    ) -> Answer<UploadSession> {
        unscripted()
    }

    async fn list_upload_sessions(
        &self,
        _: Request<ListUploadSessionsRequest>,
    ) -> Answer<ListUploadSessionsResponse> {
        unscripted()
    }

    async fn commit_upload_session(
        &self,
        _: Request<CommitUploadSessionRequest>,
    ) -> Answer<CommitUploadSessionResponse> {
        unscripted()
    }

    async fn delete_upload_session(
        &self,
        _: Request<DeleteUploadSessionRequest>,
    ) -> Answer<DeleteUploadSessionResponse> {
        unscripted()
    }

    async fn check(&self, request: Request<CheckRequest>) -> Answer<Self::CheckStream> {
        // A file with the path `damaged` causes one finding.
        let found = Finding {
            kind: FindingKind::EntryTarget.into(),
            message: "\"damaged\": its content is missing".to_owned(),
            paths: vec!["damaged".to_owned()],
            more_paths: false,
            repaired: request.into_inner().repair,
        };
        let findings: Vec<_> =
            lock(&self.files).contains_key("damaged").then_some(found).into_iter().collect();
        let (total, repaired) =
            (findings.len() as u64, findings.iter().filter(|found| found.repaired).count() as u64);
        let begun = CheckResponse { rows_checked: 1, ..CheckResponse::default() };
        let last = CheckResponse {
            rows_checked: 1_234,
            objects_checked: 1,
            findings,
            findings_total: total,
            findings_repaired: repaired,
            done: true,
            ..CheckResponse::default()
        };
        Ok(Response::new(Box::pin(stream::iter([Ok(begun), Ok(last)]))))
    }

    async fn backup(&self, _: Request<Streaming<BackupRequest>>) -> Answer<Self::BackupStream> {
        unscripted()
    }

    async fn restore(&self, _: Request<Streaming<RestoreRequest>>) -> Answer<RestoreResponse> {
        unscripted()
    }

    async fn get_caller(&self, request: Request<GetCallerRequest>) -> Answer<GetCallerResponse> {
        // The caller has the name of its credential, which ends soon, and is an admin at the path `mine`.
        let credential = request.metadata().get("authorization").cloned();
        let request = request.into_inner();
        let may = (request.role() != Role::Unspecified).then_some(request.path == "mine");
        let grants = vec![Grant { role: Role::Admin.into(), path: "mine".to_owned() }];
        let name = "anonymous".to_owned();
        let mut caller = GetCallerResponse { name, grants, may, ..Default::default() };
        let Some(credential) = credential else { return Ok(Response::new(caller)) };
        caller.name = credential.to_str().expect("ASCII").to_owned();
        caller.expires_at = Some(Timestamp { seconds: 1_796_083_200, nanos: 0 });
        let mut answer = Response::new(caller);
        let end = "2026-12-01T00:00:00Z".parse().expect("a value");
        answer.metadata_mut().insert(TOKEN_EXPIRES, end);
        Ok(answer)
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Answer<CreateTokenResponse> {
        let request = request.into_inner();
        lock(&self.created).push(request.clone());
        let expires_at = request.life.map(|life| Timestamp { seconds: life.seconds, nanos: 0 });
        let CreateTokenRequest { name, grants, .. } = request;
        let token = Some(Token { name, grants, expires_at, ..Token::default() });
        Ok(Response::new(CreateTokenResponse { token, secret: "imagestore_new".to_owned() }))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        // One token per page.
        let page: usize = request.into_inner().page_token.parse().unwrap_or_default();
        let tokens = lock(&self.tokens);
        let more = page + 1 < tokens.len();
        let next_page_token = if more { (page + 1).to_string() } else { String::new() };
        let tokens = tokens.get(page).cloned().into_iter().collect();
        Ok(Response::new(ListTokensResponse { tokens, next_page_token }))
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Answer<RotateTokenResponse> {
        let RotateTokenRequest { name, overlap } = request.into_inner();
        let old_secret_until = overlap.map(|time| Timestamp { seconds: time.seconds, nanos: 0 });
        let token = Some(Token { name, old_secret_until, ..Token::default() });
        Ok(Response::new(RotateTokenResponse { token, secret: "imagestore_rotated".to_owned() }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<Token> {
        let name = request.into_inner().name;
        if name != "ci" {
            let why = format!("no token is {name}");
            return Err(from_error(&Error::new(Kind::PathNotFound, why)));
        }
        Ok(Response::new(Token { name, ..Token::default() }))
    }

    async fn get_store_info(
        &self,
        _: Request<GetStoreInfoRequest>,
    ) -> Answer<GetStoreInfoResponse> {
        unscripted()
    }
}
