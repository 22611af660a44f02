//! The rpcs of `imagestore.v1.ImageStore`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};

use crate::{
    error::{Error, Kind, Result},
    grpc::{
        backups,
        call::call,
        long::{Long, Offloaded},
        messages, streams, transfers,
    },
    limits::{COMPRESSED_BYTES_MIN, MESSAGE_BYTES_MAX},
    model::{CheckRequest, Digest, OperationId, SessionId, StorePath},
    offload,
    store::{AllUpdates, Store},
    wire::{
        LAST_CHANGE,
        backend::{Answers, Backend},
        status,
        v1::{
            self,
            image_store_server::{ImageStore, ImageStoreServer},
        },
    },
};

/// The work for one entry of a listing, in bytes as [`offload`] counts them: converting, measuring, encoding and
/// dropping an entry takes longer than its encoded bytes would suggest.
const ENTRY_BYTES: usize = 512;

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Service(Store);

impl Service {
    /// Serves a store to the gateway in this process.
    pub fn backend(store: Store) -> Backend {
        Arc::new(Self(store))
    }

    /// Serves a store.
    pub fn new(store: Store) -> Offloaded<ImageStoreServer<Self>> {
        let server = ImageStoreServer::new(Self(store))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Zstd);
        Offloaded(server)
    }
}

/// Turns the result of a call into its response. A response below [`COMPRESSED_BYTES_MIN`] is not compressed; a
/// longer one carries its length, by which [`Offloaded`] decides where to encode it.
fn answer<T: Message>(result: Result<T>) -> Answer<T> {
    let mut answer = result.map(Response::new).map_err(|error| status::from_error(&error))?;
    let bytes = answer.get_ref().encoded_len();
    if bytes < COMPRESSED_BYTES_MIN {
        answer.disable_compression();
    } else {
        answer.extensions_mut().insert(Long(bytes));
    }
    Ok(answer)
}

