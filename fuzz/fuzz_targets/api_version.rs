//! Drives the body of the same name: `cargo fuzz run api_version`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::api_version(data));
