//! Readiness: `GET /health` and `grpc.health.v1.Health`.
//!
//! A server is ready while its database answers, from the start until a stop begins to drain. The database is asked at
//! most once a second, and all probes share the answer. Liveness is another question, which `GET /health/live` answers.
//!
//! Over gRPC the server as a whole, whose name is empty, and its one service have the same health. Every watch ends
//! at shutdown, also that of an unknown service.

use std::{future, pin::Pin};

use futures::{Stream, StreamExt};
use tokio::{
    select,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, codec::CompressionEncoding};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as Rpcs, HealthServer},
};
use tracing::{info, warn};

use super::SERVICE;
use crate::{
    error,
    limits::{QUESTION_BYTES_MAX, READY_EVERY},
    store::Store,
    wire::status,
};

/// Asks the database every [`READY_EVERY`] and keeps `ready` up to date until the server drains, which sets `ready` to
/// false.
pub(super) async fn keep(
    store: &Store,
    ready: watch::Sender<bool>,
    (draining, stop): (&CancellationToken, &CancellationToken),
) {
    let asking = async {
        let mut ticks = interval(READY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            update(&ready, &store.check_ready().await);
        }
    };
    select! {
        () = asking => {}
        () = draining.cancelled() => {}
    }
    set(&ready, false);
    // Watches end when the sender is dropped.
    stop.cancelled().await;
}

/// Sets `ready` by the answer of the database. Logs each change once.
fn update(ready: &watch::Sender<bool>, answered: &error::Result<()>) {
    if !set(ready, answered.is_ok()) {
        return;
    }
    match answered {
        Ok(()) => info!("the database answers, and the server is ready again"),
        Err(error) => {
            warn!(?error, "the server is not ready, because its database does not answer");
        }
    }
}

/// Sets `ready` and notifies its receivers if the value changes. Returns whether it has changed.
fn set(ready: &watch::Sender<bool>, is_ready: bool) -> bool {
    ready.send_if_modified(|ready| std::mem::replace(ready, is_ready) != is_ready)
}

/// The gRPC health service.
#[derive(Debug)]
pub(super) struct Health {
    ready: watch::Receiver<bool>,
}

impl Health {
    /// Creates the service. Watches end at shutdown, which drops the sender of `ready`.
    pub(super) fn server(ready: watch::Receiver<bool>) -> HealthServer<Self> {
        HealthServer::new(Self { ready })
            .max_decoding_message_size(QUESTION_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
    }
}

fn health(service: &str, is_ready: bool) -> ServingStatus {
    match service {
        "" | SERVICE if is_ready => ServingStatus::Serving,
        "" | SERVICE => ServingStatus::NotServing,
        _ => ServingStatus::ServiceUnknown,
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
        let status = health(&request.get_ref().service, *self.ready.borrow());
        if status == ServingStatus::ServiceUnknown {
            let message = format!("there is no service '{}'", request.get_ref().service);
            return Err(Status::not_found(status::bounded(&message)));
        }
        Ok(Response::new(answer(status)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let mut told = None;
        let statuses = WatchStream::new(self.ready.clone()).filter_map(move |is_ready| {
            let status = health(&service, is_ready);
            let is_new = told.replace(status) != Some(status);
            future::ready(is_new.then(|| Ok(answer(status))))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}
