//! The table finds the right routes, and agrees with the README and the descriptor.

use std::collections::BTreeSet;

use super::*;
use crate::rest::path;

fn route(line: &str) -> Result<(&'static Route, PathParameters), Error> {
    let (method, path) = line.split_once(' ').expect("a verb and a path");
    let method = method.parse().expect("a verb");
    find(&method, &path::parse(path).expect("a path").expect("below the prefix"))
}

#[track_caller]
fn check(line: &str, rpcs: &[&str], path: &str) {
    let (route, parameters) = route(line).expect(line);
    let expected = PathParameters { path: path.to_owned(), id: String::new() };
    assert_eq!((route.rpcs, parameters), (rpcs, expected), "{line}");
}

#[test]
fn the_thirteen_calls_of_upstream() {
    check("GET /ImageStore", &["List", "Stat"], "");
    check("GET /ImageStore/", &["List", "Stat"], "");
    check("GET /ImageStore/a/b", &["List", "Stat"], "a/b");
    check("PUT /ImageStore/a/b", &["Upload"], "a/b");
    check("DELETE /ImageStore/a%2Fb", &["Delete"], "a/b");
    check("POST /ImageStore/$/Copy", &["Copy"], "");
    check("POST /ImageStore/%24/Copy/", &["Copy"], "");
    check("PUT /ImageStore/a/b/$/UploadChunk", &["UploadChunk"], "a/b");
    check("GET /ImageStore/$/GetUploadSession", &["GetUploadSession"], "");
    check("GET /ImageStore/a/b/$/GetUploadSession", &["ListUploadSessions"], "a/b");
    check("DELETE /ImageStore/$/DeleteUploadSession", &["DeleteUploadSession"], "");
    check("POST /ImageStore/$/CommitUploadSession", &["CommitUploadSession"], "");
    check("GET /ImageStore/$/FolderSize", &["Stat"], "");
    check("GET /ImageStore/a/b/$/FolderSize", &["Stat"], "a/b");
    check("GET /ImageStore/$/Info", &["GetStoreInfo"], "");
}

#[test]
fn the_further_calls() {
    let ids = |line, rpcs: &[&str]| {
        let (route, parameters) = route(line).expect(line);
        let expected = PathParameters { path: String::new(), id: "7".to_owned() };
        assert_eq!((route.rpcs, parameters), (rpcs, expected), "{line}");
    };
    check("GET /ImageStore/a/$/Content", &["Download", "Stat"], "a");
    check("HEAD /ImageStore/a/$/Content", &["Download", "Stat"], "a");
    check("POST /ImageStore/a/$/CreateLink", &["CreateLink"], "a");
    check("GET /Packages/a/b.sfpkg", &["DownloadPackage"], "a/b.sfpkg");
    check("HEAD /Packages/a.zip", &["DownloadPackage"], "a.zip");
    check("GET /ImageStore/$/Operations", &["ListOperations", "WatchOperations"], "");
    ids("GET /ImageStore/$/Operations/7", &["GetOperation", "WatchOperation"]);
    ids("POST /ImageStore/$/Operations/7/$/Cancel", &["CancelOperation"]);
}

#[test]
fn everything_else_is_refused() {
    for line in [
        "PUT /ImageStore",
        "DELETE /ImageStore",
        "POST /ImageStore",
        "HEAD /ImageStore",
        "HEAD /ImageStore/a",
        "POST /ImageStore/a",
        "PATCH /ImageStore/a",
        "OPTIONS /ImageStore/$/Copy",
        "GET /ImageStore/$/Copy",
        "PUT /ImageStore/$/Copy",
        "POST /ImageStore/$/copy",
        "POST /ImageStore/a/$/Copy",
        "POST /ImageStore/$/Copy/x",
        "PUT /ImageStore/$/UploadChunk",
        "GET /ImageStore/a/$",
        "GET /ImageStore/$",
        "GET /ImageStore/a/$/b",
        "GET /ImageStore/$/Content",
        "GET /ImageStore/a/$/Info",
        "POST /ImageStore/$/Operations/7",
        "POST /ImageStore/$/Operations/7/Cancel",
        "GET /Packages",
        "PUT /Packages/a.zip",
        "POST /Packages/$/Copy",
        "GET /Packages/a/$/Content",
    ] {
        let error = route(line).expect_err(line);
        assert!(error.message().starts_with("there is no call '"), "{line}: {error}");
    }
}

#[test]
fn a_path_has_its_verbs() {
    let verbs = |raw| allowed(&path::parse(raw).expect("a path").expect("below the prefix"));
    for (raw, expected) in [
        ("/ImageStore", (vec!["GET"], true)),
        ("/ImageStore/a", (vec!["GET", "PUT", "DELETE"], true)),
        ("/ImageStore/$/Copy", (vec!["POST"], true)),
        ("/ImageStore/a/$/Content", (vec!["GET", "HEAD"], false)),
        ("/ImageStore/$/Operations/7/$/Cancel", (vec!["POST"], false)),
        ("/ImageStore/$/Nothing", (vec![], false)),
        ("/Packages/a.zip", (vec!["GET", "HEAD"], false)),
    ] {
        assert_eq!(verbs(raw), expected, "{raw}");
    }
}

#[test]
fn only_upstreams_calls_need_a_version() {
    assert!(route("GET /ImageStore").expect("a call").0.is_documented());
    assert!(!route("GET /ImageStore/$/Operations").expect("a call").0.is_documented());
}

/// The rpcs that REST does not have: they stream both ways, or are for operators.
const WITHOUT_ROUTE: [&str; 9] = [
    "Backup",
    "Check",
    "CreateToken",
    "GetCaller",
    "ListTokens",
    "Restore",
    "RevokeToken",
    "RotateLinkKey",
    "RotateToken",
];

#[test]
fn every_rpc_has_a_route_or_is_named_as_one_without() {
    let rpcs = crate::wire::rpc::rpcs(&[crate::wire::DESCRIPTOR]).expect("a descriptor");
    let ours = rpcs.keys().filter_map(|path| path.strip_prefix("/imagestore.v1.ImageStore/"));
    let ours: BTreeSet<&str> = ours.collect();
    let routed = ROUTES.iter().flat_map(|row| row.rpcs).copied();
    assert_eq!(ours, routed.chain(WITHOUT_ROUTE).collect());
}

#[test]
fn every_route_and_every_rpc_is_in_the_readme() {
    let readme = include_str!("../../../README.md");
    for row in ROUTES {
        let paths: &[&str] = match row.names {
            PathParameter::Nothing => &["/ImageStore"],
            PathParameter::Path => &["/ImageStore/{path}"],
            PathParameter::PathOrRoot => &["/ImageStore", "/ImageStore/{path}"],
            PathParameter::Package => &["/Packages/{path}.sfpkg", "/Packages/{path}.zip"],
        };
        for path in paths {
            let call: String = row.call.iter().map(|segment| format!("/{segment}")).collect();
            let verb = row.verbs.last().expect("a verb");
            let line = format!("`{verb} {path}{call}");
            let is_there = readme.match_indices(&line).any(|(at, _)| {
                readme.get(at + line.len()..).is_some_and(|rest| rest.starts_with(['`', '?']))
            });
            assert!(is_there, "the README has no {line}`");
        }
        for verb in row.verbs {
            assert!(VERBS.contains(verb), "{verb}");
        }
    }
    for rpc in ROUTES.iter().flat_map(|row| row.rpcs).chain(&WITHOUT_ROUTE) {
        assert!(readme.contains(&format!("`{rpc}`")), "the README has no `{rpc}`");
    }
}
