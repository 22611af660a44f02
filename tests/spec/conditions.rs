//! Conditional writes over both interfaces: a write happens only if its conditions hold for the path.

use imagestore::error::Kind;

use crate::harness::{Driver, Gate, Outcome, Pair, Preconditions, Server, both, copy, fill, of};

const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";
const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
/// An entity tag that no file has.
const NO_TAG: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Times in 2001 and in 2100, in seconds since 1970.
const EARLY: i64 = 1_000_000_000;
const LATE: i64 = 4_102_444_800;

/// The results of every kind of write to a file `f` under a condition, where the file exists and where it
/// does not.
async fn every_write(store: &dyn Driver, when: &Preconditions) -> Vec<Result<(), Kind>> {
    let mut told = Vec::new();
    for is_there in [true, false] {
        for write in ["put", "copy", "filtered", "verified", "commit", "delete"] {
            store.delete("f").await.expect("deleted");
            fill(store, "source=copied folder/a=1 folder/b=2").await;
            if is_there {
                fill(store, "f=old").await;
            }
            let from = |source: &str| copy(source, "f").when(when);
            told.push(of(match write {
                "put" => store.upload_if("f", b"new", when).await,
                "copy" => store.copy(&from("source")).await,
                "filtered" => store.copy(&from("folder").skip(&["b"])).await,
                "verified" => store.copy(&from("folder").verify()).await,
                "commit" => {
                    let id = uuid::Uuid::new_v4().to_string();
                    store.chunk(&id, "f", (0, 3), b"new").await.expect("stored");
                    store.commit_if(&id, when).await
                }
                _ => store.delete_if("f", when).await,
            }));
            let is_old = store.download("f").await.is_ok_and(|bytes| bytes == b"old");
            let is_as_before = if is_there { is_old } else { store.list("f").await.is_err() };
            // A delete of nothing changes nothing either.
            let changes = told.last() == Some(&Ok(())) && (is_there || write != "delete");
            assert_eq!(is_as_before, !changes, "{write} {when:?} {is_there}");
        }
    }
    told
}

/// The expected results: six writes onto a file and six onto nothing, with whether the condition holds for
/// each six.
fn verdicts(holds: [bool; 2]) -> Vec<Result<(), Kind>> {
    let verdict = |holds| if holds { Ok(()) } else { Err(Kind::PreconditionFailed) };
    holds.map(|holds| [verdict(holds); 6]).concat()
}

#[tokio::test]
async fn a_write_happens_only_where_its_conditions_hold() {
    let pair = Pair::start().await;
    // Equal bytes have equal tags in every store.
    let old = async |store: &dyn Driver| {
        fill(store, "f=old").await;
        store.etag("f").await.expect("a tag")
    };
    let (tag, _) = pair.run(old).await;
    for (when, onto_file, onto_nothing) in [
        (Preconditions::matches(&["*"]), true, false),
        (Preconditions::matches(&[&tag]), true, false),
        (Preconditions::matches(&[NO_TAG, &tag]), true, false),
        (Preconditions::matches(&[NO_TAG]), false, false),
        (Preconditions::matches(&["of something else"]), false, false),
        (Preconditions::none_matches(&["*"]), false, true),
        (Preconditions::none_matches(&[&tag]), false, true),
        (Preconditions::none_matches(&[NO_TAG, "x"]), true, true),
        (Preconditions::unmodified_since(LATE), true, true),
        (Preconditions::unmodified_since(EARLY), false, true),
        (
            Preconditions {
                if_none_match: vec![NO_TAG.to_owned()],
                ..Preconditions::matches(&[&tag])
            },
            true,
            false,
        ),
        (
            Preconditions { if_none_match: vec![tag.clone()], ..Preconditions::matches(&[&tag]) },
            false,
            false,
        ),
    ] {
        let (told, _) = pair.run(async |store| every_write(store, &when).await).await;
        assert_eq!(told, verdicts([onto_file, onto_nothing]), "{when:?}");
    }
}

