//! The routes of REST: verbs, paths and api-versions.

use imagestore::error::Kind;

use crate::harness::{Answer, Http, Request, Server, fill, tree};

const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";
const COPY: &[u8] = br#"{"RemoteSource":"a/f","RemoteDestination":"c"}"#;

/// A request; a query is appended to its target with `?` or `&`.
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    range: &'static str,
    body: &'static [u8],
    status: u16,
}

fn call(line: &str, status: u16) -> Call {
    let (method, target) = line.split_once(' ').expect("a verb");
    let method = ["GET", "HEAD", "PUT", "POST", "DELETE"].into_iter().find(|&m| m == method);
    let target = target.replace("SESSION", SESSION);
    Call { method: method.expect("a verb"), target, range: "", body: b"", status }
}

/// The routes of upstream, in an order in which each of them succeeds.
pub(crate) fn documented() -> Vec<Call> {
    vec![
        Call { body: b"1", ..call("PUT /ImageStore/a/f", 200) },
        call("GET /ImageStore", 200),
        call("GET /ImageStore/a", 200),
        Call { body: COPY, ..call("POST /ImageStore/$/Copy", 200) },
        Call {
            range: "bytes 0-2/3",
            body: b"123",
            ..call("PUT /ImageStore/a/g/$/UploadChunk?session-id=SESSION", 200)
        },
        call("GET /ImageStore/$/GetUploadSession?session-id=SESSION", 200),
        call("GET /ImageStore/a/g/$/GetUploadSession", 200),
        call("POST /ImageStore/$/CommitUploadSession?session-id=SESSION", 200),
        call("DELETE /ImageStore/$/DeleteUploadSession?session-id=SESSION", 200),
        call("GET /ImageStore/$/FolderSize", 200),
        call("GET /ImageStore/a/$/FolderSize", 200),
        call("GET /ImageStore/$/Info", 200),
        call("DELETE /ImageStore/a", 200),
    ]
}

/// The additional routes, which need no api-version.
pub(crate) fn extensions() -> Vec<Call> {
    vec![
        call("GET /ImageStore/a/f/$/Content", 200),
        call("GET /Packages/a.sfpkg", 200),
        call("POST /ImageStore/a/$/CreateLink?target=sfpkg", 200),
        call("GET /ImageStore/$/Operations", 200),
        call("GET /ImageStore/$/Operations/0190a9f0-1234-7abc-8def-0123456789ab", 404),
        call("POST /ImageStore/$/Operations/0190a9f0-1234-7abc-8def-0123456789ab/$/Cancel", 404),
        call("GET /$/GetClusterVersion", 200),
        call("GET /$/GetAadMetadata", 200),
    ]
}

impl Call {
    async fn send(&self, http: Http, query: &str) -> Answer {
        self.request(http, query).send().await
    }

    /// The request of the call, with a query.
    pub(crate) fn request(&self, http: Http, query: &str) -> Request {
        let mark = if self.target.contains('?') { '&' } else { '?' };
        let mark = if query.is_empty() { String::new() } else { mark.to_string() };
        let mut request = http.request(self.method, &format!("{}{mark}{query}", self.target));
        if !self.range.is_empty() {
            request = request.header("Content-Range", self.range);
        }
        request.body(self.body)
    }
}

#[tokio::test]
async fn every_documented_call_takes_every_version() {
    let server = Server::start().await;
    for version in [
        "1.0",
        "2.0",
        "3.0",
        "6.0",
        "6.2",
        "11.4",
        "1.0-preview",
        "6.0-preview",
        "6.25",
        "1",
        "11.40",
    ] {
        for call in documented() {
            let answer = call.send(server.http(), &format!("api-version={version}")).await;
            let line = format!("{} {} at {version}", call.method, call.target);
            assert_eq!(answer.status, call.status, "{line}: {answer:?}");
            answer.assert_json();
        }
    }
}

const BAD_VERSIONS: [&str; 13] = [
    "0.9",
    "11.5",
    "11.41",
    "abc",
    "1.0.0",
    "-1",
    "-preview",
    "6.0preview",
    "6.0-PREVIEW",
    "NaN",
    "inf",
    "%36.0",
    "6,0",
];

