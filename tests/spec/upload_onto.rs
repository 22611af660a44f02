//! What an upload may replace: a file, or, if the request says so, also a folder with all its files.

use imagestore::{
    error::Kind,
    wire::v1::{IfExists, UploadHeader, UploadRequest, upload_request::Payload},
};

use crate::harness::{Fault, MayReplace, Server, both, fill, tree};

const BEFORE: &str = "a=1 d/f=1 d/s/x=2";

#[tokio::test]
async fn only_what_may_be_replaced_is() {
    let folder = Err(Kind::AlreadyExists);
    for (path, over, told, left) in [
        ("a", None, Ok(1), "a=new d/f=1 d/s/x=2"),
        ("b", None, Ok(0), "a=1 b=new d/f=1 d/s/x=2"),
        ("d", None, folder, BEFORE),
        ("d", Some(MayReplace::SameKind), folder, BEFORE),
        ("d", Some(MayReplace::Anything), Ok(2), "a=1 d=new"),
        ("d/s", Some(MayReplace::Anything), Ok(1), "a=1 d/f=1 d/s=new"),
        ("a/b/c", None, folder, BEFORE),
        ("a/b/c", Some(MayReplace::SameKind), folder, BEFORE),
        ("a/b/c", Some(MayReplace::Anything), Ok(1), "a/b/c=new d/f=1 d/s/x=2"),
        ("a", Some(MayReplace::Anything), Ok(1), "a=new d/f=1 d/s/x=2"),
        ("b/c", Some(MayReplace::Anything), Ok(0), "a=1 b/c=new d/f=1 d/s/x=2"),
    ] {
        let (came, is) = both(async |store| {
            fill(store, BEFORE).await;
            store.upload_onto(path, b"new", over).await.map_err(|fault| fault.kind)
        })
        .await;
        assert_eq!((came, is.as_str()), (told, left), "{path} {over:?}");
        let (came, is) = both(async |store| {
            fill(store, BEFORE).await;
            store.chunked_onto(path, b"new", [over, over]).await.map_err(|fault| fault.kind)
        })
        .await;
        assert_eq!((came, is.as_str()), (told, left), "{path} {over:?} in a session");
    }
}

#[tokio::test]
async fn the_commit_of_a_session_decides() {
    let (told, left) = both(async |store| {
        fill(store, BEFORE).await;
        store
            .chunked_onto("d", b"new", [Some(MayReplace::Anything), None])
            .await
            .map_err(|fault| fault.kind)
    })
    .await;
    assert_eq!((told, left.as_str()), (Err(Kind::AlreadyExists), BEFORE));
}

#[tokio::test]
async fn what_an_upload_cannot_do_is_refused_by_name() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (if_exists, says) in [(IfExists::Keep.into(), "IF_EXISTS_KEEP"), (9, "if_exists 9")] {
        let header = UploadHeader { path: "a".to_owned(), if_exists, ..UploadHeader::default() };
        let messages = [UploadRequest { payload: Some(Payload::Header(header)) }];
        let refused = client.upload(tokio_stream::iter(messages)).await.expect_err("refused");
        let fault = Fault::from(refused);
        assert_eq!(fault.kind, Kind::InvalidArgument);
        assert!(fault.message.contains(says), "{fault:?}");
    }
    for value in ["Echo", "", "a=b", "overwrite"] {
        let target = format!("/ImageStore/a?api-version=6.0&if-exists={value}");
        let answer = server.http().request("PUT", &target).body(b"x").send().await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let message = answer.json()["Error"]["Message"].as_str().expect("text").to_owned();
        assert!(message.contains(&format!("if-exists is '{value}'")), "{message}");
    }
    assert_eq!(tree(&server.rest()).await, "");
}