#[tokio::test]
async fn a_folder_is_there_and_has_no_tag_and_no_time() {
    let (told, left) = both(async |store| {
        let mut told = Vec::new();
        for when in [
            Preconditions::matches(&["*"]),
            Preconditions::matches(&[NO_TAG]),
            Preconditions::none_matches(&["*"]),
            Preconditions::none_matches(&[NO_TAG]),
            Preconditions::unmodified_since(LATE),
        ] {
            fill(store, "a/x=1 b/y=2").await;
            told.push((
                of(store.copy(&copy("a", "b").when(&when)).await),
                of(store.delete_if("b", &when).await),
            ));
        }
        // Errors that do not depend on a condition come first.
        told.push((
            of(store.upload_if("a", b"1", &Preconditions::none_matches(&["*"])).await),
            of(store.upload_if("a/x/y", b"1", &Preconditions::matches(&["*"])).await),
        ));
        told
    })
    .await;
    let (yes, no, exists) = (Ok(()), Err(Kind::PreconditionFailed), Err(Kind::AlreadyExists));
    assert_eq!(told, [(yes, yes), (no, no), (no, no), (yes, yes), (no, no), (exists, exists)]);
    assert_eq!(left, "a/x=1 b/y=2");
}

#[tokio::test]
async fn a_copy_that_changes_nothing_has_conditions_as_well() {
    let (told, left) = both(async |store| {
        fill(store, "a=1 b=2").await;
        let none = Preconditions::none_matches(&["*"]);
        let matches = Preconditions::matches(&[NO_TAG]);
        vec![
            of(store.copy(&copy("a", "a").when(&none)).await),
            of(store.copy(&copy("a", "b").keep().when(&none)).await),
            of(store.copy(&copy("a", "b").keep().when(&matches)).await),
            of(store.copy(&copy("a", "b").keep().when(&Preconditions::matches(&["*"]))).await),
        ]
    })
    .await;
    let failed = Err(Kind::PreconditionFailed);
    assert_eq!(told, [failed, failed, failed, Ok(())]);
    assert_eq!(left, "a=1 b=2");
}

#[tokio::test]
async fn what_succeeded_can_be_repeated_under_its_conditions() {
    let (told, left) = both(async |store| {
        fill(store, "a=1").await;
        let when = Preconditions::none_matches(&["*"]);
        let ask = copy("a", "b").id(ID);
        store.chunk(SESSION, "f", (0, 1), b"1").await.expect("stored");
        vec![
            of(store.copy(&ask.clone().when(&when)).await),
            of(store.copy(&ask.clone().when(&when)).await),
            // The conditions are arguments of the operation: other ones with the same id are a conflict.
            of(store.copy(&ask).await),
            of(store.commit_if(SESSION, &when).await),
            of(store.commit_if(SESSION, &when).await),
        ]
    })
    .await;
    assert_eq!(told, [Ok(()), Ok(()), Err(Kind::WriteConflict), Ok(()), Ok(())]);
    assert_eq!(left, "a=1 b=1 f=1");
}

/// Increments the number in a file by conditional uploads. Returns the number of increments that succeeded.
async fn count(store: &dyn Driver, tries: usize) -> u64 {
    let mut counted = 0;
    for _ in 0..tries {
        let tag = store.etag("n").await.expect("a tag");
        let when = Preconditions::matches(&[&tag]);
        let number: u64 = {
            let bytes = store.download("n").await.expect("the bytes");
            String::from_utf8(bytes).expect("text").parse().expect("a number")
        };
        let next = (number + 1).to_string();
        // The write fails if the file has changed between the reads of its tag and of its bytes.
        match of(store.upload_if("n", next.as_bytes(), &when).await) {
            Ok(()) => counted += 1,
            Err(kind) => assert_eq!(kind, Kind::PreconditionFailed),
        }
    }
    counted
}

#[tokio::test]
async fn of_many_who_count_none_is_lost() {
    let server = Server::start().await;
    let (rest, grpc) = (server.rest(), server.grpc().await);
    fill(&rest, "n=0").await;
    let counting = (0..8).map(|one| {
        let store: &dyn Driver = if one % 2 == 0 { &rest } else { &grpc };
        count(store, 10)
    });
    let counted: u64 = futures::future::join_all(counting).await.into_iter().sum();
    let number = rest.download("n").await.expect("the bytes");
    assert_eq!(String::from_utf8(number).expect("text"), counted.to_string());
    assert!(counted >= 10, "{counted}");
}

#[tokio::test]
async fn of_many_who_make_a_file_one_does() {
    let server = Server::start().await;
    let (rest, grpc) = (server.rest(), server.grpc().await);
    fill(&rest, "a=copied").await;
    let when = Preconditions::none_matches(&["*"]);
    let making = (0..12).map(async |one| {
        let bytes = format!("{one}").into_bytes();
        let store: &dyn Driver = if one % 2 == 0 { &rest } else { &grpc };
        match one % 3 {
            0 => store.copy(&copy("a", "f").when(&when)).await,
            _ => store.upload_if("f", &bytes, &when).await,
        }
    });
    let made: Vec<Outcome<()>> = futures::future::join_all(making).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    let failed = made.into_iter().filter_map(Result::err);
    assert!(failed.into_iter().all(|fault| fault.kind == Kind::PreconditionFailed));
}

