//! `SkipFiles`: names of files that a copy leaves out.

use imagestore::{error::Kind, limits::SKIP_FILES_MAX};

use crate::{
    copy::{check, check_refused},
    harness::{Pair, Server, both, copy, fill, tree},
};

#[tokio::test]
async fn a_name_is_left_out_at_every_depth() {
    let pair = Pair::start().await;
    let given = "a/x=1 a/y=2 a/s/x=3 a/s/t/x=4 a/s/t/z=5";
    let then = format!("{given} b/y=2 b/s/t/z=5");
    check(&pair, given, copy("a", "b").skip(&["x"]), Ok(()), &then).await;
    check(&pair, given, copy("a", "b").skip(&["x", "x", "no"]), Ok(()), &then).await;
    check(&pair, given, copy("a", "b").skip(&["x"]).verify(), Ok(()), &then).await;
    check(&pair, given, copy("a", "b").skip(&["x", "Y"]), Ok(()), &format!("{given} b/s/t/z=5"))
        .await;
}

#[tokio::test]
async fn names_are_compared_without_case() {
    let pair = Pair::start().await;
    let given = "a/Read.ME=1 a/s/read.me=2 a/ÄÖ=3 a/ΣΑΣ=4 a/k=5";
    let then = format!("{given} b/k=5");
    check(&pair, given, copy("a", "b").skip(&["READ.me", "äö", "σας"]), Ok(()), &then).await;
    // The case folding of the Kelvin sign is `k`.
    let left = format!("{given} b/Read.ME=1 b/s/read.me=2 b/ÄÖ=3 b/ΣΑΣ=4");
    check(&pair, given, copy("a", "b").skip(&["\u{212a}"]), Ok(()), &left).await;
}

#[tokio::test]
async fn only_whole_names_of_files_match() {
    let pair = Pair::start().await;
    let given = "a/x=1 a/s/x.txt=2 a/sub/y=3";
    let then = format!("{given} b/x=1 b/s/x.txt=2 b/sub/y=3");
    for name in ["s", "sub", "s/x.txt", "s\\x.txt", "x.", "*", "x*", "", " x", "a/x"] {
        check(&pair, given, copy("a", "b").skip(&[name]), Ok(()), &then).await;
    }
}

#[tokio::test]
async fn the_mark_of_the_source_itself_is_never_left_out() {
    let pair = Pair::start().await;
    let given = "a/_.dir a/f=1 a/s/_.dir a/s/g=2 a/t/_.dir";
    let then = format!("{given} b/_.dir b/f=1 b/s/g=2");
    check(&pair, given, copy("a", "b").skip(&["_.dir"]), Ok(()), &then).await;
    check(&pair, given, copy("a", "b").skip(&["_.DIR"]).checked(), Ok(()), &then).await;
    // A name in another case is no mark file.
    let other = "a/_.DIR a/f=1";
    check(&pair, other, copy("a", "b").skip(&["_.dir"]), Ok(()), "a/_.DIR a/f=1 b/f=1").await;
}

#[tokio::test]
async fn the_list_is_ignored_where_the_source_is_a_file() {
    let pair = Pair::start().await;
    check(&pair, "a=1", copy("a", "b").skip(&["a", ""]), Ok(()), "a=1 b=1").await;
    check(&pair, "a=1 b=2", copy("a", "b").skip(&["a"]).keep(), Ok(()), "a=1 b=2").await;
}

#[tokio::test]
async fn where_nothing_is_left_the_destination_stays() {
    let pair = Pair::start().await;
    let given = "a/x=1 a/s/X=2 b/old=3";
    check_refused(&pair, given, copy("a", "b").skip(&["x"]), Kind::FileNotFound, "skip_files")
        .await;
    check_refused(&pair, given, copy("a", "c").skip(&["x"]), Kind::FileNotFound, "skip_files")
        .await;
    // The mark file alone is enough for a copy.
    let marked = "a/_.dir a/x=1 b/old=3";
    let then = "a/_.dir a/x=1 b/_.dir";
    check(&pair, marked, copy("a", "b").skip(&["x"]), Ok(()), then).await;
}

#[tokio::test]
async fn skipped_files_of_the_destination_are_gone() {
    let pair = Pair::start().await;
    let then = "a/x=1 a/y=2 b/y=2";
    check(&pair, "a/x=1 a/y=2 b/x=9 b/z=9", copy("a", "b").skip(&["x"]), Ok(()), then).await;
}

#[tokio::test]
async fn a_kept_destination_needs_no_filter() {
    let pair = Pair::start().await;
    let given = "a/x=1 a/_.dir b/z=3";
    check(&pair, given, copy("a", "b").skip(&["x"]).keep(), Ok(()), given).await;
    let then = "a/x=1 a/_.dir b/_.dir";
    check(&pair, given, copy("a", "b").skip(&["x"]).keep().checked(), Ok(()), then).await;
}

