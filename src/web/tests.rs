//! Tests of the assets and their headers. What the page does is tested in a browser (`tests/web`).

use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

/// Sends a request without a body; returns the status, the headers and the body.
async fn call(method: &str, path: &str, known: Option<&str>) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(known) = known {
        request = request.header(header::IF_NONE_MATCH, known);
    }
    let request = request.body(Body::empty()).expect("a request");
    let (head, body) = router().oneshot(request).await.expect("an answer").into_parts();
    let body = body.collect().await.expect("a body").to_bytes().to_vec();
    (head.status, head.headers, String::from_utf8(body).expect("text"))
}

#[tokio::test]
async fn the_root_is_the_page_under_a_strict_policy() {
    let (status, headers, body) = call("GET", "/?api-version=6.0", None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.starts_with("<!doctype html>"));
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    let policy = headers["content-security-policy"].to_str().expect("text");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("data:") && !policy.contains('*'));
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let (_, of_get, page) = call("GET", "/", None).await;
    let (status, of_head, body) = call("HEAD", "/", None).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
    assert_eq!(of_head["etag"], of_get["etag"]);
    assert_eq!(of_head["content-length"], page.len().to_string().as_str());
}

#[tokio::test]
async fn an_asset_that_has_not_changed_is_not_sent_again() {
    let (_, headers, _) = call("GET", "/page/style.css", None).await;
    let (tag, length) = (headers["etag"].to_str().expect("text"), &headers["content-length"]);
    for known in [tag, "*", &format!("W/{tag}"), &format!("\"other\", {tag}")] {
        let (status, headers, body) = call("GET", "/page/style.css", Some(known)).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{known}");
        assert_eq!(headers["etag"], tag);
        assert_eq!(headers["content-length"], length);
    }
    let (status, _, _) = call("GET", "/page/style.css", Some("\"other\"")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn whatever_the_page_names_is_served() {
    for (path, _, text) in ASSETS {
        let quoted = text.split(['"', '\'']);
        let names = quoted.filter(|word| word.starts_with("page/") || word.starts_with("./"));
        for name in names {
            let name = format!("/{}", name.replacen("./", "page/", 1));
            let (status, _, _) = call("GET", &name, None).await;
            assert_eq!(status, StatusCode::OK, "{path} names {name}");
        }
    }
}

/// What loads files of others, or makes markup of a text.
const FOREIGN: [&str; 7] =
    ["http://", "https://", "@import", "innerHTML", "outerHTML", "eval(", "style="];
/// What keeps a token for longer than a tab, or cannot send it as a header.
const KEPT: [&str; 4] = ["document.cookie", "localStorage", "indexedDB", "new EventSource"];

#[test]
fn the_files_reach_for_nothing_outside_write_no_markup_and_keep_no_token() {
    for (path, content_type, text) in ASSETS {
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for word in FOREIGN.iter().chain(&KEPT) {
            assert!(!text.contains(word), "{path} ({content_type}) contains {word}");
        }
        assert!(text.lines().count() <= 400, "{path} is too long");
    }
}

#[tokio::test]
async fn everything_else_is_not_found() {
    for path in ["/page", "/page/", "/page/mod.rs", "/favicon.ico", "/index.html"] {
        let (status, _, body) = call("GET", path, None).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, ""), "{path}");
    }
}
