//! The parsers of client text, over a million inputs: the corpus, and mutations of it.
//!
//! A parser refuses a random text at its first byte. So each input is one of the corpus with some mutations,
//! which are those of a fuzzer: cut, repeat, replace, join, and insert a token. A failure is shrunk to the
//! few mutations that matter. The checks, called bodies, are those of the fuzz targets.

#[path = "../../fuzz/bodies.rs"]
mod bodies;

use std::{fs, path::Path};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};

/// The number of mutated inputs of each parser, besides its corpus.
const INPUTS: u32 = 220_000;
/// The most mutations of one input.
const CHANGES_MAX: usize = 6;
/// Tokens with a meaning for the parsers.
const WORDS: [&[u8]; 34] = [
    b"/",
    b"\\",
    b"//",
    b"$",
    b"%",
    b"%2F",
    b"%5C",
    b"%00",
    b"%24",
    b"..",
    b".",
    b" ",
    b"\0",
    b"\n",
    b"\"",
    b"{",
    b"}",
    b",",
    b":",
    b"[",
    b"]",
    b"null",
    b"true",
    b"\\u0041",
    b"\\ud83d",
    b"=",
    b"&",
    b"-",
    b"*",
    b"0",
    b"18446744073709551616",
    b"bytes",
    b"\xff",
    b"\xc3\xa4",
];

/// A mutation of an input.
#[derive(Clone, Debug)]
enum Change {
    /// Inserts a token.
    Insert(Index, &'static [u8]),
    /// Replaces a byte.
    Replace(Index, u8),
    /// Removes a range of bytes.
    Cut(Index, Index),
    /// Repeats a range of bytes.
    Repeat(Index, Index),
    /// Replaces the end by the end of another input of the corpus.
    Join(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (any::<Index>(), select(&WORDS[..])).prop_map(|(at, word)| Change::Insert(at, word)),
        2 => any::<(Index, u8)>().prop_map(|(at, byte)| Change::Replace(at, byte)),
        2 => any::<(Index, Index)>().prop_map(|(from, to)| Change::Cut(from, to)),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Change::Repeat(from, to)),
        1 => any::<(Index, Index, Index)>().prop_map(|(at, other, from)| Change::Join(at, other, from)),
    ]
}

/// Two offsets in a text, in ascending order.
fn span(data: &[u8], from: Index, to: Index) -> (usize, usize) {
    let (from, to) = (from.index(data.len() + 1), to.index(data.len() + 1));
    (from.min(to), from.max(to))
}

fn apply(data: &mut Vec<u8>, change: &Change, corpus: &[Vec<u8>]) {
    match change {
        Change::Insert(at, word) => {
            let at = at.index(data.len() + 1);
            data.splice(at..at, word.iter().copied());
        }
        Change::Replace(_, _) if data.is_empty() => {}
        Change::Replace(at, byte) => *at.get_mut(data) = *byte,
        Change::Cut(from, to) => {
            let (from, to) = span(data, *from, *to);
            data.drain(from..to);
        }
        Change::Repeat(from, to) => {
            let (from, to) = span(data, *from, *to);
            let piece = data[from..to].to_vec();
            data.splice(to..to, piece);
        }
        Change::Join(at, other, from) => {
            let other = other.get(corpus);
            data.truncate(at.index(data.len() + 1));
            data.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
    }
}

/// The files of a parser's corpus.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("a corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("an input")).collect()
}

fn drive(name: &str) {
    let (_, body) = bodies::ALL.into_iter().find(|(known, _)| *known == name).expect("a body");
    let corpus = corpus(name);
    assert!(corpus.len() >= 10, "{name} has {} inputs", corpus.len());
    for data in &corpus {
        body(data);
    }
    let config = Config { cases: INPUTS, failure_persistence: None, ..Config::default() };
    let inputs = (any::<Index>(), vec(change(), 1..=CHANGES_MAX)).prop_map(|(first, changes)| {
        let mut data = first.get(&corpus).clone();
        for change in &changes {
            apply(&mut data, change, &corpus);
        }
        data
    });
    let run = TestRunner::new(config).run(&inputs, |data| {
        body(&data);
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{name}: {failure}"));
}

#[test]
fn every_parser_has_a_target_and_together_a_million_inputs() {
    assert!(INPUTS as usize * bodies::ALL.len() >= 1_000_000);
    for (name, _) in bodies::ALL {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let text = fs::read_to_string(target.join(format!("{name}.rs"))).expect("a target");
        assert!(text.contains(&format!("bodies::{name}(data)")), "{name}");
    }
}

#[test]
fn paths() {
    drive("path");
}

#[test]
fn queries() {
    drive("query");
}

#[test]
fn bodies_of_copies() {
    drive("copy_body");
}

#[test]
fn content_ranges() {
    drive("content_range");
}

#[test]
fn api_versions() {
    drive("api_version");
}
