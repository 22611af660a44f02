//! Image Store: keeps application packages.

pub mod blob;
pub mod cli;
pub mod client;
pub mod error;
pub mod grpc;
pub mod limits;
pub mod model;
pub mod namespace;
pub mod rest;
pub mod server;
pub mod store;
pub mod wire;
