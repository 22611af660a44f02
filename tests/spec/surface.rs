//! The description of the API: every element of the proto has a comment, and names follow the rules.
//! `tests/support/calls.py` checks by a record that the tests call every rpc.

use std::collections::BTreeSet;

use imagestore::{server::SERVICE, wire::DESCRIPTOR};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

fn file() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(DESCRIPTOR).expect("the descriptor");
    let mut ours = set.file.into_iter().filter(|file| file.package() == "imagestore.v1");
    let file = ours.next().expect("one file");
    assert_eq!(ours.next(), None);
    file
}

/// The name of an rpc in the generated client, such as `watch_operation` for `WatchOperation`.
fn method(rpc: &str) -> String {
    let mut name = String::new();
    for letter in rpc.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[test]
fn every_word_of_the_api_has_a_comment() {
    let file = file();
    let info = file.source_code_info.as_ref().expect("the comments");
    let commented: BTreeSet<&[i32]> = info
        .location
        .iter()
        .filter(|location| !location.leading_comments().trim().is_empty())
        .map(|location| location.path.as_slice())
        .collect();
    let mut words = 0;
    let mut check = |path: &[i32], name: &str| {
        assert!(commented.contains(path), "{name} has no comment");
        words += 1;
    };
    // The numbers are the field numbers of `google.protobuf.FileDescriptorProto` and of the messages in it.
    for (at, message) in (0..).zip(&file.message_type) {
        check(&[4, at], message.name());
        for (index, field) in (0..).zip(&message.field) {
            check(&[4, at, 2, index], &format!("{}.{}", message.name(), field.name()));
        }
    }
    for (at, kind) in (0..).zip(&file.enum_type) {
        check(&[5, at], kind.name());
        for (index, value) in (0..).zip(&kind.value) {
            check(&[5, at, 2, index], value.name());
        }
    }
    for (at, service) in (0..).zip(&file.service) {
        check(&[6, at], service.name());
        for (index, rpc) in (0..).zip(&service.method) {
            check(&[6, at, 2, index], rpc.name());
        }
    }
    assert!(words > 150, "only {words} words");
}

#[test]
fn names_follow_the_rules() {
    let file = file();
    for message in &file.message_type {
        assert!(message.nested_type.is_empty() && message.enum_type.is_empty());
        let numbers: Vec<i32> =
            message.field.iter().map(prost_types::FieldDescriptorProto::number).collect();
        // A number that is left out may be given to a later field.
        assert!(numbers.is_sorted_by(|one, next| one < next), "{} {numbers:?}", message.name());
        assert!(numbers.first().is_none_or(|first| *first == 1), "{}", message.name());
    }
    for kind in &file.enum_type {
        let prefix = method(kind.name()).to_uppercase();
        assert_eq!(kind.value[0].name(), format!("{prefix}_UNSPECIFIED"));
        assert!(kind.value.iter().all(|value| value.name().starts_with(&format!("{prefix}_"))));
    }
    let [service] = file.service.as_slice() else { panic!("one service") };
    assert_eq!(format!("{}.{}", file.package(), service.name()), SERVICE);
    for rpc in &service.method {
        assert_eq!(rpc.input_type(), format!(".imagestore.v1.{}Request", rpc.name()));
        // Several rpcs respond with an operation, a session or a token.
        let shared = ["Operation", "UploadSession", "Token"];
        let shared = shared.map(|name| format!(".imagestore.v1.{name}"));
        let own = format!(".imagestore.v1.{}Response", rpc.name());
        assert!(
            rpc.output_type() == own || shared.iter().any(|name| name == rpc.output_type()),
            "{}",
            rpc.name()
        );
    }
}
