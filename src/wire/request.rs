//! The id of a request. The response, every error, and every log line that is written for the request have it, so
//! that an operator can find the log lines of a reported error.
//!
//! The id is a task-local variable of the task that works for the request; [`Id::carry`] passes it to another task.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::task_local;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::limits::REQUEST_ID_BYTES_MAX;

/// The header of an id, in requests and responses, and as gRPC metadata.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The header in which Service Fabric clients send an id.
const FABRIC_HEADER: HeaderName = HeaderName::from_static("x-servicefabricrequestid");

task_local! {
    static CURRENT: Id;
}

/// The id of a request, and the tracing span that adds the id to log lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Id {
    id: HeaderValue,
    span: Span,
}

impl Id {
    /// The id in the headers of a request, if it is valid; otherwise a new id.
    pub fn of(headers: &HeaderMap) -> Self {
        let names = [HEADER, FABRIC_HEADER].into_iter();
        let brought = names.filter_map(|name| headers.get(name)).find(|id| is_id(id.as_bytes()));
        let id = brought.cloned().unwrap_or_else(|| {
            // Never fails: a UUID is a valid header value.
            HeaderValue::try_from(Uuid::now_v7().to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
        });
        // The span has the highest level, so that no log filter drops it.
        let span = tracing::error_span!("call", request_id = id.to_str().unwrap_or_default());
        Self { id, span }
    }

    /// The id of the request that the current task works for, if any.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The id as a header value.
    pub fn value(&self) -> &HeaderValue {
        &self.id
    }

    /// The id as text.
    pub fn text(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Runs work under this id.
    pub async fn run<F: Future>(self, work: F) -> F::Output {
        let span = self.span.clone();
        CURRENT.scope(self, work).instrument(span).await
    }

    /// Wraps work for another task, so that it runs under the current id, if any.
    pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
        let id = Self::current();
        async move {
            match id {
                Some(id) => id.run(work).await,
                None => work.await,
            }
        }
    }

    /// Wraps a response body, so that it is polled under this id.
    pub fn body<B>(self, body: B) -> Answer<B> {
        Answer { body, id: self }
    }
}

/// Whether a text is a valid id: 1 to [`REQUEST_ID_BYTES_MAX`] ASCII letters, digits, `.`, `_` and `-`.
fn is_id(text: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// A response body, with the id of its request.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    id: Id,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let id = self.id.clone();
        let _entered = id.span.enter();
        CURRENT.sync_scope(id.clone(), || Pin::new(&mut self.body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], expected: Option<&str>) {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        });
        let id = Id::of(&headers.collect());
        match expected {
            Some(expected) => assert_eq!(id.text(), expected),
            None => assert_eq!(id.text().len(), 36, "{}", id.text()),
        }
    }

    #[test]
    fn an_id_that_is_one_is_kept() {
        let longest = "a".repeat(REQUEST_ID_BYTES_MAX);
        check(&[], None);
        check(&[("x-request-id", "aZ09._-")], Some("aZ09._-"));
        check(&[("x-request-id", &longest)], Some(&longest));
        check(&[("x-request-id", &format!("{longest}a"))], None);
        check(&[("x-request-id", "")], None);
        check(&[("x-request-id", "a b")], None);
        check(&[("x-request-id", "a\"")], None);
        check(&[("x-servicefabricrequestid", "sf-1")], Some("sf-1"));
        check(&[("x-request-id", "a"), ("x-servicefabricrequestid", "sf-1")], Some("a"));
        check(&[("x-request-id", "\u{e4}"), ("x-servicefabricrequestid", "sf-1")], Some("sf-1"));
    }

    #[tokio::test]
    async fn an_id_goes_with_its_work() {
        assert!(Id::current().is_none());
        let id = Id::of(&HeaderMap::from_iter([(HEADER, HeaderValue::from_static("one"))]));
        let seen = || Id::current().map(|id| id.text().to_owned());
        let (here, there) = id
            .run(async {
                let task = tokio::spawn(Id::carry(async move { seen() }));
                (seen(), task.await.expect("no panic"))
            })
            .await;
        assert_eq!((here.as_deref(), there.as_deref()), (Some("one"), Some("one")));
    }
}
