//! gRPC reflection, in both versions of its protocol: the Python client knows only the older one.
//!
//! The library ends the whole stream at the first request that it cannot answer. So each request of the stream
//! is a separate call to the library, in this process, and an error of that call becomes the response to that
//! one request: a client that asks for several names on one stream gets the other answers.

use futures::{StreamExt, stream, stream::BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming, body::Body, codec::CompressionEncoding, service::Routes,
};
use tonic_reflection::server::{Builder, Error};
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::{limits::QUESTION_BYTES_MAX, wire};

/// The library, as a service in this process. Its error type is `Status`, so that its futures are `Send`.
type Library = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// All descriptors: the API, its error details, and the health service.
fn described() -> Result<Builder<'static>, Error> {
    Ok(Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTOR)
        .register_file_descriptor_set(wire::error_details()?)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET))
}

/// Adds both versions to `routes`. Their streams end when `stop` is cancelled.
///
/// # Errors
/// A descriptor that cannot be read.
pub(super) fn add_to(routes: Routes, stop: &CancellationToken) -> Result<Routes, Error> {
    let v1 = v1::server(described()?, stop.clone())?;
    let v1alpha = v1alpha::server(described()?, stop.clone())?;
    Ok(routes.add_service(v1).add_service(v1alpha))
}

/// Implements one version of the protocol; the messages of both have the same fields.
macro_rules! version {
    ($version:ident, $build:ident) => {
        mod $version {
            use tonic_reflection::pb::$version::{
                ErrorResponse, ServerReflectionRequest, ServerReflectionResponse,
                server_reflection_client::ServerReflectionClient,
                server_reflection_response::MessageResponse,
                server_reflection_server::{ServerReflection, ServerReflectionServer},
            };

            use super::*;

            #[derive(Debug)]
            pub(super) struct Reflection {
                library: ServerReflectionClient<Library>,
                stop: CancellationToken,
            }

            pub(super) fn server(
                described: Builder<'_>,
                stop: CancellationToken,
            ) -> Result<ServerReflectionServer<Reflection>, Error> {
                let library = described.$build()?;
                let library =
                    ServiceExt::<http::Request<Body>>::map_err(library, |never| match never {});
                let library = ServerReflectionClient::new(BoxCloneSyncService::new(library));
                Ok(ServerReflectionServer::new(Reflection { library, stop })
                    .max_decoding_message_size(QUESTION_BYTES_MAX)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd))
            }

            /// Answers one request of a stream.
            async fn answer(
                mut library: ServerReflectionClient<Library>,
                question: ServerReflectionRequest,
            ) -> Result<ServerReflectionResponse, Status> {
                let asked = stream::iter([question.clone()]);
                let answers = library.server_reflection_info(asked).await?;
                match answers.into_inner().message().await {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => Err(Status::internal("the description of the API has no answer")),
                    Err(status) => {
                        let error_message = status.message().to_owned();
                        let error =
                            ErrorResponse { error_code: status.code().into(), error_message };
                        Ok(ServerReflectionResponse {
                            valid_host: question.host.clone(),
                            original_request: Some(question),
                            message_response: Some(MessageResponse::ErrorResponse(error)),
                        })
                    }
                }
            }

            #[tonic::async_trait]
            impl ServerReflection for Reflection {
                type ServerReflectionInfoStream =
                    BoxStream<'static, Result<ServerReflectionResponse, Status>>;

                async fn server_reflection_info(
                    &self,
                    request: Request<Streaming<ServerReflectionRequest>>,
                ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                    let library = self.library.clone();
                    let answers = request.into_inner().then(move |question| {
                        let library = library.clone();
                        async move { answer(library, question?).await }
                    });
                    let stop = self.stop.clone().cancelled_owned();
                    Ok(Response::new(answers.take_until(stop).boxed()))
                }
            }
        }
    };
}

version!(v1, build_v1);
version!(v1alpha, build_v1alpha);