#[tokio::test]
async fn a_documented_call_without_a_good_version_is_refused_and_does_nothing() {
    let server = Server::start().await;
    let given = "a/f=1 a/_.dir";
    fill(&server.rest(), given).await;
    for call in documented() {
        let line = format!("{} {}", call.method, call.target);
        for query in ["", "api-version=", "Api-Version=6.0", "api-version=6.0=", "api-version"] {
            let message = call.send(server.http(), query).await.assert_fault(Kind::InvalidArgument);
            assert!(message.contains("api-version"), "{line} {query}: {message}");
        }
        for version in BAD_VERSIONS {
            let answer = call.send(server.http(), &format!("api-version={version}")).await;
            let message = answer.assert_fault(Kind::InvalidArgument);
            assert!(message.contains(&format!("'{version}'")), "{line}: {message}");
        }
        // If a parameter is repeated, the first one counts.
        let answer = call.send(server.http(), "api-version=0.9&api-version=6.0").await;
        answer.assert_fault(Kind::InvalidArgument);
    }
    assert_eq!(tree(&server.rest()).await, "a/_.dir a/f=1");
}

#[tokio::test]
async fn a_further_call_needs_no_version_but_refuses_a_bad_one() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    for call in extensions() {
        for query in ["", "api-version=1.0", "api-version=11.4"] {
            let answer = call.send(server.http(), query).await;
            assert_eq!(answer.status, call.status, "{} {}: {answer:?}", call.method, call.target);
        }
        for version in BAD_VERSIONS.into_iter().chain(["", "6.0=", "6.0=1", "=6.0"]) {
            let answer = call.send(server.http(), &format!("api-version={version}")).await;
            let message = answer.assert_fault(Kind::InvalidArgument);
            assert!(message.contains(&format!("'{version}'")), "{message}");
        }
        let answer = call.send(server.http(), "api-version").await;
        answer.assert_fault(Kind::InvalidArgument);
    }
}

#[tokio::test]
async fn a_wrong_verb_a_wrong_case_and_an_unknown_call_are_bad_requests() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    for line in [
        "PUT /ImageStore",
        "PUT /ImageStore/",
        "DELETE /ImageStore",
        "DELETE /ImageStore/",
        "POST /ImageStore",
        "POST /ImageStore/a",
        "PATCH /ImageStore/a",
        "MKCOL /ImageStore/a",
        "GET /ImageStore/$/Copy",
        "PUT /ImageStore/$/Copy",
        "DELETE /ImageStore/$/Copy",
        "POST /ImageStore/a/$/Copy",
        "POST /ImageStore/$/copy",
        "POST /ImageStore/$/Copy/more",
        "POST /ImageStore/$",
        "GET /ImageStore/a/$/UploadChunk",
        "PUT /ImageStore/$/UploadChunk",
        "POST /ImageStore/a/$/UploadChunk",
        "PUT /ImageStore/$/GetUploadSession",
        "GET /ImageStore/$/DeleteUploadSession",
        "DELETE /ImageStore/a/$/DeleteUploadSession",
        "GET /ImageStore/$/CommitUploadSession",
        "POST /ImageStore/a/$/CommitUploadSession",
        "PUT /ImageStore/$/FolderSize",
        "POST /ImageStore/a/$/FolderSize",
        "GET /ImageStore/a/$/Info",
        "PUT /ImageStore/$/Info",
        "GET /ImageStore/$/Content",
        "GET /ImageStore/a/$/Nothing",
        "GET /ImageStore/a/$/b/$/Content",
        "GET /imagestore",
        "PUT /imagestore/a/f",
        "POST /imagestore/$/copy",
        "GET /IMAGESTORE/a",
        "OPTIONS /ImageStore/$/Nothing",
    ] {
        let (method, path) = line.split_once(' ').expect("a verb");
        let target = format!("{path}?api-version=6.0&session-id={SESSION}");
        let answer = server.http().request(method, &target).body(COPY).send().await;
        answer.assert_fault(Kind::InvalidArgument);
    }
    for path in ["/ImageStore", "/ImageStore/a/f", "/ImageStore/$/Info"] {
        let target = format!("{path}?api-version=6.0");
        let answer = server.http().request("HEAD", &target).send_head().await;
        assert_eq!((answer.status, answer.reason.as_str()), (400, "Bad Request"), "{path}");
    }
    assert_eq!(tree(&server.rest()).await, "a/f=1");
}

