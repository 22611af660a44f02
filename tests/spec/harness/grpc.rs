//! The driver over gRPC, through the generated client.

use imagestore::{
    limits::STREAM_MESSAGE_BYTES,
    wire::{
        convert::micros,
        status,
        v1::{
            CancelOperationRequest, CommitUploadSessionRequest, CopyRequest, DeleteRequest,
            DeleteUploadSessionRequest, DownloadRequest, Entry, EntryKind, GetOperationRequest,
            GetUploadSessionRequest, IfExists, ListRequest, Operation, OperationKind,
            OperationState, StatRequest, UploadChunkHeader, UploadChunkRequest, UploadHeader,
            UploadRequest, upload_chunk_request, upload_request,
        },
    },
};
use prost_types::Timestamp;
use tonic::Status;
use tonic_types::StatusExt;

use super::{Client, Copy, CopyResult, Driver, Fault, Item, MayReplace, Outcome, Preconditions};

/// Drives a server over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct Grpc(Client);

impl Grpc {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    async fn read(&self, request: DownloadRequest) -> Outcome<Vec<u8>> {
        let mut stream = self.0.clone().download(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            bytes.extend(message.data);
        }
        Ok(bytes)
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        assert!(status.get_details_request_info().is_some(), "it names its request: {status}");
        Self { kind: status::kind(&status), message: status.message().to_owned() }
    }
}

impl Preconditions {
    fn timestamp(&self) -> Option<Timestamp> {
        // The end of the second, because a date of HTTP in whole seconds covers the whole second.
        self.if_unmodified_since.map(|seconds| Timestamp { seconds, nanos: 999_999_999 })
    }
}

impl From<&Copy> for CopyRequest {
    fn from(copy: &Copy) -> Self {
        let if_exists = match (copy.keep, copy.same_kind) {
            (true, _) => IfExists::Keep,
            (false, true) => IfExists::ReplaceSameKind,
            (false, false) => IfExists::Unspecified,
        };
        Self {
            source: copy.source.clone(),
            destination: copy.destination.clone(),
            skip_files: copy.skip.clone(),
            check_mark_file: copy.check_mark,
            if_exists: if_exists.into(),
            operation_id: copy.id.clone(),
            verify: copy.verify,
            if_match: copy.when.if_match.clone(),
            if_none_match: copy.when.if_none_match.clone(),
            if_unmodified_since: copy.when.timestamp(),
            detached: false,
        }
    }
}

/// The messages of an upload: the header, then the bytes in two data messages, or more if those would be too large.
pub(crate) fn upload(path: &str, bytes: &[u8]) -> Vec<UploadRequest> {
    upload_if(path, bytes, &Preconditions::default())
}

/// The messages of an upload with conditions.
fn upload_if(path: &str, bytes: &[u8], when: &Preconditions) -> Vec<UploadRequest> {
    let header = UploadHeader {
        path: path.to_owned(),
        if_match: when.if_match.clone(),
        if_none_match: when.if_none_match.clone(),
        if_unmodified_since: when.timestamp(),
        ..UploadHeader::default()
    };
    let message = |payload| UploadRequest { payload: Some(payload) };
    let data = |bytes: &[u8]| message(upload_request::Payload::Data(bytes.to_vec().into()));
    let pieces = bytes.chunks(bytes.len().div_ceil(2).clamp(1, STREAM_MESSAGE_BYTES)).map(data);
    [message(upload_request::Payload::Header(header))].into_iter().chain(pieces).collect()
}

/// What an upload may replace, as the value of the proto.
fn if_exists(over: Option<MayReplace>) -> i32 {
    let if_exists = match over {
        None => IfExists::Unspecified,
        Some(MayReplace::SameKind) => IfExists::ReplaceSameKind,
        Some(MayReplace::Anything) => IfExists::Overwrite,
    };
    if_exists.into()
}

