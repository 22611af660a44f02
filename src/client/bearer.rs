//! The credential of a client: every call carries its token, and every response may tell that the token ends soon.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use tower::Service;

use crate::{
    client::error::{Error, Result},
    secret::Secret,
    wire::TOKEN_EXPIRES,
};

/// The value of the header `authorization` for a token. It is marked as sensitive, so that no log shows it and no
/// table of HTTP/2 keeps it.
///
/// # Errors
/// [`Error::Token`] if the token has a character that the header cannot have, or none at all.
pub(super) fn authorization(token: &Secret) -> Result<HeaderValue> {
    let token = token.expose();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Token);
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection whose calls carry a token, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Bearer<S> {
    inner: S,
    token: Option<HeaderValue>,
    expiry: ExpiryListener,
}

impl<S> Bearer<S> {
    /// Adds a token, made by [`authorization`], to all calls of a connection. `expiry` hears when it ends.
    pub(super) fn new(inner: S, token: Option<HeaderValue>, expiry: &ExpiryListener) -> Self {
        Self { inner, token, expiry: expiry.clone() }
    }
}

impl<S, B, R> Service<Request<B>> for Bearer<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let expiry = self.expiry.clone();
        let answered = self.inner.call(request);
        answered.inspect_ok(move |response| expiry.hear(response.headers())).boxed()
    }
}

/// A callback that is called once, with the time at which the token ends. Clones share it.
#[derive(Clone, Default)]
pub(super) struct ExpiryListener(Arc<Mutex<Option<Callback>>>);

type Callback = Box<dyn FnOnce(&str) + Send>;

impl ExpiryListener {
    /// Sets the callback.
    pub(super) fn set(&self, tell: impl FnOnce(&str) + Send + 'static) {
        *self.lock() = Some(Box::new(tell));
    }

    /// Calls the callback if the headers of a response have the time. A malformed time is ignored.
    fn hear(&self, headers: &HeaderMap) {
        let time = headers.get(TOKEN_EXPIRES).and_then(|value| value.to_str().ok());
        let Some(time) = time.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else { return };
        let tell = self.lock().take();
        if let Some(tell) = tell {
            tell(&time.to_string());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Callback>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ExpiryListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExpiryListener").field(&self.lock().is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// The header `authorization` of a call that is made with this token.
    async fn sent(token: Option<&str>) -> Option<HeaderValue> {
        let token = token.map(|token| authorization(&Secret::from(token.to_owned())));
        let echo = service_fn(|request: Request<()>| async move {
            let sent = request.headers().get(AUTHORIZATION).cloned();
            Ok::<_, Infallible>(Response::new(sent))
        });
        let token = token.transpose().expect("a token");
        let bearer = Bearer::new(echo, token, &ExpiryListener::default());
        bearer.oneshot(Request::new(())).await.expect("a response").into_body()
    }

    #[tokio::test]
    async fn a_call_carries_the_token_and_hides_it() {
        let value = sent(Some("imagestore_1+/=~.-")).await.expect("a header");
        assert_eq!(value, "Bearer imagestore_1+/=~.-");
        assert!(value.is_sensitive());
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert_eq!(sent(None).await, None);
    }

    #[test]
    fn a_token_that_no_header_can_have_is_refused_without_its_text() {
        for token in ["", "secret text", "secret\ntext", "secret\u{e9}", "\tsecret", "secret\0"] {
            let error = authorization(&Secret::from(token.to_owned())).expect_err(token);
            let said = format!("{error} {error:?}");
            assert!(matches!(error, Error::Token) && !said.contains("secret"), "{said}");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_token_is_told_once() {
        let (expiry, told) = (ExpiryListener::default(), Arc::new(Mutex::new(Vec::new())));
        let tell = Arc::clone(&told);
        expiry.set(move |time| tell.lock().expect("a lock").push(time.to_owned()));
        for value in ["soon", "2026-12-01T01:00:00+01:00", "2027-12-01T00:00:00Z"] {
            let answer = service_fn(move |_: Request<()>| async move {
                let response = Response::builder().header(TOKEN_EXPIRES, value).body(());
                Ok::<_, Infallible>(response.expect("a response"))
            });
            let bearer = Bearer::new(answer, None, &expiry);
            bearer.oneshot(Request::new(())).await.expect("a response");
        }
        assert_eq!(*told.lock().expect("a lock"), ["2026-12-01T00:00:00Z"]);
    }
}
