//! Credentials: how they are sent, what a caller with rights at some paths sees, and what ends with a token.

use std::{fs, os::unix::fs::PermissionsExt as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::stream;
use imagestore::{
    error::Kind,
    wire::{
        status,
        v1::{self, Role},
    },
};
use tonic::{Code, Request};

use crate::harness::{Client, Server, copy, fill, upload};

/// A request with a token.
pub(crate) fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().expect("a value");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Creates a token with a role at some paths.
pub(crate) async fn create(client: &mut Client, name: &str, role: Role, at: &[&str]) -> String {
    let grant = |path: &&str| v1::Grant { role: role.into(), path: (*path).to_owned() };
    let grants = at.iter().map(grant).collect();
    let request = v1::CreateTokenRequest { name: name.to_owned(), grants, ..Default::default() };
    client.create_token(request).await.expect("created").into_inner().secret
}

/// A server that requires a right, with files, the token of an admin, and one of a reader of `a/b` and `c*`.
async fn start() -> (Server, String, String) {
    let server = Server::start().await;
    fill(&server.rest(), "a/b/f=1 a/g=22 b/f=333 c1/f=4444 cc/f=55555").await;
    let mut client = server.client().await;
    let admin = create(&mut client, "admin", Role::Admin, &["/"]).await;
    let reader = create(&mut client, "reader", Role::Reader, &["a/b", "c*"]).await;
    (server.restart_with_access(None).await, admin, reader)
}

#[tokio::test]
async fn a_folder_above_a_grant_shows_only_what_leads_there() {
    let (server, admin, reader) = start().await;
    let mut client = server.client().await;
    let mut list = async |token: &str, path: &str, page_size: u32| {
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let path = path.to_owned();
            let request = v1::ListRequest { path, page_size, page_token };
            let page = client.list(with(token, request)).await.expect("a page").into_inner();
            assert_eq!(page.partial, page.change_tag.is_empty());
            let line = |entry: v1::Entry| format!("{}:{}", entry.path, entry.size_bytes);
            seen.extend(page.entries.into_iter().map(line));
            page_token = page.next_page_token;
            // The token of a page is the name of an entry.
            assert!(token == admin || ["", "c1", "cc"].contains(&page_token.as_str()));
            if page_token.is_empty() {
                return (seen.join(" "), page.partial);
            }
        }
    };
    for size in [0, 1] {
        assert_eq!(list(&reader, "", size).await, ("a:0 c1:4 cc:5".to_owned(), true));
        assert_eq!(list(&reader, "a", size).await, ("a/b:1".to_owned(), true));
        assert_eq!(list(&reader, "a/b", size).await, ("a/b/f:1".to_owned(), false));
        assert_eq!(list(&admin, "", size).await, ("a:3 b:3 c1:4 cc:5".to_owned(), false));
    }
    for path in ["b", "a/g", "a/c"] {
        let request = v1::ListRequest { path: path.to_owned(), ..Default::default() };
        let refused = client.list(with(&reader, request)).await.expect_err("refused");
        assert_eq!(refused.message(), format!("'token:reader' may not read '{path}'"));
        assert_eq!(status::kind(&refused), Kind::Forbidden);
    }
    let request = v1::StatRequest { path: "a".to_owned() };
    let refused = client.stat(with(&reader, request)).await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_part_of_a_folder_is_listed_whatever_the_client_has_of_it() {
    let (server, _, reader) = start().await;
    let bearer = format!("Bearer {reader}");
    let get = |path: &str| {
        let request = server.http().request("GET", path).header("Authorization", &bearer);
        request.header("If-None-Match", "W/\"x\"").send()
    };
    let root = get("/ImageStore?api-version=6.0").await;
    assert_eq!((root.status, root.header("etag")), (200, None));
    assert_eq!(get("/ImageStore/b?api-version=6.0").await.status, 403);
}

#[tokio::test]
async fn operations_are_seen_by_who_may_read_their_paths_or_has_started_them() {
    let (server, admin, reader) = start().await;
    let mut client = server.client().await;
    for (source, destination) in [("a/b/f", "c1/g"), ("b/f", "c1/h"), ("c1/f", "cc/g")] {
        let request = v1::CopyRequest::from(&copy(source, destination));
        let mut copying = client.copy(with(&admin, request)).await.expect("a copy").into_inner();
        while copying.message().await.expect("copied").is_some() {}
    }
    let mut seen = async |token: &str| {
        let list = client.list_operations(with(token, v1::ListOperationsRequest::default()));
        let list = list.await.expect("a page").into_inner().operations;
        list.into_iter()
            .map(|operation| format!("{} {} {}", operation.source, operation.caller, operation.id))
            .collect::<Vec<_>>()
    };
    let all = seen(&admin).await;
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|line| line.contains(" token:admin ")), "{all:?}");
    let own: Vec<_> = all.iter().filter(|line| !line.starts_with("b/f")).cloned().collect();
    assert_eq!(seen(&reader).await, own);
    let hidden = all.iter().find_map(|line| line.strip_prefix("b/f token:admin "));
    let request = v1::GetOperationRequest { id: hidden.expect("an id").to_owned() };
    let unknown = client.get_operation(with(&reader, request)).await.expect_err("unknown");
    assert_eq!(status::kind(&unknown), Kind::OperationNotFound);
}

