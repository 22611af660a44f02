//! Signed links: what they download, and when they are refused.

use imagestore::{error::Kind, wire::v1, wire::v1::Role};

use crate::{
    credentials::{create, with},
    harness::{Answer, Server, fill},
};

/// A server that requires a right, the token of an admin, and one of a reader of `a`.
async fn start() -> (Server, String, String) {
    let server = Server::start().await;
    fill(&server.rest(), "a/App/x=1 a/App/y=22 b/f=333").await;
    let mut client = server.client().await;
    let admin = create(&mut client, "admin", Role::Admin, &["/"]).await;
    let reader = create(&mut client, "reader", Role::Reader, &["a"]).await;
    (server.restart_with_access(None).await, admin, reader)
}

/// Makes a link with a token, over REST.
async fn link(server: &Server, token: Option<&str>, path: &str, query: &str) -> String {
    let target = format!("/ImageStore/{path}/$/CreateLink?api-version=6.0&{query}");
    let mut request = server.http().request("POST", &target);
    if let Some(token) = token {
        request = request.header("Authorization", &format!("Bearer {token}"));
    }
    let answer = request.send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let made = answer.json();
    assert!(made["ExpiresAt"].as_str().expect("a time").ends_with('Z'), "{made}");
    made["Link"].as_str().expect("a link").to_owned()
}

async fn get(server: &Server, link: &str) -> Answer {
    server.http().get(link).await
}

/// The link with another value of a parameter.
fn altered(link: &str, name: &str, change: impl Fn(&str) -> String) -> String {
    let (path, query) = link.split_once('?').expect("a query");
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, value)) if key == name => format!("{key}={}", change(value)),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[tokio::test]
async fn whoever_has_a_link_downloads_what_it_is_for() {
    let (server, admin, reader) = start().await;
    for (target, path) in [
        ("sfpkg", "/Packages/a/App.sfpkg?link-expires="),
        ("zip", "/Packages/a/App.zip?link-expires="),
        ("sfpkg&compress=deflate&for=9", "/Packages/a/App.sfpkg?compress=deflate&link-expires="),
    ] {
        let made = link(&server, Some(&reader), "a/App", &format!("target={target}")).await;
        assert!(made.starts_with(path), "{made}");
        let answer = get(&server, &made).await;
        assert_eq!((answer.status, &answer.body[..4]), (200, &b"PK\x03\x04"[..]));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("x-imagestore-token-expires"), None);
        assert_eq!(server.http().request("HEAD", &made).send_head().await.status, 200);
    }
    let made = link(&server, Some(&reader), "a/App/y", "target=content").await;
    assert!(made.starts_with("/ImageStore/a/App/y/$/Content?link-expires="), "{made}");
    assert_eq!(get(&server, &made).await.body, b"22");
    let range = server.http().request("GET", &made).header("Range", "bytes=1-").send().await;
    assert_eq!((range.status, range.body.as_slice()), (206, &b"2"[..]));
    // Another spelling of the same path, and another compression.
    let spelled = made.replace("/a/App/y/", "//a%2FApp\\y/");
    assert_eq!(get(&server, &spelled).await.body, b"22");
    // A credential comes first.
    let both = server.http().request("GET", &made).header("Authorization", "Bearer x.y.z");
    assert_eq!(both.send().await.status, 401);
    let both = server.http().request("GET", "/ImageStore/b/f/$/Content?link-maker=x");
    let both = both.header("Authorization", &format!("Bearer {admin}"));
    assert_eq!(both.send().await.status, 200);
}