#[tokio::test]
async fn a_folder_that_occurs_twice_is_filtered_twice() {
    let ((), left) = both(async |store| {
        fill(store, "a/1/x=1 a/1/y=2").await;
        store.copy(&copy("a/1", "a/2")).await.expect("copied");
        store.copy(&copy("a", "b").skip(&["x"])).await.expect("copied");
    })
    .await;
    assert_eq!(left, "a/1/x=1 a/1/y=2 a/2/x=1 a/2/y=2 b/1/y=2 b/2/y=2");
}

#[tokio::test]
async fn names_that_left_nothing_out_are_told() {
    let (told, _) = both(async |store| {
        fill(store, "a/_.dir a/f=1 a/s/Read.ME=2 a/s/t/x=3 file=4 kept=5").await;
        let mut told = Vec::new();
        let mut done = async |ask: crate::harness::Copy| {
            let id = format!("0190a9f0-1234-7abc-8def-{:012x}", told.len());
            store.copy(&ask.id(&id)).await.expect("copied");
            told.push(store.copy_result(&id).await.expect("an operation").skip_files_unmatched);
        };
        done(copy("a", "b")).await;
        done(copy("a", "b").skip(&["x", "read.me"])).await;
        done(copy("a", "b").skip(&["X", "*.dll", "Notes.TX", "s", "s/x", "", "a\u{1}b"])).await;
        done(copy("a", "b").skip(&["x", "no"]).verify()).await;
        done(copy("a", "b").skip(&["no", "No"]).verify()).await;
        // The mark file of the source is copied, although the list has its name.
        done(copy("a", "b").skip(&["_.dir"])).await;
        // The list is ignored for a single file.
        done(copy("file", "b").skip(&["file", "no"])).await;
        done(copy("file", "c").skip(&["file"]).verify()).await;
        // These copies copy nothing.
        done(copy("a", "kept").skip(&["no"]).keep()).await;
        done(copy("a", "a").skip(&["no"])).await;
        told
    })
    .await;
    let expected: [&[&str]; 10] = [
        &[],
        &[],
        &["", "*.dll", "a\u{fffd}b", "Notes.TX", "s", "s/x"],
        &["no"],
        &["no"],
        &["_.dir"],
        &["file", "no"],
        &["file"],
        &[],
        &[],
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_a_body_may_have_meant_is_told_in_a_warning() {
    let server = Server::start().await;
    server.expect("the body of a copy has unknown keys");
    fill(&server.rest(), "a/x=1 a/y=2").await;
    let target = "/ImageStore/$/Copy?api-version=6.0";
    for (more, headers, warning) in [
        ("", vec![], None),
        (r#","SkipFiles":["x"]"#, vec![], None),
        (
            r#","SkipFiles":["X","no\"\n"]"#,
            vec![],
            Some(r#"no file was left out by SkipFiles: 'no\\\"\\u{fffd}'"#),
        ),
        (
            r#","SkipFile":["x"],"ü":0"#,
            vec![],
            Some(r"unknown keys are ignored: 'SkipFile', '\\u{fc}'"),
        ),
        (
            r#","SkipFile":["x"]"#,
            vec![("Prefer", "respond-async")],
            Some("unknown keys are ignored: 'SkipFile'"),
        ),
        (
            r#","SkipFile":["x"]"#,
            vec![("Accept", "text/event-stream")],
            Some("unknown keys are ignored: 'SkipFile'"),
        ),
    ] {
        let body = format!(r#"{{"RemoteSource":"a","RemoteDestination":"b"{more}}}"#);
        let mut request = server.http().request("POST", target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.body(body.as_bytes()).send().await;
        assert!(answer.status < 300, "{answer:?}");
        let expected = warning.map(|warning| format!("299 - \"{warning}\""));
        assert_eq!(answer.header("warning"), expected.as_deref(), "{body}");
    }
    assert_eq!(tree(&server.rest()).await, "a/x=1 a/y=2 b/x=1 b/y=2");
}

#[tokio::test]
async fn the_list_is_bounded() {
    let pair = Pair::start().await;
    let names = |count| vec!["x"; count];
    check(&pair, "a/f=1", copy("a", "b").skip(&names(SKIP_FILES_MAX)), Ok(()), "a/f=1 b/f=1").await;
    let more = names(SKIP_FILES_MAX + 1);
    check_refused(&pair, "a/f=1", copy("a", "b").skip(&more), Kind::TooLarge, "10001").await;
}