#[tokio::test]
async fn what_runs_with_a_token_ends_when_it_is_revoked() {
    let (server, admin, reader) = start().await;
    let mut client = server.client().await;
    let watch = v1::WatchOperationsRequest::default();
    let watch = client.watch_operations(with(&reader, watch)).await.expect("a watch");
    let mut events = server
        .http()
        .request("GET", "/ImageStore/$/Operations")
        .header("Accept", "text/event-stream")
        .header("Authorization", &format!("Bearer {reader}"))
        .open()
        .await;
    assert_eq!(events.head().await.status, 200);
    let name = "reader".to_owned();
    client.revoke_token(with(&admin, v1::RevokeTokenRequest { name })).await.expect("revoked");
    let end = watch.into_inner().message().await.expect_err("an end");
    assert_eq!(end.message(), "the credential of 'token:reader' was revoked");
    assert_eq!(status::kind(&end), Kind::Unauthenticated);
    events.rest().await;
    let again = client.list(with(&reader, v1::ListRequest::default())).await.expect_err("refused");
    assert!(again.message().starts_with("the token 'reader' was revoked at "), "{again}");
}

#[tokio::test]
async fn tokens_are_made_listed_replaced_and_revoked() {
    let server = Server::start().await;
    let mut client = server.client().await;
    create(&mut client, "ci", Role::Writer, &["a", "b*"]).await;
    let page = client.list_tokens(v1::ListTokensRequest::default()).await.expect("a page");
    let [token] = page.into_inner().tokens.try_into().expect("one");
    assert_eq!((token.name.as_str(), token.created_by.as_str()), ("ci", "anonymous"));
    let paths: Vec<_> = token.grants.iter().map(|grant| grant.path.as_str()).collect();
    assert_eq!(paths, ["a", "b*"]);
    assert!(token.expires_at.is_some() && token.revoked_at.is_none());
    let overlap = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request = v1::RotateTokenRequest { name: "ci".to_owned(), overlap };
    let rotated = client.rotate_token(request).await.expect("rotated").into_inner();
    assert!(rotated.token.expect("a token").old_secret_until.is_some());
    let caller = client.get_caller(with(&rotated.secret, v1::GetCallerRequest::default()));
    assert_eq!(caller.await.expect("a caller").into_inner().name, "token:ci");
    let request = || v1::RevokeTokenRequest { name: "ci".to_owned() };
    let revoked = client.revoke_token(request()).await.expect("revoked").into_inner();
    assert!(revoked.revoked_at.is_some());

    let kind = |status: tonic::Status| status::kind(&status);
    let again = client.revoke_token(request()).await.expect_err("unknown");
    assert_eq!(kind(again), Kind::TokenNotFound);
    let request = v1::RotateTokenRequest { name: "ci".to_owned(), overlap: None };
    let rotated = client.rotate_token(request).await.expect_err("unknown");
    assert_eq!(kind(rotated), Kind::TokenNotFound);
    let request = v1::ListTokensRequest { page_token: "\0".to_owned(), page_size: 0 };
    let listed = client.list_tokens(request).await.expect_err("no token");
    assert_eq!(kind(listed), Kind::InvalidArgument);
    let request = v1::GetCallerRequest { role: 99, path: String::new() };
    let caller = client.get_caller(request).await.expect_err("no role");
    assert_eq!(kind(caller), Kind::InvalidArgument);
}