#[tokio::test]
async fn a_link_for_something_else_is_refused() {
    let (server, _, reader) = start().await;
    let file = link(&server, Some(&reader), "a/App/x", "target=content").await;
    let package = link(&server, Some(&reader), "a/App", "target=zip").await;
    let (_, of_file) = file.split_once('?').expect("a query");
    let (_, of_package) = package.split_once('?').expect("a query");
    let longer = |text: &str| (text.parse::<i64>().expect("a number") + 1).to_string();
    let other =
        |text: &str| format!("{}{}", if text.starts_with('A') { 'B' } else { 'A' }, &text[1..]);
    for target in [
        format!("/ImageStore/a/App/y/$/Content?{of_file}"),
        format!("/ImageStore/a/App/$/Content?{of_package}"),
        format!("/Packages/a.zip?{of_package}"),
        format!("/Packages/a/App/x.zip?{of_file}"),
        format!("/Packages/b.zip?{of_package}"),
        package.replace('?', "?compress=deflate&"),
        altered(&package, "link-expires", longer),
        altered(&package, "link-signature", other),
        altered(&package, "link-signature", |text| text[..42].to_owned()),
        altered(&package, "link-maker", |text| format!("{text}x")),
        altered(&package, "link-maker", |_| "n.YW5vbnltb3Vz".to_owned()),
    ] {
        let message = get(&server, &target).await.assert_fault(Kind::Forbidden);
        assert!(message.contains("it was altered, is for another address"), "{target}: {message}");
    }
    let incomplete = package.split("&link-signature").next().expect("a part");
    let message = get(&server, incomplete).await.assert_fault(Kind::Forbidden);
    assert!(message.contains("not complete"), "{message}");
    let only = "a link is for the download of a file or a package only";
    for (verb, target) in [
        ("GET", format!("/ImageStore/a/App?api-version=6.0&{of_package}")),
        ("GET", format!("/ImageStore/$/Operations?{of_package}")),
        ("PUT", format!("/ImageStore/a/App/x?api-version=6.0&{of_file}")),
        ("DELETE", format!("/ImageStore/a/App/x?api-version=6.0&{of_file}")),
        ("POST", format!("/ImageStore/a/App/x/$/CreateLink?target=content&{of_file}")),
        ("POST", package.clone()),
    ] {
        let answer = server.http().request(verb, &target).send().await;
        assert_eq!(answer.assert_fault(Kind::Forbidden), only, "{verb} {target}");
    }
    // What needs no right does not look at a link.
    assert_eq!(get(&server, &format!("/?{of_file}x")).await.status, 200);
}

#[tokio::test]
async fn a_link_expires() {
    let (server, _, reader) = start().await;
    let made = link(&server, Some(&reader), "a/App", "target=zip&for=1").await;
    // The server has a clock of its own; a second is over soon.
    let refused = loop {
        let answer = get(&server, &made).await;
        if answer.status != 200 {
            break answer;
        }
    };
    let message = refused.assert_fault(Kind::Forbidden);
    assert!(message.starts_with("the link has expired at 20"), "{message}");
}

#[tokio::test]
async fn a_link_ends_with_its_maker_and_with_all_links() {
    let (server, admin, reader) = start().await;
    let mut client = server.client().await;
    let own = link(&server, Some(&reader), "a/App", "target=zip").await;
    let admins = link(&server, Some(&admin), "a/App", "target=zip").await;
    assert_eq!(get(&server, &own).await.status, 200);
    let revoke = v1::RevokeTokenRequest { name: "reader".to_owned() };
    client.revoke_token(with(&admin, revoke)).await.expect("revoked");
    let message = get(&server, &own).await.assert_fault(Kind::Forbidden);
    assert!(
        message
            .starts_with("the link has ended with its maker: the token 'reader' was revoked at 20"),
        "{message}"
    );
    // Also after a restart, from the database.
    let server = server.restart().await;
    get(&server, &own).await.assert_fault(Kind::Forbidden);
    assert_eq!(get(&server, &admins).await.status, 200);
    let mut client = server.client().await;
    client.rotate_link_key(with(&admin, v1::RotateLinkKeyRequest {})).await.expect("a new key");
    let message = get(&server, &admins).await.assert_fault(Kind::Forbidden);
    assert!(message.contains("all links were ended"), "{message}");
}

#[tokio::test]
async fn a_link_of_who_sends_no_credential_has_what_is_granted_to_all() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1 b/f=2").await;
    // On an open server everybody may make one.
    let open = link(&server, None, "b/f", "target=content").await;
    assert_eq!(get(&server, &open).await.body, b"2");
    let bad = altered(&open, "link-expires", |_| "1".to_owned());
    get(&server, &bad).await.assert_fault(Kind::Forbidden);

    let folder = tempfile::tempdir().expect("a folder");
    let grants = folder.path().join("grants.toml");
    let write = |paths: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let text =
            format!("[[grant]]\nwho = [\"anonymous\"]\nrole = \"reader\"\npaths = [{paths}]\n");
        std::fs::write(&grants, text).expect("a file");
        std::fs::set_permissions(&grants, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    };
    write("\"a\"");
    let server = server.restart_with_access(Some(&grants)).await;
    let own = link(&server, None, "a/f", "target=content").await;
    assert_eq!(get(&server, &own).await.body, b"1");
    // The link of before is good, but nobody may read this any more.
    let message = get(&server, &open).await.assert_fault(Kind::Forbidden);
    assert_eq!(message, "'link:anonymous' may not read 'b/f'");
    // A change of the grants is taken within seconds.
    write("\"c\"");
    let refused = loop {
        let answer = get(&server, &own).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.assert_fault(Kind::Forbidden), "'link:anonymous' may not read 'a/f'");
}

