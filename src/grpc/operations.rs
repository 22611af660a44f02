//! Copies, and the operations of the store.

use prost::Message as _;

use crate::{
    access::{RequestContext, Rpc},
    error::{Error, Kind, Result},
    grpc::{messages, streams},
    model::OperationId,
    offload,
    store::Store,
    wire::{backend::Answers, v1},
};

/// Begins a copy and returns its states.
pub(super) async fn copy(
    store: &Store,
    context: &RequestContext,
    message: v1::CopyRequest,
) -> Result<Answers<v1::Operation>> {
    let detached = message.detached;
    // Case folding of a long skip list takes long, so it is offloaded. The message is dropped before the
    // copy may wait.
    let bytes = message.encoded_len();
    let request = offload::run(bytes, move || messages::copy_request(&message)).await?;
    let call = context.authorize(Rpc::Copy, &[&request.source, &request.destination])?;
    context.note_id(&request.id);
    let mut copying = store.copy(request, detached, &call).await?;
    let first = copying.next().await?.map(messages::operation);
    Ok(streams::copy(first, copying))
}

/// Watches an operation.
pub(super) async fn watch(
    store: &Store,
    context: &RequestContext,
    message: v1::WatchOperationRequest,
) -> Result<Answers<v1::Operation>> {
    let call = context.authorize(Rpc::WatchOperation, &[])?;
    let id = OperationId::parse(&message.id, "id")?;
    let updates = store.watch(id, &call).await?;
    Ok(streams::watch(updates, call))
}

/// Watches all operations. Also returns the number of the change after which the watch begins.
pub(super) async fn watch_all(
    store: &Store,
    context: &RequestContext,
    message: v1::WatchOperationsRequest,
) -> Result<(Answers<v1::Operation>, i64)> {
    let call = context.authorize(Rpc::WatchOperations, &[])?;
    let since = message.since.map(|since| i64::try_from(since).unwrap_or(i64::MAX));
    let updates = store.watch_all(since, &call).await?;
    let begun_after = updates.begun_after();
    Ok((streams::watch_all(updates, call), begun_after))
}

/// Lists a page of operations.
pub(super) async fn list(
    store: &Store,
    context: &RequestContext,
    message: v1::ListOperationsRequest,
) -> Result<v1::ListOperationsResponse> {
    let call = context.authorize(Rpc::ListOperations, &[])?;
    let v1::ListOperationsRequest { page_size, page_token, state } = message;
    let state = messages::state_filter(state)?;
    let (page, change) = store.operations(state, page_size as usize, page_token, &call).await?;
    Ok(v1::ListOperationsResponse {
        operations: page.items.into_iter().map(messages::operation).collect(),
        next_page_token: page.next.unwrap_or_default(),
        change: u64::try_from(change).map_err(Error::internal)?,
    })
}

/// Returns an operation.
pub(super) async fn get(
    store: &Store,
    context: &RequestContext,
    message: v1::GetOperationRequest,
) -> Result<v1::Operation> {
    let call = context.authorize(Rpc::GetOperation, &[])?;
    let id = OperationId::parse(&message.id, "id")?;
    store.operation(id, &call).await.map(messages::operation)
}

/// Cancels an operation.
pub(super) async fn cancel(
    store: &Store,
    context: &RequestContext,
    message: v1::CancelOperationRequest,
) -> Result<v1::Operation> {
    let call = context.authorize(Rpc::CancelOperation, &[])?;
    let id = OperationId::parse(&message.id, "id")?;
    context.note_id(&id);
    let why = Error::new(Kind::Cancelled, "cancelled by a client; nothing has changed");
    store.cancel(id, why, &call).await.map(messages::operation)
}
