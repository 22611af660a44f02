//! The grants file: what it gives, and what is refused where.

use super::{ANONYMOUS, Grants, Principal, Role};
use crate::{
    limits::{
        CLAIM_BYTES_MAX, GRANT_CLAIMS_MAX, GRANT_NAMES_MAX, GRANT_PATHS_MAX, GRANTS_BYTES_MAX,
        GRANTS_MAX, ISSUERS_MAX,
    },
    model::StorePath,
};

/// A grant up to its paths.
const GRANT: &str = "[[grant]]\nwho = [\"anonymous\"]\nrole = \"reader\"\n";

fn check(text: &str, expect: &str) {
    let error = Grants::parse(text.as_bytes()).expect_err(text);
    assert_eq!(error.to_string(), expect, "{text:?}");
}

/// A caller with names and claims.
fn caller(names: &[&str], claims: &[(&str, &str)]) -> Principal {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    let claims = claims.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Principal::with_claims(names, claims.collect())
}

/// A list of `count` equal values.
fn list(value: &str, count: usize) -> String {
    format!("[{}]", vec![format!("\"{value}\""); count].join(", "))
}

#[test]
fn a_caller_has_the_sum_of_its_grants() {
    let file = "\
        [[grant]] # for all\n\
        who = ['anonymous', 'anonymous']\n\
        role = 'reader'\n\
        paths = ['CalcApp*', 'Store/Base']\n\
        [[grant]]\r\n\
        who = ['anonymous']\n\
        role = 'writer'\n\
        paths = ['/']\n";
    for text in [file.to_owned(), format!("\u{feff}{file}")] {
        let grants = Grants::parse(text.as_bytes()).expect("grants");
        assert!(!grants.is_empty());
        let rights = grants.rights(&grants.given(&caller(&["x", ANONYMOUS], &[])));
        assert_eq!(rights.to_string(), "reader CalcApp*\nreader Store/Base\nwriter /");
        for names in [&[][..], &["x"], &["Anonymous"]] {
            assert!(grants.given(&caller(names, &[])).is_empty(), "{names:?}");
        }
    }
}

#[test]
fn without_grants_there_are_no_rights() {
    for text in ["", "# none\n", "grant = []"] {
        let grants = Grants::parse(text.as_bytes()).expect(text);
        assert!(grants.is_empty() && grants == Grants::default());
        assert!(grants.given(&caller(&[ANONYMOUS], &[])).is_empty());
    }
}

#[test]
fn what_is_not_accepted_is_refused_at_its_position() {
    let head = "[[grant]]\nwho = ";
    let star = "has a misplaced *; only its last name may have one, at the end";
    let roles = "the roles are monitor, reader, writer, admin";
    for (text, expect) in [
        (
            format!("{head}['anonymous', 'ü', 'anonymous']\nrole = 'reader'\npaths = ['a']"),
            "line 2, column 21: who \"ü\" is unknown; accepted are \"anonymous\", \"cert:cn=NAME\", \"cert:dns=NAME\", \"cert:uri=NAME\" (NAME may end in *), \"cert:sha256=DIGITS\", and \"ISSUER:USER\" and \"ISSUER:group=GROUP\" of an [[issuer]]".to_owned(),
        ),
        (
            format!("{head}['anonymous*']\nrole = 'reader'\npaths = ['a']"),
            "line 2, column 8: who \"anonymous*\" is unknown; accepted are \"anonymous\", \"cert:cn=NAME\", \"cert:dns=NAME\", \"cert:uri=NAME\" (NAME may end in *), \"cert:sha256=DIGITS\", and \"ISSUER:USER\" and \"ISSUER:group=GROUP\" of an [[issuer]]"
                .to_owned(),
        ),
        (
            format!("{head}['anonymous']\nrole = 'owner'\npaths = ['a']"),
            format!("line 3, column 8: role \"owner\" is unknown; {roles}"),
        ),
        (
            format!("{GRANT}paths = ['ä', 'b*c']"),
            format!("line 4, column 15: path \"b*c\" {star}"),
        ),
        (
            format!("{GRANT}paths = [\n  'a',\r\n  '..',\n]"),
            "line 6, column 3: path \"..\" has the name \"..\"; leave it out".to_owned(),
        ),
        (
            format!("{GRANT}paths = ['']"),
            "line 4, column 10: path \"\" names nothing; the root is \"/\"".to_owned(),
        ),
        (
            format!("{GRANT}paths = []"),
            "line 4, column 9: paths is empty; give at least one".to_owned(),
        ),
        (
            format!("{head}[]\nrole = 'reader'\npaths = ['a']"),
            "line 2, column 7: who is empty; give at least one".to_owned(),
        ),
    ] {
        check(&text, &expect);
    }
}