/// The messages of a chunk.
pub(crate) fn chunk(header: UploadChunkHeader, bytes: &[u8]) -> Vec<UploadChunkRequest> {
    let message = |payload| UploadChunkRequest { payload: Some(payload) };
    let data = |bytes: &[u8]| message(upload_chunk_request::Payload::Data(bytes.to_vec().into()));
    let pieces = bytes.chunks(STREAM_MESSAGE_BYTES).map(data);
    [message(upload_chunk_request::Payload::Header(header))].into_iter().chain(pieces).collect()
}

#[tonic::async_trait]
impl Driver for Grpc {
    async fn upload_if(&self, path: &str, bytes: &[u8], when: &Preconditions) -> Outcome<()> {
        let messages = tokio_stream::iter(upload_if(path, bytes, when));
        let stored = self.0.clone().upload(messages).await?.into_inner().entry.expect("an entry");
        assert_eq!(stored.size_bytes, bytes.len() as u64);
        assert_eq!(stored.digest, blake3::hash(bytes).to_hex().as_str());
        Ok(())
    }

    async fn etag(&self, path: &str) -> Outcome<String> {
        let found = self.0.clone().stat(StatRequest { path: path.to_owned() }).await?;
        Ok(found.into_inner().entry.expect("an entry").etag)
    }

    async fn download(&self, path: &str) -> Outcome<Vec<u8>> {
        self.read(DownloadRequest { path: path.to_owned(), ..DownloadRequest::default() }).await
    }

    async fn range(&self, path: &str, offset: u64, length: u64) -> Outcome<Vec<u8>> {
        let (path, length) = (path.to_owned(), Some(length));
        self.read(DownloadRequest { path, offset, length, ..DownloadRequest::default() }).await
    }

    async fn copy(&self, copy: &Copy) -> Outcome<()> {
        let mut stream = self.0.clone().copy(CopyRequest::from(copy)).await?.into_inner();
        let mut last: Option<Operation> = None;
        while let Some(operation) = stream.message().await? {
            if let Some(last) = &last {
                assert_eq!(last.id, operation.id);
                assert_ne!(last.state(), OperationState::Succeeded);
            }
            last = Some(operation);
        }
        assert_eq!(last.expect("a message").state(), OperationState::Succeeded);
        Ok(())
    }

    async fn delete_if(&self, path: &str, when: &Preconditions) -> Outcome<()> {
        let request = DeleteRequest {
            path: path.to_owned(),
            if_match: when.if_match.clone(),
            if_none_match: when.if_none_match.clone(),
            if_unmodified_since: when.timestamp(),
        };
        self.0.clone().delete(request).await?;
        Ok(())
    }

