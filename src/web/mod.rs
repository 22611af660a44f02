//! The web page that shows a store in a browser, embedded in the binary.
//!
//! **Design.** The page consists of static files without a build step, and loads nothing from other hosts. It uses only
//! the public REST calls, at addresses relative to the page, so it shows the store of the server that serves it.
//!
//! **Invariants:** names of files are untrusted, so the content security policy allows only the markup, styles and
//! scripts of these files. Where a caller needs a token, it is sent as a header by the scripts alone, never in an
//! address or a cookie. A browser revalidates each asset by its `ETag` on every load, so a page never runs with the
//! scripts of another version.

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::get,
};
use headers::{ETag, HeaderMapExt, IfNoneMatch};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// The content security policy of the page: it may load the files of this server only. Trusted types keep its own
/// scripts from turning text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The headers that every asset has.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The path, the type and the text of each asset.
const ASSETS: [(&str, &str, &str); 18] = [
    ("/", HTML, include_str!("page/page.html")),
    ("/page/style.css", CSS, include_str!("page/style.css")),
    ("/page/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/page/main.js", JS, include_str!("page/main.js")),
    ("/page/access.js", JS, include_str!("page/access.js")),
    ("/page/api.js", JS, include_str!("page/api.js")),
    ("/page/dialogs.js", JS, include_str!("page/dialogs.js")),
    ("/page/dom.js", JS, include_str!("page/dom.js")),
    ("/page/downloads.js", JS, include_str!("page/downloads.js")),
    ("/page/escape.js", JS, include_str!("page/escape.js")),
    ("/page/events.js", JS, include_str!("page/events.js")),
    ("/page/folder.js", JS, include_str!("page/folder.js")),
    ("/page/operations.js", JS, include_str!("page/operations.js")),
    ("/page/rows.js", JS, include_str!("page/rows.js")),
    ("/page/sign.js", JS, include_str!("page/sign.js")),
    ("/page/text.js", JS, include_str!("page/text.js")),
    ("/page/tree.js", JS, include_str!("page/tree.js")),
    ("/page/uploads.js", JS, include_str!("page/uploads.js")),
];

/// Makes the router of `GET` and `HEAD` for `/` and the page's files, which are below `/page/`. Other paths are 404
/// with an empty body; other methods on these paths are 405.
pub fn router() -> Router {
    ASSETS.into_iter().fold(Router::new(), |router, (path, content_type, text)| {
        let tag = format!("\"{}\"", blake3::hash(text.as_bytes()).to_hex());
        let tag = tag.parse::<ETag>().ok();
        let handler = async move |headers: HeaderMap| answer(&headers, content_type, text, tag);
        router.route(path, get(handler))
    })
}

/// The response for an asset: the asset, or 304 if `If-None-Match` has its tag.
fn answer(
    headers: &HeaderMap,
    content_type: &'static str,
    text: &'static str,
    tag: Option<ETag>,
) -> Response {
    let known = headers.typed_get::<IfNoneMatch>().zip(tag.as_ref());
    let mut response = if known.is_some_and(|(known, tag)| !known.precondition_passes(tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type)], Body::from(text)).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, text.len().into());
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(tag) = tag {
        headers.typed_insert(tag);
    }
    response
}

#[cfg(test)]
mod tests;
