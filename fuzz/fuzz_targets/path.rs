//! Fuzz target that calls `bodies::path`: `cargo fuzz run path`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::path(data));
