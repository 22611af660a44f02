//! The rpcs of `imagestore.v1.ImageStore`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};

use crate::{
    access::{RequestContext, Rpc},
    error::Result,
    grpc::{
        backups,
        call::context,
        files, links,
        long::{Long, Offloaded},
        messages, operations, sessions, streams, tokens, transfers,
    },
    limits::{COMPRESSED_BYTES_MIN, MESSAGE_BYTES_MAX},
    model::CheckRequest,
    store::Store,
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

/// Takes a request apart, into the context of the call and its message or messages.
fn open<T>(request: Request<T>) -> Result<(RequestContext, T), Status> {
    Ok((context(&request)?, request.into_inner()))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ImageStore for Service {
    type CopyStream = Answers<v1::Operation>;
    type WatchOperationStream = Answers<v1::Operation>;
    type WatchOperationsStream = Answers<v1::Operation>;
    type DownloadStream = Answers<v1::DownloadResponse>;
    type DownloadPackageStream = Answers<v1::DownloadPackageResponse>;
    type CheckStream = Answers<v1::CheckResponse>;
    type BackupStream = Answers<v1::BackupResponse>;

    async fn copy(&self, request: Request<v1::CopyRequest>) -> Answer<Self::CopyStream> {
        let (context, message) = open(request)?;
        streamed(operations::copy(&self.0, &context, message).await)
    }

    async fn watch_operation(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Answer<Self::WatchOperationStream> {
        let (context, message) = open(request)?;
        streamed(operations::watch(&self.0, &context, message).await)
    }

    async fn watch_operations(
        &self,
        request: Request<v1::WatchOperationsRequest>,
    ) -> Answer<Self::WatchOperationsStream> {
        let (context, message) = open(request)?;
        let begun = operations::watch_all(&self.0, &context, message).await;
        let (updates, last_change) = begun.map_err(|error| status::from_error(&error))?;
        let mut answer = Response::new(updates);
        answer.metadata_mut().insert(LAST_CHANGE, last_change.into());
        Ok(answer)
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Answer<v1::ListOperationsResponse> {
        let (context, message) = open(request)?;
        answer(operations::list(&self.0, &context, message).await)
    }

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Answer<v1::Operation> {
        let (context, message) = open(request)?;
        answer(operations::get(&self.0, &context, message).await)
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Answer<v1::Operation> {
        let (context, message) = open(request)?;
        answer(operations::cancel(&self.0, &context, message).await)
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answer<v1::ListResponse> {
        let (context, message) = open(request)?;
        answer(files::list(&self.0, &context, message).await)
    }

    async fn stat(&self, request: Request<v1::StatRequest>) -> Answer<v1::StatResponse> {
        let (context, message) = open(request)?;
        answer(files::stat(&self.0, &context, message).await)
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Answer<v1::UploadResponse> {
        let (context, messages) = open(request)?;
        answer(transfers::upload(&self.0, &context, messages).await)
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Answer<Self::DownloadStream> {
        let (context, message) = open(request)?;
        streamed(files::download(&self.0, &context, message).await)
    }

    async fn download_package(
        &self,
        request: Request<v1::DownloadPackageRequest>,
    ) -> Answer<Self::DownloadPackageStream> {
        let (context, message) = open(request)?;
        streamed(files::download_package(&self.0, &context, message).await)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        let (context, message) = open(request)?;
        answer(files::delete(&self.0, &context, message).await)
    }

    async fn upload_chunk(
        &self,
        request: Request<Streaming<v1::UploadChunkRequest>>,
    ) -> Answer<v1::UploadChunkResponse> {
        let (context, messages) = open(request)?;
        answer(transfers::chunk(&self.0, &context, messages).await)
    }

    async fn get_upload_session(
        &self,
        request: Request<v1::GetUploadSessionRequest>,
    ) -> Answer<v1::UploadSession> {
        let (context, message) = open(request)?;
        answer(sessions::get(&self.0, &context, message).await)
    }

    async fn list_upload_sessions(
        &self,
        request: Request<v1::ListUploadSessionsRequest>,
    ) -> Answer<v1::ListUploadSessionsResponse> {
        let (context, message) = open(request)?;
        answer(sessions::list(&self.0, &context, message).await)
    }

    async fn commit_upload_session(
        &self,
        request: Request<v1::CommitUploadSessionRequest>,
    ) -> Answer<v1::CommitUploadSessionResponse> {
        let (context, message) = open(request)?;
        answer(sessions::commit(&self.0, &context, message).await)
    }

    async fn delete_upload_session(
        &self,
        request: Request<v1::DeleteUploadSessionRequest>,
    ) -> Answer<v1::DeleteUploadSessionResponse> {
        let (context, message) = open(request)?;
        answer(sessions::delete(&self.0, &context, message).await)
    }

    async fn get_store_info(
        &self,
        request: Request<v1::GetStoreInfoRequest>,
    ) -> Answer<v1::GetStoreInfoResponse> {
        let (context, _) = open(request)?;
        let info = async {
            let call = context.authorize(Rpc::GetStoreInfo, &[])?;
            call.until(self.0.info(&call)).await.map(|info| messages::info(&info))
        };
        answer(info.await)
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Answer<Self::CheckStream> {
        let (context, v1::CheckRequest { deep, repair }) = open(request)?;
        let rpc = if repair { Rpc::Repair } else { Rpc::Check };
        streamed(context.authorize(rpc, &[]).and_then(|call| {
            let checking = self.0.check(CheckRequest { deep, repair }, &call)?;
            Ok(streams::check(checking, call, self.0.draining()))
        }))
    }

    async fn backup(
        &self,
        request: Request<Streaming<v1::BackupRequest>>,
    ) -> Answer<Self::BackupStream> {
        let (context, messages) = open(request)?;
        streamed(backups::backup(&self.0, &context, messages).await)
    }

    async fn restore(
        &self,
        request: Request<Streaming<v1::RestoreRequest>>,
    ) -> Answer<v1::RestoreResponse> {
        let (context, messages) = open(request)?;
        answer(Box::pin(backups::restore(&self.0, &context, messages)).await)
    }

    async fn get_caller(
        &self,
        request: Request<v1::GetCallerRequest>,
    ) -> Answer<v1::GetCallerResponse> {
        let (context, message) = open(request)?;
        answer(tokens::caller(&context, &message))
    }

    async fn create_link(
        &self,
        request: Request<v1::CreateLinkRequest>,
    ) -> Answer<v1::CreateLinkResponse> {
        let (context, message) = open(request)?;
        answer(links::create(&self.0, &context, message).await)
    }

    async fn rotate_link_key(
        &self,
        request: Request<v1::RotateLinkKeyRequest>,
    ) -> Answer<v1::RotateLinkKeyResponse> {
        let (context, _) = open(request)?;
        answer(links::rotate_key(&self.0, &context).await)
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Answer<v1::CreateTokenResponse> {
        let (context, message) = open(request)?;
        answer(tokens::create(&self.0, &context, message).await)
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Answer<v1::ListTokensResponse> {
        let (context, message) = open(request)?;
        answer(tokens::list(&self.0, &context, message).await)
    }

    async fn rotate_token(
        &self,
        request: Request<v1::RotateTokenRequest>,
    ) -> Answer<v1::RotateTokenResponse> {
        let (context, message) = open(request)?;
        answer(tokens::rotate(&self.0, &context, message).await)
    }

    async fn revoke_token(&self, request: Request<v1::RevokeTokenRequest>) -> Answer<v1::Token> {
        let (context, message) = open(request)?;
        answer(tokens::revoke(&self.0, &context, message).await)
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
