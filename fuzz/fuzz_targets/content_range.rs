//! Fuzz target that calls `bodies::content_range`: `cargo fuzz run content_range`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::content_range(data));
