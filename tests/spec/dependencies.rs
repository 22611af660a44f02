//! What the program is linked with.

use std::{collections::BTreeSet, process::Command};

/// Crates that bring cryptography of TLS of their own.
const OTHER_PROVIDERS: [&str; 8] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "boring-sys",
    "native-tls",
    "openssl",
    "openssl-sys",
    "rustls-openssl",
];

#[test]
fn ring_is_the_only_crypto_provider() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--target", "all", "--prefix", "none", "--no-dedupe"])
        .args(["--format", "{p} {f}", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("text");
    let names: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("ring"), "{tree}");
    let others: Vec<_> = OTHER_PROVIDERS.iter().filter(|name| names.contains(*name)).collect();
    assert!(others.is_empty(), "{others:?}");
    let rustls = tree.lines().find(|line| line.starts_with("rustls v")).expect("rustls");
    assert!(rustls.contains("ring") && !rustls.contains("aws"), "{rustls}");
}