#[tokio::test]
async fn an_upload_ends_when_its_token_is_revoked() {
    let (server, admin, _) = start().await;
    let mut client = server.client().await;
    let grants = vec![v1::Grant { role: Role::Writer.into(), path: "a".to_owned() }];
    let request = v1::CreateTokenRequest { name: "ci".to_owned(), grants, ..Default::default() };
    let created = client.create_token(with(&admin, request)).await.expect("created");
    let writer = created.into_inner().secret;
    let (sender, messages) = tokio::sync::mpsc::channel(2);
    for message in upload("a/x", b"123").into_iter().take(2) {
        sender.send(message).await.expect("sent");
    }
    let mut uploader = client.clone();
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let request = with(&writer, messages);
    let uploading = tokio::spawn(async move { uploader.upload(request).await });
    // The server has taken the header: the channel is empty.
    sender.reserve_many(2).await.expect("taken");
    let revoke = v1::RevokeTokenRequest { name: "ci".to_owned() };
    client.revoke_token(with(&admin, revoke)).await.expect("revoked");
    let refused = uploading.await.expect("no panic").expect_err("refused");
    assert_eq!(status::kind(&refused), Kind::Unauthenticated, "{refused}");
    let request = v1::StatRequest { path: "a/x".to_owned() };
    let nothing = client.stat(with(&admin, request)).await.expect_err("nothing");
    assert_eq!(status::kind(&nothing), Kind::PathNotFound);
}

#[tokio::test]
async fn a_token_is_also_the_password_of_any_user() {
    let (server, admin, _) = start().await;
    let get = async |credential: Option<String>| {
        let mut request = server.http().request("GET", "/ImageStore/a/g/$/Content");
        if let Some(credential) = &credential {
            request = request.header("Authorization", credential);
        }
        request.send().await
    };
    let pair = |password: &str| format!("Basic {}", STANDARD.encode(format!("me:{password}")));
    assert_eq!(get(Some(pair(&admin))).await.status, 200);
    assert_eq!(get(Some(format!("bearer {admin}"))).await.status, 200);
    for (credential, challenge) in [
        (None, "Bearer realm=\"imagestore\""),
        (Some(pair("x")), "Bearer realm=\"imagestore\", error=\"invalid_token\""),
        (Some("Negotiate x".to_owned()), "Bearer realm=\"imagestore\", error=\"invalid_token\""),
    ] {
        let answer = get(credential).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
        answer.assert_fault(Kind::Unauthenticated);
    }
}

#[tokio::test]
async fn guesses_are_slowed_down_but_not_what_is_known() {
    let (server, admin, _) = start().await;
    let mut client = server.client().await;
    let mut stat = async |token: &str| {
        let request = v1::StatRequest { path: "a".to_owned() };
        client.stat(with(token, request)).await.map(drop).map_err(|error| status::kind(&error))
    };
    assert_eq!(stat(&admin).await, Ok(()));
    // Tokens with a good form: each costs a look-up.
    let guess = admin.replacen("imagestore_", "imagestore_x", 1);
    let mut refused = Vec::new();
    for _ in 0..20 {
        refused.push(stat(&guess).await.expect_err("refused"));
    }
    assert_eq!(refused[0], Kind::Unauthenticated);
    assert!(refused.contains(&Kind::TooManyFailures), "{refused:?}");
    assert_eq!(stat(&admin).await, Ok(()));
    let header = format!("Bearer {guess}");
    let mut answers = Vec::new();
    for _ in 0..20 {
        let request = server.http().request("GET", "/ImageStore").header("Authorization", &header);
        answers.push(request.send().await);
    }
    let slowed = answers.iter().find(|answer| answer.status == 429).expect("too many");
    assert!(slowed.header("retry-after").is_some());
}

#[tokio::test]
async fn who_sends_no_credential_has_what_the_file_gives() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1 b/f=22").await;
    let folder = tempfile::tempdir().expect("a folder");
    let grants = folder.path().join("grants.toml");
    let text = "[[grant]]\nwho = [\"anonymous\"]\nrole = \"reader\"\npaths = [\"a\"]\n";
    fs::write(&grants, text).expect("written");
    fs::set_permissions(&grants, fs::Permissions::from_mode(0o644)).expect("a mode");
    let server = server.restart_with_access(Some(&grants)).await;
    let http = server.http();
    assert_eq!(http.get("/ImageStore/a/f/$/Content").await.status, 200);
    // A right that is missing asks for a credential.
    let refused = http.get("/ImageStore/b/f/$/Content").await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.json()["Error"]["Message"],
        "'anonymous' may not read 'b/f'; send a credential that may"
    );
    assert_eq!(http.put("/ImageStore/a/g?api-version=6.0", b"1").await.status, 401);
    let mut client = server.client().await;
    let caller = client.get_caller(v1::GetCallerRequest::default()).await.expect("a caller");
    let v1::GetCallerResponse { name, grants, .. } = caller.into_inner();
    assert_eq!((name.as_str(), grants.len()), ("anonymous", 1));
    let chunks = stream::iter(upload("a/g", b"1"));
    let refused = client.upload(chunks).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
}