#[test]
fn what_is_not_such_a_file_is_refused_at_its_position() {
    let keys = "expected one of `who`, `claims`, `role`, `paths`";
    for (text, expect) in [
        ("a", "line 1, column 2: key with no value, expected `=`".to_owned()),
        ("\u{feff}\n[[grant", "line 2, column 8: unclosed array table, expected `]]`".to_owned()),
        ("[grant]", "line 1, column 1: invalid type: map, expected a sequence".to_owned()),
        (
            "\n[[issuers]]\n",
            "line 2, column 3: unknown field `issuers`, expected `grant` or `issuer`".to_owned(),
        ),
        (
            &format!("{GRANT}paths = ['a']\n\n[[grant]]\nwho = ['anonymous']"),
            "line 6, column 1: missing field `role`".to_owned(),
        ),
        (
            &format!("{GRANT}paths = ['a']\nclaim = {{ ref = 'x' }}"),
            format!("line 5, column 1: unknown field `claim`, {keys}"),
        ),
        (
            &format!("{GRANT}\"a\\n\\u001b\" = 1"),
            format!("line 4, column 1: unknown field `a\\n\\u{{1b}}`, {keys}"),
        ),
        (
            &format!("{GRANT}paths = 'a'"),
            "line 4, column 9: invalid type: string \"a\", expected a sequence".to_owned(),
        ),
        (
            &format!("{GRANT}paths = ['a', 1]"),
            "line 4, column 15: invalid type: integer `1`, expected a string".to_owned(),
        ),
        (&format!("{GRANT}role = 'writer'"), "line 4, column 1: duplicate key".to_owned()),
    ] {
        check(text, &expect);
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_at_their_position() {
    for (bytes, expect) in [
        (b"\xff".as_slice(), "line 1, column 1: the bytes here are not UTF-8"),
        (b"\n# \xc3\xbc\xc3", "line 2, column 4: the bytes here are not UTF-8"),
        (b"\xef\xbb\xbf# \xff", "line 1, column 3: the bytes here are not UTF-8"),
    ] {
        let error = Grants::parse(bytes).expect_err(expect);
        assert_eq!(error.to_string(), expect);
    }
}

#[test]
fn bounds_are_exact() {
    let grant = |names, paths| {
        let (names, paths) = (list(ANONYMOUS, names), list("a", paths));
        format!("[[grant]]\nwho = {names}\nrole = 'reader'\npaths = {paths}\n")
    };
    let most = grant(GRANT_NAMES_MAX, GRANT_PATHS_MAX);
    assert!(Grants::parse(most.as_bytes()).is_ok());
    check(&grant(GRANT_NAMES_MAX + 1, 1), "line 2, column 1308: who has more than 100 values");
    check(&grant(1, GRANT_PATHS_MAX + 1), "line 4, column 510: paths has more than 100 values");

    let most = grant(1, 1).repeat(GRANTS_MAX);
    assert!(Grants::parse(most.as_bytes()).is_ok());
    let error = "line 4001, column 1: the file has more than 1000 grants";
    check(&format!("{most}{}", grant(1, 1)), error);

    let full = " ".repeat(GRANTS_BYTES_MAX);
    assert!(Grants::parse(full.as_bytes()).is_ok());
    check(&format!("{full} "), "line 1, column 1: the file has more than 1048576 bytes");
}

#[test]
fn an_error_is_one_short_line_whatever_the_file_has() {
    for text in [
        format!("a = {}", "[".repeat(10_000)),
        format!("[{}a]", "a.".repeat(10_000)),
        format!("\"{}\" = 1", "\\n".repeat(10_000)),
        format!("{GRANT}paths = [\"{}*x\"]", "\\u00fc".repeat(500)),
        format!("[[grant]]\nwho = [\"{}\"]\nrole = \"\"\npaths = []", "\\n".repeat(10_000)),
        "=\n".repeat(10_000),
    ] {
        let error = Grants::parse(text.as_bytes()).expect_err("an error").to_string();
        assert!(error.len() < 2000 && !error.contains(char::is_control), "{error:?}");
    }
}

/// An issuer up to the keys that may be absent.
const ISSUER: &str = "[[issuer]]\nname = 'ci'\nurl = 'https://ci.example'\naudience = 'store'\n";

#[test]
fn a_grant_with_claims_asks_for_all_of_them() {
    let file = format!(
        "[[grant]]\nwho = ['ci:*']\nclaims = {{ repository_id = '4711', ref = 'refs/heads/main' }}\n\
         role = 'writer'\npaths = ['a']\n{ISSUER}"
    );
    let grants = Grants::parse(file.as_bytes()).expect("grants");
    let path = StorePath::parse("a/f", "path").expect("a path");
    let both = [("ref", "refs/heads/main"), ("repository_id", "4711"), ("x", "y")];
    let (id, main) = (both[1], both[0]);
    for (name, claims, may) in [
        ("ci:repo:a/b", &both[..], true),
        ("ci:group=x", &both, false),
        ("other:repo:a/b", &both, false),
        ("ci:repo:a/b", &[id], false),
        ("ci:repo:a/b", &[main], false),
        ("ci:repo:a/b", &[main, ("repository_id", "47110")], false),
        ("ci:repo:a/b", &[], false),
    ] {
        let caller = caller(&[name], claims);
        let given = grants.given(&caller);
        assert_eq!(grants.may(&given, Role::Writer, &path), may, "{name} {claims:?}");
        assert_eq!(!given.is_empty(), may, "{name} {claims:?}");
        assert_eq!(!grants.rights(&given).is_empty(), may, "{name} {claims:?}");
    }
}

#[test]
fn a_caller_is_known_by_what_the_grants_ask_for() {
    let file = format!(
        "[[grant]]\nwho = ['ci:group=D*', 'ci:otto']\nclaims = {{ ref = 'x' }}\nrole = 'reader'\n\
         paths = ['a']\n{ISSUER}groups = 'roles'\n"
    );
    let grants = Grants::parse(file.as_bytes()).expect("grants");
    let groups: Vec<_> = (0..500).map(|number| format!("ci:group={number}")).collect();
    let mut names = vec!["ci:anna", "ci:group=Deployers", "ci:otto", "ci:group=d"];
    names.extend(groups.iter().map(String::as_str));
    let asked = grants.asked(&caller(&names, &[("ref", "y"), ("sub", "anna")]));
    assert_eq!(asked, caller(&["ci:anna", "ci:group=Deployers", "ci:otto"], &[("ref", "y")]));
    assert_eq!(grants.asked(&caller(&[], &[])), caller(&[], &[]));
}

#[test]
fn an_issuer_has_what_its_table_says() {
    let file = format!(
        "{ISSUER}user = 'upn'\ngroups = 'roles'\nca = 'ca.pem'\nclosed = true\n\
         aad = {{ login = 'https://login.example', tenant = 'T', client = 'C', cluster = 'S' }}\n\
         {}",
        ISSUER.replace("ci", "ci2").replace("https", "http").replace("ci2.example", "[::1]:1/a/")
    );
    let grants = Grants::parse(file.as_bytes()).expect("grants");
    assert!(grants.is_empty(), "an issuer gives nothing");
    let [first, second] = grants.issuers() else { panic!("two issuers") };
    let texts = [&first.name, &first.url, &first.audience, &first.user_claim];
    assert_eq!(texts, ["ci", "https://ci.example", "store", "upn"]);
    assert_eq!(first.groups_claim.as_deref(), Some("roles"));
    assert_eq!(first.authorities.as_deref().and_then(|path| path.to_str()), Some("ca.pem"));
    assert!(first.is_closed && !second.is_closed);
    assert_eq!((second.url.as_str(), second.user_claim.as_str()), ("http://[::1]:1/a/", "sub"));
    let aad = grants.aad().expect("the metadata");
    let texts = [&aad.authority, &aad.client, &aad.cluster, &aad.login, &aad.redirect, &aad.tenant];
    assert_eq!(texts, ["https://login.example/T", "C", "S", "https://login.example", "", "T"]);
}

#[test]
fn an_issuer_that_is_not_accepted_is_refused_at_its_position() {
    let with = |from: &str, to: &str| ISSUER.replacen(from, to, 1);
    let aad = "aad = { login = 'l', tenant = 't', client = 'c', cluster = 's' }\n";
    for (text, expect) in [
        (with("'ci'", "'token'"), "line 2, column 8: name \"token\" is not accepted; take"),
        (with("'ci'", "'CI'"), "line 2, column 8: name \"CI\" is not accepted"),
        (with("'ci'", "'1'"), "line 2, column 8: name \"1\" is not accepted"),
        (with("'ci'", "''"), "line 2, column 8: name \"\" is not accepted"),
        (with("'https", "'http"), "line 3, column 7: url \"http://ci.example\" is not https; only"),
        (with("'https:", "'ftp:"), "line 3, column 7: url \"ftp://ci.example\" is not https"),
        (
            with("https://", "https://u@"),
            "line 3, column 7: url \"https://u@ci.example\" is no address",
        ),
        (with("https://", ""), "line 3, column 7: url \"ci.example\" is not https"),
        (
            with("ci.example", "ci.example/?a"),
            "line 3, column 7: url \"https://ci.example/?a\" has a query",
        ),
        (
            with("ci.example", "ci.example/#a"),
            "line 3, column 7: url \"https://ci.example/#a\" is no address",
        ),
        (
            with("ci.example", "ci.example/ü"),
            "line 3, column 7: url \"https://ci.example/ü\" is no address",
        ),
        (with("'store'", "''"), "line 4, column 12: audience \"\" is not accepted"),
        (with("'store'", "\"a\\nb\""), "line 4, column 12: audience \"a\\nb\" is not accepted"),
        (
            with("audience", "audiences"),
            "line 4, column 1: unknown field `audiences`, expected one of",
        ),
        (with("audience = 'store'", ""), "line 1, column 1: missing field `audience`"),
        (format!("{ISSUER}user = ''"), "line 5, column 8: user \"\" is not accepted"),
        (format!("{ISSUER}closed = 1"), "line 5, column 10: invalid type: integer `1`"),
        (format!("{ISSUER}aad = {{ login = 'x' }}"), "line 5, column 7: missing field `client`"),
        (ISSUER.repeat(2), "line 6, column 8: two issuers have the name \"ci\""),
        (
            format!("{ISSUER}{}", with("'ci'", "'b'")),
            "line 7, column 7: two issuers have the url \"https://ci.example\"",
        ),
        (
            format!("{ISSUER}{aad}{}{aad}", with("'ci'", "'b'").replace("ci.", "b.")),
            "line 10, column 7: two issuers have aad; sfctl signs in at one",
        ),
    ] {
        let error = Grants::parse(text.as_bytes()).expect_err(&text).to_string();
        assert!(error.starts_with(expect), "{text}: {error}");
    }
}

#[test]
fn claims_that_are_not_accepted_are_refused_at_their_position() {
    let grant = |who: &str, claims: &str| {
        format!("{ISSUER}[[grant]]\nwho = {who}\nclaims = {claims}\nrole = 'reader'\npaths = ['a']")
    };
    let many = |count: usize| {
        let claims: Vec<_> = (0..count).map(|number| format!("a{number} = 'x'")).collect();
        format!("{{ {} }}", claims.join(", "))
    };
    let long = "x".repeat(CLAIM_BYTES_MAX);
    for text in [
        grant("['ci:*']", &many(GRANT_CLAIMS_MAX)),
        grant("['ci:*']", &format!("{{ a = '{long}' }}")),
        grant("['ci:a']", "{ \"a.b/c\" = 'x' }"),
    ] {
        Grants::parse(text.as_bytes()).expect(&text);
    }
    let everyone = grant("['ci:a', 'ci:*']", "{ a = 'x' }").replace("claims = { a = 'x' }\n", "");
    let part = everyone.replace("ci:*", "ci:repo:a/*");
    for (text, expect) in [
        (
            grant("['ci:a', 'anonymous']", "{ a = 'x' }"),
            "line 6, column 16: the grant has claims, which only a JWT has; who \"anonymous\" has none",
        ),
        (
            grant("['cert:cn=a']", "{ a = 'x' }"),
            "line 6, column 8: the grant has claims, which only a JWT has",
        ),
        (
            everyone,
            "line 6, column 16: who \"ci:*\" may be anyone who gets a token of the issuer; give",
        ),
        (part, "line 6, column 16: who \"ci:repo:a/*\" may be anyone who gets a token of"),
        (grant("['b:*']", "{ a = 'x' }"), "line 6, column 8: who \"b:*\" is of \"b\", which no"),
        (grant("['ci:*']", "{}"), "line 7, column 10: claims is empty; give at least one"),
        (grant("['ci:*']", "{ a = 1 }"), "line 7, column 16: invalid type: integer `1`, expected"),
        (grant("['ci:*']", "{ a = '' }"), "line 7, column 16: \"\" is no claim; its name and"),
        (grant("['ci:*']", "{ a = 'x', '' = 'x' }"), "line 7, column 21: \"\" is no claim"),
        (grant("['ci:*']", &format!("{{ a = '{long}x' }}")), "line 7, column 16: \"xxx"),
        (
            grant("['ci:*']", &many(GRANT_CLAIMS_MAX + 1)),
            "line 7, column 222: claims has more than 20 values",
        ),
    ] {
        let error = Grants::parse(text.as_bytes()).expect_err(&text).to_string();
        assert!(error.starts_with(expect), "{text}: {error}");
    }
}

#[test]
fn the_issuers_are_bounded() {
    let issuers = |count: usize| -> String {
        (0..count).map(|number| ISSUER.replace("ci", &format!("ci{number}"))).collect()
    };
    assert!(Grants::parse(issuers(ISSUERS_MAX).as_bytes()).is_ok());
    let expect = "line 81, column 1: the file has more than 20 issuers";
    check(&issuers(ISSUERS_MAX + 1), expect);
}

#[test]
fn the_file_of_the_readme_is_accepted() {
    let text = include_str!("../../README.md");
    let mut blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.next().expect("a block");
    let grants = Grants::parse(block.as_bytes()).expect("accepted");
    assert_eq!((grants.issuers().len(), blocks.next()), (2, None));
    let main = [("repository_id", "4711"), ("ref", "refs/heads/main")];
    for (names, claims, may) in [
        (["entra:anna", "entra:group=Deployers"], &[][..], true),
        (["entra:anna", "entra:group=Users"], &[], false),
        (["github:repo:a/b:ref:refs/heads/main", ""], &main, true),
        (["github:repo:a/b:pull_request", ""], &main[..1], false),
    ] {
        let path = StorePath::parse("CalcAppV1/f", "path").expect("a path");
        let caller = caller(&names, claims);
        assert_eq!(grants.may(&grants.given(&caller), Role::Writer, &path), may, "{names:?}");
    }
}
