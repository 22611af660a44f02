//! The binary: parse, then serve or a client command.

fn main() {}