#[tokio::test]
async fn a_condition_that_breaks_while_a_copy_runs_fails_it() {
    for by_rest in [true, false] {
        let gate = Gate::new();
        let server = Server::start_behind(&gate).await;
        let (rest, grpc) = (server.rest(), server.grpc().await);
        let store: &dyn Driver = if by_rest { &rest } else { &grpc };
        rest.upload("a/f", &b"0123456789".repeat(5_000)).await.expect("stored");
        fill(&rest, "b=old").await;
        let when = Preconditions::matches(&[&rest.etag("b").await.expect("a tag")]);
        gate.close();
        let ask = copy("a", "b").verify().id(ID).when(&when);
        let mut begun = server
            .client()
            .await
            .watch_operations(imagestore::wire::v1::WatchOperationsRequest::default())
            .await
            .expect("a watch")
            .into_inner();
        let meanwhile = async {
            begun.message().await.expect("a change").expect("it begins");
            rest.upload("b", b"new").await.expect("stored");
            gate.open();
        };
        let (copied, ()) = tokio::join!(store.copy(&ask), meanwhile);
        let fault = copied.expect_err("the condition is broken");
        assert_eq!(fault.kind, Kind::PreconditionFailed);
        assert!(fault.message.starts_with("if_match does not hold: \"b\" has"), "{fault:?}");
        assert_eq!(rest.download("b").await.expect("the bytes"), b"new");
        let state = rest.operation(ID).await.expect("an operation");
        assert!(state.starts_with("Copy Failed "), "{state}");
    }
}

#[tokio::test]
async fn every_line_of_a_condition_counts_and_its_form_is_looked_at() {
    let server = Server::start().await;
    let store = server.rest();
    fill(&store, "f=1").await;
    let tag = format!("\"{}\"", store.etag("f").await.expect("a tag"));
    let weak = format!("W/{tag}");
    let target = "/ImageStore/f?api-version=6.0";
    let put = async |lines: &[(&str, &str)]| {
        let request = server.http().request("PUT", target);
        let request =
            lines.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(b"1").send().await
    };
    for lines in [
        &[("If-Match", "\"x\""), ("If-Match", tag.as_str())][..],
        &[("If-Match", &format!("\"a,b c\" ,, {tag}"))],
        // A date is ignored if there are entity tags.
        &[("If-Match", &tag), ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
        // This condition is only for reads.
        &[("If-Modified-Since", "Sun, 06 Nov 2094 08:49:37 GMT")],
        &[("If-None-Match", "\"*\"")],
    ] {
        assert_eq!(put(lines).await.status, 200, "{lines:?}");
    }
    for lines in [
        &[("If-None-Match", "\"x\""), ("If-None-Match", tag.as_str())][..],
        // If-None-Match compares weakly, so a weak tag matches; If-Match compares strongly, so it does not
        // match.
        &[("If-None-Match", &weak)],
        &[("If-Match", &weak)],
        &[("If-Match", "\"*\"")],
        &[("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
        &[("If-Unmodified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")],
        &[("If-Unmodified-Since", "Sun Nov  6 08:49:37 1994")],
    ] {
        put(lines).await.assert_fault(Kind::PreconditionFailed);
    }
    for lines in [
        &[("If-Match", "")][..],
        &[("If-Match", "x")],
        &[("If-Match", &format!("{tag}, x"))],
        &[("If-None-Match", "*, \"x\"")],
        &[("If-None-Match", "\"x")],
        &[("If-None-Match", "*"), ("If-None-Match", "*")],
        &[("If-Unmodified-Since", "1994-11-06T08:49:37Z")],
        &[("If-Unmodified-Since", "")],
    ] {
        put(lines).await.assert_fault(Kind::InvalidArgument);
    }
    let chunk = format!("/ImageStore/f/$/UploadChunk?api-version=6.0&session-id={SESSION}");
    for name in ["If-Match", "If-None-Match", "If-Unmodified-Since"] {
        let request = server.http().request("PUT", &chunk).header("Content-Range", "bytes 0-0/1");
        let answer = request.header(name, "*").body(b"1").send().await;
        let message = answer.assert_fault(Kind::InvalidArgument);
        assert!(message.contains(&name.to_lowercase()), "{message}");
    }
}
