//! Fuzz target that calls `bodies::api_version`: `cargo fuzz run api_version`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::api_version(data));
