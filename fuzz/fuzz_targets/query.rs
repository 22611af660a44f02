//! Fuzz target that calls `bodies::query`: `cargo fuzz run query`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::query(data));
