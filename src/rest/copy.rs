//! `POST /ImageStore/$/Copy`: waited for, watched by events, or left to run.
//!
//! The copy belongs to its caller: a REST request that is dropped drops the stream of the backend,
//! and that cancels the copy.

use axum::response::Response;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    answer::{self, Failure},
    call::{Call, Client, broken, first},
    conditions::{self, Written},
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

/// Copies as the body says.
pub(super) async fn copy(call: Call, payload: &mut Payload) -> Result<Response, Failure> {
    // What the head says is judged before the body is asked for.
    let Written { if_match, if_none_match, if_unmodified_since } = conditions::written(&call)?;
    let body = payload.whole(call.deadline()).await?;
    let read = offload::run(body.len(), move || copy_body::parse(&body));
    let Body { request, unknown_keys } = read.await?;
    let request = CopyRequest { if_match, if_none_match, if_unmodified_since, ..request };
    if !unknown_keys.is_empty() {
        let keys = warning::list(&unknown_keys);
        tracing::warn!(keys, "the body of a copy has unknown keys, which are ignored");
    }
    let mut response = if call.wants_events() {
        watched(call, request).await?
    } else if call.wants_async() {
        respond_async(call, request).await?
    } else {
        waited(call, request).await?
    };
    warning::add(&mut response, "unknown keys are ignored", &unknown_keys);
    Ok(response)
}

/// Answers when the copy has ended.
async fn waited(call: Call, request: CopyRequest) -> Result<Response, Failure> {
    let mut stream = call.client.copy(call.plain(request)).await?.into_inner();
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

/// Answers with events. A copy that is refused answers as a plain one.
async fn watched(call: Call, request: CopyRequest) -> Result<Response, Failure> {
    let mut stream = call.client.copy(call.watched(request)).await?.into_inner();
    let begun = first(&mut stream).await?;
    let operations = follow(call.client, begun, stream);
    Ok(events::one(&call.head.headers, operations))
}

/// The operations of a copy's stream; where that fails, the last one says how. Where only this caller's
/// time has passed, the copy goes on, and they just end. No end is made up where nobody can be asked.
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

/// The last state of an operation whose stream failed, as the backend keeps it. `None` where it has not
/// ended.
async fn outcome(client: Client, last: Operation) -> Result<Option<Operation>, Failure> {
    let request = client.further(GetOperationRequest { id: last.id });
    let kept = client.get_operation(request).await?;
    Ok(Some(kept.into_inner()).filter(events::has_ended))
}

/// Answers where to find the copy, which goes on by itself.
async fn respond_async(call: Call, mut request: CopyRequest) -> Result<Response, Failure> {
    let limited = call.query.timeout().is_some();
    request.detached = !limited;
    let mut stream = call.client.copy(call.watched(request)).await?.into_inner();
    let begun = first(&mut stream).await?;
    if limited {
        // The caller's time limit is that of the backend's call, so somebody has to hold that.
        tokio::spawn(Id::carry(async move { while let Ok(Some(_)) = stream.try_next().await {} }));
    }
    let mut response = answer::json(StatusCode::ACCEPTED, &json::Operation::new(&begun));
    // Relative to the address of the call, so that it holds below the prefix of a proxy as well.
    let above = if call.head.uri.path().ends_with('/') { "../" } else { "" };
    let location = format!("{above}Operations/{}", begun.id);
    let location = HeaderValue::try_from(location).map_err(Error::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    let (name, value) = ("preference-applied", "respond-async");
    response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tower::{BoxError, service_fn};

    use super::*;
    use crate::{budget::Peer, wire::backend::remote};

    #[tokio::test]
    async fn who_asks_after_a_broken_stream_does_not_wait_for_ever() {
        let asked = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&asked);
        let backend = service_fn(move |request: http::Request<tonic::body::Body>| {
            *seen.lock().expect("no panic") = request.headers().get("grpc-timeout").cloned();
            async { Err::<http::Response<tonic::body::Body>, BoxError>("no answer".into()) }
        });
        let client = Client { backend: remote(backend), peer: Peer::default() };
        // Nor is an end made up for him.
        outcome(client, Operation::default()).await.expect_err("nobody knows");
        assert!(asked.lock().expect("no panic").is_some());
    }
}