#[tokio::test]
async fn a_wrong_verb_of_a_further_call_is_told_the_right_ones() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    for (line, allow) in [
        ("PUT /ImageStore/a/f/$/Content", "GET, HEAD, OPTIONS"),
        ("DELETE /ImageStore/$/Operations", "GET, OPTIONS"),
        ("POST /ImageStore/$/Operations/7", "GET, OPTIONS"),
        ("GET /ImageStore/$/Operations/7/$/Cancel", "POST, OPTIONS"),
        ("POST /", "GET, HEAD, OPTIONS"),
        ("PUT /", "GET, HEAD, OPTIONS"),
        ("DELETE /page/style.css", "GET, HEAD, OPTIONS"),
        ("POST /health", "GET, HEAD, OPTIONS"),
        ("PUT /health/live", "GET, HEAD, OPTIONS"),
        ("POST /$/GetClusterVersion", "GET, OPTIONS"),
        ("PUT /$/GetAadMetadata", "GET, OPTIONS"),
    ] {
        let (method, path) = line.split_once(' ').expect("a verb");
        let answer = server.http().request(method, path).body(COPY).send().await;
        assert_eq!((answer.status, answer.reason.as_str()), (405, "Method Not Allowed"), "{line}");
        assert_eq!(answer.header("allow"), Some(allow), "{line}");
        assert_eq!(answer.json()["Error"]["Code"], "E_INVALIDARG");
        answer.assert_json();
    }
    assert_eq!(tree(&server.rest()).await, "a/f=1");
}

#[tokio::test]
async fn options_tell_the_verbs_of_a_path() {
    let server = Server::start().await;
    for (target, allow) in [
        ("/ImageStore", "GET, OPTIONS"),
        ("/ImageStore/a", "GET, PUT, DELETE, OPTIONS"),
        ("/ImageStore/$/Copy", "POST, OPTIONS"),
        ("/ImageStore/a/$/UploadChunk", "PUT, OPTIONS"),
        ("/ImageStore/a/$/Content", "GET, HEAD, OPTIONS"),
        ("/ImageStore/$/Operations", "GET, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/health/live", "GET, HEAD, OPTIONS"),
        ("/$/GetClusterVersion", "GET, OPTIONS"),
        ("/$/GetAadMetadata", "GET, OPTIONS"),
        ("*", "GET, HEAD, PUT, POST, DELETE, OPTIONS"),
    ] {
        let answer = server.http().request("OPTIONS", target).send().await;
        assert_eq!((answer.status, answer.header("allow")), (204, Some(allow)), "{target}");
    }
}

#[tokio::test]
async fn outside_of_the_store_nothing_is_found() {
    let server = Server::start().await;
    for path in ["/no", "/ImageStores", "/ImageStoreX/a", "/a/ImageStore/b", "/$/Copy", "/Nodes"] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let target = format!("{path}?api-version=6.0");
            let answer = server.http().request(method, &target).body(b"x").send().await;
            assert_eq!((answer.status, answer.text().as_str()), (404, ""), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_root_the_health_and_the_version_of_the_cluster_answer() {
    let server = Server::start().await;
    let http = server.http();
    assert_eq!(http.get("/").await.status, 200);
    assert_eq!(http.get("/?api-version=6.0").await.status, 200);
    for path in ["/health", "/health/live"] {
        http.get(path).await.assert_empty_ok();
        assert_eq!(http.request("HEAD", path).send_head().await.status, 200);
    }
    http.get("/%68ealth").await.assert_empty_ok();
    for target in [
        "/$/GetClusterVersion",
        "/$/GetClusterVersion?api-version=6.4&timeout=60",
        "/%24/GetClusterVersion",
        "//%24/%47etClusterVersion/",
    ] {
        let answer = http.get(target).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"Version":"9.1.0.0"}"#));
        answer.assert_json();
    }
}

#[tokio::test]
async fn unknown_parameters_and_a_garbled_timeout_are_ignored() {
    let server = Server::start().await;
    for query in ["x=1", "timeout=soon", "timeout=-1", "timeout=0", "timeout=4294967296", "x==&&y"]
    {
        let target = format!("/ImageStore?api-version=6.0&{query}");
        assert_eq!(server.http().get(&target).await.status, 200, "{query}");
    }
}
