//! The calls on operations.

use axum::response::Response;
use futures::StreamExt;
use http::StatusCode;

use super::{
    answer::{self, Failure},
    call::{Call, first},
    events, json, path,
};
use crate::{
    error::Error,
    wire::v1::{
        CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation,
        OperationState, WatchOperationRequest, WatchOperationsRequest,
    },
};

/// Lists operations, or follows all of them.
pub(super) async fn list(call: Call) -> Result<Response, Failure> {
    if call.wants_events() {
        let request = call.watched(WatchOperationsRequest {});
        let stream = call.client.clone().watch_operations(request).await?.into_inner();
        let operations = stream.map(|operation| operation.map_err(Failure::from));
        let missed = missed(&call).await.map(Ok);
        let operations = futures::stream::iter(missed).chain(operations);
        return Ok(events::answer(&call.head.headers, operations));
    }
    let request = ListOperationsRequest {
        page_size: 0,
        page_token: call.query.continuation_token()?.unwrap_or_default(),
        state: state(&call)?.into(),
    };
    let page = call.client.clone().list_operations(call.plain(request)).await?.into_inner();
    let operations = json::Operations {
        operations: page.operations.iter().map(json::Operation::new).collect(),
        continuation_token: path::encode(&page.next_page_token),
    };
    Ok(answer::json(StatusCode::OK, &operations))
}

/// The operation of the last event that a client saw before it came again, if it has ended since. One
/// that runs comes by itself.
async fn missed(call: &Call) -> Option<Operation> {
    let id = events::last_operation(&call.head.headers)?.to_owned();
    let request = call.watched(GetOperationRequest { id });
    let found = call.client.clone().get_operation(request).await.ok()?.into_inner();
    Some(found).filter(events::has_ended)
}

/// The state that is asked for.
fn state(call: &Call) -> Result<OperationState, Error> {
    let Some(name) = call.query.value("State") else { return Ok(OperationState::Unspecified) };
    json::state_named(name).ok_or_else(|| {
        let names = "'Running', 'Succeeded', 'Failed' or 'Cancelled'";
        Error::invalid("state", format!("the State '{name}' is not {names}"))
    })
}

/// Describes an operation, or follows it.
pub(super) async fn get(call: Call, id: String) -> Result<Response, Failure> {
    if call.wants_events() {
        let request = call.watched(WatchOperationRequest { id });
        let mut stream = call.client.clone().watch_operation(request).await?.into_inner();
        let now = first(&mut stream).await?;
        let later = stream.map(|operation| operation.map_err(Failure::from));
        let operations = futures::stream::once(async { Ok(now) }).chain(later);
        return Ok(events::answer(&call.head.headers, operations));
    }
    let request = call.plain(GetOperationRequest { id });
    Ok(answer(call.client.clone().get_operation(request).await?.get_ref()))
}

/// Cancels an operation; answers when its outcome is known.
pub(super) async fn cancel(call: Call, id: String) -> Result<Response, Failure> {
    let request = call.plain(CancelOperationRequest { id });
    Ok(answer(call.client.clone().cancel_operation(request).await?.get_ref()))
}

/// The answer with one operation.
fn answer(operation: &Operation) -> Response {
    answer::json(StatusCode::OK, &json::Operation::new(operation))
}
