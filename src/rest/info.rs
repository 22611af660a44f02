//! Small calls: folder sizes, the space of the store, what `sfctl` asks of a cluster, health, deletion.

use axum::response::Response;
use http::StatusCode;

use super::{
    Config,
    answer::{self, Failure},
    call::{Call, present},
    conditions::{self, WriteConditions},
    json::{AadMetadata, ClusterVersion, FolderSize, Info, Text},
};
use crate::{
    access::Grants,
    error::Kind,
    limits,
    wire::v1::{DeleteRequest, GetStoreInfoRequest, StatRequest},
};

/// Deletes a path. A path that does not exist is a success.
pub(super) async fn delete(call: Call, path: String) -> Result<Response, Failure> {
    let WriteConditions { if_match, if_none_match, if_unmodified_since } =
        conditions::write_conditions(&call)?;
    let request = DeleteRequest { path, if_match, if_unmodified_since, if_none_match };
    call.client.delete(call.request_within_deadline(request)).await?;
    Ok(answer::empty())
}

/// The size of a folder; an empty path is the root.
pub(super) async fn folder_size(call: Call, path: String) -> Result<Response, Failure> {
    let found = call.client.stat(call.request_within_deadline(StatRequest { path })).await?;
    let entry = present(found.into_inner().entry)?;
    let size = FolderSize { store_relative_path: entry.path, folder_size: Text(entry.size_bytes) };
    Ok(answer::json(StatusCode::OK, &size))
}

/// The space that the store uses.
pub(super) async fn info(call: Call) -> Result<Response, Failure> {
    let info =
        call.client.get_store_info(call.request_within_deadline(GetStoreInfoRequest {})).await?;
    Ok(answer::json(StatusCode::OK, &Info::new(info.get_ref())))
}

/// The version of the cluster, which `sfctl` requests.
pub(super) fn cluster_version() -> Response {
    answer::json(StatusCode::OK, &ClusterVersion { version: limits::CLUSTER_VERSION })
}

/// How `sfctl` signs in, which it asks for without a credential.
pub(super) fn aad_metadata(grants: &Grants) -> Response {
    answer::json(StatusCode::OK, &AadMetadata::new(grants.aad()))
}

/// Readiness: 200 if the server can serve calls and is not stopping, otherwise an error.
pub(super) fn health(config: &Config) -> Result<Response, Failure> {
    if *config.ready.borrow() {
        Ok(answer::empty())
    } else {
        Err(Failure::new(Kind::Busy, config.unready))
    }
}
