//! Listings of more than one page, and their continuation tokens.

use futures::{StreamExt, stream};
use imagestore::{error::Kind, limits::LIST_PAGE_BYTES};
use serde_json::Value;

use crate::harness::{Driver, Http, Server, fill, upload};

/// The paths on a page: files, then folders.
fn names(page: &Value) -> Vec<String> {
    let array = |key: &str| page[key].as_array().expect(key).clone();
    let items = array("StoreFiles").into_iter().chain(array("StoreFolders"));
    items.map(|item| item["StoreRelativePath"].as_str().expect("a path").to_owned()).collect()
}

/// The page at a token, which is sent back verbatim, as clients do.
async fn page(http: Http, folder: &str, token: &str) -> Value {
    let target = format!("/ImageStore/{folder}?api-version=6.0&ContinuationToken={token}");
    http.get(&target).await.json()
}

/// Percent-encodes every byte.
fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Names with all characters that have a meaning in a URL, in the order of listings.
const HOSTILE: [&str; 12] =
    [" b", "#c", "$d", "%2F", "%e", "&f=g", "+h", "=i", "?j", "a=b&c=d", "ä ö", "📦"];

#[tokio::test]
async fn a_page_begins_where_its_token_says() {
    let server = Server::start().await;
    let (http, store) = (server.http(), server.rest());
    for (index, name) in HOSTILE.into_iter().enumerate() {
        // Files and folders alternate.
        let below = if index % 2 == 0 { "" } else { "/x" };
        store.upload(&format!("a/{name}{below}"), b"").await.expect(name);
    }
    for (index, name) in HOSTILE.into_iter().enumerate() {
        let token = encode(&format!("a/{name}"));
        let mut found = names(&page(http, "a", &token).await);
        found.sort();
        let mut expected: Vec<_> =
            HOSTILE[index..].iter().map(|name| format!("a/{name}")).collect();
        expected.sort();
        assert_eq!(found, expected, "{name}");
        // If the entry of the token was deleted, the page begins with the next entry.
        store.delete(&format!("a/{name}")).await.expect("deleted");
        let missing = page(http, "a", &token).await;
        assert_eq!(names(&missing).len(), HOSTILE.len() - index - 1, "{name}");
        store.upload(&format!("a/{name}"), b"").await.expect(name);
    }
}

#[tokio::test]
async fn a_token_of_something_else_is_refused() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1 b/f=1").await;
    for token in ["b/f", "a", "a/b/c", "..%2Fa", "%", "%ff", "a%2F.."] {
        let target = format!("/ImageStore/a?api-version=6.0&ContinuationToken={token}");
        server.http().get(&target).await.assert_fault(Kind::InvalidArgument);
    }
    let long = "n".repeat(4097);
    let target = format!("/ImageStore/a?api-version=6.0&ContinuationToken={long}");
    server.http().get(&target).await.assert_fault(Kind::TooLarge);
    // An empty token counts as none, and api-versions without pages ignore tokens.
    for query in ["6.0&ContinuationToken=", "1.0&ContinuationToken=%", "3.0&ContinuationToken=zz"] {
        let answer = server.http().get(&format!("/ImageStore/a?api-version={query}")).await;
        assert_eq!(names(&answer.json()), ["a/f"], "{query}");
    }
}

#[tokio::test]
async fn a_large_folder_comes_in_pages_or_whole() {
    const FILES: usize = 900;
    let server = Server::start().await;
    let http = server.http();
    // Long paths fill a page with few entries; each name has characters that a token must encode.
    let folder = vec!["d".repeat(900); 3].join("/");
    let long = "n".repeat(900);
    let path = |index: usize| format!("{folder}/{index:04} %2F+&={long}ä");
    let client = server.client().await;
    stream::iter(0..FILES)
        .for_each_concurrent(64, async |index| {
            let below = if index % 3 == 2 { "/x" } else { "" };
            let messages = upload(&format!("{}{below}", path(index)), b"");
            client.clone().upload(tokio_stream::iter(messages)).await.expect("stored");
        })
        .await;

    let mut found = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    while pages == 0 || !token.is_empty() {
        let page = page(http, &folder, &token).await;
        let before = found.len();
        found.extend(names(&page));
        let bytes: usize = found[before..].iter().map(String::len).sum();
        assert!(before < found.len() && bytes <= LIST_PAGE_BYTES, "{bytes} bytes");
        page["ContinuationToken"].as_str().expect("a token").clone_into(&mut token);
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/%".contains(&b)));
        pages += 1;
    }
    assert!(pages > 1, "one page is enough");
    found.sort();
    assert_eq!(found, (0..FILES).map(path).collect::<Vec<_>>());

    let whole = http.get(&format!("/ImageStore/{folder}?api-version=1.0")).await;
    assert_eq!(whole.header("transfer-encoding"), Some("chunked"));
    let whole = whole.json();
    assert_eq!(whole.get("ContinuationToken"), None);
    assert_eq!(whole["StoreFolders"].as_array().expect("folders").len(), FILES / 3);
    let mut found = names(&whole);
    found.sort();
    assert_eq!(found, (0..FILES).map(path).collect::<Vec<_>>());
}
