//! The copy request as the documentation of upstream prints it, sent as raw bytes over a socket.

use crate::harness::{Driver, Server, fill, sorted, tree};

/// The bytes that the C# literal of the documentation page sends. Its single backslashes are not valid JSON.
const SAMPLE: &str = r#"{"RemoteSource":"CalcAppV1\CalcService\Data","RemoteDestination":"CalcAppV3\CalcService\Data","SkipFiles":[],"CheckMarkFile":true}"#;
/// The page's schema block with values: a space before the keys, a comma before the closing brace.
const SCHEMA: &str = "{\n  \" RemoteSource\":\"CalcAppV1\\CalcService\\Data\",\n  \" RemoteDestination\":\"CalcAppV3\\CalcService\\Data\",\n  \" SkipFiles\":[],\n  \" CheckMarkFile\":true,\n}";
/// The same as valid JSON.
const PROPER: &str = r#"{"RemoteSource":"CalcAppV1\\CalcService\\Data","RemoteDestination":"CalcAppV3\\CalcService\\Data","SkipFiles":[],"CheckMarkFile":true}"#;

const PLAIN: &str = "/ImageStore/$/Copy?api-version=1.0";
/// With a parameter that the page calls required.
const REMOTE_LOCATION: &str = "/ImageStore/$/Copy?api-version=1.0&remote-location=CalcAppV9%5CData";

const GIVEN: &str = "CalcAppV1/CalcService/Data/_.dir CalcAppV1/CalcService/Data/b/t.txt=1 \
                     CalcAppV1/_.dir CalcAppV3/CalcService/Data/old=2";
const THEN: &str = "CalcAppV1/CalcService/Data/_.dir CalcAppV1/CalcService/Data/b/t.txt=1 \
                    CalcAppV1/_.dir CalcAppV3/CalcService/Data/_.dir \
                    CalcAppV3/CalcService/Data/b/t.txt=1";

/// Whether the body follows the head at once, or after a `100 Continue`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    Continue,
}

async fn check(target: &str, body: &str, expect: Expect) {
    let server = Server::start().await;
    fill(&server.rest(), GIVEN).await;
    let mut connection = server.http().connect().await;
    let mut head = format!(
        "POST {target} HTTP/1.1\r\nContent-Type: text/json\r\nHost: {}\r\nContent-Length: {}\r\n",
        server.address,
        body.len()
    );
    if expect == Expect::Continue {
        head.push_str("Expect: 100-continue\r\nConnection: Keep-Alive\r\n");
    }
    head.push_str("\r\n");
    // Two requests, because the old client keeps its connection alive.
    for _ in 0..2 {
        connection.send(head.as_bytes()).await;
        if expect == Expect::Continue {
            let asked = connection.answer().await;
            assert_eq!((asked.status, asked.reason.as_str()), (100, "Continue"));
        }
        connection.send(body.as_bytes()).await;
        connection.answer().await.assert_empty_ok();
    }
    assert_eq!(tree(&server.rest()).await, sorted(THEN), "{target} {body}");
}

#[tokio::test]
async fn the_sample_works_as_it_is_printed() {
    check(PLAIN, SAMPLE, Expect::Nothing).await;
    check(PLAIN, SAMPLE, Expect::Continue).await;
}

#[tokio::test]
async fn the_schema_block_works_with_values_filled_in() {
    check(PLAIN, SCHEMA, Expect::Nothing).await;
    check(PLAIN, SCHEMA, Expect::Continue).await;
}

#[tokio::test]
async fn proper_json_works() {
    check(PLAIN, PROPER, Expect::Nothing).await;
    check(PLAIN, PROPER, Expect::Continue).await;
}

#[tokio::test]
async fn the_parameter_that_the_page_requires_is_accepted_and_ignored() {
    check(REMOTE_LOCATION, SAMPLE, Expect::Nothing).await;
    check(REMOTE_LOCATION, SAMPLE, Expect::Continue).await;
}

#[tokio::test]
async fn the_sample_may_come_byte_by_byte() {
    let server = Server::start().await;
    fill(&server.rest(), GIVEN).await;
    let request = server.http().request("POST", PLAIN).body(SAMPLE.as_bytes());
    let mut connection = server.http().connect().await;
    for byte in request.head().bytes().chain(SAMPLE.bytes()) {
        connection.send(&[byte]).await;
    }
    connection.answer().await.assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, sorted(THEN));
}

#[tokio::test]
async fn an_escape_that_is_a_letter_of_the_path_is_a_separator() {
    let server = Server::start().await;
    let store = server.rest();
    fill(&store, "App/tools=1 App/bin=2 App/new=3 App/rest=4 App/fine=5").await;
    for name in ["tools", "bin", "new", "rest", "fine"] {
        let body = format!(r#"{{"RemoteSource":"App\{name}","RemoteDestination":"to\{name}"}}"#);
        server.http().post(PLAIN, body.as_bytes()).await.assert_empty_ok();
        let copied = store.download(&format!("to/{name}")).await;
        assert_eq!(copied, store.download(&format!("App/{name}")).await, "{name}");
    }
}
