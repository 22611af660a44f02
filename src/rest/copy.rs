//! `POST /ImageStore/$/Copy`: the response comes at the end of the copy, is a stream of events, or comes at once
//! (`Prefer: respond-async`).
//!
//! Unless it is asynchronous, a copy belongs to its caller: dropping the REST request drops the response stream of
//! the backend, which cancels the copy.

use axum::response::Response;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use uuid::Uuid;

use super::{
    FORWARDED_PREFIX,
    answer::{self, Failure},
    call::{Call, Client, broken, first},
    conditions::{self, WriteConditions},
    copy_body::{self, Body},
    events, json,
    payload::Payload,
    warning,
};
use crate::{
    error::Error,
    offload,
    wire::{
        backend::Answers,
        request::Id,
        v1::{CopyRequest, GetOperationRequest, Operation, OperationState},
    },
};

/// Answers the copy that the body describes.
pub(super) async fn copy(call: Call, payload: &mut Payload) -> Result<Response, Failure> {
    // The conditions in the head are checked before the body is read.
    let WriteConditions { if_match, if_none_match, if_unmodified_since } =
        conditions::write_conditions(&call)?;
    let body = payload.whole(call.deadline()).await?;
    let read = offload::run(body.len(), move || copy_body::parse(&body));
    let Body { request, unknown_keys } = read.await?;
    let mut request = CopyRequest { if_match, if_none_match, if_unmodified_since, ..request };
    if request.operation_id.is_empty() {
        // By its id the copy can be asked for again when the connection to a remote backend is lost.
        request.operation_id = Uuid::now_v7().to_string();
    }
    if !unknown_keys.is_empty() {
        let keys = warning::list(&unknown_keys);
        tracing::warn!(keys, "the body of a copy has unknown keys, which are ignored");
    }
    let mut response = if call.wants_events() {
        copy_events(call, request).await?
    } else if call.wants_async() {
        copy_async(call, request).await?
    } else {
        copy_sync(call, request).await?
    };
    warning::add(&mut response, "unknown keys are ignored", &unknown_keys);
    Ok(response)
}

/// Responds when the copy has ended.
async fn copy_sync(call: Call, request: CopyRequest) -> Result<Response, Failure> {
    let mut stream = call.client.copy(call.request_within_deadline(request)).await?.into_inner();
    let mut last = first(&mut stream).await?;
    while let Some(operation) = stream.try_next().await? {
        last = operation;
    }
    if last.state() != OperationState::Succeeded {
        return Err(broken());
    }
    let mut response = answer::empty();
    warning::add(&mut response, "no file was left out by SkipFiles", &last.skip_files_unmatched);
    Ok(response)
}

/// Responds with a stream of events. A copy that is refused has a plain error response.
async fn copy_events(call: Call, request: CopyRequest) -> Result<Response, Failure> {
    let mut stream =
        call.client.copy(call.request_with_optional_deadline(request)).await?.into_inner();
    let begun = first(&mut stream).await?;
    let operations = follow(call.client, begun, stream);
    Ok(events::one(&call.head.headers, operations))
}

/// The states of a copy. If the response stream of the backend fails, the last state is read from the backend. If the
/// copy still runs then, as after the caller's own timeout, the states end without a final one. If the backend does
/// not answer, the last item is an error.
fn follow(
    client: Client,
    begun: Operation,
    stream: Answers<Operation>,
) -> impl Stream<Item = Result<Operation, Failure>> + Send {
    let rest = stream::unfold(Some((stream, client, begun.clone())), |state| async move {
        let (mut stream, client, last) = state?;
        match stream.try_next().await {
            Ok(Some(operation)) => Some((Ok(operation.clone()), Some((stream, client, operation)))),
            Ok(None) => None,
            Err(_) => outcome(client, last).await.transpose().map(|outcome| (outcome, None)),
        }
    });
    stream::once(async { Ok(begun) }).chain(rest)
}

/// The stored final state of an operation whose stream has failed; `None` if the operation has not ended.
async fn outcome(client: Client, last: Operation) -> Result<Option<Operation>, Failure> {
    let request = client.next_page_request(GetOperationRequest { id: last.id });
    let kept = client.get_operation(request).await?;
    Ok(Some(kept.into_inner()).filter(events::has_ended))
}

/// Responds at once with the `Location` of the operation; the copy continues without its caller.
async fn copy_async(call: Call, mut request: CopyRequest) -> Result<Response, Failure> {
    let limited = call.query.timeout().is_some();
    request.detached = !limited;
    let mut stream =
        call.client.copy(call.request_with_optional_deadline(request)).await?.into_inner();
    let begun = first(&mut stream).await?;
    if limited {
        // The timeout of the query is the deadline of the backend's call, so a task keeps that call open.
        tokio::spawn(Id::carry(async move { while let Ok(Some(_)) = stream.try_next().await {} }));
    }
    let mut response = answer::json(StatusCode::ACCEPTED, &json::Operation::new(&begun));
    let location = format!("{}{}", operations(&call.head), begun.id);
    let location = HeaderValue::try_from(location).map_err(Error::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    let (name, value) = ("preference-applied", "respond-async");
    response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    Ok(response)
}

/// The address below which the operations are, for a response to a copy with this head.
fn operations(head: &Parts) -> String {
    // The door lets only a path of a trusted proxy pass.
    if let Some(prefix) = head.headers.get(FORWARDED_PREFIX).and_then(|value| value.to_str().ok()) {
        return format!("{prefix}/ImageStore/$/Operations/");
    }
    // Relative to the URL of the call, so that it is right behind a proxy that strips a prefix and does not say so.
    let above = if head.uri.path().ends_with('/') { "../" } else { "" };
    format!("{above}Operations/")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tower::{BoxError, service_fn};

    use super::*;
    use crate::wire::backend::remote;

    #[tokio::test]
    async fn who_asks_after_a_broken_stream_does_not_wait_for_ever() {
        let asked = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&asked);
        let backend = service_fn(move |request: http::Request<tonic::body::Body>| {
            *seen.lock().expect("no panic") = request.headers().get("grpc-timeout").cloned();
            async { Err::<http::Response<tonic::body::Body>, BoxError>("no answer".into()) }
        });
        let client = Client::of_backend(remote(backend));
        // The result is an error, not an invented final state.
        outcome(client, Operation::default()).await.expect_err("nobody knows");
        assert!(asked.lock().expect("no panic").is_some());
    }
}
