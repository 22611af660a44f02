//! Keeps the pool: finds the addresses of each backend, and asks each address for its health.
//!
//! A backend is asked every [`BACKEND_PROBE_EVERY`], and at once when a call to it fails. An address that is no longer one
//! of its name gets no further calls; calls that run there go on.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use futures::future::join_all;
use tokio::{
    select,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracing::{info, warn};

use super::{
    backend::{BackendUrl, Connector},
    pool::{Member, Pool},
};
use crate::{
    error::chain,
    limits::{
        BACKEND_ADDRESSES_MAX, BACKEND_PROBE_EVERY, BACKEND_PROBE_TIME, BACKEND_RESOLVE_EVERY,
        BACKEND_RESOLVE_TIME,
    },
    server::SERVICE,
    wire::v1::{GetCallerRequest, Role, image_store_client::ImageStoreClient},
};

/// Keeps the pool of some backends, without end. `refuses_open`: one that gives every right to everyone does not serve.
pub(super) async fn keep(pool: &Pool, backends: &[(BackendUrl, Connector)], refuses_open: bool) {
    join_all(backends.iter().map(async |(url, connector)| {
        let probes = JoinSet::new();
        let addresses = HashMap::new();
        let mut found = Found { pool, url, connector, refuses_open, addresses, probes };
        loop {
            found.look().await;
            sleep(BACKEND_RESOLVE_EVERY).await;
        }
    }))
    .await;
    std::future::pending::<()>().await;
}

/// The addresses of a backend that were found.
struct Found<'a> {
    pool: &'a Pool,
    url: &'a BackendUrl,
    connector: &'a Connector,
    refuses_open: bool,
    addresses: HashMap<SocketAddr, (Arc<Member>, tokio::task::AbortHandle)>,
    /// The tasks that probe them, which end when this is dropped.
    probes: JoinSet<()>,
}

impl Found<'_> {
    /// Resolves the name again. If that fails, the addresses of before stay.
    async fn look(&mut self) {
        let url = self.url;
        let found = timeout(BACKEND_RESOLVE_TIME, url.resolve()).await;
        let mut found = match found {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(Err(error)) => {
                let error = chain(&error);
                return warn!(%url, error, "the name of a backend is not resolved");
            }
            Ok(Ok(_)) | Err(_) => {
                return warn!(%url, "the name of a backend is not resolved");
            }
        };
        found.sort_unstable();
        found.dedup();
        found.truncate(BACKEND_ADDRESSES_MAX);
        self.addresses.retain(|address, (member, probe)| {
            let is_there = found.contains(address);
            if !is_there {
                info!(backend = member.name, "the name of a backend no longer has this address");
                self.pool.remove(member);
                probe.abort();
            }
            is_there
        });
        for address in found {
            if !self.addresses.contains_key(&address) {
                let member = Member::new(format!("{url} ({address})"), self.connector, address);
                self.pool.add(Arc::clone(&member));
                let (pool, probed) = (self.pool.clone(), Arc::clone(&member));
                let probe = self.probes.spawn(probe(pool, probed, self.refuses_open));
                self.addresses.insert(address, (member, probe));
            }
        }
    }
}

/// Asks a member for its health, without end, and logs each change.
async fn probe(pool: Pool, member: Arc<Member>, refuses_open: bool) {
    let mut told: Option<Result<(), String>> = None;
    let mut judged = None;
    loop {
        let connected = member.connected();
        let asks_open = refuses_open && judged != Some(connected);
        let asked = timeout(BACKEND_PROBE_TIME, ask(&member, asks_open)).await;
        let found = asked.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
        // A connection that was made meanwhile is judged at the next look.
        judged = found.is_ok().then_some(if asks_open {
            connected
        } else {
            judged.unwrap_or(connected)
        });
        let changed = pool.note(&member, found.is_ok());
        let is_new = told.as_ref().is_none_or(|told| told.is_ok() != found.is_ok());
        match &found {
            Ok(()) if is_new => info!(backend = member.name, "a backend serves"),
            Err(why) if is_new => warn!(backend = member.name, why, "a backend does not serve"),
            Ok(()) | Err(_) => {}
        }
        if changed == Some(false) {
            warn!("no backend serves");
        }
        told = Some(found);
        select! {
            () = sleep(BACKEND_PROBE_EVERY) => {}
            () = member.doubt.notified() => {}
        }
    }
}

/// Asks a member whether it serves, and with `asks_open` whether it gives every right to everyone.
///
/// # Errors
/// Why it does not serve, for the log.
async fn ask(member: &Member, asks_open: bool) -> Result<(), String> {
    let channel = member.probed().ok_or("it has no connection")?;
    let request = HealthCheckRequest { service: SERVICE.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await;
    let status = answer.map_err(|status| chain(&status))?.into_inner().status();
    if status != ServingStatus::Serving {
        return Err(format!("its health is {}", status.as_str_name()));
    }
    if asks_open && is_open(channel).await.map_err(|status| chain(&status))? {
        return Err(
            "it gives everyone every right, and others reach this gateway; let it require \
                    a right by --trusted-proxy with the address of this gateway, or give \
                    --allow-anonymous here if that is meant"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether who sends no credential may do everything.
async fn is_open(channel: Channel) -> Result<bool, Status> {
    let request = GetCallerRequest { role: Role::Admin.into(), path: String::new() };
    match ImageStoreClient::new(channel).get_caller(request).await {
        Ok(answer) => Ok(answer.into_inner().may()),
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => {
            Ok(false)
        }
        Err(status) => Err(status),
    }
}
