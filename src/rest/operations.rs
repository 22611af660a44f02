//! The calls on operations.

use axum::response::Response;
use futures::StreamExt;
use http::StatusCode;
use prost::Message;

use super::{
    answer::{self, Failure},
    call::{Call, first},
    content_range, events, json, path,
};
use crate::{
    error::{Error, Kind},
    wire::{
        LAST_CHANGE, status,
        v1::{
            CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation,
            OperationState, WatchOperationRequest, WatchOperationsRequest,
        },
    },
};

/// Responds with a page of operations, or with the events of all operations.
pub(super) async fn list(call: Call) -> Result<Response, Failure> {
    if call.wants_events() {
        return follow_all(call).await;
    }
    let request = ListOperationsRequest {
        page_size: 0,
        page_token: call.query.continuation_token()?.unwrap_or_default(),
        state: state(&call)?.into(),
    };
    let page =
        call.client.list_operations(call.request_within_deadline(request)).await?.into_inner();
    let bytes = page.encoded_len();
    let write = move || {
        serde_json::to_vec(&json::Operations {
            operations: page.operations.iter().map(json::Operation::new).collect(),
            continuation_token: path::encode(&page.next_page_token),
        })
    };
    answer::long_json(bytes, write).await
}

/// Responds with the events of all operations. A client that reconnects first gets the events that it has missed; if
/// the backend no longer knows them, it first gets a `reset`.
async fn follow_all(call: Call) -> Result<Response, Failure> {
    let client = &call.client;
    let since = events::last_change(&call.head.headers);
    let watch = client
        .watch_operations(call.request_with_optional_deadline(WatchOperationsRequest { since }))
        .await;
    let (stream, is_reset) = match watch {
        Err(status) if since.is_some() && status::kind(&status) == Kind::ChangesForgotten => {
            let anew = call.request_with_optional_deadline(WatchOperationsRequest { since: None });
            (client.watch_operations(anew).await?, true)
        }
        watch => (watch?, false),
    };
    let begun_after = stream.metadata().get(LAST_CHANGE).and_then(|value| value.to_str().ok());
    let begun_after = begun_after.and_then(content_range::number).unwrap_or(0);
    let operations = stream.into_inner().map(|operation| operation.map_err(Failure::from));
    Ok(events::all(begun_after, is_reset, operations))
}

/// The `State` in the query; `Unspecified` means every state.
fn state(call: &Call) -> Result<OperationState, Error> {
    let Some(name) = call.query.value("State") else { return Ok(OperationState::Unspecified) };
    json::state_named(name).ok_or_else(|| {
        let names = "'Running', 'Succeeded', 'Failed' or 'Cancelled'";
        Error::invalid("state", format!("the State '{name}' is not {names}"))
    })
}

/// Responds with the state of an operation, or with its events.
pub(super) async fn get(call: Call, id: String) -> Result<Response, Failure> {
    if call.wants_events() {
        // An `EventSource` reconnects after the end of the events, too; a 204 response makes it stop.
        if events::has_seen_the_end(&call.head.headers, &id) {
            return Ok(answer::no_content());
        }
        let request = call.request_with_optional_deadline(WatchOperationRequest { id });
        let mut stream = call.client.watch_operation(request).await?.into_inner();
        let now = first(&mut stream).await?;
        let later = stream.map(|operation| operation.map_err(Failure::from));
        let operations = futures::stream::once(async { Ok(now) }).chain(later);
        return Ok(events::one(&call.head.headers, operations));
    }
    let request = call.request_within_deadline(GetOperationRequest { id });
    Ok(answer(call.client.get_operation(request).await?.get_ref()))
}

/// Cancels an operation, and responds when its final state is known.
pub(super) async fn cancel(call: Call, id: String) -> Result<Response, Failure> {
    let request = call.request_within_deadline(CancelOperationRequest { id });
    Ok(answer(call.client.cancel_operation(request).await?.get_ref()))
}

/// The response with one operation.
fn answer(operation: &Operation) -> Response {
    answer::json(StatusCode::OK, &json::Operation::new(operation))
}