/// Turns the result of a call with a response stream into its response.
fn streamed<T>(result: Result<Answers<T>>) -> Answer<Answers<T>> {
    result.map(Response::new).map_err(|error| status::from_error(&error))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ImageStore for Service {
    type CopyStream = Answers<v1::Operation>;
    type WatchOperationStream = Answers<v1::Operation>;
    type WatchOperationsStream = Answers<v1::Operation>;
    type DownloadStream = Answers<v1::DownloadResponse>;
    type CheckStream = Answers<v1::CheckResponse>;
    type BackupStream = Answers<v1::BackupResponse>;

    async fn copy(&self, request: Request<v1::CopyRequest>) -> Answer<Self::CopyStream> {
        let call = call(&request)?;
        let message = request.into_inner();
        let detached = message.detached;
        streamed(
            async {
                // Case folding of a long skip list takes long, so it is offloaded. The message is dropped before the
                // copy may wait.
                let bytes = message.encoded_len();
                let request = offload::run(bytes, move || messages::copy_request(&message)).await?;
                let mut copying = self.0.copy(request, detached, call).await?;
                let first = copying.next().await?.map(messages::operation);
                Ok(streams::copy(first, copying))
            }
            .await,
        )
    }

    async fn watch_operation(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Answer<Self::WatchOperationStream> {
        let call = call(&request)?;
        let id = OperationId::parse(&request.get_ref().id, "id");
        streamed(
            async {
                let updates = self.0.watch(id?, call).await?;
                Ok(streams::watch(updates, call, self.0.draining()))
            }
            .await,
        )
    }

    async fn watch_operations(
        &self,
        request: Request<v1::WatchOperationsRequest>,
    ) -> Answer<Self::WatchOperationsStream> {
        let call = call(&request)?;
        let since = request.get_ref().since.map(|since| i64::try_from(since).unwrap_or(i64::MAX));
        let updates = self.0.watch_all(since, call).await;
        let last_change = updates.as_ref().map_or(0, AllUpdates::begun_after);
        let mut answer = streamed(updates.map(|updates| streams::watch_all(updates, call)))?;
        answer.metadata_mut().insert(LAST_CHANGE, last_change.into());
        Ok(answer)
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Answer<v1::ListOperationsResponse> {
        let call = call(&request)?;
        let v1::ListOperationsRequest { page_size, page_token, state } = request.into_inner();
        answer(
            async {
                let state = messages::state_filter(state)?;
                let (page, change) =
                    self.0.operations(state, page_size as usize, page_token, call).await?;
                Ok(v1::ListOperationsResponse {
                    operations: page.items.into_iter().map(messages::operation).collect(),
                    next_page_token: page.next.unwrap_or_default(),
                    change: u64::try_from(change).map_err(Error::internal)?,
                })
            }
            .await,
        )
    }

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Answer<v1::Operation> {
        let call = call(&request)?;
        let id = OperationId::parse(&request.get_ref().id, "id");
        answer(async { self.0.operation(id?, call).await.map(messages::operation) }.await)
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Answer<v1::Operation> {
        let call = call(&request)?;
        let id = OperationId::parse(&request.get_ref().id, "id");
        let why = || Error::new(Kind::Cancelled, "cancelled by a client; nothing has changed");
        answer(async { self.0.cancel(id?, why(), call).await.map(messages::operation) }.await)
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answer<v1::ListResponse> {
        let call = call(&request)?;
        let v1::ListRequest { path, page_size, page_token } = request.into_inner();
        answer(
            async {
                let path = StorePath::parse_or_root(&path, "path")?;
                let page = self.0.list(&path, page_size as usize, page_token, call).await?;
                let (bytes, items) = (page.items.len() * ENTRY_BYTES, page.items);
                let entries = move || items.iter().map(messages::entry).collect();
                Ok(v1::ListResponse {
                    entries: offload::run(bytes, entries).await,
                    next_page_token: page.next.unwrap_or_default(),
                    change_tag: page.change_tag.unwrap_or_default(),
                })
            }
            .await,
        )
    }

    async fn stat(&self, request: Request<v1::StatRequest>) -> Answer<v1::StatResponse> {
        let call = call(&request)?;
        answer(
            async {
                let path = StorePath::parse_or_root(&request.get_ref().path, "path")?;
                let stat = self.0.stat(&path, call).await?;
                Ok(v1::StatResponse {
                    entry: Some(messages::stat(&stat)),
                    has_mark_file: stat.has_mark_file,
                    change_tag: stat.change_tag.unwrap_or_default(),
                })
            }
            .await,
        )
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Answer<v1::UploadResponse> {
        let call = call(&request)?;
        answer(transfers::upload(&self.0, request.into_inner(), call).await)
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Answer<Self::DownloadStream> {
        let call = call(&request)?;
        let v1::DownloadRequest { path, offset, length, etag } = request.into_inner();
        streamed(
            async {
                let path = StorePath::parse(&path, "path")?;
                let etag = match etag.as_str() {
                    "" => None,
                    text => Some(text.parse::<Digest>().map_err(|_| {
                        Error::invalid("etag", format!("etag \"{text}\" is not one of Stat"))
                    })?),
                };
                let download = self.0.download(&path, (offset, length), etag, call).await?;
                Ok(streams::download(download, call))
            }
            .await,
        )
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        let call = call(&request)?;
        answer(
            async {
                let request = request.into_inner();
                let path = StorePath::parse(&request.path, "path")?;
                let conditions = messages::conditions(
                    &request.if_match,
                    &request.if_none_match,
                    request.if_unmodified_since.as_ref(),
                )?;
                let gone = self.0.delete_if(&path, conditions, call).await?;
                Ok(v1::DeleteResponse {
                    files_deleted: gone.files as u64,
                    bytes_deleted: gone.bytes as u64,
                })
            }
            .await,
        )
    }

    async fn upload_chunk(
        &self,
        request: Request<Streaming<v1::UploadChunkRequest>>,
    ) -> Answer<v1::UploadChunkResponse> {
        let call = call(&request)?;
        answer(transfers::chunk(&self.0, request.into_inner(), call).await)
    }

    async fn get_upload_session(
        &self,
        request: Request<v1::GetUploadSessionRequest>,
    ) -> Answer<v1::UploadSession> {
        let call = call(&request)?;
        let id = SessionId::parse(&request.get_ref().session_id);
        answer(async { self.0.session(id?, call).await.map(messages::session) }.await)
    }

    async fn list_upload_sessions(
        &self,
        request: Request<v1::ListUploadSessionsRequest>,
    ) -> Answer<v1::ListUploadSessionsResponse> {
        let call = call(&request)?;
        let v1::ListUploadSessionsRequest { path, page_size, page_token } = request.into_inner();
        answer(
            async {
                let path = StorePath::parse_or_root(&path, "path")?;
                let path = (!path.is_root()).then_some(path);
                let page = self.0.sessions(path, page_size as usize, page_token, call).await?;
                Ok(v1::ListUploadSessionsResponse {
                    sessions: page.items.into_iter().map(messages::session).collect(),
                    next_page_token: page.next.unwrap_or_default(),
                })
            }
            .await,
        )
    }

    async fn commit_upload_session(
        &self,
        request: Request<v1::CommitUploadSessionRequest>,
    ) -> Answer<v1::CommitUploadSessionResponse> {
        let call = call(&request)?;
        let request = request.into_inner();
        answer(
            async {
                let id = SessionId::parse(&request.session_id)?;
                let conditions = messages::conditions(
                    &request.if_match,
                    &request.if_none_match,
                    request.if_unmodified_since.as_ref(),
                )?;
                let replaces = messages::replaces(request.if_exists)?;
                let committed = self.0.commit_session_if(id, replaces, conditions, call).await?;
                Ok(messages::committed(committed))
            }
            .await,
        )
    }

    async fn delete_upload_session(
        &self,
        request: Request<v1::DeleteUploadSessionRequest>,
    ) -> Answer<v1::DeleteUploadSessionResponse> {
        let call = call(&request)?;
        let id = SessionId::parse(&request.get_ref().session_id);
        answer(
            async {
                self.0.delete_session(id?, call).await?;
                Ok(v1::DeleteUploadSessionResponse {})
            }
            .await,
        )
    }

    async fn get_store_info(
        &self,
        request: Request<v1::GetStoreInfoRequest>,
    ) -> Answer<v1::GetStoreInfoResponse> {
        let call = call(&request)?;
        answer(call.until(async { Ok(messages::info(&self.0.info(call).await?)) }).await)
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Answer<Self::CheckStream> {
        let call = call(&request)?;
        let v1::CheckRequest { deep, repair } = request.into_inner();
        let checking = self.0.check(CheckRequest { deep, repair });
        streamed(checking.map(|checking| streams::check(checking, call, self.0.draining())))
    }

    async fn backup(
        &self,
        request: Request<Streaming<v1::BackupRequest>>,
    ) -> Answer<Self::BackupStream> {
        let call = call(&request)?;
        streamed(backups::backup(&self.0, request.into_inner(), call).await)
    }

    async fn restore(
        &self,
        request: Request<Streaming<v1::RestoreRequest>>,
    ) -> Answer<v1::RestoreResponse> {
        let call = call(&request)?;
        let stop = self.0.draining();
        answer(Box::pin(backups::restore(&self.0, request.into_inner(), call, stop)).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_says_so() {
        let long = |bytes: usize| {
            // The encoding adds at least two bytes: the field number and the length.
            let message =
                v1::ListResponse { change_tag: "a".repeat(bytes), ..v1::ListResponse::default() };
            let bytes = message.encoded_len();
            let answer = answer(Ok(message)).expect("an answer");
            assert_eq!(
                answer.extensions().get(),
                (bytes >= COMPRESSED_BYTES_MIN).then_some(&Long(bytes))
            );
            answer.extensions().get::<Long>().is_some()
        };
        assert!(!long(COMPRESSED_BYTES_MIN - 100));
        assert!(long(COMPRESSED_BYTES_MIN));
    }
}
