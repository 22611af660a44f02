//! The forms of a path in a URL.

use imagestore::error::Kind;

use crate::harness::{Driver, Server, fill, tree};

#[tokio::test]
async fn a_path_has_many_spellings() {
    let server = Server::start().await;
    let (http, store) = (server.http(), server.rest());
    for (written, meant) in [
        ("/ImageStore/a/b", "a/b"),
        ("/ImageStore/a%2Fb", "a/b"),
        ("/ImageStore/a%2fb", "a/b"),
        ("/ImageStore/a%5Cb", "a/b"),
        ("/ImageStore/a\\b", "a/b"),
        ("//ImageStore//a///b//", "a/b"),
        ("/ImageStore/%2Fa%5C%5Cb%2F", "a/b"),
        ("/ImageStore/%20a/b%20", "a/b"),
        ("/ImageStore/%61/%62", "a/b"),
        ("/ImageStore/a%20b", "a b"),
        ("/ImageStore/a+b", "a+b"),
        ("/ImageStore/a%2Bb", "a+b"),
        ("/ImageStore/a%252Fb", "a%2Fb"),
        ("/ImageStore/a%25", "a%"),
        ("/ImageStore/$a/a$", "$a/a$"),
        ("/ImageStore/a:*%3Fb=&c", "a:*?b=&c"),
        ("/ImageStore/%C3%A4/%F0%9F%93%A6", "ä/📦"),
        ("/ImageStore/ImageStore", "ImageStore"),
        ("/%49mageStor%65/a", "a"),
    ] {
        let target = format!("{written}?api-version=6.0");
        http.put(&target, meant.as_bytes()).await.assert_empty_ok();
        assert_eq!(store.download(meant).await.expect(written), meant.as_bytes());
        let listed = http.get(&target).await.json();
        assert_eq!(listed["StoreFiles"][0]["StoreRelativePath"], meant, "{written}");
        http.delete(&target).await.assert_empty_ok();
        assert_eq!(tree(&store).await, "", "{written}");
    }
}

#[tokio::test]
async fn an_encoded_dollar_is_a_dollar() {
    let server = Server::start().await;
    fill(&server.rest(), "a=1").await;
    let body = br#"{"RemoteSource":"a","RemoteDestination":"b"}"#;
    server.http().post("/ImageStore/%24/Copy?api-version=1.0", body).await.assert_empty_ok();
    assert_eq!(server.http().get("/ImageStore/a/%24/Content").await.text(), "1");
    // A path with an encoded separator is never taken for a call.
    let target = "/ImageStore/%24%2FCopy?api-version=1.0";
    server.http().post(target, body).await.assert_fault(Kind::InvalidArgument);
    server.http().put(target, body).await.assert_fault(Kind::InvalidArgument);
    assert_eq!(tree(&server.rest()).await, "a=1 b=1");
}

#[tokio::test]
async fn a_path_that_no_file_can_have_is_refused() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    let long = "n".repeat(1025);
    for path in [
        "%",
        "%4",
        "%zz",
        "a%",
        "%ff",
        "%C3",
        "%20",
        "%2F",
        "%5C%20",
        "..",
        "%2e%2e",
        "a/../b",
        "a%2F..%2Fb",
        "a/./b",
        ".",
        "a%00b",
        "a%0Ab",
        "a%7Fb",
        "a%22b",
        "a%3Cb",
        "a%3Eb",
        "a%7Cb",
        "a%2F$%2Fb",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let target = format!("/ImageStore/{path}?api-version=6.0");
            let answer = server.http().request(method, &target).body(b"").send().await;
            answer.assert_fault(Kind::InvalidArgument);
        }
        let target = format!("/ImageStore/{path}/$/Content");
        server.http().get(&target).await.assert_fault(Kind::InvalidArgument);
        let target = format!("/ImageStore/{path}/$/FolderSize?api-version=6.5");
        server.http().get(&target).await.assert_fault(Kind::InvalidArgument);
        let target = format!("/ImageStore/{path}/$/GetUploadSession?api-version=6.0");
        server.http().get(&target).await.assert_fault(Kind::InvalidArgument);
    }
    for path in [long, vec!["d"; 129].join("/"), "a/".repeat(2500)] {
        let target = format!("/ImageStore/{path}?api-version=6.0");
        server.http().put(&target, b"").await.assert_fault(Kind::PathTooLong);
        server.http().get(&target).await.assert_fault(Kind::PathTooLong);
        server.http().delete(&target).await.assert_fault(Kind::PathTooLong);
    }
    assert_eq!(tree(&server.rest()).await, "a/f=1");
}

#[tokio::test]
async fn paths_are_case_sensitive() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1 A/f=2 a/F=3").await;
    assert_eq!(tree(&server.rest()).await, "A/f=2 a/F=3 a/f=1");
    server.http().delete("/ImageStore/A?api-version=6.0").await.assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, "a/F=3 a/f=1");
}
