//! `grpc.health.v1.Health`: whether the server serves.
//!
//! The server as a whole, whose name is empty, and its one service serve until the stop. A watch ends
//! with it, also that of a service that there is not.

use std::pin::Pin;

use futures::{
    Stream, StreamExt,
    stream::{self, once},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, codec::CompressionEncoding};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as Rpcs, HealthServer},
};

use super::SERVICE;
use crate::{limits::QUESTION_BYTES_MAX, wire::status};

/// The health of a server.
#[derive(Debug)]
pub(super) struct Health {
    stop: CancellationToken,
}

impl Health {
    /// Serves the health of a server until its stop.
    pub(super) fn server(stop: CancellationToken) -> HealthServer<Self> {
        HealthServer::new(Self { stop })
            .max_decoding_message_size(QUESTION_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
    }

    fn status(&self, request: &HealthCheckRequest) -> ServingStatus {
        match request.service.as_str() {
            "" | SERVICE if self.stop.is_cancelled() => ServingStatus::NotServing,
            "" | SERVICE => ServingStatus::Serving,
            _ => ServingStatus::ServiceUnknown,
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Rpcs for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.status(request.get_ref());
        if status == ServingStatus::ServiceUnknown {
            let message = format!("there is no service '{}'", request.get_ref().service);
            return Err(Status::not_found(status::told(&message)));
        }
        Ok(Response::new(answer(status)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let status = self.status(request.get_ref());
        let last = (status == ServingStatus::Serving).then_some(ServingStatus::NotServing);
        let stopped = self.stop.clone().cancelled_owned();
        let last = once(stopped).flat_map(move |()| stream::iter(last));
        let statuses = once(async move { status }).chain(last);
        Ok(Response::new(Box::pin(statuses.map(|status| Ok(answer(status))))))
    }
}