    async fn list(&self, path: &str) -> Outcome<Vec<Item>> {
        let mut items = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListRequest { path: path.to_owned(), page_size: 0, page_token };
            let page = self.0.clone().list(request).await?.into_inner();
            items.extend(page.entries.into_iter().map(item));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                items.sort_by(|a, b| a.path.cmp(&b.path));
                return Ok(items);
            }
        }
    }

    async fn size(&self, path: &str) -> Outcome<u64> {
        let found = self.0.clone().stat(StatRequest { path: path.to_owned() }).await?;
        Ok(found.into_inner().entry.expect("an entry").size_bytes)
    }

    async fn chunk(
        &self,
        session: &str,
        path: &str,
        (offset, total_bytes): (u64, u64),
        bytes: &[u8],
    ) -> Outcome<()> {
        let header = UploadChunkHeader {
            session_id: session.to_owned(),
            path: path.to_owned(),
            offset,
            length: bytes.len() as u64,
            total_bytes,
            ..UploadChunkHeader::default()
        };
        self.0.clone().upload_chunk(tokio_stream::iter(chunk(header, bytes))).await?;
        Ok(())
    }

    async fn session(&self, session: &str) -> Outcome<Option<Vec<(u64, u64)>>> {
        let request = GetUploadSessionRequest { session_id: session.to_owned() };
        match self.0.clone().get_upload_session(request).await.map_err(Fault::from) {
            Ok(found) => {
                let ranges = found.into_inner().expected_ranges.into_iter();
                Ok(Some(ranges.map(|range| (range.start, range.end)).collect()))
            }
            Err(Fault { kind: imagestore::error::Kind::SessionNotFound, .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn commit_if(&self, session: &str, when: &Preconditions) -> Outcome<()> {
        let request = CommitUploadSessionRequest {
            session_id: session.to_owned(),
            if_match: when.if_match.clone(),
            if_none_match: when.if_none_match.clone(),
            if_unmodified_since: when.timestamp(),
            ..CommitUploadSessionRequest::default()
        };
        self.0.clone().commit_upload_session(request).await?;
        Ok(())
    }

    async fn upload_onto(
        &self,
        path: &str,
        bytes: &[u8],
        over: Option<MayReplace>,
    ) -> Outcome<u64> {
        let mut messages = upload_if(path, bytes, &Preconditions::default());
        if let Some(upload_request::Payload::Header(header)) = &mut messages[0].payload {
            header.if_exists = if_exists(over);
        }
        let stored = self.0.clone().upload(tokio_stream::iter(messages)).await?;
        Ok(stored.into_inner().files_replaced)
    }

    async fn chunked_onto(
        &self,
        path: &str,
        bytes: &[u8],
        over: [Option<MayReplace>; 2],
    ) -> Outcome<u64> {
        let [begun, committed] = over.map(if_exists);
        let header = UploadChunkHeader {
            session_id: uuid::Uuid::new_v4().to_string(),
            path: path.to_owned(),
            length: bytes.len() as u64,
            total_bytes: bytes.len() as u64,
            if_exists: begun,
            ..UploadChunkHeader::default()
        };
        let request = CommitUploadSessionRequest {
            session_id: header.session_id.clone(),
            if_exists: committed,
            ..CommitUploadSessionRequest::default()
        };
        self.0.clone().upload_chunk(tokio_stream::iter(chunk(header, bytes))).await?;
        let committed = self.0.clone().commit_upload_session(request).await?;
        Ok(committed.into_inner().files_replaced)
    }

    async fn forget(&self, session: &str) -> Outcome<()> {
        let request = DeleteUploadSessionRequest { session_id: session.to_owned() };
        self.0.clone().delete_upload_session(request).await?;
        Ok(())
    }

    async fn operation(&self, id: &str) -> Outcome<String> {
        let request = GetOperationRequest { id: id.to_owned() };
        Ok(line(self.0.clone().get_operation(request).await?.get_ref()))
    }

    async fn copy_result(&self, id: &str) -> Outcome<CopyResult> {
        let request = GetOperationRequest { id: id.to_owned() };
        let operation = self.0.clone().get_operation(request).await?.into_inner();
        Ok(CopyResult {
            files_replaced: operation.files_replaced,
            skip_files_unmatched: operation.skip_files_unmatched,
        })
    }

    async fn cancel(&self, id: &str) -> Outcome<()> {
        let request = CancelOperationRequest { id: id.to_owned() };
        self.0.clone().cancel_operation(request).await?;
        Ok(())
    }
}

/// The kind, state and counters of an operation in one line.
pub(crate) fn line(operation: &Operation) -> String {
    let kind = match operation.kind() {
        OperationKind::Unspecified => panic!("an operation has a kind"),
        OperationKind::Copy => "Copy",
        OperationKind::Delete => "Delete",
        OperationKind::CommitUploadSession => "CommitUploadSession",
    };
    let state = match operation.state() {
        OperationState::Unspecified => panic!("an operation has a state"),
        OperationState::Running => "Running",
        OperationState::Succeeded => "Succeeded",
        OperationState::Failed => "Failed",
        OperationState::Cancelled => "Cancelled",
    };
    format!(
        "{kind} {state} {}+{}/{} {}+{}/{}",
        operation.files_done,
        operation.files_skipped,
        operation.files_total,
        operation.bytes_done,
        operation.bytes_skipped,
        operation.bytes_total,
    )
}

fn item(entry: Entry) -> Item {
    let is_folder = entry.kind() == EntryKind::Folder;
    Item {
        is_folder,
        size: if is_folder { 0 } else { entry.size_bytes },
        files: entry.file_count,
        version: entry.version.map_or(0, |version| version.version_number),
        modified: entry.modified_at.map_or(0, |time| micros(&time).div_euclid(1000)),
        path: entry.path,
    }
}
