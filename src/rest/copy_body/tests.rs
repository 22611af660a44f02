//! The accepted and refused forms of the body of a copy.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(body: &str, source: &str, destination: &str) -> CopyRequest {
    let read = parse(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
    let request = read.request;
    assert_eq!((&*request.source, &*request.destination), (source, destination), "{body}");
    request
}

#[track_caller]
fn refused(body: &[u8], message: &str) {
    let shown = String::from_utf8_lossy(body);
    let error = parse(body).expect_err(&shown);
    assert_eq!(error.kind(), Kind::InvalidArgument, "{shown}");
    assert!(error.message().contains(message), "{shown}: {error}");
}

/// A body with these unescaped texts as its two paths.
fn paths(source: &str, destination: &str) -> String {
    format!(r#"{{"RemoteSource":"{source}","RemoteDestination":"{destination}"}}"#)
}

#[test]
fn the_documented_sample_works_as_it_is_printed() {
    let sample = r#"{"RemoteSource":"CalcAppV1\CalcService\Data","RemoteDestination":"CalcAppV3\CalcService\Data","SkipFiles":[],"CheckMarkFile":true}"#;
    let request = check(sample, r"CalcAppV1\CalcService\Data", r"CalcAppV3\CalcService\Data");
    assert!(request.check_mark_file && request.skip_files.is_empty());
    assert_eq!(request.if_exists(), IfExists::Overwrite);
}

#[test]
fn the_documented_schema_works_with_values_filled_in() {
    let schema = "{\r\n  \" RemoteSource\":\"a\",\r\n  \" RemoteDestination\" : \"b\",\n \
                  \"SkipFiles \":[\"x\"],\n  \" CheckMarkFile\":true,\n}";
    let request = check(schema, "a", "b");
    assert!(request.check_mark_file);
    assert_eq!(request.skip_files, ["x"]);
}

#[test]
fn proper_json_means_what_json_says() {
    check(&paths(r"a\\b", r"c\/d"), r"a\b", "c/d");
    check(&paths(r"\u0061\u005cb", "ä\u{1F600}"), r"a\b", "ä😀");
    check(&paths(r"\ud83d\ude00", "b"), "😀", "b");
    check(&paths(r#"a\"b"#, "c"), "a\"b", "c");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_body() {
    check(&format!("\u{feff}{}", paths("a", "b")), "a", "b");
    check(&format!("\u{feff} {}", paths(r"a\b", "c")), r"a\b", "c");
}

#[test]
fn single_backslashes_are_separators() {
    check(&paths(r"App\Data", r"b\\c"), r"App\Data", r"b\\c");
    check(&paths(r"App\tools\new\bin\font\rel", "b"), r"App\tools\new\bin\font\rel", "b");
    check(&paths(r"a\\b", r"c\tools"), r"a\\b", r"c\tools");
    check(&paths(r"App\users\v1", "b"), r"App\users\v1", "b");
    check(&paths(r"App\u12", "b"), r"App\u12", "b");
    check(&paths(r"a\.b\", r"c\d\"), r"a\.b\", r"c\d\");
    check(&paths(r"v1\", "v2"), r"v1\", "v2");
    check(&paths(r"a\c\u0041b", "d"), r"a\cAb", "d");
    check(&paths(r"a\c\ud83d\ude00b\ud83d\ude00", "d"), "a\\c😀b😀", "d");
}

#[test]
fn a_unicode_escape_always_is_one() {
    check(&paths(r"a\u0001b", "c"), "a\u{1}b", "c");
    check(&paths(r"a\u0009b", "c"), "a\tb", "c");
    for lone in [r"a\udead", r"a\ud83d", r"a\ud83dx\ude00", r"a\c\ud83d\u0041", r"\ud83d\u12"] {
        refused(paths(lone, "c").as_bytes(), "at byte");
    }
}

#[test]
fn only_the_two_paths_are_read_twice() {
    let with = |value: &str| format!(r#"{{"RemoteSource":"a\b","RemoteDestination":"c",{value}}}"#);
    refused(with(r#""SkipFiles":["a\c.txt"]"#).as_bytes(), "at byte");
    refused(with(r#""Unknown":"\q""#).as_bytes(), "at byte");
    let request = check(&with(r#""SkipFiles":["a\tb","c\\d"]"#), r"a\b", "c");
    assert_eq!(request.skip_files, ["a\tb", r"c\d"]);
}

#[test]
fn unknown_keys_and_what_follows_are_ignored() {
    check(
        r#" {"x":[1,{"y":"}"}],"remoteSource":"no","RemoteSource":"a","RemoteDestination":"b"} }{"#,
        "a",
        "b",
    );
}

#[test]
fn unknown_keys_are_told() {
    let keys = |body: &str| parse(body.as_bytes()).expect(body).unknown_keys;
    let body = |more: &str| format!(r#"{{"RemoteSource":"a","RemoteDestination":"b"{more}}}"#);
    assert_eq!(keys(&body(r#","SkipFiles ":[],"Verify":true"#)), Vec::<String>::new());
    assert_eq!(keys(&body(r#","SkipFile":["x"],"skipFiles":[1]"#)), ["SkipFile", "skipFiles"]);
    // A body that is parsed twice has each unknown key once.
    let twice = r#"{"Odd":1,"RemoteSource":"a\b\.c\d","RemoteDestination":"b"}"#;
    assert_eq!(keys(&twice.replace("\\\\", "\\")), ["Odd"]);
    let many: String = (0..1000).map(|key| format!(r#","{key:0100}":0"#)).collect();
    let many = keys(&body(&many));
    assert_eq!(many.len(), UNKNOWN_KEYS_MAX);
    assert!(many.iter().all(|key| key.len() == UNKNOWN_KEY_CHARS));
    refused(
        br#"{"remoteSource":"a"}"#,
        "no RemoteSource; give a path (unknown keys: 'remoteSource')",
    );
}

#[test]
fn repeated_keys() {
    let body = r#"{"RemoteSource":"x","RemoteSource":"a","RemoteDestination":"b",
        "SkipFiles":["1"],"SkipFiles":null,"SkipFiles":["2",3],
        "CheckMarkFile":true,"CheckMarkFile":null,"CopyFlag":1,"CopyFlag":null}"#;
    let request = check(body, "a", "b");
    assert_eq!(request.skip_files, ["1", "2", "3"]);
    assert!(!request.check_mark_file);
    assert_eq!(request.if_exists(), IfExists::Overwrite);
}

#[test]
fn too_many_names_are_refused_while_they_are_read() {
    let body = |lists: &[usize]| {
        let list = |&count: &usize| format!(r#","SkipFiles":[{}]"#, vec!["1"; count].join(","));
        let lists: String = lists.iter().map(list).collect();
        format!(r#"{{"RemoteSource":"a","RemoteDestination":"b"{lists}}}"#)
    };
    let request = check(&body(&[SKIP_FILES_MAX / 2, SKIP_FILES_MAX / 2]), "a", "b");
    assert_eq!(request.skip_files.len(), SKIP_FILES_MAX);
    for lists in [&[SKIP_FILES_MAX + 1][..], &[SKIP_FILES_MAX, 1], &[2_000_000]] {
        let error = parse(body(lists).as_bytes()).expect_err("too many");
        assert_eq!(error.kind(), Kind::TooLarge);
        assert!(error.message().contains(&lists.iter().sum::<usize>().to_string()), "{error}");
    }
}

#[test]
fn names_of_too_many_bytes_are_refused() {
    let body = |bytes: usize| {
        let name = "n".repeat(bytes / 2);
        format!(
            r#"{{"RemoteSource":"a","RemoteDestination":"b","SkipFiles":["{name}"],"SkipFiles":["{name}"]}}"#
        )
    };
    let request = check(&body(SKIP_FILES_BYTES_MAX), "a", "b");
    assert_eq!(request.skip_files.concat().len(), SKIP_FILES_BYTES_MAX);
    let error = parse(body(SKIP_FILES_BYTES_MAX + 2).as_bytes()).expect_err("too many");
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.message().contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn a_value_is_told_as_it_stands_in_the_body() {
    refused(br#"{"CopyFlag":  [ 1,{"a" :2}] }"#, r#"CopyFlag is [ 1,{\"a\" :2}]; give"#);
    refused(br#"{"SkipFiles":[ "a" , {} ] }"#, "an element of SkipFiles is {}; give a string");
    let long = format!(r#"{{"Verify":"{}"}}"#, "x".repeat(100));
    refused(long.as_bytes(), &format!(r#"Verify is \"{}; give"#, "x".repeat(SNIPPET_BYTES - 1)));
    refused(br#"{"SkipFiles":["a" "b"]}"#, "not ',' or ']'");
    refused(br#"{"SkipFiles":["a""#, "its end at byte 17");
    refused(br#"{"SkipFiles":{"a""#, "not a JSON value");
}

#[test]
fn numbers_count_as_strings() {
    check(r#"{"RemoteSource":1,"RemoteDestination":2.5}"#, "1", "2.5");
}

#[test]
fn the_extra_keys() {
    let id = "0190a9f0-0000-7000-8000-000000000001";
    let body = format!(
        r#"{{"RemoteSource":"a","RemoteDestination":"b","Verify":true,"OperationId":"{id}"}}"#
    );
    let request = check(&body, "a", "b");
    assert!(request.verify);
    assert_eq!(request.operation_id, id);
    assert!(!request.detached);
}

#[test]
fn copy_flags() {
    let body =
        |flag: &str| format!(r#"{{"RemoteSource":"a","RemoteDestination":"b","CopyFlag":{flag}}}"#);
    for (flag, expected) in [
        ("2", IfExists::Overwrite),
        (r#""2""#, IfExists::Overwrite),
        (r#""Overwrite""#, IfExists::Overwrite),
        ("null", IfExists::Overwrite),
        ("0", IfExists::Keep),
        ("1", IfExists::Keep),
        ("-7", IfExists::Keep),
        (r#""1""#, IfExists::Keep),
        (r#""Echo""#, IfExists::Keep),
        (r#""Invalid""#, IfExists::Keep),
        (r#""ReplaceSameKind""#, IfExists::ReplaceSameKind),
    ] {
        assert_eq!(check(&body(flag), "a", "b").if_exists(), expected, "{flag}");
    }
    for flag in [r#""echo""#, r#""""#, "true", "[]", "{}", "1.5"] {
        refused(body(flag).as_bytes(), "CopyFlag is");
    }
}

#[test]
fn malformed_bodies_are_refused() {
    refused(b"", "its end at byte 0");
    refused(b"\xef\xbb\xbf[]", "at byte 3");
    refused(b"\xef\xbb\xbf\xef\xbb\xbf{}", "at byte 3");
    refused(b"\xef\xbb{}", "at byte 0");
    refused(b"[]", "at byte 0");
    refused(b"null", "at byte 0");
    refused(b"{", "at byte 1");
    refused(b"{,}", "at byte 1");
    refused(b"{\"RemoteSource\"}", "not ':'");
    refused(b"{\"RemoteSource\":}", "at byte 16");
    refused(b"{\"RemoteSource\":\"a\" \"x\"}", "not ',' or '}'");
    refused(b"{\"RemoteSource\":\"\xff\"}", "at byte 16");
    refused(b"{RemoteSource:1}", "at byte 1");
    refused(b"{}", "no RemoteSource");
    refused(br#"{"RemoteSource":"a"}"#, "no RemoteDestination");
    refused(br#"{"RemoteDestination":"a"}"#, "no RemoteSource");
    refused(br#"{"RemoteSource":"","RemoteDestination":"a"}"#, "no RemoteSource");
    refused(br#"{"RemoteSource":null,"RemoteDestination":"a"}"#, "no RemoteSource");
    refused(br#"{"RemoteSource":["a"],"RemoteDestination":"a"}"#, "RemoteSource is [");
    refused(br#"{"RemoteSource":true}"#, "RemoteSource is true");
    for flag in ["\"true\"", "0", "1", "[]", "TRUE"] {
        refused(format!(r#"{{"CheckMarkFile":{flag}}}"#).as_bytes(), "");
        refused(format!(r#"{{"Verify":{flag}}}"#).as_bytes(), "");
    }
    refused(br#"{"SkipFiles":[null]}"#, "SkipFiles has null");
    refused(br#"{"SkipFiles":"a"}"#, "SkipFiles has");
    refused(br#"{"SkipFiles":[["a"]]}"#, "an element of SkipFiles is [");
    refused(br#"{"SkipFiles":["a",]}"#, "at byte");
    refused(br#"{"OperationId":{}}"#, "OperationId is {");
}

proptest! {
    #[test]
    fn no_body_panics(body: Vec<u8>) {
        drop(parse(&body));
    }

    #[test]
    fn no_path_panics(source in ".*", destination in "([a-z\\\\\"]|\\\\u[0-9a-f]{1,5}|ü)*") {
        drop(parse(paths(&source, &destination).as_bytes()));
    }

    #[test]
    fn a_proper_body_means_what_json_says(source in "[^\\x00-\\x1f]+", destination in "[^\\x00-\\x1f]+") {
        let body = serde_json::json!({"RemoteSource": source, "RemoteDestination": destination});
        let request = parse(body.to_string().as_bytes()).expect("a proper body").request;
        prop_assert_eq!((request.source, request.destination), (source, destination));
    }
}
