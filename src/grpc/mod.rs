//! The gRPC service: the only module that uses both the store and the generated messages.
//!
//! A handler parses a message into plain values, calls the store, and turns the result into a message. Handlers
//! have no logic of their own. This module also enforces the deadline of a call, `grpc-timeout`: for calls inside
//! the process no transport does.

pub mod backups;
mod call;
mod files;
mod links;
mod long;
mod messages;
mod operations;
mod service;
mod sessions;
mod streams;
mod tokens;
mod transfers;

pub use long::Offloaded;
pub use service::Service;
