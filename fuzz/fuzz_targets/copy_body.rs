//! Fuzz target that calls `bodies::copy_body`: `cargo fuzz run copy_body`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::copy_body(data));
