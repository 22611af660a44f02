//! The change tags of folders, by which clients learn at low cost that a folder has changed.

use imagestore::wire::v1::{ListRequest, StatRequest};

use crate::harness::{Answer, Client, Driver, Http, Server, copy, fill};

const VERSION: &str = "?api-version=6.0";

/// The change tag of a path; checks that `Stat` and `List` return the same.
async fn tag(client: &Client, path: &str) -> String {
    let mut client = client.clone();
    let stat = StatRequest { path: path.to_owned() };
    let stat = client.stat(stat).await.expect(path).into_inner();
    let list = ListRequest { path: path.to_owned(), ..ListRequest::default() };
    let list = client.list(list).await.expect(path).into_inner();
    assert_eq!(stat.change_tag, list.change_tag, "{path}");
    stat.change_tag
}

async fn tags<const N: usize>(client: &Client, paths: [&str; N]) -> [String; N] {
    let mut all = [const { String::new() }; N];
    for (at, path) in paths.iter().enumerate() {
        all[at] = tag(client, path).await;
    }
    all
}

/// The folders whose tags differ from those in `before`, which gets the new tags.
async fn changed<'a, const N: usize>(
    client: &Client,
    paths: [&'a str; N],
    before: &mut [String; N],
) -> Vec<&'a str> {
    let now = tags(client, paths).await;
    let differ = |(index, path): (usize, &'a str)| (now[index] != before[index]).then_some(path);
    let changed = paths.into_iter().enumerate().filter_map(differ).collect();
    *before = now;
    changed
}

async fn list(http: Http, path: &str, version: &str, known: &str) -> Answer {
    let request = http.request("GET", &format!("/ImageStore{path}{version}"));
    request.header("If-None-Match", known).send().await
}

#[tokio::test]
async fn a_tag_changes_with_every_write_below_and_with_no_other() {
    let server = Server::start().await;
    let (client, store) = (server.client().await, server.grpc().await);
    fill(&store, "a/x/f=1 a/y/f=1 b/f=1").await;
    let paths = ["", "a", "a/x", "a/y", "b"];
    let mut before = tags(&client, paths).await;
    let distinct: std::collections::BTreeSet<&String> = before.iter().collect();
    assert_eq!(distinct.len(), paths.len(), "{before:?}");

    store.upload("a/x/f", b"2").await.expect("the same size");
    assert_eq!(changed(&client, paths, &mut before).await, ["", "a", "a/x"]);
    store.upload("b/new", b"").await.expect("stored");
    assert_eq!(changed(&client, paths, &mut before).await, ["", "b"]);
    store.delete("a/y/none").await.expect("nothing");
    store.list("a").await.expect("a listing");
    assert_eq!(changed(&client, paths, &mut before).await, [""; 0]);

    // Both paths refer to one folder, until one of them is written to.
    store.copy(&copy("a", "b/a")).await.expect("copied");
    assert_eq!(changed(&client, paths, &mut before).await, ["", "b"]);
    assert_eq!(tag(&client, "b/a").await, before[1]);
    let (mut copied, mut inside) = (tags(&client, ["b/a"]).await, tags(&client, ["b/a/x"]).await);
    store.upload("a/x/new", b"").await.expect("stored");
    assert_eq!(changed(&client, paths, &mut before).await, ["", "a", "a/x"]);
    assert_eq!(changed(&client, ["b/a"], &mut copied).await, [""; 0]);
    store.delete("b/a/x/f").await.expect("deleted");
    assert_eq!(changed(&client, ["b/a"], &mut copied).await, ["b/a"]);
    assert!(
        changed(&client, ["a", "a/x"], &mut [before[1].clone(), before[2].clone()])
            .await
            .is_empty()
    );
    store.upload("b/a/x/f", b"1").await.expect("made anew");
    assert_eq!(changed(&client, ["b/a/x"], &mut inside).await, ["b/a/x"]);
}

#[tokio::test]
async fn a_folder_that_is_made_anew_has_a_tag_of_its_own() {
    let server = Server::start().await;
    let (client, store) = (server.client().await, server.grpc().await);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..3 {
        fill(&store, "a/f=1 b/f=1").await;
        assert!(seen.insert(tag(&client, "a").await), "made, round {round}");
        store.copy(&copy("b", "a")).await.expect("replaced");
        assert!(seen.insert(tag(&client, "a").await), "replaced, round {round}");
        assert!(seen.insert(tag(&client, "").await), "the root, round {round}");
        store.delete("a").await.expect("deleted");
        store.delete("b").await.expect("deleted");
    }
    assert!(seen.insert(tag(&client, "").await), "the empty root");
}

#[tokio::test]
async fn a_file_has_no_tag_and_a_missing_path_none_either() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    assert_eq!(tag(&server.client().await, "a/f").await, "");
    for known in ["*", "W/\"\"", "\"\""] {
        let answer = list(server.http(), "/a/f", VERSION, known).await;
        assert_eq!((answer.status, answer.header("etag")), (200, None), "{known}");
        assert_eq!(list(server.http(), "/none", VERSION, known).await.status, 404, "{known}");
    }
}

#[tokio::test]
async fn a_listing_that_the_client_has_is_not_sent_again() {
    let server = Server::start().await;
    let (client, store, http) = (server.client().await, server.rest(), server.http());
    fill(&store, "a/x/f=1 b/f=1").await;
    for (path, folder) in [("", ""), ("/a", "a"), ("/a%2Fx", "a/x")] {
        for version in [VERSION, "?api-version=1.0", "?api-version=6.0&ContinuationToken=b"] {
            if version.contains("Token") && !path.is_empty() {
                continue;
            }
            let whole = http.get(&format!("/ImageStore{path}{version}")).await;
            let tag = whole.header("etag").expect("a tag");
            assert_eq!(tag, format!("W/\"{}\"", self::tag(&client, folder).await));
            for known in [tag, &format!("\"x\", {tag}"), tag.trim_start_matches("W/"), "*"] {
                let answer = list(http, path, version, known).await;
                assert_eq!((answer.status, answer.text().as_str()), (304, ""), "{known}");
                assert_eq!(answer.header("etag"), Some(tag));
                assert_eq!(answer.header("cache-control"), Some("no-store"));
            }
            let answer = list(http, path, version, "\"x\"").await;
            assert_eq!((answer.status, &answer.body), (200, &whole.body));
        }
    }
    let before = http.get(&format!("/ImageStore/a{VERSION}")).await;
    store.upload("a/x/f", b"12").await.expect("stored");
    let after = list(http, "/a", VERSION, before.header("etag").expect("a tag")).await;
    assert_eq!(after.status, 200);
    assert_ne!(after.header("etag"), before.header("etag"));
    // A change tag is no condition of a write: a folder has no entity tag.
    let tag = after.header("etag").expect("a tag").to_owned();
    let refused =
        http.request("DELETE", &format!("/ImageStore/a{VERSION}")).header("If-Match", &tag);
    assert_eq!(refused.send().await.status, 412);
}

#[tokio::test]
async fn a_tag_outlives_a_restart() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    let before = tags(&server.client().await, ["", "a"]).await;
    let server = server.restart().await;
    assert_eq!(tags(&server.client().await, ["", "a"]).await, before);
}