#[tokio::test]
async fn what_cannot_be_linked_is_refused() {
    let (server, _, reader) = start().await;
    let post = |path: &str, query: &str| {
        let target = format!("/ImageStore/{path}/$/CreateLink?{query}");
        let request = server.http().request("POST", &target);
        request.header("Authorization", &format!("Bearer {reader}")).send()
    };
    for (query, message) in [
        ("", "target is ''; give 'content', 'sfpkg' or 'zip'"),
        ("target=tar", "target is 'tar'"),
        ("target=zip&for=0", "a link lives 1 second to 7 days, not 0 s"),
        ("target=zip&for=604801", "not 604801 s"),
        ("target=zip&for=1h", "for is '1h'; give whole seconds"),
        ("target=zip&for=99999999999999999999", "give whole seconds"),
        ("target=zip&compress=x", "compress is 'x'"),
    ] {
        let found = post("a/App", query).await.assert_fault(Kind::InvalidArgument);
        assert!(found.contains(message), "{query}: {found}");
    }
    post("b/f", "target=content").await.assert_fault(Kind::Forbidden);
    let mut client = server.client().await;
    for (target, seconds) in [(0, 60), (9, 60), (1, -1), (1, 604_801)] {
        let life = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = v1::CreateLinkRequest { path: "a".to_owned(), target, life, compression: 0 };
        let refused = client.create_link(with(&reader, request)).await.expect_err("refused");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{target} {seconds}");
    }
    // Over gRPC, for an hour.
    let target = v1::LinkTarget::Zip.into();
    let request = v1::CreateLinkRequest { path: "a/App".to_owned(), target, ..Default::default() };
    let made = client.create_link(with(&reader, request)).await.expect("a link").into_inner();
    assert_eq!(get(&server, &made.link).await.status, 200);
    let end = format!("link-expires={}&", made.expires_at.expect("an end").seconds);
    assert!(made.link.contains(&end), "{made:?}");
    // Whether something is there is not told.
    link(&server, Some(&reader), "a/nothing", "target=content").await;
}

#[tokio::test]
async fn a_link_that_a_gateway_passes_on_is_for_its_download_only() {
    let (server, _, reader) = start().await;
    let content = link(&server, Some(&reader), "a/App/y", "target=content").await;
    let package = link(&server, Some(&reader), "a/App", "target=sfpkg").await;
    let mut client = server.client().await;
    fn by<M>(link: &str, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("imagestore-link", link.parse().expect("a value"));
        request
    }
    let stat = |path: &str| v1::StatRequest { path: path.to_owned() };
    let download = |path: &str| v1::DownloadRequest { path: path.to_owned(), ..<_>::default() };
    let packed =
        |path: &str| v1::DownloadPackageRequest { path: path.to_owned(), ..<_>::default() };
    client.stat(by(&content, stat("a/App/y"))).await.expect("its file");
    client.download(by(&content, download("a/App/y"))).await.expect("its file");
    client.download_package(by(&package, packed("a/App"))).await.expect("its folder");
    let mut refused = Vec::new();
    for path in ["a/App/x", "a/App", "a"] {
        refused.push(client.stat(by(&content, stat(path))).await.map(drop));
        refused.push(client.download(by(&content, download(path))).await.map(drop));
    }
    refused.push(client.download(by(&package, download("a/App/x"))).await.map(drop));
    refused.push(client.stat(by(&package, stat("a/App"))).await.map(drop));
    refused.push(client.download_package(by(&package, packed("a"))).await.map(drop));
    refused.push(client.download_package(by(&content, packed("a/App/y"))).await.map(drop));
    let list = v1::ListRequest { path: "a/App".to_owned(), ..v1::ListRequest::default() };
    refused.push(client.list(by(&package, list)).await.map(drop));
    let delete = v1::DeleteRequest { path: "a/App/y".to_owned(), ..v1::DeleteRequest::default() };
    refused.push(client.delete(by(&content, delete)).await.map(drop));
    refused.push(client.stat(by("nonsense", stat("a/App/y"))).await.map(drop));
    for result in refused {
        let status = result.expect_err("refused");
        assert_eq!(imagestore::wire::status::kind(&status), Kind::Forbidden, "{status}");
    }
}
