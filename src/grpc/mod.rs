//! The gRPC service: it alone joins the store and the wire.
//!
//! A handler parses a message into plain values, calls the store, and turns the answer back. It holds
//! no logic. The deadline of a call is ours to keep: in process nobody enforces `grpc-timeout`.

mod backups;
mod call;
mod long;
mod messages;
mod service;
mod streams;
mod transfers;

pub use long::Offloaded;
pub use service::Service;
